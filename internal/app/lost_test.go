package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/admin"
	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/pkg/stream"
)

// fail makes commands of the watcher fail, and nobody else's.
func (r *road) fail(mode any, data bson.D) {
	r.t.Helper()
	r.server.Local() // a fail point of a cluster would hit other tests too
	data = append(data, bson.E{Key: "appName", Value: "watcher"})
	must(r.t, r.Client.Database("admin").RunCommand(r.t.Context(),
		bson.D{{Key: "configureFailPoint", Value: "failCommand"}, {Key: "mode", Value: mode}, {Key: "data", Value: data}}).Err())
}

func commands(names ...string) bson.E { return bson.E{Key: "failCommands", Value: names} }

// neverTwice makes the CRM check each request: none may come once its outcome is
// logged.
func (r *road) neverTwice() {
	r.crm.Answers(func(q apptest.Request) apptest.Answer {
		if err := r.NotLogged(q); err != nil {
			r.t.Error(err)
		}
		return apptest.Answer{}
	})
}

// once checks that each of n calls was pushed once.
func (r *road) once(n int) {
	r.t.Helper()
	r.allPushed(n)
	if got := len(r.crm.Requests()); got != n {
		r.t.Errorf("%d requests for %d calls", got, n)
	}
}

// A server that takes a token whose events have left the oplog, and says nothing
// of the hole: the calls that were stored in it are pushed all the same, once.
func TestSilentHoleLosesNoCall(t *testing.T) {
	t.Parallel()
	r := newRoadOn(t, localmongo.Options{LaxResume: true}, "bot")
	r.neverTwice()
	w := r.start()
	r.Call("before", "bot")
	r.final("before", "ok")
	w.halt()
	const missed = 30
	for i := range missed {
		r.Call(fmt.Sprint("missed-", i), "bot")
	}
	r.server.LoseHistory(bson.Timestamp{})
	// The server itself says nothing: a stream at the saved token opens and is empty.
	record, _, err := r.positions().Record(t.Context(), partitionOf(0, 1))
	must(t, err)
	cursor, _, err := stream.FromCollection(r.Calls, nil, nil).Open(t.Context(), stream.Opening{After: record.Position.Token, MaxAwait: 10 * time.Millisecond})
	must(t, err)
	batch, err := cursor.Poll(t.Context())
	if err != nil || len(batch.Events) != 0 {
		t.Fatalf("the hole is not silent: %d events, %v", len(batch.Events), err)
	}
	must(t, cursor.Close(t.Context()))

	w = r.start()
	r.Call("after", "bot")
	r.once(missed + 2)
	if n := w.metric("watcher_stream_gaps_total", "stream", "calls", "reason", string(stream.GapHistoryLost)); n != 1 {
		t.Errorf("%v gaps", n)
	}
	r.eventually("the sweep says what it found", func() error {
		said := w.logs.find("the gap is swept")
		if len(said) != 1 || said[0]["pushed"].(float64) < missed || said[0]["already_pushed"].(float64) < 1 {
			return fmt.Errorf("%v", said)
		}
		return nil
	})
}

// The same while the watcher runs: the cursor dies, the driver opens it again by
// itself with a token that the server takes in silence.
func TestSilentHoleUnderTheDriversResume(t *testing.T) {
	t.Parallel()
	r := newRoadOn(t, localmongo.Options{LaxResume: true}, "bot")
	r.neverTwice()
	w := r.start()
	r.Call("before", "bot")
	r.final("before", "ok")
	r.settled(w, 1)
	// Polls that hang keep the watcher from reading what is lost then.
	r.fail("alwaysOn", bson.D{commands("getMore"), {Key: "blockConnection", Value: true}, {Key: "blockTimeMS", Value: 700}})
	polls := w.metric("watcher_stream_batches_total", "stream", "calls")
	r.eventually("the poll hangs", func() error { // the one that was under way comes back yet
		if w.metric("watcher_stream_batches_total", "stream", "calls") == polls {
			return errors.New("not yet")
		}
		return nil
	})
	for i := range 20 {
		r.Call(fmt.Sprint("missed-", i), "bot")
	}
	r.server.LoseHistory(bson.Timestamp{})
	r.server.KillCursors(r.server.Database + ".calls")
	r.fail("off", nil)
	r.Call("after", "bot")
	r.once(22)
	if n := w.metric("watcher_stream_gaps_total", "stream", "calls", "reason", string(stream.GapHistoryLost)); n != 1 {
		t.Errorf("%v gaps", n)
	}
}

