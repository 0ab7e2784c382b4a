package stream

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/pkg/resume"
)

// TestStandbyIsNotStuck: the time of the last poll is that of a reader, and a
// follower that has stopped is none any more.
func TestStandbyIsNotStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		s, n := newScript(), newNotes(t)
		name := func(c *Config) { c.Registerer, c.Name = reg, "calls" }
		f := follow(t, s, n, name)
		wait(3 * time.Second)
		m := f.metric
		if at := testutil.ToFloat64(m.lastPoll); time.Since(time.UnixMilli(int64(at*1000))) > 2*time.Second {
			t.Errorf("the last poll was at %v", at)
		}
		if lag := testutil.ToFloat64(m.lag); lag != 0 {
			t.Errorf("the lag of an idle stream is %v", lag)
		}
		f.end(t)
		if at, lag := testutil.ToFloat64(m.lastPoll), testutil.ToFloat64(m.lag); !math.IsNaN(at) || !math.IsNaN(lag) {
			t.Errorf("after the end: last poll %v, lag %v, want NaN", at, lag)
		}
		// Held again, and not one poll yet: that has to look stuck soon.
		held, err := New(Config{Name: "calls", Source: s, Registerer: reg}, n)
		if err != nil {
			t.Fatal(err)
		}
		if at := testutil.ToFloat64(held.metric.lastPoll); at != 0 {
			t.Errorf("the last poll before the first is %v, want 0", at)
		}
	})
}

// keeper takes events and settles them at once.
type keeper struct{ events int }

func (k *keeper) Event(_ context.Context, _ Event, done func()) error {
	k.events++
	done()
	return nil
}
func (*keeper) Gap(_ context.Context, _ Gap, done func()) error { done(); return nil }
func (*keeper) Drain(context.Context, error)                    {}

func TestSkippedEventsAreCounted(t *testing.T) {
	m, err := newMetrics(prometheus.NewRegistry(), "watcher", "calls-0")
	if err != nil {
		t.Fatal(err)
	}
	k := &keeper{}
	sink := &trackingSink{
		handler: k, tracker: resume.NewTracker(), skip: m.skip,
		partition: resume.Partition{Index: 0, Of: 2},
	}
	ours, others := 0, 0
	for i := range 100 {
		typ, value, err := bson.MarshalValue(i)
		if err != nil {
			t.Fatal(err)
		}
		key := bson.RawValue{Type: typ, Value: value}
		if sink.partition.Owns(key) {
			ours++
		} else {
			others++
		}
		if err := sink.Event(t.Context(), Event{Key: key}); err != nil {
			t.Fatal(err)
		}
	}
	if err := sink.Event(t.Context(), Event{Operation: "drop"}); err != nil {
		t.Fatal(err)
	}
	if ours == 0 || others == 0 || k.events != ours+1 {
		t.Errorf("%d events were handed over, %d are ours and %d are not", k.events, ours, others)
	}
	if got := testutil.ToFloat64(m.skipped[skipPartition]); got != float64(others) {
		t.Errorf("%v of another partition, want %d", got, others)
	}
	if got := testutil.ToFloat64(m.skipped[skipNoDocument]); got != 1 {
		t.Errorf("%v without a document, want 1", got)
	}
}
