package app

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/demo/apptest"
)

// restarts is how often a watcher is stopped under load.
const restarts = 5

// load is a road under load with a ledger that watches over its position.
type load struct {
	*road
	ledger *apptest.Ledger
	fed    int
	end    func() // stops the load and waits for its end
}

func newLoad(t *testing.T) *load {
	t.Helper()
	l := &load{road: newRoad(t, "fast", "slow")}
	l.cfg.Start = config.Start{Ago: time.Hour}
	l.cfg.Concurrency = 16
	l.cfg.RetrySchedule = []time.Duration{50 * time.Millisecond, 50 * time.Millisecond, 50 * time.Millisecond, 50 * time.Millisecond, 50 * time.Millisecond, 50 * time.Millisecond}
	l.crm.Answers(func(q apptest.Request) apptest.Answer {
		if err := l.NotLogged(q); err != nil {
			t.Error(err)
		}
		if q.Path != "/slow" {
			return apptest.Answer{}
		}
		thought := make(chan struct{})
		time.AfterFunc(20*time.Millisecond, func() { close(thought) })
		return apptest.Answer{Until: thought}
	})
	l.ledger = apptest.NewLedger(t, l.Platform)
	feeding, stop := context.WithCancelCause(t.Context())
	var feeder sync.WaitGroup
	feeder.Go(func() {
		n, err := l.Feed(feeding, 4*time.Millisecond, "fast", "slow")
		if err != nil {
			t.Error(err)
		}
		l.fed = n
	})
	l.end = func() { stop(nil); feeder.Wait() }
	t.Cleanup(l.end)
	return l
}

// moment is a point under load: so many requests after the last stop.
func (l *load) moment(rng *rand.Rand) {
	l.t.Helper()
	before, more := len(l.crm.Requests()), 1+rng.IntN(40)
	ctx, cancel := context.WithTimeout(l.t.Context(), apptest.Patience)
	defer cancel()
	if !l.crm.Wait(ctx, func(all []apptest.Request) bool { return len(all) >= before+more }) {
		l.t.Fatalf("%d requests came, want %d more than %d", len(l.crm.Requests()), more, before)
	}
}

// finish ends the load, lets a last watcher do the rest and holds the requests
// to the calls.
func (l *load) finish() apptest.Repeated {
	l.t.Helper()
	l.end()
	l.start()
	l.allPushed(l.fed)
	all, err := apptest.Compare(l.t.Context(), l.Platform, l.crm.Requests())
	must(l.t, err)
	if all.Deliveries != l.fed {
		l.t.Errorf("%d deliveries for %d results", all.Deliveries, l.fed)
	}
	return all
}

// A stop without any grace cuts off what is under way. That is made again;
// nothing is lost, and nothing else is repeated.
func TestStopWithoutGrace(t *testing.T) {
	t.Parallel()
	l := newLoad(t)
	l.cfg.ShutdownGrace = time.Nanosecond
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	for range restarts {
		w := l.start()
		l.moment(rng)
		w.halt()
		if _, err := l.ledger.Check(t.Context(), l.cfg.Name); err != nil {
			t.Fatal(err)
		}
	}
	all := l.finish()
	t.Logf("%d results, %+v", l.fed, all)
	// What a stop cuts off is made again and not logged: no attempt is counted.
	if most := restarts * (l.cfg.Concurrency + 1); all.Extra > most {
		t.Errorf("%d requests are not logged as attempts, more than the %d that were cut off at most", all.Extra, most)
	}
}

// A stop while MongoDB is away can write nothing at all: it is as a kill, and
// what is repeated is what was under way.
func TestStopWhileMongoDBIsAway(t *testing.T) {
	t.Parallel()
	l := newLoad(t)
	l.server.Local()
	l.cfg.ShutdownGrace = time.Nanosecond
	l.cfg.MongoURI += "&serverSelectionTimeoutMS=500&connectTimeoutMS=200"
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	w := l.start()
	l.moment(rng)
	w.stop(errStop)
	l.server.RefuseConnections(true)
	l.server.DropConnections()
	select {
	case <-w.ended:
	case <-time.After(apptest.Patience):
		t.Fatal("the watcher does not end")
	}
	l.server.RefuseConnections(false)
	if _, err := l.ledger.Check(t.Context(), l.cfg.Name); err != nil {
		t.Fatal(err)
	}
	lost, err := apptest.Compare(t.Context(), l.Platform, l.crm.Requests())
	must(t, err)
	if lost.Extra > 2*l.cfg.Concurrency {
		t.Errorf("%d tries were lost, with %d slots", lost.Extra, l.cfg.Concurrency)
	}
	all := l.finish()
	t.Logf("%d results, %+v", l.fed, all)
	if all.Extra != lost.Extra {
		t.Errorf("%d requests are repeated, %d tries were lost", all.Extra, lost.Extra)
	}
}

// A stop with enough grace repeats nothing and loses no log entry.
func TestStopDrains(t *testing.T) {
	t.Parallel()
	l := newLoad(t)
	rng := rand.New(rand.NewPCG(rand.Uint64(), 4))
	for range 3 {
		w := l.start()
		l.moment(rng)
		w.halt()
		if n := w.metric("watcher_dispatch_pending_calls"); n != 0 {
			t.Errorf("%v calls are pending after the drain", n)
		}
		if _, err := l.ledger.Check(t.Context(), l.cfg.Name); err != nil {
			t.Fatal(err)
		}
	}
	if all := l.finish(); all.Requests != l.fed || all.Extra != 0 {
		t.Errorf("%+v for %d results", all, l.fed)
	}
}

// The position follows an idle stream, so that a restart after a quiet day does
// not begin a day ago.
func TestPositionFollowsAnIdleStream(t *testing.T) {
	t.Parallel()
	r := newRoad(t)
	w := r.start()
	stands := func() string {
		raw, err := r.DB.Collection(r.cfg.ResumeCollection).FindOne(t.Context(), map[string]any{"_id": r.cfg.Name}).Raw()
		must(t, err)
		token, _ := raw.Lookup("token", "_data").StringValueOK()
		return token
	}
	before := ""
	r.eventually("a position is saved", func() error {
		if before = stands(); before == "" {
			return fmt.Errorf("none")
		}
		return nil
	})
	_, err := r.DB.Collection("elsewhere").InsertOne(t.Context(), map[string]any{"x": 1})
	must(t, err)
	polls := w.metric("watcher_stream_batches_total", "stream", "calls")
	r.eventually("an empty poll or two came back", func() error {
		if now := w.metric("watcher_stream_batches_total", "stream", "calls"); now < polls+2 {
			return fmt.Errorf("%v polls", now-polls)
		}
		return nil
	})
	w.halt()
	if after := stands(); after <= before {
		t.Errorf("the position stands at %s after %s", after, before)
	}
}
