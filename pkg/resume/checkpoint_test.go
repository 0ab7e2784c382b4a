package resume

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// desk is a Checkpointer at work on a memory, in fake time.
type desk struct {
	table   *table
	line    *line
	lease   *Lease
	tracker *Tracker
	stop    context.CancelFunc
	done    chan error
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newDesk(t *testing.T, change func(*CheckpointConfig)) *desk {
	t.Helper()
	m := newTable()
	lease, err := m.Hold(t.Context(), Partition{0, 1})
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{table: m, line: newLine(m, 1, 0), lease: lease, tracker: NewTracker(), done: make(chan error, 1)}
	lease.ledger = d.line
	cfg := CheckpointConfig{Lease: d.lease, Tracker: d.tracker, Origin: Origin{ReplicaSet: "rs0", Pipeline: "p"}}
	if change != nil {
		change(&cfg)
	}
	c, err := NewCheckpointer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	d.stop = stop
	go func() { d.done <- c.Run(ctx) }()
	return d
}

func (d *desk) saved() uint32 { return d.table.stored("x").Position.ClusterTime.T }

func (d *desk) end() error {
	d.stop()
	err := <-d.done
	d.lease.end(ErrReleased)
	return err
}

func TestCheckpointsAreRareAndTheLastIsAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		d := newDesk(t, func(c *CheckpointConfig) { c.Registerer, c.Namespace = reg, "watcher" })
		open := d.tracker.Track(place(1))
		for i := 2; i <= 100; i++ { // ten seconds of events
			d.tracker.Track(place(i))()
			wait(100 * time.Millisecond)
		}
		if d.saved() != 0 {
			t.Fatalf("saved %d although the first event is open", d.saved())
		}
		open()
		wait(1100 * time.Millisecond)
		if d.saved() != 100 {
			t.Fatalf("saved %d, want 100", d.saved())
		}
		for i := 101; i <= 150; i++ {
			d.tracker.Track(place(i))()
			wait(100 * time.Millisecond)
		}
		d.tracker.Track(place(151))()
		if err := d.end(); err != nil {
			t.Fatal(err)
		}
		r := d.table.stored("x")
		if r.Position.ClusterTime.T != 151 || r.ReplicaSet != "rs0" || r.Pipeline != "p" || r.SavedAt.IsZero() {
			t.Errorf("stored %+v", r)
		}
		if n := testutil.ToFloat64(mustCounter(t, reg, "saved")); n < 6 || n > 8 {
			t.Errorf("%v saves in six seconds of moving positions", n)
		}
	})
}

func mustCounter(t *testing.T, reg prometheus.Registerer, outcome string) prometheus.Counter {
	t.Helper()
	m, err := newCheckpointMetrics(reg, "watcher", 0)
	if err != nil {
		t.Fatal(err)
	}
	return m.saves.WithLabelValues(outcome)
}

func TestIdleCheckpointsAreRarer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		d := newDesk(t, func(c *CheckpointConfig) { c.Registerer, c.Namespace = reg, "watcher" })
		for i := 1; i <= 100; i++ {
			d.tracker.Idle(place(i))
			wait(time.Second)
		}
		if got := d.saved(); got < 90 {
			t.Errorf("saved %d of 100 idle positions", got)
		}
		if n := testutil.ToFloat64(mustCounter(t, reg, "saved")); n < 9 || n > 12 {
			t.Errorf("%v saves in 100 idle seconds", n)
		}
		if err := d.end(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCheckpointerOutlivesTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		d := newDesk(t, func(c *CheckpointConfig) { c.Registerer, c.Namespace = reg, "watcher" })
		d.line.setCut(true)
		for i := 1; i <= 60; i++ { // a minute without a store
			d.tracker.Track(place(i))()
			wait(time.Second)
		}
		failed := testutil.ToFloat64(mustCounter(t, reg, "failed"))
		if failed < 3 || failed > 12 {
			t.Errorf("%v attempts in a minute without a store", failed)
		}
		d.line.setCut(false)
		wait(16 * time.Second)
		if d.saved() != 60 {
			t.Errorf("saved %d, want 60", d.saved())
		}
		if err := d.end(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCheckpointerStopsWhenItIsFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(t, nil)
		d.tracker.Track(place(1))()
		wait(2 * time.Second)
		must(t, d.table.Reset(t.Context(), Partition{0, 1}, place(7), Reset{ID: "r"}))
		d.tracker.Track(place(9))()
		wait(3 * time.Second)
		err := <-d.done
		if !errors.Is(err, ErrFenced) {
			t.Errorf("ended with %v", err)
		}
		if cause := context.Cause(d.lease.Context()); !errors.Is(cause, ErrReset) {
			t.Errorf("the lease ended with %v", cause)
		}
		if d.saved() != 7 {
			t.Errorf("the reset to 7 was overwritten with %d", d.saved())
		}
	})
}

func TestHeadroom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		d := newDesk(t, func(c *CheckpointConfig) {
			c.Registerer, c.Namespace = reg, "watcher"
			c.Window = func(context.Context) (Window, bool) {
				return Window{Oldest: bson.Timestamp{T: 100, I: 1}, Newest: bson.Timestamp{T: 500, I: 1}}, true
			}
		})
		d.tracker.Track(place(300))()
		wait(40 * time.Second)
		m, err := newCheckpointMetrics(reg, "watcher", 0)
		if err != nil {
			t.Fatal(err)
		}
		if w, h := testutil.ToFloat64(m.window), testutil.ToFloat64(m.headroom); w != 400 || h != 200 {
			t.Errorf("window %v, headroom %v", w, h)
		}
		if err := d.end(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestMetricsAreTidy(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	for range 2 { // partitions come and go
		if _, err := newGroupMetrics(reg, "watcher", 2); err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			if _, err := newCheckpointMetrics(reg, "watcher", i); err != nil {
				t.Fatal(err)
			}
		}
	}
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}
