package stream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/pkg/resume"
	"github.com/cxbridge/watcher/pkg/stream"
)

// From lease to checkpoint and back: what was settled does not come again, what
// was not does.
func TestPartitionStopsAndGoesOn(t *testing.T) {
	onEach(t, partitionStopsAndGoesOn)
}

func partitionStopsAndGoesOn(t *testing.T, w *world) {
	a := w.run(nil)
	if how := <-a.started; how != "for the first time" {
		t.Errorf("started %s", how)
	}
	a.isOpen()
	w.insert(1, 300)
	a.recorder.untilKey(t, 299)
	a.end()
	if !slices.Equal(a.recorder.read(), numbers(1, 300)) {
		t.Errorf("read %v", a.recorder.read())
	}
	r := w.record()
	if r.Held() || len(r.Position.Token) == 0 || r.ReplicaSet != w.cluster || r.Pipeline == "" {
		t.Errorf("stored %+v", r)
	}

	w.insert(300, 700) // more than a first batch, while nobody reads
	b := w.run(nil)
	if how := <-b.started; how != "after the saved token" {
		t.Errorf("started %s", how)
	}
	b.recorder.until(t, "some are read", func(d *recorder) bool { d.later = true; return len(d.keys) >= 100 })
	b.recorder.untilKey(t, 699)
	b.end()

	c := w.run(nil)
	c.recorder.untilKey(t, 699)
	c.end()
	seen := b.recorder.read()
	if !slices.Equal(seen, numbers(300, 700)) {
		t.Errorf("read %v", seen)
	}
	again := c.recorder.read()
	if len(again) == 0 || !slices.Equal(again, numbers(again[0], 700)) {
		t.Errorf("read again %v", again)
	}
}

// A stop does not wait for the end of a long poll, and leaves no cursor on the server.
func TestEndCutsALongPollOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, localmongo.Options{})
	a := w.run(func(c *stream.PartitionConfig) { c.Stream.MaxAwait, c.Stream.Frozen = time.Hour, 2*time.Hour })
	<-a.started
	eventually(t, "the stream is open", func() bool { return !w.record().Position.IsZero() })
	a.end()
	eventually(t, "no cursor is left", func() bool { return w.server.OpenCursors() == 0 })
}

func TestCrashBeforeTheFirstCheckpoint(t *testing.T) {
	onEach(t, crashBeforeTheFirstCheckpoint)
}

func crashBeforeTheFirstCheckpoint(t *testing.T, w *world) {
	a := w.run(func(c *stream.PartitionConfig) { c.SaveEvery = time.Hour })
	a.isOpen()
	if r := w.record(); r.Position.IsZero() {
		t.Fatal("nothing is saved although events may come")
	}
	a.recorder.note(func() { a.recorder.later = true })
	w.insert(1, 5)
	a.recorder.untilKey(t, 4)
	w.crash(a, w.stored())
	b := w.run(nil)
	b.recorder.untilKey(t, 4)
	if !slices.Equal(b.recorder.read(), numbers(1, 5)) {
		t.Errorf("read %v", b.recorder.read())
	}
	b.end()
}

func TestDropRenameAndRecreate(t *testing.T) {
	onEach(t, dropRenameAndRecreate)
}

func dropRenameAndRecreate(t *testing.T, w *world) {
	a := w.run(nil)
	a.isOpen()
	w.insert(1, 3)
	if err := w.coll.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.insert(3, 5)
	a.recorder.untilKey(t, 4)
	rename := bson.D{{Key: "renameCollection", Value: w.db.Name() + ".calls"}, {Key: "to", Value: w.db.Name() + ".old"}}
	if err := w.client.Database("admin").RunCommand(t.Context(), rename).Err(); err != nil {
		t.Fatal(err)
	}
	w.insert(5, 7)
	a.recorder.untilKey(t, 6)
	a.end()
	if !slices.Equal(a.recorder.read(), numbers(1, 7)) || len(a.recorder.theGaps()) != 0 {
		t.Errorf("read %v, gaps %v", a.recorder.read(), a.recorder.theGaps())
	}
	// While nobody reads: the saved token is from before the drop.
	if err := w.coll.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.insert(7, 9)
	b := w.run(nil)
	b.recorder.untilKey(t, 8)
	b.end()
	if !slices.Equal(b.recorder.read(), numbers(7, 9)) || len(b.recorder.theGaps()) != 0 {
		t.Errorf("read %v, gaps %v", b.recorder.read(), b.recorder.theGaps())
	}
}

