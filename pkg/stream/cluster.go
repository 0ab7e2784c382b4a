package stream

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/cxbridge/watcher/pkg/resume"
)

// ReplicaSet asks for the name of the cluster, to be kept beside tokens: that of
// the replica set, or of a sharded cluster "sharded" and its id. The id stands in
// config.version, which not every user may read: then it is "sharded" alone, and
// two sharded clusters cannot be told from each other.
func ReplicaSet(ctx context.Context, client *mongo.Client) (string, error) {
	var reply hello
	err := client.Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&reply)
	if err != nil {
		return "", fmt.Errorf("ask for the name of the cluster: %w", err)
	}
	return reply.cluster(func() (bson.Raw, error) {
		return client.Database("config").Collection("version").FindOne(ctx, bson.D{}).Raw()
	}), nil
}

// hello is what a server says of its cluster.
type hello struct {
	SetName string `bson:"setName"`
	Message string `bson:"msg"`
}

// routerMessage is how the router of a sharded cluster introduces itself.
const routerMessage = "isdbgrid"

const sharded = "sharded"

func (h hello) cluster(version func() (bson.Raw, error)) string {
	if h.Message != routerMessage {
		return h.SetName
	}
	raw, err := version()
	if err != nil {
		return sharded // it may not be read, or is not there; nothing depends on it
	}
	id, ok := raw.Lookup("clusterId").ObjectIDOK()
	if !ok {
		return sharded
	}
	return sharded + " " + id.Hex()
}

// otherCluster says whether two names are those of different clusters. An unknown
// name, or an unknown id, may be any.
func otherCluster(a, b string) bool {
	switch {
	case a == "" || b == "" || a == b:
		return false
	case a == sharded:
		return !strings.HasPrefix(b, sharded+" ")
	case b == sharded:
		return !strings.HasPrefix(a, sharded+" ")
	}
	return true
}

// ServerTime asks for the server's clock and for the time of its newest
// operation. A position is as far behind as the second is ahead of it.
func ServerTime(ctx context.Context, client *mongo.Client) (clock time.Time, newest bson.Timestamp, err error) {
	var reply struct {
		Clock  time.Time      `bson:"localTime"`
		Newest bson.Timestamp `bson:"operationTime"`
	}
	err = client.Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&reply)
	if err != nil {
		return time.Time{}, bson.Timestamp{}, fmt.Errorf("ask for the server's time: %w", err)
	}
	return reply.Clock.UTC(), reply.Newest, nil
}

// OplogWindow reads the first and the last time in the oplog. It needs the right
// to read local.oplog.rs, which a sharded cluster's router cannot give at all:
// an error means that the window is unknown, not that anything is wrong.
func OplogWindow(ctx context.Context, client *mongo.Client) (resume.Window, error) {
	oplog := client.Database("local").Collection("oplog.rs",
		options.Collection().SetReadPreference(readpref.Primary()))
	end := func(order int) (bson.Timestamp, error) {
		raw, err := oplog.FindOne(ctx, bson.D{}, options.FindOne().
			SetSort(bson.D{{Key: "$natural", Value: order}}).
			SetProjection(bson.D{{Key: "ts", Value: 1}})).Raw()
		if err != nil {
			return bson.Timestamp{}, fmt.Errorf("read the span of the oplog: %w", err)
		}
		t, i, _ := raw.Lookup("ts").TimestampOK()
		return bson.Timestamp{T: t, I: i}, nil
	}
	oldest, err := end(1)
	if err != nil {
		return resume.Window{}, err
	}
	newest, err := end(-1)
	return resume.Window{Oldest: oldest, Newest: newest}, err
}

// WindowOf is OplogWindow in the form that resume.CheckpointConfig asks.
func WindowOf(client *mongo.Client) func(ctx context.Context) (resume.Window, bool) {
	return func(ctx context.Context) (resume.Window, bool) {
		w, err := OplogWindow(ctx, client)
		return w, err == nil && !w.Oldest.IsZero() && !w.Newest.IsZero()
	}
}
