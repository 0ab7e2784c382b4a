package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/demo/apptest"
)

// The versions of the tests.
const older, newer = "1.0.0", "1.1.0"

// roll is a database that calls are stored in without a pause, for processes of two
// versions.
type roll struct {
	*desk
	ctx    context.Context //nolint:containedctx // the limit of the test
	ledger *apptest.Ledger
	// end stops the calls and returns how many were stored.
	end func() int
}

func newRoll(t *testing.T) *roll {
	t.Helper()
	r := &roll{desk: newDesk(t, "bot")}
	r.ledger = apptest.NewLedger(t, r.Platform)
	ctx, cancel := context.WithTimeout(t.Context(), apptest.Patience)
	t.Cleanup(cancel)
	r.ctx = ctx
	feeding, stop := context.WithCancelCause(ctx)
	t.Cleanup(func() { stop(nil) })
	var feeder sync.WaitGroup
	fed := 0
	feeder.Go(func() {
		n, err := r.Feed(feeding, feedPause, "bot")
		if err != nil {
			t.Error(err)
		}
		fed = n
	})
	r.end = func() int { stop(nil); feeder.Wait(); return fed }
	return r
}

func (r *roll) start(version string) *process {
	r.t.Helper()
	return spawnAs(r.t, version, r.server.URI(), "--start", "1h", "--partitions", "4", "--concurrency", "16")
}

// from waits until the CRM had so many requests from a version.
func (r *roll) from(version string, least int) {
	r.t.Helper()
	if !r.crm.Wait(r.ctx, func(all []apptest.Request) bool {
		n := 0
		for i := range all {
			if all[i].Header.Get("User-Agent") == "watcher/"+version {
				n++
			}
		}
		return n >= least
	}) {
		r.t.Fatalf("%s does not push", version)
	}
}

// shows waits until watcher status shows replicas of these versions. While a partition
// goes from one to another, nobody reads it, and the exit status is 1.
func (r *roll) shows(versions ...string) {
	r.t.Helper()
	r.eventually("the versions", func() error {
		var status struct {
			Replicas []struct{ Version string }
		}
		text, stderr, code := r.try("status", "--output", "json")
		if err := json.Unmarshal([]byte(text), &status); err != nil {
			return fmt.Errorf("exit %d: %w: %s", code, err, stderr)
		}
		var shown []string
		for _, replica := range status.Replicas {
			shown = append(shown, replica.Version)
		}
		if slices.Sort(shown); !slices.Equal(shown, versions) {
			return fmt.Errorf("the replicas are of %v, want %v", shown, versions)
		}
		return nil
	})
}

// stops ends a process as a roll does.
func (r *roll) stops(p *process) {
	r.t.Helper()
	if code := p.signal(syscall.SIGTERM); code != 0 {
		r.t.Errorf("status %d after SIGTERM:\n%s", code, tail(p.log.Bytes()))
	}
}

// check ends the calls and waits until each is pushed, by the processes that are left.
// At most so many may have been pushed twice.
func (r *roll) check(twice int, left ...*process) {
	r.t.Helper()
	fed := r.end()
	if !apptest.Poll(r.ctx, func() bool {
		n, err := r.Calls.CountDocuments(r.ctx, bson.D{{Key: "post_call_push_result.status", Value: "ok"}})
		return err == nil && n == int64(fed)
	}) {
		r.t.Fatalf("not all of %d calls are pushed", fed)
	}
	for _, p := range left {
		r.stops(p)
	}
	if _, err := r.ledger.Check(r.ctx, "default"); err != nil {
		r.t.Error(err)
	}
	all, err := apptest.Compare(r.ctx, r.Platform, r.crm.Requests())
	if err != nil || all.Deliveries != fed || all.Requests > fed+twice {
		r.t.Errorf("%+v for %d stored results, %v", all, fed, err)
	}
}

// Replicas are replaced one by one: no result is lost, and none is pushed twice.
func TestARollLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	r := newRoll(t)
	first, second := r.start(older), r.start(older)
	r.from(older, 20)
	third := r.start(newer)
	r.from(newer, 10)
	r.shows(older, older, newer)
	r.stops(first)
	fourth := r.start(newer)
	r.stops(second)
	r.from(newer, 200)
	r.shows(newer, newer)
	r.check(0, third, fourth)
}

// Processes of two versions share the partitions for as long as a roll takes. The older
// one is killed in the middle of it: no result is lost, and the newer one goes on at the
// positions that the older one saved.
func TestTwoVersionsSideBySide(t *testing.T) {
	t.Parallel()
	r := newRoll(t)
	first := r.start(older)
	r.from(older, 10)
	second := r.start(newer)
	r.from(newer, 10)
	r.shows(older, newer)
	if code := first.signal(os.Kill); code != -1 {
		t.Fatalf("the older one had ended by itself with status %d:\n%s", code, tail(first.log.Bytes()))
	}
	third := r.start(newer)
	r.from(newer, 200)
	r.check(slots+lostWords, second, third)
}
