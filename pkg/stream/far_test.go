package stream_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/pkg/resume"
	"github.com/cxbridge/watcher/pkg/stream"
)

// foreignEntries is how many changes of other collections lie before the first
// event. WATCHER_FOREIGN_ENTRIES=1000000 is the whole distance; the tests of every
// day go a part of it.
func foreignEntries(t *testing.T) int {
	t.Helper()
	text := os.Getenv("WATCHER_FOREIGN_ENTRIES")
	if text == "" {
		return 60_000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("WATCHER_FOREIGN_ENTRIES is %q, want a number", text)
	}
	return n
}

// A restart behind a long stretch of other collections' changes: the cursor is
// opened once, its first event comes, and nothing is taken for frozen or lost.
func TestForeignEntriesBeforeTheFirstEvent(t *testing.T) {
	t.Parallel()
	n := foreignEntries(t)
	w := newWorld(t, localmongo.Options{HistoryEvents: 2 * n, HistoryBytes: 4 << 30})
	match := mongo.Pipeline{{{Key: "$match", Value: bson.D{{Key: "operationType", Value: "insert"}, {Key: "fullDocument.even", Value: false}}}}}
	a := w.run(func(c *stream.PartitionConfig) { c.Stream.Pipeline = match })
	a.isOpen()
	w.insert(1, 2)
	a.recorder.untilKey(t, 1)
	a.end()
	w.insert(2, 3) // of this collection, but it does not match either
	other := w.client.Database("elsewhere").Collection("noise")
	const many = 5_000
	docs := make([]any, 0, many)
	for k := range n {
		docs = append(docs, bson.D{{Key: "_id", Value: k}})
		if len(docs) == many || k == n-1 {
			if _, err := other.InsertMany(t.Context(), docs); err != nil {
				t.Fatal(err)
			}
			docs = docs[:0]
		}
	}
	// Nothing of that stretch matches, so that it is walked before the first event.
	w.insert(3, 4)
	began := time.Now()
	reg := prometheus.NewRegistry()
	b := w.run(func(c *stream.PartitionConfig) {
		c.Stream.Pipeline, c.Stream.Registerer = match, reg
		c.Stream.Frozen = 10 * time.Second
	})
	if how := <-b.started; how != "after the saved token" {
		t.Errorf("started %s", how)
	}
	b.recorder.untilKey(t, 3)
	t.Logf("the first event behind %d entries came after %s", n, time.Since(began))
	b.end()
	if got := b.recorder.read(); !slices.Equal(got, []int{3}) || len(b.recorder.theGaps()) != 0 {
		t.Errorf("read %v, gaps %v", got, b.recorder.theGaps())
	}
	if opens := sum(t, reg, "watcher_stream_opens_total"); opens != 1 {
		t.Errorf("%v opens", opens)
	}
}

