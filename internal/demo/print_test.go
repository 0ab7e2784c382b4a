package demo

import (
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/demo/world"
)

// printed prints a whole demo whose calls all end as they should.
func printed(t *testing.T, plan []*call, color bool) (string, Summary) {
	t.Helper()
	var out strings.Builder
	p := &printer{out: &out, color: color}
	p.opening(Options{Calls: len(plan), Rate: 8, Seed: 1, MongoURI: "mongodb://127.0.0.1:27017/?replicaSet=rs0"}, "http://127.0.0.1:4000", "http://127.0.0.1:9090/metrics")
	sum := Summary{byBot: make(map[*bot]*Tally), Elapsed: 3400 * time.Millisecond}
	for _, c := range plan {
		e := right(c)
		sum.count(c.bot, e.outcome)
		if e.outcome == nil {
			p.leftAlone(c)
			continue
		}
		p.ended(c, e.outcome, e.got)
	}
	body := `{"call_id":"call-0003","note":"` + strings.Repeat("long ", 60) + `","callingheaders":{"X-A":"1"},"url":"https://a.example/?a=1&b=<2>"}`
	written, err := bson.Marshal(bson.D{
		{Key: "status", Value: "ok"}, {Key: "http_status", Value: int32(200)}, {Key: "error", Value: nil},
		{Key: "response_body", Value: `{"ok":true,"a":"<b>&c"}`}, {Key: "pushed_at", Value: time.UnixMilli(1_780_654_625_123)},
		{Key: "attempts", Value: int64(2)},
	})
	if err != nil {
		t.Fatal(err)
	}
	header := http.Header{"Authorization": {"Bearer secret-token"}, "Idempotency-Key": {"0123456789abcdef0123456789abcdef"}, "Content-Type": {"application/json"}}
	p.closing(sum, botsOf(plan), &example{plan[0], world.Request{Method: "POST", Path: "/kestrel/leads", Header: header, Body: []byte(body)}, written}, "http://127.0.0.1:9090/metrics")
	return out.String(), sum
}

// botsOf is the bots of a plan, in the order of their first call.
func botsOf(plan []*call) []*bot {
	seen := make(map[*bot]bool)
	var bots []*bot
	for _, c := range plan {
		if !seen[c.bot] {
			seen[c.bot] = true
			bots = append(bots, c.bot)
		}
	}
	return bots
}

func TestNothingIsWiderThanTheScreen(t *testing.T) {
	text, _ := printed(t, planned(1, 40), false)
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > width {
			t.Errorf("%d characters: %s", n, line)
		}
	}
	if strings.Contains(text, "\x1b") {
		t.Error("colours where there are none")
	}
}

func TestColorsChangeNothingElse(t *testing.T) {
	plan := planned(1, 25)
	colored, _ := printed(t, plan, true)
	if !strings.Contains(colored, "\x1b[32m✓ ok") {
		t.Error("a pushed call is not green")
	}
	if open, closed := strings.Count(colored, "\x1b[")-strings.Count(colored, "\x1b[0m"), strings.Count(colored, "\x1b[0m"); open != closed {
		t.Errorf("%d colours begin and %d end", open, closed)
	}
}

func TestEveryCallHasALineThatSaysWhatBecameOfIt(t *testing.T) {
	plan := planned(1, len(kinds))
	text, _ := printed(t, plan, false)
	for i, says := range []string{
		"✓ ok, 12 ms", "✓ ok, 12 ms", "✓ ok, 12 ms", "✓ ok, attempt 2 (503, 201)", "✓ ok, 12 ms", "✓ ok, 12 ms", "· bot has no push",
		"✓ ok, 12 ms", "✗ rejected (422)", "✓ ok, 12 ms", "· skip_post_push", "✗ rejected (200)", "– skipped (no url)", "· agent call", "✓ ok, attempt 2 (503, 201)", "✓ ok, 12 ms",
	} {
		found := ""
		for line := range strings.Lines(text) {
			if strings.Contains(line, "  "+plan[i].session+"  ") {
				found = line
				break
			}
		}
		if !strings.HasSuffix(strings.TrimSpace(found), says) {
			t.Errorf("%s: %q, want it to end with %q", plan[i].session, found, says)
		}
	}
}

func TestClosingShowsTableAndExample(t *testing.T) {
	text, sum := printed(t, planned(1, 25), false)
	for _, says := range []string{
		"stored  pushed  rejected  skipped  left alone  retried",
		"POST /kestrel/leads",
		"Authorization: ***",
		`"X-A": "1"`,
		`"url": "https://a.example/?a=1&b=<2>"`,
		`"pushed_at": ISODate("2026-06-05T10:17:05.123Z")`,
		`"response_body": "{\"ok\":true,\"a\":\"<b>&c\"}"`,
		`"attempts": 2`,
		"✓ all 25 calls ended as they should, in 3.4 s",
		"http://127.0.0.1:9090/metrics",
	} {
		if !strings.Contains(text, says) {
			t.Errorf("the closing lacks %q", says)
		}
	}
	if strings.Contains(text, "secret-token") {
		t.Error("a token is shown")
	}
	if sum.Stored != 25 || sum.Pushed+sum.Rejected+sum.Skipped+sum.Left != 25 {
		t.Errorf("the table does not add up: %+v", sum.Tally)
	}
}

func TestFaultsAreListed(t *testing.T) {
	var out strings.Builder
	sum := Summary{Tally: Tally{Stored: 30}, byBot: map[*bot]*Tally{}}
	for _, c := range planned(1, 25) {
		sum.wrong(c, "has no outcome, want %s", "ok")
	}
	(&printer{out: &out}).closing(sum, nil, nil, "")
	for _, says := range []string{"✗ 5 of 30 calls ended", "call-0020 has no outcome, want ok", "and 5 more"} {
		if !strings.Contains(out.String(), says) {
			t.Errorf("lacks %q in:\n%s", says, out.String())
		}
	}
	if strings.Contains(out.String(), "call-0021") {
		t.Error("more faults than a screen holds")
	}
}
