package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/internal/inspect"
)

// called is a report as --output json prints it.
func (d *desk) called(id string, flags ...string) callOutput {
	d.t.Helper()
	var out callOutput
	text := d.run(append([]string{"call", id, "--output", "json"}, flags...)...)
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		d.t.Fatalf("%s: %v\n%s", id, err, text)
	}
	return out
}

// The life of a call, as its report tells it: refused for a while, held up, refused
// for good, pushed once more.
func TestCallOfAWatcherAtWork(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "bot", "off")
	d.PutBot(apptest.Bot("off", d.crm.URL+"/off", bson.E{Key: "enabled", Value: false}))
	answers := map[string]apptest.Answer{
		"busy": {Status: 503, Body: "come back later"}, "refused": {Status: 422, Body: `{"error":"no such lead"}`},
	}
	d.crm.Answers(func(r apptest.Request) apptest.Answer {
		for name, answer := range answers {
			if strings.Contains(string(r.Body), `"call_id":"`+name+`"`) {
				return answer
			}
		}
		return apptest.Answer{Status: 200}
	})
	d.watch(func(c *config.Config) { c.RetrySchedule = []time.Duration{time.Hour} })
	d.Call("fine", "bot")
	d.Call("busy", "bot")
	d.Call("refused", "bot")
	d.Call("off", "off")
	d.Call("flagged", "bot", bson.E{Key: "skip_post_push", Value: "true"})
	d.settled("fine", "ok")
	d.settled("busy", "rejected")
	d.settled("refused", "rejected")

	r := d.called("fine")
	if o := r.Outcome; r.State != inspect.StateOK || o == nil || !o.Final || !o.OfThisResult || len(r.Attempts) != 1 || r.Attempts[0].HTTPStatus != 200 ||
		r.Decision.Action != "skip" || r.Decision.Reason != "already_logged" || r.Bot.Name != "bot bot" || r.Others == nil || len(r.Skips) != 0 {
		t.Errorf("%+v", r.Report)
	}
	checks := make(map[string]string)
	for _, c := range r.Checklist {
		checks[c.Name] = "-"
		if c.OK != nil {
			checks[c.Name] = fmt.Sprint(*c.OK)
		}
	}
	want := map[string]string{"analysis": "true", "recording": "-", "taken": "true", "filled": "true", "braces": "true", "visible": "-"}
	if fmt.Sprint(checks) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", checks, want)
	}
	if r := d.called("busy", "--retry-schedule", "1h"); r.State != inspect.StateDue || r.Outcome.Final || !strings.Contains(r.Outcome.NextWhy, "attempt 2 of at most 2, by the schedule: about 1h") ||
		r.Decision.Reason != "already_scheduled" {
		t.Errorf("%+v %+v", r.Outcome, r.Decision)
	}
	for session, says := range map[string]string{"off": "disabled", "flagged": "skip_post_push"} {
		d.eventually("why "+session+" was not pushed is written", func() error {
			r := d.called(session)
			if r.State != inspect.StateSkipped || len(r.Skips) != 1 || r.Skips[0].Reason != says || !strings.Contains(r.Summary, says) {
				return fmt.Errorf("%s, %s, %+v", r.State, r.Summary, r.Skips)
			}
			return nil
		})
	}
	if r := d.called("flagged"); len(r.Warnings) == 0 || !strings.Contains(r.Warnings[0], `skip_post_push is the text "true" and counts as true`) {
		t.Errorf("%q", r.Warnings)
	}
	d.pushesAgain()
}

func (d *desk) pushesAgain() {
	t := d.t
	t.Helper()
	r := d.called("refused")
	for _, id := range []string{r.ID, r.DeliveryID} {
		if again := d.called(id); again.SessionID != "refused" {
			t.Errorf("by %s: %+v", id, again.Report)
		}
	}
	text := d.run("call", "refused")
	has(t, text, "state +rejected. The CRM did not accept it, after 1 attempt", "  1 +20\\S+  rejected, HTTP 422, took ", "\\n +{\"error\":\"no such lead\"}", "✗ taken", "✓ visible")
	for line := range strings.Lines(text) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > screenWidth {
			t.Errorf("a line of %d: %q", n, line)
		}
	}
	d.crm.Answers(func(apptest.Request) apptest.Answer { return apptest.Answer{Status: 200} })
	before := len(d.crm.At("/bot"))
	_, stderr, code := d.try("call", "off", "--push", "--yes")
	if code != cli.ExitUsage || !strings.Contains(stderr, "would not be pushed: the push of the bot is switched off") {
		t.Errorf("a call that is not pushed: exit %d, %s", code, stderr)
	}
	if _, stderr, code := d.try("call", "refused", "--push"); code != cli.ExitUsage || !strings.Contains(stderr, "--yes") {
		t.Errorf("nobody to ask: exit %d, %s", code, stderr)
	}
	has(t, d.run("call", "refused", "--push", "--dry-run"), "It would be pushed to http://127.0.0.1:\\d+/bot once more, as delivery "+r.DeliveryID)
	if n := len(d.crm.At("/bot")); n != before {
		t.Errorf("%d pushes, want %d", n, before)
	}
	pushed := d.called("refused", "--push", "--yes")
	d.settled("refused", "ok")
	again := d.called("refused")
	if again.Outcome.ReplayID != pushed.ReplayID || pushed.ReplayID == "" || len(again.Attempts) != 2 || again.Attempts[1].DeliveryID != r.DeliveryID {
		t.Errorf("%q, %+v", pushed.ReplayID, again.Report)
	}
	has(t, d.run("replay", "status", pushed.ReplayID), "done ok +1")
	if n := len(d.crm.At("/bot")); n != before+1 {
		t.Errorf("%d pushes, want %d", n, before+1)
	}
}

