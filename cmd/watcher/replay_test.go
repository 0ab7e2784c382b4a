package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/pkg/resume"
)

func TestReplay(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "bot", "other")
	d.PutBot(apptest.Bot("quiet", ""))
	d.PutBot(apptest.Bot("off", d.crm.URL+"/off", bson.E{Key: "enabled", Value: false}))
	down := true
	var mu sync.Mutex
	d.crm.Answers(func(q apptest.Request) apptest.Answer {
		mu.Lock()
		defer mu.Unlock()
		if down && q.Path == "/bot" {
			return apptest.Answer{Status: 400, Body: "closed for today"}
		}
		return apptest.Answer{}
	})
	ago := bson.E{Key: "completed_at", Value: time.Now().Add(-30 * time.Minute)}
	d.Call("never", "bot", ago) // before the watcher
	d.Call("platform-ok", "bot", ago, bson.E{Key: "post_call_push_result", Value: bson.D{{Key: "status", Value: "ok"}}})
	d.Call("platform-failed", "bot", ago, bson.E{Key: "post_call_push_result", Value: bson.D{{Key: "status", Value: "failed"}}})
	d.Call("off", "off", ago)
	d.watch()
	for i := range 3 {
		d.Call(fmt.Sprintf("refused-%d", i), "bot")
	}
	d.Call("fine", "other")
	d.Call("skipped", "quiet")
	for i := range 3 {
		d.settled(fmt.Sprintf("refused-%d", i), "rejected")
	}
	d.settled("fine", "ok")
	d.settled("skipped", "skipped")
	mu.Lock()
	down = false
	mu.Unlock()

	_, stderr, code := d.try("replay", "--since", "1h", "--bot", "bto", "--bot", "bot", "--yes")
	if code != cli.ExitUsage || !strings.Contains(stderr, `--bot: there is no bot "bto"`) || strings.Count(stderr, "\n") != 1 {
		t.Errorf("an unknown bot: exit %d, %s", code, stderr)
	}
	args := []string{"replay", "--since", "1h", "--rate", "1000"}
	dry := d.run(append(args, "--dry-run")...)
	has(t, dry, "bot +bot bot +failed +1\n", "bot +bot bot +missing +1\n", "bot +bot bot +rejected +3\n", "off +disabled +1\n", "5 calls at 1000 a second")
	if strings.Contains(dry, "other") || strings.Contains(dry, "Replay ") {
		t.Errorf("a dry run:\n%s", dry)
	}
	if _, stderr, code := d.try(args...); code != cli.ExitUsage || !strings.Contains(stderr, "--yes") {
		t.Errorf("nobody to ask: exit %d, %s", code, stderr)
	}
	if has := d.run("replay", "list"); strings.Count(has, "\n") != 1 {
		t.Errorf("nothing is replayed yet:\n%s", has)
	}
	before := len(d.crm.At("/bot"))
	out := d.run(append(args, "--yes")...)
	id := regexp.MustCompile(`Replay (\S+)\.`).FindStringSubmatch(out)
	if id == nil {
		t.Fatalf("no id:\n%s", out)
	}
	has(t, out, "5 calls marked", "watcher replay status "+id[1])
	d.pushed("/bot", before+5)
	for _, s := range []string{"refused-0", "refused-1", "refused-2", "never", "platform-failed"} {
		d.settled(s, "ok")
		if got, _ := d.Doc(s).Lookup("post_call_push_result", "replay_id").StringValueOK(); got != id[1] {
			t.Errorf("replay_id of %s is %q", s, got)
		}
	}
	perDelivery := map[string]int{}
	for _, q := range d.crm.At("/bot") {
		perDelivery[q.Delivery]++
	}
	if len(perDelivery) != 5 {
		t.Errorf("pushes by delivery: %v", perDelivery)
	}
	d.eventually("the replay has ended", func() error {
		report := d.report(id[1])
		if report.Found != 5 || report.Marked != 5 || report.Waiting != 0 || report.Done["ok"] != 5 || report.State != "marked" || report.Skipped != 1 {
			return fmt.Errorf("%+v", report)
		}
		return nil
	})
	has(t, d.run("replay", "status", id[1]), "done ok +5\n", "waiting +0\n", "not pushable +1\n")
	has(t, d.run("replay", "list"), id[1]+" +marked")
	if _, stderr, code := d.try("replay", "continue", id[1]); code != cli.ExitUsage || !strings.Contains(stderr, "has marked all") {
		t.Errorf("continued after its end: exit %d, %s", code, stderr)
	}
	if _, stderr, code := d.try("replay", "status", "nope"); code != cli.ExitUsage || !strings.Contains(stderr, `no replay "nope"`) {
		t.Errorf("an unknown replay: exit %d, %s", code, stderr)
	}

	// Nothing is left to do, and what went well is only replayed when asked for.
	has(t, d.run(append(args, "--yes")...), "Nothing to replay")
	d.run("replay", "--since", "1h", "--status", "ok", "--session-id", "fine", "--yes")
	d.pushed("/other", 2)

	// A newer result is no part of the replay.
	d.Call("refused-0", "bot")
	d.pushed("/bot", before+6)
	d.eventually("the mark is gone", func() error {
		if _, err := d.Doc("refused-0").LookupErr("post_call_push_result", "replay_id"); err == nil {
			return errors.New("not yet")
		}
		return nil
	})
	if r := d.report(id[1]); r.Replaced != 1 || r.Done["ok"] != 4 {
		t.Errorf("%+v", r)
	}
	// The record of a replay is no position, and a reset leaves it.
	d.run("resume", "reset", "--to", "now", "--yes")
	has(t, d.run("resume", "show"), "0-of-1")
	has(t, d.run("replay", "list"), id[1])
}

