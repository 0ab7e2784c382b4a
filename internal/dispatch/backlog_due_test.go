package dispatch

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/resume"
)

// database is a dispatcher on a database, with a receiver that is alive only at
// one address.
type database struct {
	t      *testing.T
	server *localmongo.Server
	coll   *mongo.Collection
	store  *calls.Store
	set    *bots.Set
	pushed chan string // delivery ids that the living one took
	d      *Dispatcher

	drained atomic.Int64 // deliveries that the busy one took
}

const (
	aliveURL = "https://alive.example.com/hook"
	busyURL  = "https://busy.example.com/hook"
)

func newDatabase(t *testing.T) *database {
	t.Helper()
	server := localmongotest.Start(t, localmongo.Options{})
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	db := &database{
		t: t, server: server, coll: client.Database("cxbridge").Collection("calls"), pushed: make(chan string, 100),
		set: bots.NewSet([]*bots.Bot{
			bots.Compile(marshal(t, botOf("busy", busyURL)), bots.Options{}),
			bots.Compile(marshal(t, botOf("dead", "https://dead.example.com/hook")), bots.Options{}),
			bots.Compile(marshal(t, botOf("zalive", aliveURL)), bots.Options{}), // behind the dead one in the index
		}),
	}
	db.store = calls.NewStore(db.coll)
	if err := db.store.EnsureIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db
}

// Send implements Sender.
func (db *database) Send(_ context.Context, r *push.Request) push.Result {
	switch r.URL {
	case aliveURL:
		db.pushed <- r.DeliveryID
		return answered(200)
	case busyURL:
		db.drained.Add(1)
		return answered(200)
	}
	return push.Result{Class: push.ClassUnreached, Err: errNoAnswer}
}

// Set implements Bots.
func (db *database) Set() *bots.Set { return db.set }

// Refresh implements Bots.
func (db *database) Refresh(context.Context, []bson.RawValue) error { return nil }

// Gone implements Bots.
func (db *database) Gone(bson.RawValue) bool { return false }

// Link implements Links.
func (db *database) Link(*calls.Call) string { return "" }

// due inserts calls of a bot whose next attempt is due.
func (db *database) due(bot string, from, n int) {
	db.t.Helper()
	past := time.Now().Add(-time.Hour)
	for n > 0 {
		batch := make([]any, min(n, 5000))
		for i := range batch {
			id := fmt.Sprintf("%s-%06d", bot, from)
			batch[i] = bson.D{
				{Key: "_id", Value: id}, {Key: "session_id", Value: id}, {Key: "bot_id", Value: bot}, {Key: "completed_at", Value: past},
				{Key: "post_call_push_result", Value: bson.D{
					{Key: "status", Value: "failed"}, {Key: "attempts", Value: 1}, {Key: "completed_at", Value: past},
					{Key: "next_attempt_at", Value: past}, {Key: "slot", Value: from % 4096},
				}},
			}
			from++
		}
		if _, err := db.coll.InsertMany(db.t.Context(), batch); err != nil {
			db.t.Fatal(err)
		}
		n -= len(batch)
	}
}

// run starts the dispatcher until the end of the test.
func (db *database) run() {
	logger, registry := slog.New(slog.NewTextHandler(io.Discard, nil)), prometheus.NewRegistry()
	recorder := calls.NewRecorder(db.coll, logger, registry)
	db.d = New(Options{
		Loader: db.store, Recorder: recorder, Bots: db, Sender: db, Links: db,
		Schedule: push.DefaultSchedule(), Slot: resume.Slot, Concurrency: 256, DestinationConcurrency: 16,
		Logger: logger, Registerer: registry,
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended, written := make(chan struct{}), make(chan struct{})
	go func() { _ = recorder.Run(context.Background()); close(written) }()
	retrier := NewRetrier(db.d, db.store, 0, logger, registry)
	go func() {
		defer close(ended)
		var both sync.WaitGroup
		both.Go(func() { _ = db.d.Run(ctx) })
		both.Go(func() { _ = retrier(ctx) })
		both.Wait()
	}()
	intake := db.d.Open(context.Background(), Share{}, nil)
	db.t.Cleanup(func() {
		intake.Stop()
		<-intake.Idle()
		cancel()
		<-ended
		recorder.Close()
		<-written
	})
}

// examined is how many documents and index entries the server looked at for one
// look-up like those of the retrier.
func (db *database) examined(now time.Time) int64 {
	db.t.Helper()
	dead := db.set.Named("dead").Push.Destination
	before := db.server.Examined()
	found, err := db.store.Due(db.t.Context(), calls.DueQuery{
		Now: now, Except: db.set.IDsOf(func(b *bots.Bot) bool { return b.Push.Destination == dead }), Limit: 512,
	})
	if err != nil || len(found) != 1 {
		db.t.Fatalf("found %d due calls: %v", len(found), err)
	}
	return db.server.Examined() - before
}

func TestABacklogOfADeadDestinationIsNotInTheWay(t *testing.T) {
	const small, large = 1_000, 100_000
	db := newDatabase(t)
	db.due("zalive", 0, 1)
	db.due("dead", 0, small)
	few := db.examined(time.Now())
	db.due("dead", small, large-small)
	if many := db.examined(time.Now()); many != few || many > 20 {
		t.Errorf("a look-up examines %d with %d due calls and %d with %d", few, small, many, large)
	}

	db.run()
	wait := func(what string) {
		t.Helper()
		begun := time.Now()
		select {
		case <-db.pushed:
			t.Logf("%s after %v", what, time.Since(begun))
			if took := time.Since(begun); took > 2*time.Second {
				t.Errorf("%s only after %v", what, took)
			}
		case <-time.After(90 * time.Second):
			t.Fatalf("%s: never", what)
		}
	}
	wait("the one that was due at the start was pushed")
	db.due("zalive", 1, 1) // now that the breaker is open
	wait("the one that became due was pushed")
	if held := db.d.Totals().Pending; held > 64 {
		t.Errorf("%d calls of the dead destination are in memory", held)
	}
}

// A destination that takes all it gets at once is never full, so nothing but its
// turn keeps its backlog from the others.
func TestABacklogThatDrainsQuicklyIsNotInTheWay(t *testing.T) {
	const backlog = 10_000
	db := newDatabase(t)
	db.due("busy", 0, backlog)
	db.due("zalive", 0, 1)
	db.run()
	select {
	case <-db.pushed:
	case <-time.After(90 * time.Second):
		t.Fatal("the other is never pushed")
	}
	if n := db.drained.Load(); n > backlog/2 {
		t.Errorf("%d of the backlog came first", n)
	}
}
