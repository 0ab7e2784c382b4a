package main

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/demo/apptest"
)

// A replay that is cancelled leaves what was not attempted as it was: no outcome, the
// final one, or the schedule.
func TestReplayCancelled(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "bot")
	ago := time.Now().UTC().Add(-30 * time.Minute).Truncate(time.Millisecond)
	at := bson.E{Key: "completed_at", Value: ago}
	d.Call("never", "bot", at)
	d.Call("final", "bot", at, outcomeOf("rejected", 401, "HTTP 401 Unauthorized", ago))
	scheduled := outcomeOf("failed", nil, "no answer", ago)
	scheduled.Value = append(scheduled.Value.(bson.D), bson.E{Key: "next_attempt_at", Value: ago.Add(3 * time.Hour)}, bson.E{Key: "slot", Value: 5})
	d.Call("scheduled", "bot", at, scheduled)
	before := make(map[string]bson.Raw)
	sessions := []string{"never", "final", "scheduled"}
	for _, s := range sessions {
		before[s] = d.Doc(s)
	}
	out := d.run("replay", "--since", "1h", "--rate", "1000", "--yes")
	has(t, out, "No watcher with the name default is alive", "3 calls marked", "bot +bot bot +due +1\n")
	id := replayForm.FindString(out)
	has(t, d.run("calls", "--status", "due"), "3 calls: 3 due", "never +bot bot +due")
	if _, stderr, code := d.try("replay", "cancel", id); code != cli.ExitUsage || !strings.Contains(stderr, "--yes") {
		t.Errorf("nobody to ask: exit %d, %s", code, stderr)
	}
	has(t, d.run("replay", "cancel", id, "--yes"), "3 calls marked", "3 of them were not attempted", "Cancelled: 3 calls as before")
	for _, s := range sessions {
		got := withoutSlot(t, d.Doc(s))
		if want := withoutSlot(t, before[s]); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
	has(t, d.run("replay", "status", id), id+", cancelled", `taken back +3 \(cancelled by`, "waiting +0")
	has(t, d.run("replay", "list"), id+" +cancelled +all +3/3 +3 taken back")
	has(t, d.run("replay", "cancel", id, "--yes"), "Cancelled: 0 calls as before")
	if _, stderr, code := d.try("replay", "continue", id, "--yes"); code != cli.ExitUsage || !strings.Contains(stderr, "was cancelled by") {
		t.Errorf("a cancelled replay goes on: exit %d, %s", code, stderr)
	}
	// It can be asked for anew, and the rest of the night is as ever.
	d.watch()
	out = d.run("replay", "--since", "1h", "--status", "missing", "--yes")
	if strings.Contains(out, "No watcher") {
		t.Errorf("a watcher is alive:\n%s", out)
	}
	d.settled("never", "ok")
	if _, err := d.Doc("never").LookupErr("post_call_push_result", "replaces"); err == nil {
		t.Error("what the mark took the place of is still there after the push")
	}
}

// withoutSlot is the outcome on a call but for the slot of what is scheduled, which is
// the call's whoever scheduled it.
func withoutSlot(t *testing.T, raw bson.Raw) string {
	t.Helper()
	var doc bson.M
	if err := bson.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	if result, ok := doc["post_call_push_result"].(bson.D); ok {
		fields := make(map[string]any)
		for _, e := range result {
			fields[e.Key] = e.Value
		}
		delete(fields, "slot")
		return fmt.Sprint(fields)
	}
	return "no outcome"
}

// What is cancelled while it is being sent says all the same that it went well.
func TestReplayCancelledWhileItIsSent(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "bot")
	d.Call("never", "bot", bson.E{Key: "completed_at", Value: time.Now().Add(-30 * time.Minute)})
	release := make(chan struct{})
	d.crm.Answers(func(apptest.Request) apptest.Answer { return apptest.Answer{Until: release} })
	d.watch()
	id := replayForm.FindString(d.run("replay", "--since", "1h", "--yes"))
	d.pushed("/bot", 1)
	has(t, d.run("replay", "cancel", id, "--yes"), "Cancelled: 1 call as before")
	close(release)
	d.settled("never", "ok")
}

