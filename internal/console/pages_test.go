package console

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/replay"
)

// operator is somebody who is logged in to the pages of a world.
func (w *world) operator(t testing.TB, out *bytes.Buffer) *asker {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	if out != nil {
		logger = slog.New(slog.NewTextHandler(out, nil))
	}
	a := &asker{t: t, c: w.console(t, logger)}
	a.login("Asha", testToken)
	return a
}

// page asks for a page that is there.
func (a *asker) page(target string) string {
	a.t.Helper()
	resp, body := a.do(http.MethodGet, target, "")
	if resp.StatusCode != http.StatusOK {
		_, main, _ := strings.Cut(body, "<main")
		a.t.Fatalf("%s: %d %s", target, resp.StatusCode, main)
	}
	return body
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)">`)

// fields are the hidden fields of the form of a confirm page.
func fields(body string) url.Values {
	_, form, _ := strings.Cut(body, `action="/acts"`)
	v := url.Values{}
	for _, m := range hiddenField.FindAllStringSubmatch(form, -1) {
		v.Add(m[1], unescape.Replace(m[2]))
	}
	return v
}

var unescape = strings.NewReplacer("&amp;", "&", "&#43;", "+", "&#39;", "'", "&#34;", `"`, "&lt;", "<", "&gt;", ">")

// does confirms an act and does it, and returns the page that it leads to.
func (a *asker) does(target string) string {
	a.t.Helper()
	resp, body := a.do(http.MethodPost, "/acts", fields(a.page(target)).Encode())
	if resp.StatusCode != http.StatusSeeOther {
		a.t.Fatalf("%s: %d %s", target, resp.StatusCode, body)
	}
	return a.page(resp.Header.Get("Location"))
}

func says(t *testing.T, body string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(body, text) {
			t.Errorf("the page does not say %q", text)
		}
	}
}

func TestCalls(t *testing.T) {
	w := newWorld(t)
	a := w.operator(t, nil)
	says(t, a.page("/calls"), "12 calls by error", "rejected: HTTP 404 Not Found", "12 rejected", "sess-0000",
		`href="/calls?group=rejected%3A&#43;HTTP&#43;404&#43;Not&#43;Found&amp;since=24h&amp;status=rejected"`, "Push these again")
	if q := w.asked[len(w.asked)-1]; len(q.States) != 3 || time.Since(q.Since) < 23*time.Hour || time.Since(q.Since) > 25*time.Hour {
		t.Errorf("by default it asks for %+v", q)
	}
	says(t, a.page("/calls?by=bot&since=24h"), "Collections Hindi", "30 ok", salesBot)
	says(t, a.page("/calls?by=host"), `href="/calls?host=crm.example.com"`)
	says(t, a.page("/calls?status=due&bot=Collections+Hindi"), "due-1", "next attempt", `value="Collections Hindi"`)
	says(t, a.page("/calls?session=nobody"), "No call is like that")
	w.notice = "stopped after 500,000 documents"
	says(t, a.page("/calls?since=1h"), "stopped after 500,000 documents")
	for _, bad := range []string{"?status=odd", "?by=colour", "?since=yesterdayish", "?until=-1h"} {
		if resp, body := a.do(http.MethodGet, "/calls"+bad, ""); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d %s", bad, resp.StatusCode, body)
		}
	}
	if resp, _ := a.do(http.MethodGet, "/calls?call=+a%2Fb%3F+", ""); resp.Header.Get("Location") != "/calls/a%2Fb%3F" {
		t.Errorf("one call is at %s", resp.Header.Get("Location"))
	}
}