// History that went while nobody read: told as a gap by a strict server and by
// one that takes the token without a word.
func TestLostHistory(t *testing.T) {
	for _, lax := range []bool{false, true} {
		t.Run(fmt.Sprint("lax ", lax), func(t *testing.T) {
			w := newWorld(t, localmongo.Options{LaxResume: lax})
			a := w.run(nil)
			a.isOpen()
			w.insert(1, 3)
			a.recorder.untilKey(t, 2)
			a.end()
			from := w.record().Position.Time()
			w.insert(3, 6)
			w.server.LoseHistory(bson.Timestamp{})
			b := w.run(nil)
			b.isOpen()
			b.recorder.until(t, "the gap", func(d *recorder) bool { return len(d.gaps) > 0 })
			w.insert(6, 8)
			b.recorder.untilKey(t, 7)
			b.end()
			gaps := b.recorder.theGaps()
			if len(gaps) != 1 || gaps[0].Reason != stream.GapHistoryLost || !gaps[0].From.Equal(from) || gaps[0].To.Before(gaps[0].From) {
				t.Errorf("gaps %+v, saved was %s", gaps, from)
			}
			if got := b.recorder.read(); !slices.Equal(got, numbers(6, 8)) {
				t.Errorf("read %v", got)
			}
		})
	}
}

// A cursor that dies while the history goes, and a driver that resumes by
// itself with a token that the server takes without a word. What was read before
// that is not lost.
func TestLostHistoryUnderTheDriversResume(t *testing.T) {
	w := newWorld(t, localmongo.Options{LaxResume: true})
	release := make(chan struct{})
	held := &blockingRecorder{recorder: newRecorder(), release: release, at: 1, reached: make(chan struct{})}
	reg := prometheus.NewRegistry()
	a := w.run(func(c *stream.PartitionConfig) {
		c.Handler, c.Stream.Registerer, c.Stream.MaxAwait = held, reg, 30*time.Second
	})
	eventually(t, "the stream has begun", func() bool { return !w.record().Position.IsZero() })
	w.insert(1, 2)
	<-held.reached
	w.insert(2, 3)
	eventually(t, "the next batch is read", func() bool {
		return sum(t, reg, "watcher_stream_batches_total", "kind", "full") == 2
	})
	w.insert(3, 5)
	w.server.LoseHistory(bson.Timestamp{})
	if n := w.server.KillCursors("test.calls"); n == 0 {
		t.Error("no cursor was open")
	}
	close(release)
	w.insert(5, 6) // the driver's cursor shows it, and is not believed
	held.until(t, "the gap", func(d *recorder) bool { return len(d.gaps) > 0 })
	w.insert(6, 7)
	held.untilKey(t, 6)
	a.end()
	if got := held.read(); !slices.Equal(got, []int{1, 2, 6}) {
		t.Errorf("read %v, but 3 and 4 were lost", got)
	}
}

// blockingRecorder blocks at one event.
type blockingRecorder struct {
	*recorder
	at      int
	reached chan struct{}
	release chan struct{}
}

func (h *blockingRecorder) Event(ctx context.Context, e stream.Event, done func()) error {
	if k, _ := e.Key.AsInt64OK(); int(k) == h.at {
		close(h.reached)
		<-h.release
	}
	return h.recorder.Event(ctx, e, done)
}

func TestServerFailures(t *testing.T) {
	resumable := []string{"ResumableChangeStreamError"}
	times := func(n int) bson.D { return bson.D{{Key: "times", Value: n}} }
	for name, fail := range map[string]func(w *world){
		"killed cursors":                  func(w *world) { w.server.KillCursors("test.calls") },
		"dropped connections":             func(w *world) { w.server.DropConnections() },
		"a step-down":                     func(w *world) { w.server.StepDown(300 * time.Millisecond) },
		"two bad getMores, labelled":      func(w *world) { w.fail(times(2), failing(234, resumable, "getMore")) },
		"two bad getMores, not labelled":  func(w *world) { w.fail(times(2), failing(1, nil, "getMore")) },
		"bad getMore and bad reopen":      func(w *world) { w.fail(times(4), failing(6, resumable, "getMore", "aggregate")) },
		"a refused token":                 func(w *world) { w.fail(times(1), failing(280, nil, "getMore", "aggregate")) },
		"a reopen that is not authorised": func(w *world) { w.fail(times(2), failing(13, nil, "getMore", "aggregate")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, localmongo.Options{})
			a := w.run(nil)
			a.isOpen()
			w.insert(1, 150)
			a.recorder.untilKey(t, 149)
			fail(w)
			eventually(t, "written", func() bool {
				_, err := w.coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 150}})
				return err == nil || mongo.IsDuplicateKeyError(err)
			})
			w.insert(151, 300)
			a.recorder.untilKey(t, 299)
			a.end()
			read := a.recorder.read()
			slices.Sort(read)
			if got := slices.Compact(read); !slices.Equal(got, numbers(1, 300)) {
				t.Errorf("read %v", got)
			}
			eventually(t, "no cursor is left", func() bool { return w.server.OpenCursors() == 0 })
		})
	}
}

