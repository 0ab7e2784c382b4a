package stream_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/pkg/resume"
	"github.com/cxbridge/watcher/pkg/stream"
)

// printer is a Sink that prints what it is given, and ends the follower after some events.
type printer struct{ left int }

var errEnough = errors.New("enough events")

func (p *printer) Event(_ context.Context, e stream.Event) error {
	fmt.Fprintln(os.Stdout, e.Operation, e.Key.StringValue())
	if p.left--; p.left == 0 {
		return errEnough
	}
	return nil
}

func (p *printer) Idle(resume.Position) {} // all events up to here were handed over

func (p *printer) Gap(_ context.Context, g stream.Gap) error {
	fmt.Fprintln(os.Stdout, "look up what changed from", g.From, "to", g.To)
	return nil
}

// Follow a collection from a moment on, without keeping how far it was read.
func Example() {
	uri, stop := serve()
	defer stop()
	ctx := context.Background()
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		panic(err)
	}
	defer func() { _ = client.Disconnect(ctx) }()
	calls := client.Database("example").Collection("calls")

	_, start, err := stream.ServerTime(ctx, client)
	if err != nil {
		panic(err)
	}
	if _, err := calls.InsertMany(ctx, []any{bson.D{{Key: "_id", Value: "a"}}, bson.D{{Key: "_id", Value: "b"}}}); err != nil {
		panic(err)
	}
	if _, err := calls.DeleteOne(ctx, bson.D{{Key: "_id", Value: "a"}}); err != nil {
		panic(err)
	}

	follower, err := stream.New(stream.Config{
		Name:       "calls",
		Collection: calls,
		Start:      stream.Start{Position: resume.Position{ClusterTime: start}},
	}, &printer{left: 3})
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(os.Stdout, "ended by:", follower.Run(ctx))
	// Output:
	// insert a
	// insert b
	// delete a
	// ended by: enough events
}

// serve runs a MongoDB-compatible server in this process.
func serve() (uri string, stop func()) {
	server, err := localmongo.New(localmongo.Options{})
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	return server.URI(), func() {
		cancel(errEnough)
		if err := <-done; err != nil {
			panic(err)
		}
	}
}
