package localmongo_test

import (
	"context"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"

	"github.com/cxbridge/watcher/internal/localmongo"
)

// read is the n of the document 1, or 0 when it is not there.
func read(ctx context.Context, t *testing.T, coll *mongo.Collection) int64 {
	t.Helper()
	raw, err := coll.FindOne(ctx, bson.D{{Key: "_id", Value: 1}}).Raw()
	if err == mongo.ErrNoDocuments { //nolint:errorlint // the driver returns it as it is
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	n, _ := raw.Lookup("n").AsInt64OK()
	return n
}

func set(ctx context.Context, t *testing.T, coll *mongo.Collection, n int) {
	t.Helper()
	_, err := coll.UpdateByID(ctx, 1, bson.D{{Key: "$set", Value: bson.D{{Key: "n", Value: n}}}}, options.UpdateOne().SetUpsert(true))
	if err != nil {
		t.Fatal(err)
	}
}

// A stale read shows what was there some time ago, unless it asks to come after a time.
func TestStaleReads(t *testing.T) {
	server, client := connect(t, localmongo.Options{})
	db := client.Database("d")
	coll := db.Collection("c")
	majority := db.Collection("c", options.Collection().SetReadConcern(readconcern.Majority()))
	set(t.Context(), t, coll, 1)
	server.StaleReads("c", time.Hour)
	set(t.Context(), t, coll, 2)
	if a, b := read(t.Context(), t, coll), read(t.Context(), t, majority); a != 1 || b != 1 {
		t.Errorf("read %d and %d, want what was there before", a, b)
	}
	if got := read(t.Context(), t, db.Collection("c", options.Collection().SetReadConcern(readconcern.Linearizable()))); got != 2 {
		t.Errorf("a linearizable read shows %d", got)
	}
	// What a session has written it sees, and what came after that it need not.
	err := client.UseSession(t.Context(), func(ctx context.Context) error {
		set(ctx, t, coll, 3)
		set(t.Context(), t, coll, 4)
		if got := read(ctx, t, majority); got != 3 {
			t.Errorf("read %d after the write of 3", got)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if n, err := coll.CountDocuments(t.Context(), bson.D{{Key: "n", Value: 1}}); n != 1 || err != nil {
		t.Errorf("counted %d, %v", n, err)
	}
	// Others are not stale, and writes see what is there.
	set(t.Context(), t, db.Collection("other"), 5)
	if got := read(t.Context(), t, db.Collection("other")); got != 5 {
		t.Errorf("another collection shows %d", got)
	}
	var was struct{ N int }
	err = coll.FindOneAndUpdate(t.Context(), bson.D{{Key: "_id", Value: 1}}, bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}}).Decode(&was)
	if err != nil || was.N != 4 {
		t.Errorf("a write found %d, %v", was.N, err)
	}
	server.StaleReads("c", 0)
	if got := read(t.Context(), t, coll); got != 5 {
		t.Errorf("read %d at the end", got)
	}
}

// A collection that is made while its reads are stale is not there yet, and what is old
// enough is shown.
func TestStaleReadsOfANewCollection(t *testing.T) {
	server, client := connect(t, localmongo.Options{})
	coll := client.Database("d").Collection("c")
	const age = 200 * time.Millisecond
	server.StaleReads("d.c", age)
	begun := time.Now()
	set(t.Context(), t, coll, 1)
	if got := read(t.Context(), t, coll); got != 0 && time.Since(begun) < age {
		t.Errorf("read %d at once", got)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for read(t.Context(), t, coll) != 1 {
		select {
		case <-tick.C:
		case <-time.After(90 * time.Second):
			t.Fatal("the write is not shown")
		}
	}
	if took := time.Since(begun); took < age {
		t.Errorf("shown after %s", took)
	}
}

// A write that is lost with its primary is seen by local reads alone, until it is gone.
func TestRolledBackRead(t *testing.T) {
	server, client := connect(t, localmongo.Options{})
	db := client.Database("d")
	coll := db.Collection("c")
	majority := db.Collection("c", options.Collection().SetReadConcern(readconcern.Majority()))
	set(t.Context(), t, coll, 1)
	for _, doc := range []bson.D{{{Key: "_id", Value: 1}, {Key: "n", Value: 2}}, {{Key: "_id", Value: 7}}} {
		if err := server.WriteUncommitted("d.c", doc); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := read(t.Context(), t, coll), read(t.Context(), t, majority); a != 2 || b != 1 {
		t.Errorf("local reads show %d, majority reads %d", a, b)
	}
	if n, err := coll.CountDocuments(t.Context(), bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: 0}}}}); n != 2 || err != nil {
		t.Errorf("counted %d, %v", n, err)
	}
	server.RollBack()
	if a, b := read(t.Context(), t, coll), read(t.Context(), t, majority); a != 1 || b != 1 {
		t.Errorf("after the roll-back local reads show %d, majority reads %d", a, b)
	}
}