// sum adds up all series of a metric, or those with one label's value.
func sum(t *testing.T, reg *prometheus.Registry, name string, labels ...string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	total, found := 0.0, false
	for _, f := range families {
		for _, m := range f.GetMetric() {
			fits := f.GetName() == name
			for pair := range slices.Chunk(labels, 2) {
				fits = fits && slices.ContainsFunc(m.GetLabel(), hasLabel(pair[0], pair[1]))
			}
			if fits {
				found = true
				total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	if !found {
		t.Fatalf("there is no %s with %q", name, labels)
	}
	return total
}

// A transaction's events share one time. A stop in the middle of it goes on in
// the middle: nothing of it is lost, and nothing that was settled comes again.
func TestResumeInTheMiddleOfATransaction(t *testing.T) {
	t.Parallel()
	onEach(t, resumeInTheMiddleOfATransaction)
}

func resumeInTheMiddleOfATransaction(t *testing.T, w *world) {
	release := make(chan struct{})
	held := &blockingRecorder{recorder: newRecorder(), release: release, at: 3, reached: make(chan struct{})}
	a := w.run(func(c *stream.PartitionConfig) { c.Handler = held })
	a.isOpen()
	w.insert(1, 2)
	held.untilKey(t, 1)
	session, err := w.client.StartSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.EndSession(context.WithoutCancel(t.Context()))
	_, err = session.WithTransaction(t.Context(), func(ctx context.Context) (any, error) {
		for k := 2; k < 7; k++ {
			if _, err := w.coll.InsertOne(ctx, bson.D{{Key: "_id", Value: k}}); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	<-held.reached // 2 is settled, 3 is not handed over yet
	eventually(t, "a position inside the transaction is saved", func() bool {
		return resume.CompareTokens(w.record().Position.Token, held.position().Token) >= 0
	})
	inside := w.record().Position
	stored := w.stored()
	close(release)
	w.crash(a, stored)
	b := w.run(nil)
	b.recorder.untilKey(t, 6)
	if how := <-b.started; how != "after the saved token" {
		t.Errorf("started %s", how)
	}
	b.end()
	if got := b.recorder.read(); !slices.Equal(got, numbers(3, 7)) {
		t.Errorf("read %v from %s", got, inside)
	}
}

// A server that takes requests and answers none: the poll is given up, the cursor
// is not called open, and after the thaw everything is read, once.
func TestFrozenServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, localmongo.Options{})
	reg := prometheus.NewRegistry()
	a := w.run(func(c *stream.PartitionConfig) {
		c.Stream.Frozen, c.Stream.Registerer = 300*time.Millisecond, reg
	})
	a.isOpen()
	w.insert(1, 10)
	a.recorder.untilKey(t, 9)
	w.server.Freeze()
	defer w.server.Thaw()
	eventually(t, "the frozen poll is given up", func() bool {
		return sum(t, reg, "watcher_stream_reopens_total", "reason", "frozen") > 0
	})
	a.mu.Lock()
	if s := a.follower.Status(); s.Open || s.Ready(time.Now()) == nil {
		t.Errorf("said to be open while nothing answers: %+v", s)
	}
	a.mu.Unlock()
	w.server.Thaw()
	w.insert(10, 20)
	a.recorder.untilKey(t, 19)
	a.isOpen()
	a.end()
	if got := a.recorder.read(); !slices.Equal(got, numbers(1, 20)) || len(a.recorder.theGaps()) != 0 {
		t.Errorf("read %v, gaps %v", got, a.recorder.theGaps())
	}
	eventually(t, "no cursor is left", func() bool { return w.server.OpenCursors() == 0 })
}

// The position that was saved is that of an idle poll, and the server refuses it:
// the time beside it is used, and nothing is missed.
func TestPostBatchTokenIsRefused(t *testing.T) {
	for _, code := range []int{260, 280} {
		t.Run(fmt.Sprint("code ", code), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, localmongo.Options{})
			a := w.run(nil)
			a.isOpen()
			w.insert(1, 2)
			a.recorder.untilKey(t, 1)
			event := w.record().Position
			if _, err := w.db.Collection("other").InsertOne(t.Context(), bson.D{}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "an idle poll has come further", func() bool {
				done, _ := a.tracker.Watermark()
				return resume.CompareTokens(done.Token, event.Token) > 0 && len(resume.TokenText(done.Token)) < 40
			})
			a.end()
			if saved := resume.TokenText(w.record().Position.Token); len(saved) > 40 {
				t.Fatalf("the saved token %s is that of an event", saved)
			}
			w.insert(2, 5)
			w.fail(bson.D{{Key: "times", Value: 1}}, failing(code, nil, "aggregate"))
			b := w.run(nil)
			b.recorder.untilKey(t, 4)
			b.end()
			if got := b.recorder.read(); !slices.Equal(got, numbers(2, 5)) || len(b.recorder.theGaps()) != 0 {
				t.Errorf("read %v, gaps %v", got, b.recorder.theGaps())
			}
		})
	}
}

// The collection goes while nobody reads, and comes back long after the start.
func TestTokenOfADroppedCollection(t *testing.T) {
	t.Parallel()
	onEach(t, tokenOfADroppedCollection)
}

func tokenOfADroppedCollection(t *testing.T, w *world) {
	a := w.run(nil)
	a.isOpen()
	w.insert(1, 3)
	a.recorder.untilKey(t, 2)
	a.end()
	if err := w.coll.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	b := w.run(func(c *stream.PartitionConfig) { c.Stream.Registerer = reg })
	eventually(t, "it is open behind the drop", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.follower != nil && b.follower.Status().Opens == 2 && b.follower.Status().Open
	})
	w.insert(3, 5)
	b.recorder.untilKey(t, 4)
	b.end()
	if opens := sum(t, reg, "watcher_stream_opens_total"); opens != 2 || len(b.recorder.theGaps()) != 0 {
		t.Errorf("%v opens, gaps %v", opens, b.recorder.theGaps())
	}
	if got := b.recorder.read(); !slices.Equal(got, numbers(3, 5)) {
		t.Errorf("read %v", got)
	}
}

func hasLabel(name, value string) func(*dto.LabelPair) bool {
	return func(l *dto.LabelPair) bool { return l.GetName() == name && l.GetValue() == value }
}

// A time limit of the client's own, as an operator may put it into the URI, is one
// for each poll: an idle stream outlives it on one cursor.
func TestIdleForLongerThanTheClientsTimeout(t *testing.T) {
	t.Parallel()
	onEach(t, idleForLongerThanTheClientsTimeout)
}

func idleForLongerThanTheClientsTimeout(t *testing.T, w *world) {
	client, err := mongo.Connect(options.Client().ApplyURI(w.uri).SetTimeout(500 * time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	reg := prometheus.NewRegistry()
	a := w.run(func(c *stream.PartitionConfig) {
		c.Stream.Collection, c.Stream.Registerer = client.Database(w.db.Name()).Collection("calls"), reg
	})
	a.isOpen()
	eventually(t, "it was idle for longer", func() bool { // each poll waits for 100 ms
		return sum(t, reg, "watcher_stream_batches_total", "kind", "empty") >= 10
	})
	w.insert(1, 5)
	a.recorder.untilKey(t, 4)
	a.end()
	if opens := sum(t, reg, "watcher_stream_opens_total"); opens != 1 || !slices.Equal(a.recorder.read(), numbers(1, 5)) {
		t.Errorf("%v opens, read %v", opens, a.recorder.read())
	}
}