// A group leads to its calls by what their errors have in common.
func TestGroupsLeadToTheirCalls(t *testing.T) {
	for _, c := range []struct {
		by        inspect.GroupBy
		key, want string
	}{
		{inspect.ByError, "rejected: HTTP 404 Not Found", "group=rejected%3A+HTTP+404+Not+Found&status=rejected"},
		{inspect.ByError, "rejected: HTTP 422", "group=rejected%3A+HTTP+422&status=rejected"},
		{inspect.ByError, "failed: lead # of \"…\" see ", "group=failed%3A+lead+%23+of+%22%E2%80%A6%22+see+&status=failed"},
		{inspect.ByError, "missing", "group=missing&status=missing"},
		{inspect.ByError, "(others)", ""},
		{inspect.ByBot, "b 1", "bot=b+1"},
		{inspect.ByBot, "(none)", ""},
		{inspect.ByHost, "crm.example.com:8443", "host=crm.example.com%3A8443"},
	} {
		f := filter{By: c.by}
		if got := strings.TrimPrefix(f.Group(inspect.Group{Key: c.key}), "/calls?"); got != c.want {
			t.Errorf("%s %q leads to %q, want %q", c.by, c.key, got, c.want)
		}
		if v, _ := url.ParseQuery(c.want); v.Get("group") != "" {
			read, err := filterOf(v)
			if q, _ := read.query(time.Now()); err != nil || q.Group != c.key {
				t.Errorf("%q is read as %q, %v", c.key, q.Group, err)
			}
		}
	}
}

func TestOneCall(t *testing.T) {
	w := newWorld(t)
	w.rows[3].SessionID = w.rows[2].SessionID // two calls of one session
	w.rows[4].ID = "odd/id?x#y"
	a := w.operator(t, nil)
	body := a.page("/calls/sess-0002")
	says(t, body, "refused it for good", "What the CRM said", "no such resource", "no answer within 10s", "9430195ab81035b93a51e338a5722a1e", "Other calls of this session id",
		"✓", "✗", "not looked at", "Checklist")
	if strings.Contains(body, "Authorization: ***") {
		t.Error("the payload is shown without being asked for")
	}
	says(t, a.page("/calls/sess-0002?payload=1"), "mobile", "Authorization: ***")
	says(t, a.page(callPath("odd/id?x#y")), "odd/id?x#y")
	says(t, a.page("/calls?status=rejected"), `href="/calls/odd%2Fid%3Fx%23y"`)
	if resp, body := a.do(http.MethodGet, "/calls/nobody", ""); resp.StatusCode != http.StatusNotFound || !strings.Contains(body, "No call has the session id") {
		t.Errorf("no call: %d", resp.StatusCode)
	}
}

func TestCompare(t *testing.T) {
	a := newWorld(t).operator(t, nil)
	form := fields(`action="/acts"` + strings.SplitN(a.page("/calls/sess-0002"), "/compare", 2)[1])
	form.Set("document", `{"_id":"x","post_call_push":{}}`)
	if resp, body := a.do(http.MethodPost, "/calls/sess-0002/compare", form.Encode()); resp.StatusCode != http.StatusOK ||
		!strings.Contains(body, "<ins>Very interested</ins>") || !strings.Contains(body, "not there") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	for document, want := range map[string]int{
		"{": http.StatusBadRequest, "[1]": http.StatusBadRequest, "": http.StatusBadRequest,
		strings.Repeat(" ", maxDocument+1): http.StatusRequestEntityTooLarge,
	} {
		form.Set("document", document)
		if resp, _ := a.do(http.MethodPost, "/calls/sess-0002/compare", form.Encode()); resp.StatusCode != want {
			t.Errorf("%.10q: %d, want %d", document, resp.StatusCode, want)
		}
	}
	form.Del("form")
	if resp, _ := a.do(http.MethodPost, "/calls/sess-0002/compare", form.Encode()); resp.StatusCode != http.StatusForbidden {
		t.Errorf("without the form's token: %d", resp.StatusCode)
	}
}

