package app

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/replay"
)

// The bots' change stream is late, as behind a router: a bot that is stored right
// before its call is known, and one that is changed is used as it is now.
func TestABotIsAsNewAsItsCallThoughItsStreamIsLate(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	r.server.Local().DelayStreams("bots", time.Hour)
	w := r.start()
	r.Call("first", "bot")
	r.final("first", "ok")
	const n = 20
	for i := range n {
		id := fmt.Sprint("new", i)
		r.PutBot(apptest.Bot(id, r.url(id)))
		r.Call(id, id)
	}
	for i := range n {
		r.final(fmt.Sprint("new", i), "ok")
	}
	for i := range n {
		path := fmt.Sprint("moved", i)
		r.PutBot(apptest.Bot("bot", r.url(path), bson.E{Key: "key_mapper", Value: bson.D{{Key: "n", Value: "{{analysis.field_" + path + "}}"}}}))
		r.Call(path, "bot", bson.E{Key: "post_call_analysis", Value: bson.D{{Key: "field_" + path, Value: path}}})
		r.final(path, "ok")
		if all := r.crm.At("/" + path); len(all) != 1 || !strings.Contains(string(all[0].Body), path) {
			t.Errorf("%d requests to %s: %+v", len(all), path, all)
		}
	}
	if got := w.metric("watcher_dispatch_skips_total", "reason", "no_config"); got != 0 {
		t.Errorf("%v calls were skipped as those of no bot", got)
	}
}

// The bots are restored from a backup: a drop, a while of nothing, and the same
// documents again. What was due stays so, what comes waits, and all is pushed.
func TestBotsThatAreRestored(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	r.cfg.RetrySchedule = []time.Duration{time.Second}
	r.crm.Answers(func(q apptest.Request) apptest.Answer {
		if q.Number == 1 && !strings.Contains(string(q.Body), "live") {
			return apptest.Answer{Status: 503}
		}
		return apptest.Answer{}
	})
	r.start()
	const n = 4
	for i := range n {
		r.Call(fmt.Sprint("due", i), "bot")
	}
	waits := func(session string) func() error {
		return func() error {
			if o := r.outcomeOf(session); o == nil || o.NextAttemptAt == nil || !strings.Contains(o.errText(), "bot is gone") && o.Attempts == 0 {
				return fmt.Errorf("%s: %+v", session, o)
			}
			return nil
		}
	}
	for i := range n {
		r.eventually("an attempt is scheduled", waits(fmt.Sprint("due", i)))
	}
	must(t, r.Bots.Drop(t.Context()))
	r.Call("live", "bot")
	r.eventually("the call waits for its bot", waits("live"))
	r.PutBot(apptest.Bot("bot", r.url("bot")))
	for i := range n {
		r.final(fmt.Sprint("due", i), "ok")
	}
	r.final("live", "ok")
}

// A stop cuts off an attempt that is the only one that its bot allows: that is no
// failure, and the next start makes it again.
func TestAnAttemptThatAStopCutsOffIsMadeAgain(t *testing.T) {
	t.Parallel()
	r := newRoad(t)
	r.PutBot(apptest.Bot("bot", r.url("bot"), bson.E{Key: "max_attempts", Value: 1}))
	r.cfg.ShutdownGrace = 100 * time.Millisecond
	never := make(chan struct{})
	defer close(never)
	r.crm.Answers(func(q apptest.Request) apptest.Answer {
		if q.Number == 1 {
			return apptest.Answer{Until: never} // gives up when the sender hangs up
		}
		return apptest.Answer{}
	})
	w := r.start()
	r.Call("s", "bot")
	r.eventually("it is being sent", func() error { return r.requests(1) })
	w.halt()
	if o := r.outcomeOf("s"); o != nil {
		t.Errorf("after the stop: %+v", o)
	}
	r.start()
	if o := r.final("s", "ok"); o.Attempts != 1 {
		t.Errorf("%+v", o)
	}
}

// A read that does not see yet what the stream told of, as behind a router that
// does not know its shards any more, loses no call.
func TestReadsThatAreBehindTheStream(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	r.start()
	local := r.server.Local()
	local.StaleReads("calls", time.Hour)
	r.Call("s", "bot")
	r.eventually("it is pushed", func() error { return r.requests(1) })
	local.StaleReads("calls", 0)
	r.final("s", "ok")
}

