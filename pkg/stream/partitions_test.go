package stream_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/pkg/resume"
	"github.com/cxbridge/watcher/pkg/stream"
)

// sorted is a Handler that counts the events of one partition by the _id as text.
type sorted struct {
	mu   sync.Mutex
	seen map[string]int
}

func (s *sorted) Event(_ context.Context, e stream.Event, done func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[e.Operation+" "+e.Key.String()]++
	done()
	return nil
}

func (s *sorted) Gap(_ context.Context, _ stream.Gap, done func()) error { done(); return nil }
func (s *sorted) Drain(context.Context, error)                           {}

func (s *sorted) count() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, times := range s.seen {
		n += times
	}
	return n
}

// parted runs all partitions of a stream until the test ends them.
type parted struct {
	registry *prometheus.Registry
	handlers []*sorted
	stop     func()
}

func (w *world) runPartitions(of int, change func(*stream.PartitionConfig)) *parted {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	p := &parted{registry: prometheus.NewRegistry(), stop: sync.OnceFunc(func() { cancel(); running.Wait() })}
	w.t.Cleanup(p.stop)
	for i := range of {
		lease, err := resume.NewMemory("x").Hold(ctx, resume.Partition{Index: i, Of: of})
		if err != nil {
			w.t.Fatal(err)
		}
		started, handler := make(chan *stream.Follower, 1), &sorted{seen: make(map[string]int)}
		p.handlers = append(p.handlers, handler)
		cfg := stream.PartitionConfig{
			Lease: lease,
			Stream: stream.Config{
				Namespace: "watcher", Name: fmt.Sprint("calls-", i), Collection: w.coll, MaxAwait: 100 * time.Millisecond,
				ReopenEvery: 100 * time.Millisecond, Logger: w.logger(), Registerer: p.registry,
			},
			Handler:    handler,
			ReplicaSet: w.cluster,
			Started:    func(f *stream.Follower, _ *resume.Tracker, _ string) { started <- f },
		}
		if change != nil {
			change(&cfg)
		}
		running.Go(func() {
			if err := stream.RunPartition(ctx, cfg); err != nil {
				w.t.Errorf("partition %d ended with %v", i, err)
			}
		})
		follower := <-started
		eventually(w.t, "the stream is open", func() bool { return follower.Status().Open })
	}
	return p
}

// Over the wire to four partitions come the events, and not each four times: but for
// ids of which a server cannot say whose they are, and drops, which concern all.
func TestPartitionsShareTheTransfer(t *testing.T) {
	t.Parallel()
	onEach(t, partitionsShareTheTransfer)
}

func partitionsShareTheTransfer(t *testing.T, w *world) {
	const of, computed, others = 4, 400, 10
	p := w.runPartitions(of, func(c *stream.PartitionConfig) {
		c.Stream.Pipeline = mongo.Pipeline{
			{{Key: "$match", Value: bson.D{{Key: "fullDocument.hidden", Value: bson.D{{Key: "$ne", Value: true}}}}}},
			{{Key: "$project", Value: bson.D{{Key: "operationType", Value: 1}, {Key: "documentKey", Value: 1}, {Key: "clusterTime", Value: 1}}}},
		}
	})
	var docs []any
	for i := range computed / 2 {
		docs = append(docs, bson.D{{Key: "_id", Value: bson.NewObjectID()}}, bson.D{{Key: "_id", Value: fmt.Sprint("call-", i)}})
	}
	for i := range others / 2 {
		docs = append(docs, bson.D{{Key: "_id", Value: i + 1}}, bson.D{{Key: "_id", Value: fmt.Sprint("né-", i)}})
	}
	docs = append(docs, bson.D{{Key: "hidden", Value: true}})
	if _, err := w.coll.InsertMany(t.Context(), docs); err != nil {
		t.Fatal(err)
	}
	if err := w.coll.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	const drops = 2 // and the invalidate behind it
	eventually(t, "all have the drop", func() bool {
		return sum(t, p.registry, "watcher_stream_events_total", "operation", "invalidate") == of
	})
	eventually(t, "all events are handed over", func() bool {
		total := 0
		for _, h := range p.handlers {
			total += h.count()
		}
		return total == computed+others+of*drops
	})
	p.stop()
	seen := make(map[string]int)
	for _, h := range p.handlers {
		for event := range h.seen {
			seen[event]++
		}
	}
	for event, partitions := range seen {
		if strings.HasPrefix(event, "insert") && partitions != 1 {
			t.Errorf("%s came to %d partitions", event, partitions)
		}
	}
	if got, want := sum(t, p.registry, "watcher_stream_events_total"), computed+of*(others+drops); got != float64(want) {
		t.Errorf("%v events came over the wire, want %d", got, want)
	}
}

// Where the server refuses the filter it is asked without: the partition reads all and
// keeps its own.
func TestPartitionsWithoutTheFilter(t *testing.T) {
	t.Parallel()
	const of, documents = 2, 100
	w := newWorld(t, localmongo.Options{})
	w.fail(bson.D{{Key: "times", Value: 1}}, failing(34471, nil, "aggregate"))
	p := w.runPartitions(of, nil)
	docs := make([]any, documents)
	for i := range docs {
		docs[i] = bson.D{{Key: "_id", Value: bson.NewObjectID()}}
	}
	if _, err := w.coll.InsertMany(t.Context(), docs); err != nil {
		t.Fatal(err)
	}
	eventually(t, "each has its own", func() bool { return p.handlers[0].count()+p.handlers[1].count() == documents })
	p.stop()
	if n := sum(t, p.registry, "watcher_stream_reopens_total", "reason", "filter"); n != 1 {
		t.Errorf("%v opens without the filter, want 1", n)
	}
	if n := sum(t, p.registry, "watcher_stream_events_skipped_total", "reason", "other_partition"); n != float64(p.handlers[1].count()) {
		t.Errorf("%v events of the other partition were read, it has %d", n, p.handlers[1].count())
	}
}