func TestBots(t *testing.T) {
	w := newWorld(t)
	a := w.operator(t, nil)
	body := a.page("/bots")
	says(t, body, "4 bots", "cannot push", "all fail", "fine", "does not push", "Old survey")
	if worst, fine := strings.Index(body, "Old survey"), strings.Index(body, "Renewals"); worst > fine {
		t.Error("those in trouble do not come first")
	}
	if body := a.page("/bots?q=renew"); strings.Contains(body, "Old survey") || !strings.Contains(body, "Renewals") {
		t.Error("the search does not count")
	}
	body = a.page("/bots/" + salesBot)
	says(t, body, "https://crm.example.com/leeds", "HTTP 404 Not Found", "{{DISPOSITION}}", "{{analysis.DISPOSITION}}", "12 rejected", "Hold this bot", "Hold all of crm.example.com")
	if strings.Contains(body, "tok-secret") {
		t.Error("the page shows a credential")
	}
	says(t, a.page("/bots/survey"), "cannot push", ">error<")
	says(t, a.page("/bots/silent"), "does not push", "It had no calls")
	if resp, _ := a.do(http.MethodGet, "/bots/nobody", ""); resp.StatusCode != http.StatusNotFound {
		t.Errorf("no bot: %d", resp.StatusCode)
	}
}

// The road of a night: the group, a hold, its release, the calls once more.
func TestActs(t *testing.T) {
	var out bytes.Buffer
	w := newWorld(t)
	a := w.operator(t, &out)
	holdBot := "/acts/new?" + url.Values{"do": {"hold"}, "bot": {salesBot}, "why": {"URL is tok-secret-1"}, "for": {"4h"}, "back": {"/bots/" + salesBot}}.Encode()
	says(t, a.page(holdBot), "Hold the bot Collections Hindi for 4h: 1 call that is due, and those to come, stay")
	says(t, a.does(holdBot), "Holding the bot Collections Hindi, with 1 call due.", "This bot is held")
	if h := w.holds[0]; h.Bot != salesBot || h.By != "Asha" || time.Until(h.Until).Round(time.Minute) != 4*time.Hour {
		t.Errorf("the hold is %+v", h)
	}
	says(t, a.page("/bots"), "held")
	says(t, a.page("/calls?status=held"), "due-1")
	release := "/acts/new?do=release&id=hold-1&back=/acts"
	says(t, a.page(release), "Release the bot Collections Hindi: 1 call will go out", "Held since", "by Asha")
	says(t, a.does(release), "Released the bot Collections Hindi: 1 call will go out", "Nothing is held")
	says(t, a.page(release), "over already")

	w.mended = true
	push := "/acts/new?do=push&status=rejected&since=24h&bot=" + salesBot
	says(t, a.page(push), "12 calls will be pushed again", "Push 12 calls again", "over 2s", "1 call would not be pushed")
	w.nobody = true
	says(t, a.page(push), "No watcher with the name default is alive: nothing is pushed before one runs.")
	w.nobody = false
	says(t, a.does(push), "Pushing 12 calls again as the replay 20261127-100000-abcdef")
	says(t, a.page("/calls?bot="+salesBot+"&status=ok"), "12 calls")
	says(t, a.does("/acts/new?do=push&call=due-1&back=/calls/due-1"), "Pushing 1 call again")
	says(t, a.does("/acts/new?do=cancel&id=20261127-100000-abcdef"), "Cancelled the replay")
	says(t, a.does("/acts/new?do=hold&host=CRM.example.com&why=x"), "Holding the host crm.example.com")

	body := a.page("/acts")
	says(t, body, "host crm.example.com", "interrupted", "cancel the replay", "push the call due-1", ">192.0.2.1<", "Asha")
	if strings.Contains(body, "tok-secret") || strings.Contains(out.String(), "tok-secret") {
		t.Error("a credential is shown")
	}
	says(t, out.String(), "an operator acted", "act=hold", "by=Asha", "address=192.0.2.1:1234", `subject="the bot `+salesBot+`"`)
}

