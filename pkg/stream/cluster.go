package stream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/cxbridge/watcher/pkg/resume"
)

// Server is what a server says of itself and of its time. A lone server, which has
// no change streams, has neither a SetName nor is it Sharded.
type Server struct {
	SetName string         // of its replica set; "" behind a router
	Sharded bool           // the router of a sharded cluster answers
	Clock   time.Time      // its wall clock, in UTC
	Newest  bson.Timestamp // the time of its newest operation; zero if it has no oplog
}

// codeNoCommand is the error of a command that the server does not know.
const codeNoCommand = 59

// routerMessage is how the router of a sharded cluster introduces itself.
const routerMessage = "isdbgrid"

// Hello asks a server what it is and what time it has there. Servers before 4.4.2
// know the command by its old name only.
func Hello(ctx context.Context, client *mongo.Client) (Server, error) {
	var reply struct {
		SetName string         `bson:"setName"`
		Message string         `bson:"msg"`
		Clock   time.Time      `bson:"localTime"`
		Newest  bson.Timestamp `bson:"operationTime"`
	}
	ask := func(command string) error {
		return client.Database("admin").RunCommand(ctx, bson.D{{Key: command, Value: 1}}).Decode(&reply)
	}
	err := ask("hello")
	if server, ok := errors.AsType[mongo.ServerError](err); ok && server.HasErrorCode(codeNoCommand) {
		err = ask("isMaster")
	}
	if err != nil {
		return Server{}, fmt.Errorf("ask the server what it is: %w", err)
	}
	return Server{
		SetName: reply.SetName, Sharded: reply.Message == routerMessage,
		Clock: reply.Clock.UTC(), Newest: reply.Newest,
	}, nil
}

// ReplicaSet asks for the name of the cluster, to be kept beside tokens: that of
// the replica set, or of a sharded cluster "sharded" and its id. The id stands in
// config.version, which not every user may read: then it is "sharded" alone, and
// two sharded clusters cannot be told from each other.
func ReplicaSet(ctx context.Context, client *mongo.Client) (string, error) {
	server, err := Hello(ctx, client)
	if err != nil {
		return "", err
	}
	return server.cluster(func() (bson.Raw, error) {
		return client.Database("config").Collection("version").FindOne(ctx, bson.D{}).Raw()
	}), nil
}

const sharded = "sharded"

func (s Server) cluster(version func() (bson.Raw, error)) string {
	if !s.Sharded {
		return s.SetName
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
	server, err := Hello(ctx, client)
	return server.Clock, server.Newest, err
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