func TestReadConcernsAreChecked(t *testing.T) {
	server, client := connect(t, localmongo.Options{})
	db := client.Database("d")
	set(t.Context(), t, db.Collection("c"), 1)
	ahead := server.ClusterTime()
	ahead.T += 100
	for _, c := range []struct {
		command, concern bson.D
		code             int
	}{
		{bson.D{{Key: "find", Value: "c"}}, bson.D{{Key: "level", Value: "most"}}, 2},
		{bson.D{{Key: "find", Value: "c"}}, bson.D{{Key: "level", Value: 1}}, 14},
		{bson.D{{Key: "find", Value: "c"}}, bson.D{{Key: "level", Value: "majority"}, {Key: "afterClusterTime", Value: ahead}}, 72},
		{bson.D{{Key: "find", Value: "c"}}, bson.D{{Key: "level", Value: "available"}, {Key: "afterClusterTime", Value: server.ClusterTime()}}, 72},
		{bson.D{{Key: "insert", Value: "c"}, {Key: "documents", Value: bson.A{bson.D{}}}}, bson.D{{Key: "level", Value: "majority"}}, 72},
		{bson.D{
			{Key: "aggregate", Value: "c"}, {Key: "cursor", Value: bson.D{}},
			{Key: "pipeline", Value: bson.A{bson.D{{Key: "$changeStream", Value: bson.D{}}}}},
		}, bson.D{{Key: "level", Value: "local"}}, 72},
		{bson.D{{Key: "find", Value: "c"}}, bson.D{{Key: "level", Value: "majority"}, {Key: "afterClusterTime", Value: server.ClusterTime()}}, 0},
		{bson.D{{Key: "count", Value: "c"}}, bson.D{{Key: "level", Value: "available"}}, 0},
	} {
		err := db.RunCommand(t.Context(), append(c.command, bson.E{Key: "readConcern", Value: c.concern})).Err()
		if c.code == 0 && err != nil {
			t.Errorf("%v: %v", c.concern, err)
		} else if c.code != 0 {
			serverError(t, err, c.code)
		}
	}
}

// A stream of a collection that is delayed shows a change when it is old enough, and its
// token does not pass what is held back.
func TestDelayedStreams(t *testing.T) {
	server, client := connect(t, localmongo.Options{NoopInterval: -1})
	db := client.Database("d")
	late, prompt := watch(t, db.Collection("late")), watch(t, db.Collection("prompt"))
	server.DelayStreams("late", time.Hour)
	insert := func(id int) {
		t.Helper()
		for _, name := range []string{"late", "prompt"} {
			if _, err := db.Collection(name).InsertOne(t.Context(), bson.D{{Key: "_id", Value: id}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	before := late.ResumeToken()
	insert(1)
	if !prompt.Next(t.Context()) {
		t.Fatal(prompt.Err())
	}
	if late.TryNext(t.Context()) {
		t.Fatalf("shown at once: %s", late.Current)
	}
	if now := late.ResumeToken(); now.String() != before.String() {
		t.Errorf("the token went on from %s to %s", before, now)
	}
	const delay = 300 * time.Millisecond
	server.DelayStreams("late", delay)
	begun := time.Now()
	insert(2)
	for id := range 2 {
		if !late.Next(t.Context()) {
			t.Fatal(late.Err())
		}
		if got := late.Current.Lookup("documentKey", "_id").AsInt64(); got != int64(id+1) {
			t.Errorf("event of %d, want %d", got, id+1)
		}
	}
	if took := time.Since(begun); took < delay {
		t.Errorf("the second change was shown after %s", took)
	}
}

func watch(t *testing.T, coll *mongo.Collection) *mongo.ChangeStream {
	t.Helper()
	cs, err := coll.Watch(t.Context(), mongo.Pipeline{}, options.ChangeStream().SetMaxAwaitTime(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cs.Close(context.WithoutCancel(t.Context())) })
	return cs
}

// Servers from 4.4 on take expressions in the projection of a find.
func TestFindProjectionTakesExpressions(t *testing.T) {
	_, client := connect(t, localmongo.Options{})
	coll := client.Database("d").Collection("c")
	set(t.Context(), t, coll, 1)
	for text, want := range map[string]string{
		`{"n": {"$type": "$n"}}`: `{"_id": {"$numberInt":"1"},"n": "int"}`,
		`{"_id": 0, "a": {"$type": "$x.y"}, "b": {"$bsonSize": "$$ROOT"}}`: `{"a": "missing","b": {"$numberInt":"21"}}`,
	} {
		raw, err := coll.FindOne(t.Context(), bson.D{{Key: "_id", Value: 1}}, options.FindOne().SetProjection(parse(t, text))).Raw()
		if err != nil || raw.String() != want {
			t.Errorf("%s: %s, %v, want %s", text, raw, err, want)
		}
	}
}

// A server from before 4.4.2 does not know hello; drivers go by isMaster.
func TestServerWithoutHello(t *testing.T) {
	_, client := connect(t, localmongo.Options{NoHello: true})
	set(t.Context(), t, client.Database("d").Collection("c"), 1)
	err := client.Database("admin").RunCommand(t.Context(), bson.D{{Key: "hello", Value: 1}}).Err()
	serverError(t, err, 59)
	var reply struct {
		SetName string `bson:"setName"`
	}
	err = client.Database("admin").RunCommand(t.Context(), bson.D{{Key: "isMaster", Value: 1}}).Decode(&reply)
	if err != nil || reply.SetName != "rs0" {
		t.Errorf("%+v, %v", reply, err)
	}
}