// A form that is sent twice acts once.
func TestAnActIsDoneOnce(t *testing.T) {
	w := newWorld(t)
	a := w.operator(t, nil)
	form := fields(a.page("/acts/new?do=push&call=due-1")).Encode()
	for range 3 {
		if resp, body := a.do(http.MethodPost, "/acts", form); resp.StatusCode != http.StatusSeeOther {
			t.Fatalf("%d %s", resp.StatusCode, body)
		}
	}
	if len(w.replays) != 1 {
		t.Errorf("it was done %d times", len(w.replays))
	}
}

func TestActsThatAreNot(t *testing.T) {
	w := newWorld(t)
	a := w.operator(t, nil)
	for query, want := range map[string]int{
		"do=explode":                                400,
		"":                                          400,
		"do=hold&why=x":                             400,
		"do=hold&why=x&bot=a&host=b":                400,
		"do=hold&bot=a":                             400,
		"do=hold&bot=a&why=x&for=soon":              400,
		"do=hold&bot=a&why=x&for=1s":                400,
		"do=hold&bot=a&why=x&for=9999h":             400,
		"do=push":                                   400,
		"do=push&status=odd":                        400,
		"do=push&status=failed&since=never":         400,
		"do=release":                                400,
		"do=release&id=nothing":                     404,
		"do=cancel&id=nothing":                      404,
		"do=hold&bot=unknown&why=x":                 200,
		"do=push&status=missing&since=1h":           200,
		"do=push&status=failed&back=//evil.example": 200,
	} {
		resp, body := a.do(http.MethodGet, "/acts/new?"+query, "")
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", query, resp.StatusCode, want)
		}
		if strings.Contains(body, "evil.example") {
			t.Errorf("%s leads elsewhere", query)
		}
	}
	says(t, a.page("/acts/new?do=push&status=missing&since=1h"), "No call would be pushed again.")
	says(t, a.page("/acts/new?do=hold&bot=unknown&why=x"), "No bot with this id is known")
}

// Nothing is done for a form that the session did not make, nor for a page of
// another origin; a bearer needs no form.
func TestForms(t *testing.T) {
	w := newWorld(t)
	a := w.operator(t, nil)
	form := fields(a.page("/acts/new?do=push&call=due-1"))
	good := form.Get("form")
	for name, token := range map[string]string{"none": "", "another": good[1:] + "A", "the cookie": a.cookie.Value} {
		form.Set("form", token)
		if resp, _ := a.do(http.MethodPost, "/acts", form.Encode()); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
	}
	form.Set("form", good)
	for name, header := range map[string]http.Header{
		"origin":      {"Origin": {"https://evil.example"}},
		"null origin": {"Origin": {"null"}},
		"cross site":  {"Sec-Fetch-Site": {"cross-site"}},
		"same site":   {"Sec-Fetch-Site": {"same-site"}},
	} {
		a.header = header
		if resp, _ := a.do(http.MethodPost, "/acts", form.Encode()); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
	}
	if len(w.replays) > 0 {
		t.Fatal("something was done")
	}
	b := &asker{t: t, c: a.c, header: http.Header{"Authorization": {"Bearer " + testToken}}}
	if resp, body := b.do(http.MethodPost, "/acts", "do=push&call=due-1"); resp.StatusCode != http.StatusSeeOther {
		t.Errorf("a bearer: %d %s", resp.StatusCode, body)
	}
	if len(w.replays) != 1 || w.replays[0].By != nobody {
		t.Errorf("the bearer did %+v", w.replays)
	}
	if resp, _ := a.do(http.MethodGet, "/acts", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("the session: %d", resp.StatusCode)
	}
}

func TestLogout(t *testing.T) {
	a := newWorld(t).operator(t, nil)
	_, form, _ := strings.Cut(a.page("/acts"), `action="/logout"`)
	token := hiddenField.FindStringSubmatch(form)[2]
	resp, _ := a.do(http.MethodPost, "/logout", url.Values{"form": {token}}.Encode())
	if c := resp.Cookies(); resp.Header.Get("Location") != "/login" || len(c) != 1 || c[0].MaxAge != -1 || c[0].Value != "" {
		t.Errorf("%d %v", resp.StatusCode, c)
	}
}