// A read never sees what a failover may take back.
func TestReadsThatARollbackTakesBack(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	r.start()
	local := r.server.Local()
	id := bson.NewObjectID()
	call := func(name string) bson.D {
		return bson.D{
			{Key: "_id", Value: id}, {Key: "session_id", Value: "s"}, {Key: "bot_id", Value: "bot"}, {Key: "completed_at", Value: time.Now().UTC()},
			{Key: "connected_event", Value: bson.D{{Key: "name", Value: name}}},
		}
	}
	must(t, local.WriteUncommitted(r.server.Database+".calls", call("of nobody")))
	_, err := r.Calls.InsertOne(t.Context(), call("Asha"))
	must(t, err)
	r.eventually("it is pushed", func() error { return r.requests(1) })
	local.RollBack()
	r.final("s", "ok")
	if body := string(r.crm.Requests()[0].Body); strings.Contains(body, "nobody") || !strings.Contains(body, "Asha") {
		t.Errorf("sent %s", body)
	}
}

func (r *road) requests(n int) error {
	if have := len(r.crm.Requests()); have != n {
		return fmt.Errorf("%d requests of %d", have, n)
	}
	return nil
}

// A replay is asked for while a call is being sent: whatever it marks, the call is
// pushed once.
func TestAReplayDuringAnAttemptPushesNothingTwice(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	r.neverTwice()
	release := make(chan struct{})
	r.crm.Answers(func(apptest.Request) apptest.Answer { return apptest.Answer{Until: release} })
	r.start()
	r.Call("s", "bot")
	r.eventually("it is being sent", func() error { return r.requests(1) })

	store := calls.NewStore(r.Calls)
	// Without positions it cannot tell that the call is on its way, and marks it.
	inspector := inspect.New(inspect.Options{Calls: r.Calls, Bots: r.Bots, Resume: r.DB.Collection("empty"), Name: "default"})
	ask := replay.Ask{Rate: 10, Query: inspect.Query{
		Since: time.Now().Add(-time.Hour), Until: time.Now(),
		States: []inspect.State{inspect.StateFailed, inspect.StateRejected, inspect.StateMissing},
	}}
	selection, err := inspector.Selection(t.Context(), &ask.Query)
	must(t, err)
	plan, err := replay.Find(t.Context(), selection, ask, "")
	must(t, err)
	record := replay.NewRecord(ask, "test", time.Now())
	record, err = replay.Run(t.Context(), store, replay.NewRecords(r.DB.Collection("watcher_resume"), "default"), record, plan, func(replay.Record) {})
	must(t, err)
	if record.Marked != 1 {
		t.Fatalf("marked %d calls", record.Marked)
	}
	close(release)
	r.final("s", "ok")
	r.Call("after it", "bot")
	r.final("after it", "ok")
	if o := r.outcomeOf("s"); o.NextAttemptAt != nil {
		t.Errorf("it is due again: %+v", o)
	}
	must(t, r.requests(2))
}

// A document that is full takes no outcome: a call that is due on it is not pushed
// for ever.
func TestADueCallWhoseDocumentIsFullEnds(t *testing.T) {
	t.Parallel()
	const most = 16 << 20
	r := newRoad(t)
	r.PutBot(apptest.Bot("bot", r.url("bot"), bson.E{Key: "retry_when", Value: bson.D{{Key: "status", Value: 409}}}))
	r.cfg.RetrySchedule = []time.Duration{2 * time.Second, 100 * time.Millisecond} // three attempts
	full := make(chan struct{})
	r.crm.Answers(func(q apptest.Request) apptest.Answer {
		if q.Number == 1 {
			return apptest.Answer{Status: 503}
		}
		return apptest.Answer{Status: 409, Until: full} // its error text is longer
	})
	r.start()
	r.Call("s", "bot")
	r.eventually("an attempt is scheduled", func() error {
		if o := r.outcomeOf("s"); o == nil || o.NextAttemptAt == nil {
			return errors.New("not yet")
		}
		return nil
	})
	fill := func(n int) {
		_, err := r.Calls.UpdateOne(t.Context(), bson.D{{Key: "session_id", Value: "s"}},
			bson.D{{Key: "$set", Value: bson.D{{Key: "latency_samples", Value: strings.Repeat("x", n)}}}})
		must(t, err)
	}
	fill(1)
	fill(most - len(r.Doc("s")) + 1 - 10)
	close(full)
	r.eventually("it is due no more", func() error {
		if o := r.outcomeOf("s"); o.NextAttemptAt != nil {
			return fmt.Errorf("%+v", o)
		}
		return nil
	})
	if n := len(r.crm.Requests()); n > 3 {
		t.Errorf("%d requests for a delivery of three attempts", n)
	}
}