// A call that is being sent, or that a stopped watcher has yet to come to, is not missing.
func TestReplayLeavesCallsOnTheirWayAlone(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "bot")
	release := make(chan struct{})
	d.crm.Answers(func(q apptest.Request) apptest.Answer {
		if q.Number == 1 {
			return apptest.Answer{Until: release}
		}
		return apptest.Answer{}
	})
	d.Call("never", "bot", bson.E{Key: "completed_at", Value: time.Now().Add(-30 * time.Minute).Format(time.RFC3339)}) // before the watcher
	stop := d.watch()
	d.eventually("a position is saved", func() error {
		if d.record().Position.IsZero() {
			return errors.New("none")
		}
		return nil
	})
	d.Call("slow", "bot")
	d.pushed("/bot", 1)
	has(t, d.run("replay", "--since", "1h", "--dry-run"), "bot +missing +1\n", "1 call is still on its way", "1 call at 10 a second")
	has(t, d.run("replay", "--since", "10m", "--yes"), "1 call is still on its way", "Nothing to replay")
	close(release)
	d.settled("slow", "ok")
	stop()
	d.Call("later", "bot")
	d.Call("latest", "bot")
	has(t, d.run("replay", "--since", "10m", "--yes"), "2 calls are still on their way", "Nothing to replay")
	d.watch()
	d.settled("later", "ok")
	d.settled("latest", "ok")
	has(t, d.run("replay", "--since", "1h", "--yes"), "1 call marked")
	d.settled("never", "ok")
	if n := len(d.crm.At("/bot")); n != 4 {
		t.Errorf("%d pushes of 4 calls", n)
	}
}

// Calls that wait in the lane of their destination are on their way or due, never missing.
func TestCallsInALaneAreNotMissing(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.PutBot(apptest.Bot("bot", d.crm.URL+"/bot", bson.E{Key: "max_concurrency", Value: 1}))
	release := make(chan struct{})
	d.crm.Answers(func(apptest.Request) apptest.Answer { return apptest.Answer{Until: release} })
	d.watch()
	for i := range 20 {
		d.Call(fmt.Sprintf("s-%d", i), "bot")
	}
	d.pushed("/bot", 1)
	has(t, d.run("calls", "--since", "10m"), "^CALL", "20 calls: 20 due")
	has(t, d.run("replay", "--since", "10m", "--status", "missing", "--yes"), "on their way", "Nothing to replay")
	close(release)
	d.pushed("/bot", 20)
	d.settled("s-19", "ok")
}