// An event that cannot be returned is a gap; what comes after it is read.
func TestOversizedEventOnAServer(t *testing.T) {
	w := newWorld(t, localmongo.Options{})
	a := w.run(nil)
	a.isOpen()
	w.insert(1, 3)
	a.recorder.untilKey(t, 2)
	w.server.OversizedEvent(1)
	w.insert(3, 4)
	a.recorder.until(t, "the gap", func(d *recorder) bool { return len(d.gaps) > 0 })
	w.insert(4, 6)
	a.recorder.untilKey(t, 5)
	a.end()
	gaps := a.recorder.theGaps()
	if len(gaps) != 1 || gaps[0].Reason != stream.GapOversized || gaps[0].To.Sub(gaps[0].From) > 10*time.Second {
		t.Errorf("gaps %+v", gaps)
	}
	if got := a.recorder.read(); !slices.Equal(got, []int{1, 2, 4, 5}) {
		t.Errorf("read %v", got)
	}
}

// What does not match is passed over, and the position moves on all the same.
func TestFilteredEventsMoveThePosition(t *testing.T) {
	onEach(t, filteredEventsMoveThePosition)
}

func filteredEventsMoveThePosition(t *testing.T, w *world) {
	pipeline := mongo.Pipeline{{{Key: "$match", Value: bson.D{{Key: "fullDocument.even", Value: true}}}}}
	filtered := func(c *stream.PartitionConfig) { c.Stream.Pipeline = pipeline }
	a := w.run(filtered)
	a.isOpen()
	w.insert(1, 200) // the last event of the batch, 199, does not match
	a.recorder.untilKey(t, 198)
	eventually(t, "what was read is saved", func() bool {
		return resume.CompareTokens(w.record().Position.Token, a.recorder.position().Token) >= 0
	})
	before := w.record().Position
	w.insert(201, 202)
	eventually(t, "the position moves on", func() bool {
		return resume.CompareTokens(w.record().Position.Token, before.Token) > 0
	})
	a.end()
	w.insert(202, 203)
	b := w.run(filtered)
	b.recorder.untilKey(t, 202)
	b.end()
	if got := b.recorder.read(); !slices.Equal(got, []int{202}) {
		t.Errorf("read %v", got)
	}
	// A changed pipeline goes by time: at least once.
	w.insert(203, 206)
	c := w.run(nil)
	if how := <-c.started; how != "at the saved time: the pipeline has changed" {
		t.Errorf("started %s", how)
	}
	c.recorder.untilKey(t, 205)
	c.end()
}

func TestBadStoredPositions(t *testing.T) {
	at := resume.Timestamp(time.Now().Add(-time.Minute))
	token := bson.D{{Key: "_data", Value: fmt.Sprintf("82%08X%08X%s", at.T, at.I, "2B0229296E04")}}
	for name, c := range map[string]struct {
		doc bson.D
		how string
		gap stream.GapReason
	}{
		"not hex":          {bson.D{{Key: "token", Value: bson.D{{Key: "_data", Value: "DEADBEEF"}}}, {Key: "cluster_time", Value: at}}, "at the saved time: the token is damaged", stream.GapHistoryLost},
		"a text":           {bson.D{{Key: "token", Value: "x"}, {Key: "wall_time", Value: time.Now()}}, "before the time of the last read: the position is damaged", stream.GapHistoryLost},
		"only a save time": {bson.D{{Key: "token", Value: 5}, {Key: "saved_at", Value: time.Now()}}, "before the time of the last save: the position is damaged", stream.GapHistoryLost},
		"nothing readable": {bson.D{{Key: "token", Value: 5}}, "now: nothing of the saved position can be read", stream.GapUnusable},
		"too old":          {bson.D{{Key: "token", Value: token}}, "after the saved token", stream.GapHistoryLost},
		"a damaged term":   {bson.D{{Key: "term", Value: "x"}, {Key: "token", Value: token}}, "after the saved token", stream.GapHistoryLost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, localmongo.Options{})
			w.server.LoseHistory(bson.Timestamp{})
			doc := append(bson.D{{Key: "_id", Value: "x"}}, c.doc...)
			if _, err := w.db.Collection("resume").InsertOne(t.Context(), doc); err != nil {
				t.Fatal(err)
			}
			a := w.run(nil)
			if how := <-a.started; how != c.how {
				t.Errorf("started %s", how)
			}
			a.isOpen()
			a.recorder.until(t, "the gap", func(d *recorder) bool { return len(d.gaps) > 0 })
			w.insert(1, 3)
			a.recorder.untilKey(t, 2)
			a.end()
			if gaps := a.recorder.theGaps(); len(gaps) != 1 || gaps[0].Reason != c.gap {
				t.Errorf("gaps %+v", gaps)
			}
			if r := w.record(); r.Damage != nil || len(r.Position.Token) == 0 {
				t.Errorf("not mended: %+v", r)
			}
		})
	}
}

