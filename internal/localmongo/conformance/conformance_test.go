// Package conformance holds the tests of what the watcher asks of MongoDB: the calls
// store and the recorder of outcomes, the source of bots, the resume store, and the change
// stream. The same tests run on localmongo, always, and on the replica set that
// WATCHER_TEST_MONGODB_URI names, when it is set: what holds on one and not on the other
// is a fault of localmongo. They take a database of their own with a random name, expect
// nothing of the server's other contents, and drop the database at the end.
package conformance

import (
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.uber.org/goleak"

	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
)

// patience bounds what happens at once unless something is broken.
const patience = 90 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// onEach runs a test on every server there is, in an empty database.
func onEach(t *testing.T, test func(t *testing.T, db *mongo.Database)) {
	t.Helper()
	localmongotest.OnEach(t, localmongo.Options{}, func(t *testing.T, d localmongotest.Deployment) {
		test(t, d.Connect(t).Database(d.Database))
	})
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
