package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/cluster"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/internal/plain"
	"github.com/cxbridge/watcher/internal/replay"
)

// The summary is there before the first watcher, while one works and after the last.
func TestStatusOfACluster(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	status := func(want int) string {
		t.Helper()
		stdout, stderr, code := d.try("status")
		if code != want || stderr != "" {
			t.Errorf("exit %d, want %d: %s%s", code, want, stdout, stderr)
		}
		return stdout
	}
	has(t, status(cli.ExitFailed), "default on cxbridge: DOWN", "! No watcher has run under the name default", "! The database .* holds neither calls nor bots", "What waits is not known: the index watcher_due is not there")

	d.PutBot(apptest.Bot("good", d.crm.URL+"/good"))
	d.PutBot(apptest.Bot("bad", d.crm.URL+"/bad"))
	d.crm.Answers(func(r apptest.Request) apptest.Answer {
		if r.Path == "/bad" {
			return apptest.Answer{Status: 503}
		}
		return apptest.Answer{}
	})
	hourly := func(c *config.Config) { c.RetrySchedule = []time.Duration{time.Hour} }
	stop := d.watch(hourly)
	other := d.watch(func(c *config.Config) { c.Name = "other"; hourly(c) })
	d.Call("s-1", "good")
	d.Call("s-2", "bad")
	d.settled("s-1", "ok")
	d.eventually("the call that fails waits", func() error {
		var s struct {
			Partitions []struct{ Position *time.Time }
			Waiting    struct{ Scheduled int }
		}
		if err := json.Unmarshal([]byte(d.run("status", "--output", "json")), &s); err != nil {
			return err
		}
		if s.Waiting.Scheduled != 1 || len(s.Partitions) != 1 || s.Partitions[0].Position == nil {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	has(t, status(0), "works, needs attention", "! Another watcher is alive beside --name default, under other", `REPLICA +VERSION +STATE`, `test +working +\d+s ago +0-of-1`,
		"Next attempts of 1 call: 0 due, 1 scheduled, 0 held; 1 failing", `bot bad +127.0.0.1:\d+ +0 +1 +0 +1 +in \d+[hm]`, `bot bad +1 +\d+s ago +HTTP 503 Service Unavailable\n`, `127.0.0.1:\d+ +1 +0 +1 +0 +1 `)
	has(t, d.run("check"), "warn +deployment +Another watcher is alive")
	other()
	stop()
	has(t, status(cli.ExitFailed), "DOWN", "No watcher is alive under the name default: nothing is pushed", "0-of-1 +nobody", "Next attempts of 1 call")
	if _, stderr, code := d.try("status", "--watch"); code != cli.ExitUsage || !strings.Contains(stderr, "--watch: ") {
		t.Errorf("no terminal to draw on: exit %d, %s", code, stderr)
	}
}

// What fails while it is drawn again and again is shown, and what ends it is no error.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var out strings.Builder
		n := 0
		err := watch(ctx, &out, func(w io.Writer) error {
			n++
			fmt.Fprintf(w, "drawn %d\n", n)
			return []error{nil, errors.New("away"), errNobodyReads}[n-1]
		})
		want := "\x1b[Hdrawn 1\x1b[K\n\x1b[J" + "\x1b[Hdrawn 2\x1b[K\naway\x1b[K\n\x1b[J" + "\x1b[Hdrawn 3\x1b[K\n\x1b[J"
		if err != nil || out.String() != want {
			t.Errorf("%q, %v", out.String(), err)
		}
	})
}

// sample is a cluster with something in each table.
func sample() *cluster.Summary {
	at := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	span := func(d time.Duration) *plain.Span { s := plain.Span(d); return &s }
	return &cluster.Summary{
		At: at, Name: "default", Status: cluster.StatusAttention,
		Attention: []string{"Bot Renewals: 12 calls due, the first for 12m."},
		Replicas: []cluster.Replica{
			{Owner: "crm-1/5f6d0a0c/4026531836/4826", Version: "1.2.0", Lives: true, BeatAt: at.Add(-time.Second), Partitions: []string{"0-of-1"}},
			{Owner: "crm-2/7a1e22b9/4026531836/311", Version: "1.2.0", Lives: true, BeatAt: at.Add(-2 * time.Second)},
		},
		Partitions: []cluster.Partition{{
			Name: "0-of-1", Owner: "crm-1/5f6d0a0c/4026531836/4826", Position: at.Add(-2 * time.Second), SavedAt: at.Add(-time.Second),
			Age: span(2 * time.Second), Lag: span(time.Second), Headroom: span(53 * time.Hour),
		}},
		Waiting: cluster.Waiting{
			Counts: cluster.Counts{Calls: 60, Due: 12, Scheduled: 38, Held: 10, Failing: 41}, Replayed: 4,
			Bots: []cluster.WaitingBot{
				{Name: "Renewals", Host: "crm.example.com", Counts: cluster.Counts{Calls: 50, Due: 12, Scheduled: 38, Failing: 41, First: at.Add(-12 * time.Minute)},
					Last: &cluster.Answer{At: at.Add(-4 * time.Minute), Error: "HTTP 503 Service Unavailable", Attempts: 3}},
				{ID: "65f0c0ffee00000000000001", Host: "push.example.org", Counts: cluster.Counts{Calls: 10, Held: 10}},
			},
			Hosts: []cluster.WaitingHost{
				{Host: "crm.example.com", Bots: 1, Counts: cluster.Counts{Calls: 50, Due: 12, Scheduled: 38, Failing: 41, First: at.Add(-12 * time.Minute)}},
				{Host: "push.example.org", Bots: 1, Counts: cluster.Counts{Calls: 10, Held: 10}},
			},
		},
		Holds:   []hold.Hold{{ID: "h-7k2m4q", Host: "push.example.org", Until: at.Add(2 * time.Hour), By: "asha@desk", Why: "their maintenance"}},
		Replays: []cluster.Replay{{ID: "20261127-115800-k3x9qa", State: replay.StateMarking, Marked: 40, Found: 120, UpdatedAt: at.Add(-time.Second), By: "asha@desk"}},
	}
}

// The guide shows what is printed. Run the test with WATCHER_UPDATE=1 to write it anew.
func TestTheGuideShowsTheStatus(t *testing.T) {
	var out strings.Builder
	if err := printSummary(&out, sample(), "cxbridge"); err != nil {
		t.Fatal(err)
	}
	want := "    $ watcher status\n"
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(line); n > 101 {
			t.Errorf("%d columns: %s", n-1, line)
		}
		want += strings.TrimRight("    "+line, " \n") + "\n"
	}
	const file, begin, end = "../../docs/operations.md", "<!-- status -->\n", "<!-- /status -->\n"
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(raw), begin)
	shown, tail, closed := strings.Cut(rest, end)
	switch {
	case !ok || !closed:
		t.Fatalf("%s has no %q and %q", file, begin, end)
	case shown == want:
	case os.Getenv("WATCHER_UPDATE") == "":
		t.Fatalf("%s shows something else; want:\n%s", file, want)
	default:
		if err := os.WriteFile(file, []byte(head+begin+want+end+tail), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
