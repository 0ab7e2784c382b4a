package console

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/replay"
)

// What the guide says to click is on the pages.
func TestTheGuideNamesWhatIsThere(t *testing.T) {
	guide, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.report = func(r *inspect.Report) { r.Skips = []inspect.Skip{{Reason: "disabled"}} }
	w.holds = []hold.Hold{{ID: "h", Bot: "renewals", Why: "x", From: time.Now()}}
	w.replays = []replay.Record{{ID: "r"}}
	a := w.operator(t, nil)
	var all strings.Builder
	for _, target := range []string{
		"/calls", "/calls/sess-0002", "/bots/" + salesBot, "/bots/renewals", "/acts", "/acts/new?do=release&id=h", "/acts/new?do=cancel&id=r",
		"/acts/new?do=hold&why=x&bot=" + salesBot, "/acts/new?do=push&status=rejected&since=24h&bot=" + salesBot,
	} {
		all.WriteString(a.page(target))
	}
	n := 0
	for line := range strings.Lines(string(guide)) {
		if !strings.HasPrefix(line, "In the browser") && !strings.HasPrefix(line, "| [") {
			continue
		}
		for _, m := range regexp.MustCompile(`\*\*([^*]+)\*\*`).FindAllStringSubmatch(line, -1) {
			n++
			if !regexp.MustCompile(`>\s*` + regexp.QuoteMeta(m[1]) + `\s*<`).MatchString(all.String()) {
				t.Errorf("no page has %q", m[1])
			}
		}
	}
	if n < 15 {
		t.Errorf("the guide names only %d", n)
	}
}

// What a bot's keys come to is read once in a while, and again when the bot is another.
func TestFillRates(t *testing.T) {
	w := newWorld(t)
	a := w.operator(t, nil)
	body := a.page("/bots/" + salesBot)
	says(t, body, "its newest 20 calls of the last 90 days, read", "18 of 20", "4 as JSON", "40–180", "L-2000000", "a name of it exists in none of 20 calls")
	a.page("/bots/" + salesBot)
	a.page("/bots/renewals")
	if w.filled != 2 {
		t.Errorf("two bots were read %d times", w.filled)
	}
	w.set = newWorld(t).set
	a.page("/bots/" + salesBot)
	if w.filled != 3 {
		t.Errorf("after a change of the bot, it was read %d times in all", w.filled)
	}
	says(t, a.page("/bots/silent"), "It cannot push.")
}

func TestTryAMapping(t *testing.T) {
	w := newWorld(t)
	a := w.operator(t, nil)
	form := fields(`action="/acts"` + strings.SplitN(a.page("/bots/"+salesBot), "/try#try", 2)[1])
	try := func(document, call string) (int, string) {
		form.Set("document", document)
		form.Set("call", call)
		resp, body := a.do(http.MethodPost, "/bots/"+salesBot+"/try", form.Encode())
		return resp.StatusCode, body
	}
	code, body := try(`{"outcome":"{{analysis.DISPOSITON}}"}`, " sess-0011 ")
	if code != http.StatusOK {
		t.Errorf("%d %s", code, body)
	}
	says(t, body, "A watcher would not send it: the push of the bot is switched off.", "<del>Interested</del>", "<ins>{", "analysis.DISPOSITION", "a small thing", `value="sess-0011"`, "What its keys come to")
	if strings.Index(body, "there is no such name") > strings.Index(body, "a small thing") {
		t.Error("the worse warning is not the first")
	}
	for document, want := range map[string]int{
		"{": http.StatusBadRequest, "[1]": http.StatusBadRequest, "": http.StatusBadRequest, strings.Repeat("[", maxTrial): http.StatusBadRequest,
		strings.Repeat(" ", maxTrial+1): http.StatusRequestEntityTooLarge, strings.Repeat(" ", maxDocument+maxForm): http.StatusRequestEntityTooLarge,
	} {
		if code, body := try(document, ""); code != want || want == http.StatusBadRequest && !strings.Contains(body, "is no Extended JSON") {
			t.Errorf("%.10q: %d, want %d", document, code, want)
		}
	}
	if code, body := try("{}", "nobody"); code != http.StatusBadRequest || !strings.Contains(body, "no call is known by") {
		t.Errorf("no such call: %d", code)
	}
	form.Del("form")
	if code, _ := try("{}", ""); code != http.StatusForbidden {
		t.Errorf("without the value of the session: %d", code)
	}
}

// The recording link is opened when somebody asks for it, by a form of their session.
func TestTheRecordingLink(t *testing.T) {
	a := newWorld(t).operator(t, nil)
	body := a.page("/calls/sess-0002")
	says(t, body, "Check the recording link", "not looked at")
	form := fields(`action="/acts"` + strings.SplitN(body, "/link#checks", 2)[1])
	resp, body := a.do(http.MethodPost, "/calls/sess-0002/link", form.Encode())
	if resp.StatusCode != http.StatusOK || strings.Contains(body, "Check the recording link") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	says(t, body, "answers 206")
	if resp, _ := a.do(http.MethodPost, "/calls/sess-0002/link", ""); resp.StatusCode != http.StatusForbidden {
		t.Errorf("without the value of the session: %d", resp.StatusCode)
	}
}