type replayReport struct {
	State                                                       string
	Found, Marked, Passed, Skipped, Waiting, Retrying, Replaced int
	Done                                                        map[string]int
}

func (d *desk) report(id string) replayReport {
	d.t.Helper()
	var r replayReport
	if err := json.Unmarshal([]byte(d.run("replay", "status", id, "--output", "json")), &r); err != nil {
		d.t.Fatal(err)
	}
	return r
}

// A replay that is interrupted stops soon, and goes on where it was.
func TestReplayInterruptedAndContinued(t *testing.T) {
	d := newDesk(t, "bot")
	const calls = 60
	for i := range calls {
		d.Call(fmt.Sprintf("s-%02d", i), "bot")
	}
	ctx, interrupt := context.WithCancel(t.Context())
	out := &watched{says: make(chan struct{}), on: "marked"}
	ended := make(chan error, 1)
	noEnv := func(string) (string, bool) { return "", false }
	go func() {
		args := []string{"replay", "--since", "1h", "--rate", "2", "--yes", "--mongo-uri", d.server.URI(), "--database", apptest.Database}
		ended <- run(ctx, args, noEnv, cli.Streams{In: strings.NewReader(""), Out: out, Err: io.Discard})
	}()
	<-out.says
	interrupt()
	if code := cli.ExitStatus("watcher", <-ended, io.Discard); code != cli.ExitFailed {
		t.Errorf("interrupted: exit %d", code)
	}
	text := out.String()
	has(t, text, "60 calls at 2 a second: 30s", "Interrupted")
	id := regexp.MustCompile(`Replay (\S+)\.`).FindStringSubmatch(text)[1]
	r := d.report(id)
	// No more than ten seconds ahead, and one batch of two seconds.
	if r.State != "interrupted" || r.Found != calls || r.Marked == 0 || r.Marked > 28 || r.Waiting != r.Marked {
		t.Fatalf("%+v", r)
	}
	var late time.Time
	cursor, err := d.Calls.Find(t.Context(), bson.D{{Key: "post_call_push_result.replay_id", Value: id}})
	if err != nil {
		t.Fatal(err)
	}
	var marked []bson.Raw
	if err := cursor.All(t.Context(), &marked); err != nil {
		t.Fatal(err)
	}
	for _, doc := range marked {
		slot := int(doc.Lookup("post_call_push_result", "slot").Int32())
		if want := resume.Slot(doc.Lookup("_id")); slot != want {
			t.Errorf("slot %d, want %d", slot, want)
		}
		if at := doc.Lookup("post_call_push_result", "next_attempt_at").Time(); at.After(late) {
			late = at
		}
	}
	// A higher rate from here on, as an operator with little time would want it.
	if _, err := d.DB.Collection("watcher_resume").UpdateByID(t.Context(), "default/replay/"+id,
		bson.D{{Key: "$set", Value: bson.D{{Key: "rate", Value: 1000.0}, {Key: "due", Value: time.Now()}}}}); err != nil {
		t.Fatal(err)
	}
	has(t, d.run("replay", "continue", id, "--yes"), fmt.Sprintf("%d calls of replay", calls-r.Marked), "60 calls marked")
	if n, err := d.Calls.CountDocuments(t.Context(), bson.D{{Key: "post_call_push_result.replay_id", Value: id}}); err != nil || n != calls {
		t.Errorf("%d calls are marked, %v", n, err)
	}
	if r := d.report(id); r.Marked != calls || r.Waiting != calls || r.State != "marked" {
		t.Errorf("%+v", r)
	}
	if wait := time.Until(late); wait > 30*time.Second {
		t.Errorf("the first part was due %v from now", wait)
	}
}

// watched is an output that tells when something was printed.
type watched struct {
	mu   sync.Mutex
	text strings.Builder
	on   string
	told bool
	says chan struct{}
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.text.Write(p)
	if !w.told && strings.Contains(w.text.String(), w.on) {
		w.told = true
		close(w.says)
	}
	return n, err
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}
