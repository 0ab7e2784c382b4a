// Package conformance holds the tests of what the watcher asks of MongoDB: the calls
// store and the recorder of outcomes, the source of bots, the resume store, and the change
// stream. The same tests run on localmongo, always, and on the replica set that
// WATCHER_TEST_MONGODB_URI names, when it is set: what holds on one and not on the other
// is a fault of localmongo. They take a database of their own with a random name, expect
// nothing of the server's other contents, and drop the database at the end.
package conformance

import (
	"context"
	"os"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.uber.org/goleak"

	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
)

// clusterURI names the variable with the connection string of a real cluster.
const clusterURI = "WATCHER_TEST_MONGODB_URI"

// patience bounds what happens at once unless something is broken.
const patience = 30 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// onEach runs a test on every server there is.
func onEach(t *testing.T, test func(t *testing.T, db *mongo.Database)) {
	t.Helper()
	t.Run("localmongo", func(t *testing.T) {
		test(t, database(t, localmongotest.Start(t, localmongo.Options{}).URI()))
	})
	t.Run("cluster", func(t *testing.T) {
		uri := os.Getenv(clusterURI)
		if uri == "" {
			t.Skip(clusterURI + " is not set")
		}
		test(t, database(t, uri))
	})
}

// database is an empty database that is dropped at the end.
func database(t *testing.T, uri string) *mongo.Database {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		t.Fatal(err)
	}
	db := client.Database("watcher_conformance_" + bson.NewObjectID().Hex())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := db.Drop(ctx); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
		if err := client.Disconnect(ctx); err != nil {
			t.Errorf("disconnect: %v", err)
		}
	})
	return db
}

// doc reads a document in relaxed Extended JSON.
func doc(t *testing.T, text string) bson.D {
	t.Helper()
	var d bson.D
	if err := bson.UnmarshalExtJSON([]byte(text), false, &d); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return d
}

// insert adds documents in relaxed Extended JSON.
func insert(t *testing.T, coll *mongo.Collection, texts ...string) {
	t.Helper()
	docs := make([]any, len(texts))
	for i, text := range texts {
		docs[i] = doc(t, text)
	}
	if _, err := coll.InsertMany(t.Context(), docs); err != nil {
		t.Fatal(err)
	}
}

// one reads the document of an _id.
func one(t *testing.T, coll *mongo.Collection, id any) bson.Raw {
	t.Helper()
	raw, err := coll.FindOne(t.Context(), bson.D{{Key: "_id", Value: id}}).Raw()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// value makes a BSON value of a Go one.
func value(t *testing.T, v any) bson.RawValue {
	t.Helper()
	typ, data, err := bson.MarshalValue(v)
	if err != nil {
		t.Fatal(err)
	}
	return bson.RawValue{Type: typ, Value: data}
}
