package localmongo_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
)

// connect starts a server and a client of the real driver on it.
func connect(t testing.TB, opts localmongo.Options) (*localmongo.Server, *mongo.Client) {
	t.Helper()
	s := localmongotest.Start(t, opts)
	return s, dial(t, s)
}

func dial(t testing.TB, s *localmongo.Server, more ...*options.ClientOptions) *mongo.Client {
	t.Helper()
	c, err := mongo.Connect(append([]*options.ClientOptions{options.Client().ApplyURI(s.URI())}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := c.Disconnect(ctx); err != nil && !errors.Is(err, mongo.ErrClientDisconnected) {
			t.Errorf("disconnect: %v", err)
		}
	})
	return c
}

func TestDriverCRUD(t *testing.T) {
	_, client := connect(t, localmongo.Options{})
	ctx := t.Context()
	coll := client.Database("d").Collection("c")
	if err := client.Ping(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := coll.InsertMany(ctx, []any{bson.D{{Key: "_id", Value: 1}, {Key: "a", Value: 1}}, bson.D{{Key: "_id", Value: 2}, {Key: "a", Value: 2}}}); err != nil {
		t.Fatal(err)
	}
	_, err := coll.InsertOne(ctx, bson.D{{Key: "_id", Value: 1}})
	if !mongo.IsDuplicateKeyError(err) {
		t.Fatalf("second insert of an _id: %v", err)
	}
	up, err := coll.UpdateOne(ctx, bson.D{{Key: "_id", Value: 1}}, bson.D{{Key: "$set", Value: bson.D{{Key: "b", Value: "x"}}}, {Key: "$push", Value: bson.D{{Key: "log", Value: bson.D{{Key: "$each", Value: bson.A{1, 2, 3}}, {Key: "$slice", Value: -2}}}}}})
	if err != nil || up.ModifiedCount != 1 {
		t.Fatalf("update: %+v, %v", up, err)
	}
	var got bson.D
	if err := coll.FindOneAndUpdate(ctx, bson.D{{Key: "_id", Value: 1}}, bson.D{{Key: "$inc", Value: bson.D{{Key: "a", Value: 5}}}}, options.FindOneAndUpdate().SetReturnDocument(options.After)).Decode(&got); err != nil {
		t.Fatal(err)
	}
	want := `{"_id":1,"a":6,"b":"x","log":[2,3]}`
	if text, _ := bson.MarshalExtJSON(got, false, false); string(text) != want {
		t.Errorf("document is %s, want %s", text, want)
	}
	res, err := coll.BulkWrite(ctx, []mongo.WriteModel{
		mongo.NewInsertOneModel().SetDocument(bson.D{{Key: "_id", Value: 3}}),
		mongo.NewUpdateOneModel().SetFilter(bson.D{{Key: "_id", Value: 2}}).SetUpdate(bson.D{{Key: "$set", Value: bson.D{{Key: "z", Value: 1}}}}),
		mongo.NewDeleteOneModel().SetFilter(bson.D{{Key: "_id", Value: 3}}),
		mongo.NewUpdateOneModel().SetFilter(bson.D{{Key: "_id", Value: 9}}).SetUpdate(bson.D{{Key: "$set", Value: bson.D{{Key: "z", Value: 1}}}}).SetUpsert(true),
	})
	if err != nil || res.InsertedCount != 1 || res.ModifiedCount != 1 || res.DeletedCount != 1 || res.UpsertedCount != 1 {
		t.Fatalf("bulk write: %+v, %v", res, err)
	}
	if n, err := coll.CountDocuments(ctx, bson.D{}); err != nil || n != 3 {
		t.Errorf("count: %d, %v", n, err)
	}
	_, err = client.Database("e").Collection("f").InsertOne(ctx, bson.D{})
	_, again := coll.InsertOne(ctx, bson.D{{Key: "_id", Value: 10}})
	if err := errors.Join(err, again); err != nil {
		t.Fatal(err)
	}
	names, err := client.ListDatabaseNames(ctx, bson.D{})
	if err != nil || len(names) != 2 {
		t.Errorf("databases: %v, %v", names, err)
	}
	cur, err := coll.Find(ctx, bson.D{}, options.Find().SetBatchSize(1).SetSort(bson.D{{Key: "_id", Value: -1}}))
	if err != nil {
		t.Fatal(err)
	}
	var all []bson.D
	if err := cur.All(ctx, &all); err != nil || len(all) != 4 {
		t.Errorf("find in batches of one: %d documents, %v", len(all), err)
	}
	err = client.Database("d").RunCommand(ctx, bson.D{{Key: "collStats", Value: "c"}}).Err()
	if ce, ok := errors.AsType[mongo.CommandError](err); !ok || ce.Code != 59 {
		t.Errorf("unknown command: %v", err)
	}
}

func TestDriverWatch(t *testing.T) {
	_, client := connect(t, localmongo.Options{})
	ctx := t.Context()
	coll := client.Database("d").Collection("calls")
	pipeline := mongo.Pipeline{
		{{Key: "$match", Value: bson.D{{Key: "operationType", Value: bson.D{{Key: "$in", Value: bson.A{"insert", "replace", "update"}}}}, {Key: "$or", Value: bson.A{
			bson.D{{Key: "updateDescription.updatedFields.completed_at", Value: bson.D{{Key: "$exists", Value: true}}}},
			bson.D{{Key: "fullDocument.completed_at", Value: bson.D{{Key: "$exists", Value: true}}}},
		}}}}},
		{{Key: "$project", Value: bson.D{{Key: "_id", Value: 1}, {Key: "operationType", Value: 1}, {Key: "clusterTime", Value: 1}, {Key: "documentKey", Value: 1},
			{Key: "completed_at", Value: bson.D{{Key: "$ifNull", Value: bson.A{"$updateDescription.updatedFields.completed_at", "$fullDocument.completed_at"}}}}}}},
	}
	cs, err := coll.Watch(ctx, pipeline, options.ChangeStream().SetMaxAwaitTime(200*time.Millisecond).SetBatchSize(0))
	if err != nil {
		t.Fatal(err)
	}
	defer cs.Close(context.Background())
	first := cs.ResumeToken()
	if first == nil {
		t.Fatal("no post-batch resume token at the opening")
	}
	if cs.TryNext(ctx) {
		t.Fatalf("event out of nothing: %s", cs.Current)
	}
	at := time.UnixMilli(1780654625000).UTC()
	if _, err := coll.InsertOne(ctx, bson.D{{Key: "_id", Value: "x"}, {Key: "session_id", Value: "s1"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := coll.UpdateOne(ctx, bson.D{{Key: "session_id", Value: "s1"}}, bson.D{{Key: "$set", Value: bson.D{{Key: "completed_at", Value: at}}}}, options.UpdateOne().SetUpsert(true)); err != nil {
		t.Fatal(err)
	}
	if !cs.Next(ctx) {
		t.Fatal(cs.Err())
	}
	if got := cs.Current.Lookup("completed_at").Time().UTC(); !got.Equal(at) {
		t.Errorf("completed_at is %v, want %v", got, at)
	}
	if _, err := coll.UpdateOne(ctx, bson.D{{Key: "_id", Value: "x"}}, bson.D{{Key: "$set", Value: bson.D{{Key: "completed_at", Value: at}}}}); err != nil {
		t.Fatal(err)
	}
	if cs.TryNext(ctx) {
		t.Errorf("the same completed_at gave an event: %s", cs.Current)
	}
	again, err := coll.Watch(ctx, pipeline, options.ChangeStream().SetResumeAfter(first))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close(context.Background())
	if !again.Next(ctx) {
		t.Fatal(again.Err())
	}
	if got := again.Current.Lookup("documentKey", "_id").StringValue(); got != "x" {
		t.Errorf("resumed event is of %q", got)
	}
}