// Events that are too large for the server to return are stepped over while calls
// come in, and the calls behind them are found and pushed, once.
func TestOversizedEventsLoseNoCall(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	r.neverTwice()
	w := r.start()
	feeding, stop := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer stop()
	local := r.server.Local()
	time.AfterFunc(400*time.Millisecond, func() { local.OversizedEvent(3) })
	n, err := r.Feed(feeding, 3*time.Millisecond, "bot")
	must(t, err)
	r.once(n)
	if got := w.metric("watcher_stream_gaps_total", "stream", "calls", "reason", string(stream.GapOversized)); got < 1 {
		t.Error("no event was stepped over")
	}
	if got := w.metric("watcher_stream_reopens_total", "stream", "calls", "reason", "oversized"); got < 2 || got > 6 {
		t.Errorf("%v opens because of it", got)
	}
}

// Polls that never come back, while everything else of MongoDB works: /readyz says
// so, the cursor is given up and opened again, and nothing is lost.
func TestFrozenPollsAreNotReady(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	r.neverTwice()
	r.deps.Frozen, r.deps.Stale = 2*time.Second, time.Second
	w := r.start()
	r.isHealthy(w, http.StatusOK, admin.StateReady)
	r.fail("alwaysOn", bson.D{commands("getMore"), {Key: "blockConnection", Value: true}, {Key: "blockTimeMS", Value: 60_000}})
	h := r.isHealthy(w, http.StatusServiceUnavailable, admin.StateNotReady)
	if h.Checks["polls"] == "ok" || h.Checks["leases"] != "ok" {
		t.Errorf("%+v", h)
	}
	r.Call("meanwhile", "bot")
	r.eventually("the cursor is given up", func() error {
		if w.metric("watcher_stream_reopens_total", "stream", "calls", "reason", "frozen") == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	r.fail("off", nil)
	r.Call("after", "bot")
	r.once(2)
	r.isHealthy(w, http.StatusOK, admin.StateReady)
	if n := w.metric("watcher_stream_gaps_total"); n != 0 {
		t.Errorf("%v gaps", n)
	}
}

// MongoDB takes no writes: reading goes on until as much is pending as may be, and
// then waits. Once writes work again, everything is pushed, once, and the position
// follows.
func TestReadingWaitsWhileNothingCanBeWritten(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	r.cfg.Concurrency = 16
	const pendingLimit, stored = 2048, 2600
	w := r.start()
	r.settled(w, 0)
	r.fail("alwaysOn", bson.D{commands("update", "findAndModify", "insert"), {Key: "errorCode", Value: 8}})
	docs := make([]any, stored)
	for i := range docs {
		docs[i] = bson.D{
			{Key: "session_id", Value: fmt.Sprint("s", i)}, {Key: "bot_id", Value: "bot"},
			{Key: "completed_at", Value: time.Now().UTC()}, {Key: "status", Value: "completed"},
		}
	}
	_, err := r.Calls.InsertMany(t.Context(), docs)
	must(t, err)
	read := func() float64 { return w.metric("watcher_stream_events_total", "stream", "calls") }
	r.eventually("as much is pending as may be", func() error {
		if n := w.metric("watcher_dispatch_pending_calls"); n != pendingLimit {
			return fmt.Errorf("%v calls", n)
		}
		return nil
	})
	before, _, err := r.positions().Record(t.Context(), partitionOf(0, 1))
	must(t, err)
	select {
	case <-time.After(time.Second):
	case <-w.ended:
	}
	if n := read(); n != pendingLimit+1 { // the next one waits to be taken
		t.Errorf("%v events were read", n)
	}
	r.fail("off", nil)
	r.once(stored)
	r.eventually("the position is behind all of them", func() error {
		now, _, err := r.positions().Record(t.Context(), partitionOf(0, 1))
		if err != nil || !now.Position.ClusterTime.After(before.Position.ClusterTime) {
			return fmt.Errorf("%v, %w", now.Position, err)
		}
		return nil
	})
}
