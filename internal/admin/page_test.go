package admin

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// show returns the page and the JSON of a Source that says p.
func show(t *testing.T, p Page, checks ...Check) (html, js string) {
	t.Helper()
	_, url := start(t, Options{Source: fixed(func() Page { return p }), Checks: checks})
	resp, html := get(t, url+"/")
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	_, js = get(t, url+"/status.json")
	if !json.Valid([]byte(js)) {
		t.Fatalf("no JSON: %s", js)
	}
	return html, js
}

// wants checks that both forms say something.
func wants(t *testing.T, html, js, text string) {
	t.Helper()
	for name, body := range map[string]string{"page": html, "JSON": js} {
		if !strings.Contains(body, text) {
			t.Errorf("the %s does not say %q", name, text)
		}
	}
}

func refuses(t *testing.T, html, js, text string) {
	t.Helper()
	for name, body := range map[string]string{"page": html, "JSON": js} {
		if strings.Contains(body, text) {
			t.Errorf("the %s says %q", name, text)
		}
	}
}

func TestPageSaysWhatIsWrong(t *testing.T) {
	p := sample()
	p.Lanes[1].Problem.Since = time.Now().Add(-time.Minute)
	since := p.Lanes[1].Problem.Since.UTC().Format("15:04:05")
	html, js := show(t, p, Check{Name: "polls", Ready: func() error { return errors.New("no poll has come back for 40s") }})
	for _, text := range []string{
		"eu.leadsquared.example/v2/LeadManagement.svc/Lead.Capture: CRM answered HTTP 422 Unprocessable Entity: field mx_City unknown, since " + since + ", 38 calls waiting.",
		"Not ready: polls: no poll has come back for 40s",
		"1 bot cannot push because of its configuration.",
		"Another watcher is alive beside --name default, under old.", "crm-push-2", "1.3.9", "hooks.example.com",
		"crm-push-1", "0-of-2", "Old survey", "Collections Hindi",
	} {
		wants(t, html, js, text)
	}
	for _, text := range []string{`<html lang="en">`, "<main>", "<h1>", `http-equiv="refresh" content="5"`, "48,210", "12 due, 1,200 scheduled, 50 held; 1,204 failing, 3", "when released", `<span class="pill good">working</span>`, `<span class="pill calm">standby</span>`, `<span class="pill bad">gone</span>`, "1d7h", "not ready"} {
		if !strings.Contains(html, text) {
			t.Errorf("the page does not have %q", text)
		}
	}
}

// Whatever the texts hold, the page has no other elements than without them.
func TestPageEscapes(t *testing.T) {
	const evil = `<script>alert(1)</script>"'><img src=x onerror=alert(1)>`
	p := sample()
	calm, _ := show(t, p)
	p.Name, p.Owner, p.Version = evil, evil, evil
	p.Partitions[0].Name, p.Partitions[0].Owner, p.Partitions[0].Error = evil, evil, evil
	p.Lanes[0].Destination, p.Lanes[0].Problem.Text, p.Lanes[0].State = "https://h/"+evil, evil, evil
	p.Lanes[0].Bots = []string{evil}
	p.Outcomes[0].CallID, p.Outcomes[0].Bot, p.Outcomes[0].Why, p.Outcomes[0].Status = evil, evil, evil, evil
	p.Faulty[0] = FaultyBot{ID: evil, Name: evil, Why: evil}
	p.Skipped = map[string]uint64{evil: 1}
	html, _ := show(t, p)
	if strings.Contains(html, "<script") || strings.Contains(html, "<img") {
		t.Error("markup of others is in the page")
	}
	tags := regexp.MustCompile(`</?(script|img|style|iframe|a|link|form)\b`)
	if got, want := len(tags.FindAllString(html, -1)), len(tags.FindAllString(calm, -1)); got != want {
		t.Errorf("%d such elements, %d without the texts", got, want)
	}
}

// The policy lets in the style of the page and nothing else, and the page needs
// nothing else.
func TestPagePolicy(t *testing.T) {
	_, url := start(t, Options{Source: fixed(sample)})
	resp, html := get(t, url+"/")
	policy := resp.Header.Get("Content-Security-Policy")
	style := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindStringSubmatch(html)
	if style == nil {
		t.Fatal("no style")
	}
	sum := sha256.Sum256([]byte(style[1]))
	if want := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.HasPrefix(policy, want) {
		t.Errorf("%s\nwant %s", policy, want)
	}
	if regexp.MustCompile(`(?i)<script|\bstyle=|\bon\w+=|\bsrc=|href="(https?:|//)|@import|url\(`).MatchString(html) {
		t.Error("the page needs more than its own text")
	}
	for name, want := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if _, still := get(t, url+"/?refresh=0"); strings.Contains(still, "http-equiv") {
		t.Error("the page refreshes although it was asked not to")
	}
}