func TestOtherClusterIsRefused(t *testing.T) {
	onEach(t, otherClusterIsRefused)
}

func otherClusterIsRefused(t *testing.T, w *world) {
	a := w.run(nil)
	a.isOpen()
	a.end()
	b := w.run(func(c *stream.PartitionConfig) { c.ReplicaSet = "another" })
	var err error
	b.once.Do(func() { err = <-b.done })
	other, ok := errors.AsType[*stream.OtherClusterError](err)
	if !ok || other.Stored != w.cluster || other.Here != "another" {
		t.Errorf("got %v", err)
	}
}

// A reset wins over a running replica with work in flight, and a late save of
// the old position cannot undo it.
func TestResetWhileEventsAreOpen(t *testing.T) {
	onEach(t, resetWhileEventsAreOpen)
}

func resetWhileEventsAreOpen(t *testing.T, w *world) {
	a := w.run(nil)
	a.isOpen()
	w.insert(1, 10)
	a.recorder.untilKey(t, 9)
	back := w.record().Position
	a.recorder.note(func() { a.recorder.later = true })
	w.insert(10, 20)
	a.recorder.untilKey(t, 19)
	<-a.started
	err := w.store.Reset(t.Context(), resume.Partition{Of: 1}, resume.Position{Token: back.Token, ClusterTime: back.ClusterTime},
		resume.Reset{At: time.Now(), Repush: "missing", By: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if how := <-a.started; how != "after the saved token" {
		t.Errorf("started again %s", how)
	}
	a.recorder.note(func() {
		if !errors.Is(a.recorder.why, resume.ErrReset) {
			t.Errorf("drained because of %v", a.recorder.why)
		}
		for _, done := range a.recorder.open { // of the first holding: must not count
			done()
		}
		a.recorder.open = nil
		a.recorder.keys = nil
	})
	w.insert(20, 21)
	a.recorder.untilKey(t, 20)
	a.end()
	r := w.record()
	if r.Reset == nil || r.Reset.Repush != "missing" {
		t.Errorf("the reset is not kept: %+v", r.Reset)
	}
}

// The store refuses writes for a while: reading goes on, and the position is
// saved later.
func TestStoreDown(t *testing.T) {
	w := newWorld(t, localmongo.Options{})
	a := w.run(nil)
	a.isOpen()
	before := w.record().Position
	w.fail("alwaysOn", failing(8, nil, "update", "findAndModify"))
	w.insert(1, 500)
	a.recorder.untilKey(t, 499)
	w.fail("off", bson.D{})
	eventually(t, "the position is saved", func() bool {
		return resume.CompareTokens(w.record().Position.Token, before.Token) > 0 && w.record().Position.ClusterTime.After(before.ClusterTime)
	})
	a.end()
	if !slices.Equal(a.recorder.read(), numbers(1, 500)) {
		t.Errorf("read %v", a.recorder.read())
	}
}

func TestWindowAndServer(t *testing.T) {
	onEach(t, func(t *testing.T, w *world) {
		server := askHello(t, w)
		window, ok := stream.WindowOf(w.client)(t.Context())
		if known := !window.Oldest.IsZero() && !window.Newest.Before(window.Oldest); ok != known || ok == server.Sharded {
			t.Errorf("window %+v %v of %+v", window, ok, server)
		}
	})
}

// Servers before 4.4.2 know isMaster only.
func TestServerWithoutHello(t *testing.T) {
	w := newWorld(t, localmongo.Options{NoHello: true})
	askHello(t, w)
	if w.cluster != "rs0" {
		t.Errorf("the cluster is %q", w.cluster)
	}
	a := w.run(nil)
	a.isOpen()
	w.insert(1, 3)
	a.recorder.untilKey(t, 2)
	a.end()
}

// askHello asks the server what it is, in both ways that there are.
func askHello(t *testing.T, w *world) stream.Server {
	t.Helper()
	server, err := stream.Hello(t.Context(), w.client)
	if err != nil || server.Sharded == (server.SetName != "") || server.Newest.IsZero() || time.Since(server.Clock).Abs() > time.Minute {
		t.Errorf("%+v, %v", server, err)
	}
	clock, newest, err := stream.ServerTime(t.Context(), w.client)
	if err != nil || clock.Before(server.Clock) || newest.Before(server.Newest) {
		t.Errorf("%s %v, %v", clock, newest, err)
	}
	return server
}
