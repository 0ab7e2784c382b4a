package stream_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.uber.org/goleak"

	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
	"github.com/cxbridge/watcher/pkg/resume"
	"github.com/cxbridge/watcher/pkg/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is for what happens at once unless something is broken, or after the no-op
// interval of a quiet shard on a sharded cluster.
const patience = 90 * time.Second

// world is a server with a client, and the two collections of a stream.
type world struct {
	t       *testing.T
	uri     string
	server  *localmongo.Server // nil on a real cluster
	client  *mongo.Client
	cluster string // its name
	db      *mongo.Database
	coll    *mongo.Collection
	store   *resume.Store
}

// onEach runs a test on localmongo and on the real cluster, if there is one.
func onEach(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	localmongotest.OnEach(t, localmongo.Options{}, func(t *testing.T, d localmongotest.Deployment) {
		test(t, newWorldOn(t, d))
	})
}

func newWorld(t *testing.T, opts localmongo.Options) *world {
	t.Helper()
	return newWorldOn(t, localmongotest.Local(t, opts))
}

func newWorldOn(t *testing.T, d localmongotest.Deployment) *world {
	t.Helper()
	client := d.Connect(t, options.Client().SetServerSelectionTimeout(5*time.Second))
	db := client.Database(d.Database)
	store, err := resume.NewStore(db.Collection("resume"), "x")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, uri: d.URI, server: d.Server, client: client, db: db, coll: db.Collection("calls"), store: store}
	if w.cluster, err = stream.ReplicaSet(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	w.insert(0, 1) // the collection exists
	return w
}

// insert adds the documents from, from+1, ... to-1.
func (w *world) insert(from, to int) {
	w.t.Helper()
	docs := make([]any, 0, to-from)
	for k := from; k < to; k++ {
		docs = append(docs, bson.D{{Key: "_id", Value: k}, {Key: "even", Value: k%2 == 0}})
	}
	if _, err := w.coll.InsertMany(w.t.Context(), docs); err != nil {
		w.t.Fatal(err)
	}
}

// fail makes commands fail, with Code 0 by closing the connection.
func (w *world) fail(mode any, data bson.D) {
	w.t.Helper()
	command := bson.D{{Key: "configureFailPoint", Value: "failCommand"}, {Key: "mode", Value: mode}, {Key: "data", Value: data}}
	if err := w.client.Database("admin").RunCommand(w.t.Context(), command).Err(); err != nil {
		w.t.Fatal(err)
	}
}

func failing(code int, labels []string, commands ...string) bson.D {
	return bson.D{{Key: "failCommands", Value: commands}, {Key: "errorCode", Value: code}, {Key: "errorLabels", Value: labels}}
}

// recorder is a Handler that settles events when it is told to, or at once.
type recorder struct {
	mu      sync.Mutex
	keys    []int
	last    resume.Position // of the newest event
	gaps    []stream.Gap
	later   bool
	open    []func()
	why     error
	changed chan struct{}
}

func newRecorder() *recorder { return &recorder{changed: make(chan struct{})} }

func (d *recorder) note(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
	close(d.changed)
	d.changed = make(chan struct{})
}

func (d *recorder) Event(_ context.Context, e stream.Event, done func()) error {
	d.note(func() {
		if k, ok := e.Key.AsInt64OK(); ok {
			d.keys = append(d.keys, int(k))
		}
		d.last = e.Position
		if d.later {
			d.open = append(d.open, done)
		} else {
			done()
		}
	})
	return nil
}

func (d *recorder) Gap(_ context.Context, g stream.Gap, done func()) error {
	d.note(func() { d.gaps = append(d.gaps, g) })
	done()
	return nil
}

func (d *recorder) Drain(_ context.Context, why error) { d.note(func() { d.why = why }) }

func (d *recorder) read() []int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.keys)
}

func (d *recorder) position() resume.Position {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}

func (d *recorder) theGaps() []stream.Gap {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.gaps)
}