// Ids come on standard input, and need no time.
func TestReplayOfSessions(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "bot")
	long := time.Now().AddDate(0, -2, 0)
	for i := range 4 {
		d.Call(fmt.Sprintf("s-%d", i), "bot", bson.E{Key: "completed_at", Value: long}, outcomeOf("failed", nil, "no answer", long.UTC().Truncate(time.Millisecond)))
	}
	stdout, stderr, code := invoke(t, "s-1\n  s-2 s-3\n", "replay", "--session-id", "-", "--rate", "1000", "--yes",
		"--mongo-uri", d.server.URI(), "--database", apptest.Database)
	if code != 0 {
		t.Fatalf("exit %d, %s%s", code, stdout, stderr)
	}
	has(t, stdout, "Results stored until 20", "3 calls marked")
	has(t, d.run("replay", "status", replayForm.FindString(stdout), "--calls"), "waiting +3\n", "s-3 +bot bot +due")
	if d.Doc("s-0").Lookup("post_call_push_result", "replay_id").Type != 0 {
		t.Error("a call that was not named is replayed")
	}
}

// What a dry run of a reset counts is what is then pushed, and it changes nothing.
func TestResetDryRunAgreesWithTheReset(t *testing.T) {
	t.Parallel()
	for _, repush := range []string{"missing", "failed", "all"} {
		t.Run(repush, func(t *testing.T) {
			t.Parallel()
			dryRunThenReset(t, repush)
		})
	}
}

func dryRunThenReset(t *testing.T, repush string) {
	d := newDesk(t, "bot")
	d.PutBot(apptest.Bot("quiet", ""))
	d.PutBot(apptest.Bot("off", d.crm.URL+"/off", bson.E{Key: "enabled", Value: false}))
	d.PutBot(apptest.Bot("bad", "ftp://crm"))
	var fail atomic.Bool
	fail.Store(true)
	d.crm.Answers(func(q apptest.Request) apptest.Answer {
		if fail.Load() && q.Number%2 == 0 {
			return apptest.Answer{Status: 400}
		}
		return apptest.Answer{}
	})
	stop := d.watch()
	for i := range 6 {
		d.Call(fmt.Sprintf("s-%d", i), "bot")
	}
	d.pushed("/bot", 6)
	ago := time.Now().UTC().Add(-20 * time.Minute).Truncate(time.Millisecond)
	at := bson.E{Key: "completed_at", Value: ago}
	for i := range 6 {
		d.eventually("settled", func() error {
			if d.status(fmt.Sprintf("s-%d", i)) == "" {
				return errors.New("not yet")
			}
			return nil
		})
	}
	stop()
	d.Call("platform-ok", "bot", at, bson.E{Key: "post_call_push_result", Value: bson.D{{Key: "status", Value: "ok"}}})
	d.Call("platform-failed", "bot", at, bson.E{Key: "post_call_push_result", Value: bson.D{{Key: "status", Value: "failed"}}})
	older := outcomeOf("ok", 200, "", ago.Add(-time.Hour))
	d.Call("newer", "bot", at, older)
	due := outcomeOf("failed", nil, "no answer", ago)
	due.Value = append(due.Value.(bson.D), bson.E{Key: "next_attempt_at", Value: time.Now().Add(time.Hour)}, bson.E{Key: "slot", Value: 1})
	d.Call("due", "bot", at, due)
	d.Call("flag", "bot", at, bson.E{Key: "skip_post_push", Value: true})
	for _, bot := range []string{"quiet", "off", "bad", "gone"} {
		d.Call("of-"+bot, bot, at)
	}
	fail.Store(false)
	before := d.record()
	args := []string{"resume", "reset", "--to", "1h", "--repush", repush}
	dry := d.run(append(args, "--dry-run")...)
	if after := d.record(); after.Term != before.Term || after.Reset != nil || strings.Contains(dry, "Reset.") {
		t.Errorf("a dry run changes something: %+v\n%s", after, dry)
	}
	var found, toPush int
	line := dry[strings.LastIndex(strings.TrimSpace(dry), "\n")+1:]
	if _, err := fmt.Sscanf(line, "%d results from there to now; %d to be pushed", &found, &toPush); err != nil {
		t.Fatalf("%v:\n%s", err, dry)
	}
	has(t, d.run(append(args, "--yes")...), fmt.Sprintf("%d results from there to now; %d to be pushed", found, toPush))
	d.watch()
	d.pushed("/bot", 6+toPush)
	d.Call("last", "bot")
	d.settled("last", "ok")
	d.settled("of-bad", "failed")
	if n := len(d.crm.At("/bot")); n != 6+toPush+1 || found != 15 {
		t.Errorf("--repush %s: %d pushes, want 6 and %d and 1; %d found", repush, n, toPush, found)
	}
}