// While MongoDB is away the pages say so; an error of another kind is no outage.
func TestErrors(t *testing.T) {
	w := newWorld(t)
	a := w.operator(t, nil)
	for _, c := range []struct {
		err  error
		want int
		text string
	}{
		{mongo.CommandError{Code: 11600, Name: "InterruptedAtShutdown", Message: "interrupted at shutdown tok-secret-1"}, http.StatusServiceUnavailable, "MongoDB does not answer"},
		{Refused("four replays are being marked"), http.StatusConflict, "four replays are being marked"},
		{replay.ErrTooMany, http.StatusConflict, "ask for a shorter time"},
		{errors.New("this document is odd"), http.StatusInternalServerError, "this document is odd"},
	} {
		w.err = fmt.Errorf("read the calls: %w", c.err)
		for _, target := range []string{"/calls", "/calls/due-1", "/bots", "/bots/" + salesBot, "/acts", "/acts/new?do=release&id=x"} {
			resp, body := a.do(http.MethodGet, target, "")
			if resp.StatusCode != c.want || !strings.Contains(body, c.text) || strings.Contains(body, "tok-secret") {
				t.Errorf("%s: %d %s", target, resp.StatusCode, body)
			}
		}
	}
	w.err = errors.New("boom")
	b := &asker{t: t, c: a.c, header: http.Header{"Authorization": {"Bearer " + testToken}}}
	if resp, _ := b.do(http.MethodPost, "/acts", "do=push&call=due-1"); resp.StatusCode != http.StatusInternalServerError {
		t.Errorf("an act that fails: %d", resp.StatusCode)
	}
	w.err = nil
	says(t, a.page("/acts"), "failed</span> boom")
}

// Four requests are answered at a time; the next hears so at once.
func TestBusy(t *testing.T) {
	w := newWorld(t)
	w.wait = make(chan struct{})
	a := w.operator(t, nil)
	codes := make(chan int, maxRequests)
	for range maxRequests {
		go func() {
			resp, _ := a.do(http.MethodGet, "/calls", "")
			codes <- resp.StatusCode
		}()
	}
	c, ok := a.c.(*Console)
	if !ok {
		t.Fatal("no console")
	}
	deadline := time.Now().Add(90 * time.Second)
	for len(c.slots) < maxRequests && time.Now().Before(deadline) {
		<-time.After(time.Millisecond)
	}
	if resp, body := a.do(http.MethodGet, "/calls", ""); resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "Busy") {
		t.Errorf("the fifth: %d", resp.StatusCode)
	}
	if resp, _ := a.do(http.MethodGet, "/login", ""); resp.StatusCode != http.StatusOK {
		t.Errorf("the login: %d", resp.StatusCode)
	}
	close(w.wait)
	for range maxRequests {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("one of four: %d", code)
		}
	}
}