// until waits for what the recorder is told.
func (d *recorder) until(t *testing.T, what string, ok func(d *recorder) bool) {
	t.Helper()
	limit := time.After(patience)
	for {
		d.mu.Lock()
		reached, changed := ok(d), d.changed
		d.mu.Unlock()
		if reached {
			return
		}
		select {
		case <-changed:
		case <-limit:
			d.mu.Lock()
			defer d.mu.Unlock()
			t.Fatalf("%s: not within %s; %d events, the last %v; gaps %+v", what, patience, len(d.keys), d.keys[max(0, len(d.keys)-10):], d.gaps)
		}
	}
}

func (d *recorder) untilKey(t *testing.T, key int) {
	t.Helper()
	d.until(t, fmt.Sprint("event ", key), func(d *recorder) bool { return slices.Contains(d.keys, key) })
}

// replica is a Group with RunPartition: all of what saves and follows.
type replica struct {
	w        *world
	recorder *recorder
	group    *resume.Group
	stop     context.CancelFunc
	done     chan error
	once     sync.Once
	started  chan string // how each start was decided

	mu       sync.Mutex
	follower *stream.Follower
	tracker  *resume.Tracker
}

func (w *world) run(change func(*stream.PartitionConfig)) *replica {
	w.t.Helper()
	r := &replica{w: w, recorder: newRecorder(), done: make(chan error, 1), started: make(chan string, 100)}
	group, err := resume.NewGroup(resume.GroupConfig{
		Store: w.store, Owner: "host", Beat: 50 * time.Millisecond, Logger: w.logger(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	r.group = group
	ctx, stop := context.WithCancel(w.t.Context())
	r.stop = stop
	go func() {
		r.done <- group.Run(ctx, func(ctx context.Context, lease *resume.Lease) error {
			cfg := stream.PartitionConfig{
				Lease: lease,
				Stream: stream.Config{
					Namespace: "watcher", Name: "calls", Collection: w.coll, MaxAwait: 100 * time.Millisecond,
					ReopenEvery: 100 * time.Millisecond, Logger: w.logger(),
				},
				Handler:    r.recorder,
				ReplicaSet: w.cluster,
				SaveEvery:  50 * time.Millisecond,
				Window:     stream.WindowOf(w.client),
				Started: func(f *stream.Follower, tracker *resume.Tracker, how string) {
					r.mu.Lock()
					r.follower, r.tracker = f, tracker
					r.mu.Unlock()
					r.started <- how
				},
			}
			if change != nil {
				change(&cfg)
			}
			return stream.RunPartition(ctx, cfg)
		})
	}()
	w.t.Cleanup(r.end)
	return r
}

func (w *world) logger() *slog.Logger { return slog.New(slog.NewTextHandler(testWriter{w.t}, nil)) }

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(p[:len(p)-1]))
	return len(p), nil
}

func (r *replica) end() {
	r.w.t.Helper()
	r.once.Do(func() {
		r.stop()
		if err := <-r.done; err != nil {
			r.w.t.Errorf("the group ended with %v", err)
		}
	})
}

// isOpen waits until the stream has answered a poll.
func (r *replica) isOpen() {
	r.w.t.Helper()
	eventually(r.w.t, "the stream is open", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.follower != nil && r.follower.Status().Open
	})
}

// eventually looks again and again; the state belongs to a server.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

func (w *world) record() resume.Record {
	w.t.Helper()
	r, _, err := w.store.Record(w.t.Context(), resume.Partition{Of: 1})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// stored are the records of positions and holders.
func (w *world) stored() []bson.D {
	w.t.Helper()
	cur, err := w.db.Collection("resume").Find(w.t.Context(), bson.D{})
	if err != nil {
		w.t.Fatal(err)
	}
	var stored []bson.D
	if err := cur.All(w.t.Context(), &stored); err != nil {
		w.t.Fatal(err)
	}
	return stored
}

// crash ends a replica and puts back what was stored before, as a process leaves it that
// dies at that moment.
func (w *world) crash(r *replica, stored []bson.D) {
	w.t.Helper()
	r.end()
	coll := w.db.Collection("resume")
	_, err := coll.DeleteMany(w.t.Context(), bson.D{})
	if _, bad := coll.InsertMany(w.t.Context(), stored); err != nil || bad != nil {
		w.t.Fatal(err, bad)
	}
}

func numbers(from, to int) []int {
	var all []int
	for k := from; k < to; k++ {
		all = append(all, k)
	}
	return all
}