// What a receiver or an id says of a customer is not shown.
func TestPageShowsNobody(t *testing.T) {
	p := sample()
	p.Lanes[0].Problem.Text = "CRM answered HTTP 400: +91 98765 43210 of asha.rao@example.com is known"
	p.Lanes[0].Destination = "https://hooks.example.com/services/T00000000A1/B00000000B2C3D4E5/XyZ123456789abcdef?key=k3y"
	p.Outcomes[0].CallID, p.Outcomes[0].Why = "919876543210", "phone 9876543210 is no number"
	p.Outcomes[0].Destination = p.Lanes[0].Destination
	p.Partitions[0].Error = "write of 9876543210 failed"
	p.Faulty[0].Why = `key_mapper.phone: "9876543210" is odd`
	html, js := show(t, p)
	for _, text := range []string{"9876543210", "98765 43210", "43210", "asha.rao", "XyZ1234567", "k3y"} {
		refuses(t, html, js, text)
	}
	for _, text := range []string{"***10 of ***@example.com is known", "XyZ1…", "phone ***10 is no number"} {
		wants(t, html, js, text)
	}
}

// A thousand destinations make no larger page than fifty do.
func TestPageStaysSmall(t *testing.T) {
	p := sample()
	p.Lanes, p.Faulty, p.Outcomes = nil, nil, nil
	for i := range 1000 {
		l := Lane{Destination: fmt.Sprintf("https://crm-%03d.example.com/x", i), State: "closed", Limit: 16}
		if i%20 == 13 {
			l.State, l.Deferrals = "open", i
			l.Problem = Problem{Text: strings.Repeat("long ", 5000), Since: time.Now(), Times: 1}
		}
		p.Lanes = append(p.Lanes, l)
		p.Faulty = append(p.Faulty, FaultyBot{ID: fmt.Sprint("bot-", i), Why: strings.Repeat("why ", 500)})
		p.Outcomes = append(p.Outcomes, Outcome{CallID: fmt.Sprint("call-", i), Why: strings.Repeat("because ", 300)})
	}
	html, js := show(t, p)
	const most = 160 << 10
	if len(html) > most || len(js) > most {
		t.Errorf("the page has %d bytes, the JSON %d", len(html), len(js))
	}
	wants(t, html, js, "crm-993.example.com") // the one with the most deferrals
	refuses(t, html, js, "crm-000.example.com")
	for _, text := range []string{"50 of 1000, those in trouble first", "1000 of 41, 50 shown"} {
		if !strings.Contains(html, text) {
			t.Errorf("the page does not say %q", text)
		}
	}
	if !strings.Contains(js, `"lanes_left": 950`) {
		t.Error("the JSON does not say how many destinations are left out")
	}
}

func TestPageOfAWatcherThatHasDoneNothing(t *testing.T) {
	html, js := show(t, Page{Name: "default", Owner: "a", Version: "dev", Started: time.Now()})
	wants(t, html, js, "ready")
	for _, text := range []string{"Nothing was sent", "No call has been pushed", "not known"} {
		if !strings.Contains(html, text) {
			t.Errorf("the page does not say %q", text)
		}
	}
	if strings.Contains(html, "Needs attention") {
		t.Error("nothing is wrong, yet something needs attention")
	}
}

func TestAdviceBeginsWithTheWorst(t *testing.T) {
	p := Page{Now: time.Now(), Replicas: 1, Partitions: []Partition{
		{Name: "0-of-2", Ours: true, Owner: "a", Lag: span(3 * time.Minute), Headroom: span(2 * time.Hour), Oplog: span(24 * time.Hour)},
		{Name: "1-of-2"},
	}}
	for i := range 20 {
		p.Lanes = append(p.Lanes, Lane{Destination: fmt.Sprint("crm-", i), State: "open", Until: p.Now})
	}
	got := p.advice()
	want := []string{
		"Partition 0-of-2 is read 3m late.",
		"The saved position of partition 0-of-2 is 2h from the end of an oplog of 1d; once behind it, results are looked up by time.",
		"Nobody reads partition 1-of-2.",
	}
	if len(got) != maxAdvice+1 || strings.Join(got[:3], "\n") != strings.Join(want, "\n") || got[maxAdvice] != "And 11 more below." {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
}
