package main

import (
	"context"
	"encoding/json"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/demo/apptest"
)

// Processes of two versions share the partitions for as long as a roll takes. The older
// one is killed in the middle of it: no result is lost, and the newer one goes on at the
// positions that the older one saved.
func TestTwoVersionsSideBySide(t *testing.T) {
	t.Parallel()
	const older, newer = "1.0.0", "1.1.0"
	d := newDesk(t, "bot")
	ledger := apptest.NewLedger(t, d.Platform)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	feeding, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var feeder sync.WaitGroup
	fed := 0
	feeder.Go(func() {
		n, err := d.Feed(feeding, feedPause, "bot")
		if err != nil {
			t.Error(err)
		}
		fed = n
	})
	start := func(version string) *process {
		return spawnAs(t, version, d.server.URI(), "--start", "1h", "--partitions", "4", "--concurrency", "16")
	}
	from := func(version string, least int) {
		t.Helper()
		if !d.crm.Wait(ctx, func(all []apptest.Request) bool {
			n := 0
			for i := range all {
				if all[i].Header.Get("User-Agent") == "watcher/"+version {
					n++
				}
			}
			return n >= least
		}) {
			t.Fatalf("%s does not push", version)
		}
	}
	first := start(older)
	from(older, 10)
	second := start(newer)
	from(newer, 10)
	var status struct {
		Replicas []struct {
			Version string
			Lives   bool
		}
	}
	if err := json.Unmarshal([]byte(d.run("status", "--output", "json")), &status); err != nil || len(status.Replicas) != 2 {
		t.Errorf("%+v, %v", status, err)
	}
	if code := first.signal(os.Kill); code != -1 {
		t.Fatalf("the older one had ended by itself with status %d:\n%s", code, tail(first.log.Bytes()))
	}
	third := start(newer)
	from(newer, 200)
	stop(nil)
	feeder.Wait()
	if !apptest.Poll(ctx, func() bool {
		n, err := d.Calls.CountDocuments(ctx, bson.D{{Key: "post_call_push_result.status", Value: "ok"}})
		return err == nil && n == int64(fed)
	}) {
		t.Fatalf("not all of %d calls are pushed\n%s", fed, tail(second.log.Bytes()))
	}
	for _, p := range []*process{second, third} {
		if code := p.signal(syscall.SIGTERM); code != 0 {
			t.Errorf("status %d after SIGTERM:\n%s", code, tail(p.log.Bytes()))
		}
	}
	if _, err := ledger.Check(ctx, "default"); err != nil {
		t.Error(err)
	}
	all, err := apptest.Compare(ctx, d.Platform, d.crm.Requests())
	if err != nil || all.Deliveries != fed || all.Extra > slots+lostWords {
		t.Errorf("%+v for %d stored results, %v", all, fed, err)
	}
}