func TestCallThatIsNotKnown(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "bot")
	for id, says := range map[string]string{
		"nobody":                           `no call is known by "nobody"; looked for it as _id of calls, as session_id of calls in the database cxbridge`,
		"0123456789abcdef0123456789abcdef": "as delivery id in watcher_skips, as delivery id of all outcomes and attempts in calls",
		strings.Repeat("x", 5000):          "no call is known",
	} {
		stdout, stderr, code := d.try("call", id)
		if code != cli.ExitUsage || stdout != "" || !strings.Contains(stderr, says) || strings.Count(stderr, "\n") != 1 || len(stderr) > 2000 {
			t.Errorf("exit %d, %s%s", code, stdout, stderr)
		}
	}
	for _, args := range [][]string{{""}, {"x", "--output", "yaml"}, {"x", "--yes"}, {"x", "--bot", "no such file"}} {
		if stdout, stderr, code := d.try(append([]string{"call"}, args...)...); code != cli.ExitUsage || stdout != "" || stderr == "" {
			t.Errorf("%q: exit %d, %s%s", args, code, stdout, stderr)
		}
	}
}

// A result that no watcher has looked at, and one that was passed over.
func TestCallOnItsWayAndMissing(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "bot")
	stop := d.watch()
	d.Call("first", "bot")
	d.settled("first", "ok")
	d.eventually("a position is saved", func() error {
		if p := d.record().Position; p.IsZero() {
			return errors.New("not yet")
		}
		return nil
	})
	stop()
	d.Call("ahead", "bot", bson.E{Key: "completed_at", Value: time.Now().Add(time.Minute)})
	d.Call("behind", "bot", bson.E{Key: "completed_at", Value: time.Now().Add(-time.Hour)})
	r := d.called("ahead")
	if r.State != inspect.StateDue || !strings.Contains(r.Summary, "On its way") || r.Decision.Action != "deliver" {
		t.Errorf("%s, %s", r.State, r.Summary)
	}
	if r := d.called("behind"); r.State != inspect.StateMissing || !strings.Contains(r.Summary, "nothing says why") {
		t.Errorf("%s, %s", r.State, r.Summary)
	}
	has(t, d.run("call", "behind", "--push", "--yes"), "No watcher with the name default is alive", "It is due now, by replay")
	if r := d.called("behind"); r.State != inspect.StateDue || !strings.Contains(r.Outcome.NextWhy, "the replay "+r.Outcome.ReplayID) {
		t.Errorf("%+v", r.Outcome)
	}
	if _, stderr, code := d.try("call", "ahead", "--push", "--yes"); code != cli.ExitUsage || !strings.Contains(stderr, "it is on its way") {
		t.Errorf("exit %d, %s", code, stderr)
	}
	d.watch()
	d.settled("behind", "ok")
}

// The recording link is opened within the network settings, and never printed whole.
func TestCallLooksAtItsRecording(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "bot")
	d.Call("s", "bot", bson.E{Key: "recording_key", Value: "k"}, bson.E{Key: "recording_access_token", Value: "open-sesame-99"})
	text := d.run("call", "s", "--check-link", "--public-base-url", d.crm.URL)
	has(t, text, "✗ recording .*/recordings/\\*\\*\\*: address 127.0.0.1 is not public")
	text += d.run("call", "s", "--check-link", "--public-base-url", d.crm.URL, "--allow-network", "127.0.0.0/8")
	has(t, text, "✓ recording .*/recordings/\\*\\*\\* answers 200")
	if strings.Contains(text, "open-sesame") {
		t.Errorf("the token is shown:\n%s", text)
	}
}
