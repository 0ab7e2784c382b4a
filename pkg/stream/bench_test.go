package stream_test

import (
	"context"
	"net"
	"sync"
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

// counting is a Sink that tracks and settles events, and knows when it has seen
// enough.
type counting struct {
	tracker *resume.Tracker
	left    int
	pace    int // events in each 10 ms at most; 0 is no limit
	enough  context.CancelFunc
}

func (c *counting) Event(_ context.Context, e stream.Event) error {
	c.tracker.Track(e.Position)()
	if c.pace > 0 && c.left%c.pace == 0 {
		<-time.After(10 * time.Millisecond)
	}
	if c.left--; c.left == 0 {
		c.enough()
	}
	return nil
}

func (c *counting) Idle(p resume.Position)                { c.tracker.Idle(p) }
func (c *counting) Gap(context.Context, stream.Gap) error { return nil }

// delay passes bytes on to a server, each way after a time.
func delay(b *testing.B, server string, by time.Duration) (addr string) {
	b.Helper()
	ln, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var work sync.WaitGroup
	pass := func(to, from net.Conn) {
		defer to.Close()
		buffer := make([]byte, 1<<20)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			<-time.After(by)
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
	work.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := (&net.Dialer{}).DialContext(b.Context(), "tcp", server)
			if err != nil {
				_ = near.Close()
				return
			}
			work.Go(func() { pass(far, near) })
			work.Go(func() { pass(near, far) })
		}
	})
	b.Cleanup(func() { _ = ln.Close(); work.Wait() })
	return ln.Addr().String()
}

// BenchmarkFollow reads a backlog from a server in this process, here and 5 ms away, as
// fast as it can and as fast as one machine sends requests. The first has ten batches, so
// that the end, which cuts a poll off, weighs little.
func BenchmarkFollow(b *testing.B) {
	for _, c := range []struct {
		name   string
		events int
		far    time.Duration // both ways
		pace   int
	}{
		{"near", 100_000, 0, 0}, {"far", 100_000, 5 * time.Millisecond, 0},
		{"near, 12000 a second", 20_000, 0, 120}, {"far, 12000 a second", 20_000, 5 * time.Millisecond, 120},
	} {
		b.Run(c.name, func(b *testing.B) { benchmarkFollow(b, c.events, c.far, c.pace) })
	}
}

func benchmarkFollow(b *testing.B, events int, far time.Duration, pace int) {
	server := localmongotest.Start(b, localmongo.Options{})
	uri := server.URI()
	if far > 0 {
		uri = "mongodb://" + delay(b, server.Addr(), far/2) + "/?directConnection=true"
	}
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = client.Disconnect(context.Background()) }()
	coll := client.Database("test").Collection("calls")
	start := server.ClusterTime()
	for from := 0; from < events; from += 1000 {
		docs := make([]any, 1000)
		for i := range docs {
			docs[i] = bson.D{{Key: "_id", Value: from + i}, {Key: "completed_at", Value: time.Now()}}
		}
		if _, err := coll.InsertMany(b.Context(), docs); err != nil {
			b.Fatal(err)
		}
	}
	pipeline := mongo.Pipeline{{{Key: "$project", Value: bson.D{
		{Key: "operationType", Value: 1}, {Key: "clusterTime", Value: 1}, {Key: "documentKey", Value: 1},
	}}}}
	b.ReportAllocs()
	for b.Loop() {
		ctx, enough := context.WithCancel(b.Context())
		f, err := stream.New(stream.Config{
			Name: "bench", Collection: coll, Pipeline: pipeline, MaxAwait: 10 * time.Millisecond,
			Start: stream.Start{Position: resume.Position{ClusterTime: start}},
		}, &counting{tracker: resume.NewTracker(), left: events, pace: pace, enough: enough})
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Run(ctx); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*events)/b.Elapsed().Seconds(), "events/s")
}
