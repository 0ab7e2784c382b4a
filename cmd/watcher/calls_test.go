package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/internal/inspect"
)

// shownAt is the time at which the examples of the guides were printed.
var shownAt = time.Date(2026, 11, 27, 14, 0, 0, 0, time.UTC)

var (
	stampForm  = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)
	shortForm  = regexp.MustCompile(`\b\d\d-\d\d \d\d:\d\d\b`)
	replayForm = regexp.MustCompile(`\b\d{8}-\d{6}-[a-z0-9]{6}\b`)
)

// shown is an output of a command that was printed just after a time, as if that
// time had been shownAt: times rounded, ids and names that are always the same.
func shown(text string, at time.Time) string {
	text = replayForm.ReplaceAllString(text, "20261127-140000-6jffdy")
	text = strings.ReplaceAll(text, asker(), "ops@desk-4")
	text = stampForm.ReplaceAllStringFunc(text, func(s string) string {
		t, _ := time.Parse(time.RFC3339, s)
		return stamp(t.Add(shownAt.Sub(at)).Truncate(5 * time.Minute)) // a slow machine is no other output
	})
	return shortForm.ReplaceAllStringFunc(text, func(s string) string {
		t, err := time.Parse("2006-01-02 15:04", at.UTC().Format("2006-")+s)
		if err != nil {
			return s
		}
		return shortStamp(t.Add(shownAt.Sub(at.Truncate(time.Minute))))
	})
}

// golden compares what a command printed with a golden file, and with the guide that
// quotes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *updateGolden {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: printed\n%s\nwant\n%s", name, got, want)
	}
	guide, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	var quoted strings.Builder
	for line := range strings.Lines(string(want)) {
		if strings.TrimSpace(line) != "" {
			line = "    " + line
		}
		quoted.WriteString(line)
	}
	if !strings.Contains(string(guide), quoted.String()) {
		t.Errorf("docs/operations.md does not quote %s:\n%s", name, quoted.String())
	}
}

