package stream_test

import (
	"context"
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
	enough  context.CancelFunc
}

func (c *counting) Event(_ context.Context, e stream.Event) error {
	c.tracker.Track(e.Position)()
	if c.left--; c.left == 0 {
		c.enough()
	}
	return nil
}

func (c *counting) Idle(p resume.Position)                { c.tracker.Idle(p) }
func (c *counting) Gap(context.Context, stream.Gap) error { return nil }

// BenchmarkFollow reads a backlog of 20,000 events from a server in this process.
func BenchmarkFollow(b *testing.B) {
	const events = 20_000
	server := localmongotest.Start(b, localmongo.Options{})
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI()))
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
		}, &counting{tracker: resume.NewTracker(), left: events, enough: enough})
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Run(ctx); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*events/b.Elapsed().Seconds(), "events/s")
}
