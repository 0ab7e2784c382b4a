package stream_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
	"github.com/cxbridge/watcher/pkg/resume"
	"github.com/cxbridge/watcher/pkg/stream"
)

// late is a Sink that notes how late each event is, and takes a time for every so many
// of them, as a road does that asks the same server and lets nobody pass meanwhile.
type late struct {
	stored []atomic.Int64 // when each was stored, in nanoseconds
	after  []time.Duration
	each   int
	takes  time.Duration
	enough context.CancelFunc
}

func (l *late) Event(_ context.Context, e stream.Event) error {
	key, _ := e.Key.AsInt64OK()
	if l.after = append(l.after, time.Since(time.Unix(0, l.stored[key].Load()))); len(l.after) == len(l.stored) {
		l.enough()
	}
	if l.takes > 0 && len(l.after)%l.each == 0 {
		<-time.After(l.takes)
	}
	return nil
}

func (l *late) Idle(resume.Position)                  {}
func (l *late) Gap(context.Context, stream.Gap) error { return nil }

// BenchmarkFollowLive reads events as they are stored, from a server that is 5 and 20 ms
// away: how late each comes to a sink that is quick, and to one that takes as long as
// the way to the server for each 64, or for each 8 of them.
func BenchmarkFollowLive(b *testing.B) {
	for _, far := range []time.Duration{5 * time.Millisecond, 20 * time.Millisecond} {
		for _, rate := range []int{200, 2000} {
			for _, each := range []int{0, 64, 8} {
				b.Run(fmt.Sprintf("%s away, %d a second, a find for each %d", far, rate, each), func(b *testing.B) {
					for b.Loop() {
						benchmarkLive(b, far, rate, each)
					}
				})
			}
		}
	}
}

func benchmarkLive(b *testing.B, far time.Duration, rate, each int) {
	events := 2 * rate
	server := localmongotest.Start(b, localmongo.Options{})
	connect := func(addr string) *mongo.Collection {
		client, err := mongo.Connect(options.Client().ApplyURI("mongodb://" + addr + "/?directConnection=true"))
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = client.Disconnect(context.Background()) })
		return client.Database("test").Collection("calls")
	}
	near, away := connect(server.Addr()), connect(delay(b, server.Addr(), far/2))
	ctx, enough := context.WithCancel(b.Context())
	sink := &late{stored: make([]atomic.Int64, events), each: each, enough: enough}
	if each > 0 {
		sink.takes = far
	}
	f, err := stream.New(stream.Config{
		Name: "bench", Collection: away, MaxAwait: time.Second,
		Start: stream.Start{Position: resume.Position{ClusterTime: server.ClusterTime()}},
	}, sink)
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for next := 0; next < events; {
		<-tick.C
		var docs []any
		for ; next < events && next <= int(time.Since(began).Seconds()*float64(rate)); next++ {
			docs = append(docs, bson.D{{Key: "_id", Value: next}})
			sink.stored[next].Store(time.Now().UnixNano())
		}
		if len(docs) == 0 {
			continue
		}
		if _, err := near.InsertMany(b.Context(), docs); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	slices.Sort(sink.after)
	b.ReportMetric(float64(sink.after[len(sink.after)/2].Microseconds())/1000, "ms-late-p50")
	b.ReportMetric(float64(sink.after[len(sink.after)*99/100].Microseconds())/1000, "ms-late-p99")
	b.ReportMetric(float64(events)/time.Since(began).Seconds(), "events/s")
}