// fits fails the test when a line is wider than a terminal.
func fits(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > tableWidth {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// outcomeOf is an outcome as a push leaves it.
func outcomeOf(status string, http any, text string, at time.Time) bson.E {
	return bson.E{Key: "post_call_push_result", Value: bson.D{
		{Key: "status", Value: status}, {Key: "http_status", Value: http}, {Key: "error", Value: text},
		{Key: "url", Value: "https://crm.acme.example/leads"}, {Key: "attempts", Value: 1},
		{Key: "pushed_at", Value: at}, {Key: "completed_at", Value: at},
	}}
}

// The examples of the guide: which calls failed and why, and pushing those of one bot again.
func TestCallsOfANight(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	sales := apptest.Bot("acme-sales", d.crm.URL+"/leads")
	support := apptest.Bot("acme-support", d.crm.URL+"/cases")
	off := apptest.Bot("survey", d.crm.URL+"/survey", bson.E{Key: "enabled", Value: false})
	for id, bot := range map[string]bson.D{"Acme sales": sales, "Acme support": support, "Survey": off} {
		bot[1].Value = id
		d.PutBot(bot)
	}
	start := time.Now().UTC().Truncate(time.Second)
	ago := func(minutes int) time.Time {
		return start.Truncate(time.Minute).Add(30*time.Second - time.Duration(minutes)*time.Minute)
	}
	put := func(session, bot string, minutes int, outcome ...bson.E) {
		d.Call(session, bot, append(outcome, bson.E{Key: "completed_at", Value: ago(minutes)})...)
	}
	for i := range 12 {
		put(fmt.Sprintf("s-41%02d", i), "acme-sales", 70-i, outcomeOf("rejected", 401, "HTTP 401 Unauthorized", ago(70-i)))
	}
	for i := range 3 {
		put(fmt.Sprintf("s-42%02d", i), "acme-sales", 50-i, outcomeOf("rejected", 422, fmt.Sprintf("HTTP 422 Unprocessable Entity: lead %d is closed", 9000+i), ago(50-i)))
	}
	put("s-4300", "acme-support", 40, outcomeOf("failed", nil, "dial tcp: connection refused", ago(40)))
	put("s-4301", "acme-support", 35)
	for i := range 5 {
		put(fmt.Sprintf("s-44%02d", i), "acme-support", 30-i, outcomeOf("ok", 200, "", ago(30-i)))
	}
	put("s-4500", "survey", 20)

	out := d.run("calls", "--since", "2h", "--status", "failed,rejected,missing", "--group-by", "error")
	fits(t, out)
	golden(t, "calls_groups.txt", shown(out, start))
	out = d.run("calls", "--since", "2h", "--bot", "Acme sales", "--reason", "422")
	fits(t, out)
	golden(t, "calls_list.txt", shown(out, start))
	out = d.run("calls", "--since", "2h", "--group-by", "bot")
	fits(t, out)
	golden(t, "calls_bots.txt", shown(out, start))

	// Push the failed calls of one bot again; what cannot be mended by that fails again.
	d.watch()
	out = d.run("replay", "--since", "2h", "--bot", "acme sales", "--reason", "401", "--yes")
	fits(t, out)
	golden(t, "replay_bot.txt", shown(out, start))
	d.pushed("/leads", 12)
	id := replayForm.FindString(out)
	d.eventually("all are pushed", func() error {
		if r := d.report(id); r.Done["ok"] != 12 {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	out = d.run("replay", "status", id, "--calls", "--limit", "3")
	fits(t, out)
	golden(t, "replay_status.txt", shown(out, start))
	out = d.run("replay", "list")
	fits(t, out)
	has(t, out, id+" +marked +acme-sales +12/12 +12 ok")

	// The other words of the flags.
	type listed struct {
		Calls  []inspect.Row
		Total  int
		States map[string]int
		Read   int
	}
	list := func(args ...string) (l listed) {
		t.Helper()
		if err := json.Unmarshal([]byte(d.run(append([]string{"calls", "--output", "json"}, args...)...)), &l); err != nil {
			t.Fatal(err)
		}
		return l
	}
	if l := list(); l.Total != 23 || l.States["ok"] != 17 || l.States["rejected"] != 3 || l.States["skipped"] != 1 {
		t.Errorf("%+v", l)
	}
	if l := list("--status", "missing", "--host", strings.TrimPrefix(d.crm.URL, "http://")); l.Total != 1 || l.Calls[0].SessionID != "s-4301" {
		t.Errorf("%+v", l)
	}
	if l := list("--session-id", "s-4500", "--session-id", "s-4400"); l.Total != 2 || l.Read != 2 {
		t.Errorf("%+v", l)
	}
	if l := list("--status", "due,held"); l.Total != 0 || l.Read != 0 {
		t.Errorf("what is due is not found by its index: %+v", l)
	}
	has(t, d.run("calls", "--since", "1m"), `^0 calls\.\nOf results stored from`)
}

// Each refusal is one line, status 2, and names what is not known.
func TestCallsRefuseNonsense(t *testing.T) {
	for says, args := range map[string][]string{
		`--status: "bad" is not failed`: {"--status", "bad"},
		"--limit: 0 is not from 1":      {"--limit", "0"},
		"--group-by:":                   {"--group-by", "day"},
		"--output:":                     {"--output", "png"},
		"is after --until":              {"--since", "1h", "--until", "2h"},
		"there is no id on standard":    {"--session-id", "-"},
	} {
		stdout, stderr, code := invoke(t, "", append([]string{"calls", "--mongo-uri", "mongodb://127.0.0.1:1"}, args...)...)
		if code != cli.ExitUsage || !strings.Contains(stderr, says) || strings.Count(stderr, "\n") != 1 || stdout != "" {
			t.Errorf("%v: exit %d, %s%s", args, code, stdout, stderr)
		}
	}
	d := newDesk(t, "bot")
	d.Call("s-1", "bot")
	for _, command := range []string{"calls", "replay"} {
		_, stderr, code := d.try(command, "--session-id", "s-1", "--session-id", "s-2", "--session-id", "s-3")
		if code != cli.ExitUsage || !strings.HasSuffix(stderr, "--session-id: no call has session_id s-2, s-3\n") {
			t.Errorf("%s: exit %d, %s", command, code, stderr)
		}
		_, stderr, code = d.try(command, "--since", "1h", "--bot", "nobody", "--bot", "no one")
		if code != cli.ExitUsage || strings.Count(stderr, "--bot: there is no bot") != 2 {
			t.Errorf("%s: exit %d, %s", command, code, stderr)
		}
	}
}

// What is typed next is a command with the same filters, as a shell takes it.
func TestFlagsAgain(t *testing.T) {
	w := whichFlags{Bot: []string{"Acme sales", "it's"}, Reason: "$(rm)\x1b[", SessionID: []string{"a:b"}}
	want := ` --since 2h --bot 'Acme sales' --bot 'it'\''s' --session-id a:b --reason '$(rm) ['`
	if got := w.args("2h"); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}