// Whatever the texts of others hold, the pages have no other elements than without
// them, and stay small.
func TestTextsOfOthers(t *testing.T) {
	nasty := "<script>alert(1)</script>\"'`{{.}}\x00\x1b[31m\u202e" + strings.Repeat("<b>x", 3000)
	w := newWorld(t)
	set := compiled(t, `{"_id":"renewals","name":"<script>alert(1)</script>\u202e","post_call_push":{"url":"https://crm.example.com/<script>","key_mapper":{"<script>":"{{<script>}} {{x"}}}`)
	w.set = set
	for i := range w.rows {
		w.rows[i].Why, w.rows[i].BotName, w.rows[i].SessionID = nasty, nasty, nasty[:200]
	}
	w.holds = []hold.Hold{{ID: "h", Bot: "renewals", Why: nasty, By: nasty, From: time.Now().Add(-time.Hour)}}
	w.replays = []replay.Record{{ID: "r<script>", By: nasty, State: replay.StateMarked}}
	w.report = func(r *inspect.Report) {
		r.Summary, r.Warnings, r.Decision.Text = nasty, []string{nasty}, nasty
		r.Attempts[0].ResponseBody, r.Attempts[0].Error, r.Attempts[0].URL = nasty, nasty, nasty
		r.Checklist[0].Text, r.Checklist[0].Name = nasty, nasty
		r.Skips = []inspect.Skip{{Reason: nasty, Bot: nasty}}
		r.Hold = &w.holds[0]
		if r.Payload != nil {
			r.Payload.Body, r.Payload.URL, r.Payload.Headers = nasty, nasty, map[string]string{nasty: nasty}
		}
	}
	w.notice = nasty
	a := w.operator(t, nil)
	id := w.rows[0].ID
	for _, target := range []string{
		"/calls", "/calls?by=bot", "/calls?status=ok&reason=%3Cscript%3E", "/calls/" + id + "?payload=1", "/bots", "/bots/renewals", "/acts",
		"/acts/new?do=hold&host=%3Cscript%3E&why=%3Cscript%3E", "/acts/new?do=release&id=h", "/bots/%3Cscript%3E", "/calls/%3Cscript%3E",
	} {
		resp, body := a.do(http.MethodGet, target, "")
		if resp.StatusCode >= 500 {
			t.Errorf("%s: %d", target, resp.StatusCode)
		}
		low := strings.ToLower(body)
		for _, bad := range []string{"<script", "<b>x", "\x00", "\x1b", "\u202e", "style=", "onclick", "javascript:"} {
			if strings.Contains(low, bad) {
				t.Errorf("%s holds %q", target, bad)
			}
		}
		if len(body) > 600<<10 {
			t.Errorf("%s has %d bytes", target, len(body))
		}
		h := resp.Header
		if p := h.Get("Content-Security-Policy"); !strings.HasPrefix(p, "default-src 'none'; style-src 'sha256-") || !strings.Contains(p, "form-action 'self'; frame-ancestors 'none'") {
			t.Errorf("%s: policy %s", target, p)
		}
		if h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "same-origin" {
			t.Errorf("%s: %v", target, h)
		}
	}
}

// Lists are cut, and say so.
func TestListsAreBounded(t *testing.T) {
	w := newWorld(t)
	var docs []string
	for i := range maxBots + 50 {
		docs = append(docs, fmt.Sprintf(`{"_id":"b%d","name":"Bot %d"}`, i, i))
	}
	w.set = compiled(t, docs...)
	for i := range 3000 {
		row := w.rows[0]
		row.ID, row.Why = fmt.Sprint("many-", i), fmt.Sprint("error ", i)
		w.rows = append(w.rows, row)
	}
	a := w.operator(t, nil)
	for target, want := range map[string][]any{
		"/bots":                              {maxBots, "50 more match"},
		"/calls":                             {maxGroups, "the largest 100 groups"},
		"/calls?status=rejected&since=24h":   {maxRows, "the newest 100 are shown"},
		"/calls?status=rejected&by=error":    {maxGroups, "the largest 100 groups"},
		"/calls?status=due&by=bot&since=24h": {1, "1 call by bot"},
	} {
		body := a.page(target)
		if n := strings.Count(body, `<tr role="row">`) - 1; n != want[0] {
			t.Errorf("%s has %d rows, want %d", target, n, want[0])
		}
		says(t, body, want[1].(string))
	}
	for i := range maxPush {
		row := w.rows[0]
		row.ID = fmt.Sprint("more-", i)
		w.rows = append(w.rows, row)
	}
	body := a.page("/acts/new?do=push&status=rejected")
	if says(t, body, "more than the 10,000"); len(fields(body)) > 0 {
		t.Error("they may be pushed all the same")
	}
}
