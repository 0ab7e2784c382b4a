package localmongo_test

import (
	"context"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/localmongo"
)

// kinds reads n events and says what they are and where.
func kinds(t *testing.T, cs *mongo.ChangeStream, n int) string {
	t.Helper()
	var got []string
	for range n {
		if !cs.Next(t.Context()) {
			t.Fatalf("after %v: %v", got, cs.Err())
		}
		where := ""
		if ns, ok := cs.Current.Lookup("ns").DocumentOK(); ok {
			where = " " + ns.Lookup("db").StringValue()
			if coll, ok := ns.Lookup("coll").StringValueOK(); ok {
				where += "." + coll
			}
		}
		got = append(got, cs.Current.Lookup("operationType").StringValue()+where)
	}
	return strings.Join(got, ", ")
}

func TestScopes(t *testing.T) {
	_, client := connect(t, localmongo.Options{})
	ctx := t.Context()
	a, b := client.Database("a"), client.Database("b")
	streams := map[string]*mongo.ChangeStream{}
	for name, open := range map[string]func() (*mongo.ChangeStream, error){
		"collection": func() (*mongo.ChangeStream, error) { return a.Collection("x").Watch(ctx, mongo.Pipeline{}) },
		"database":   func() (*mongo.ChangeStream, error) { return a.Watch(ctx, mongo.Pipeline{}) },
		"cluster":    func() (*mongo.ChangeStream, error) { return client.Watch(ctx, mongo.Pipeline{}) },
	} {
		cs, err := open()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		defer cs.Close(context.Background())
		streams[name] = cs
	}
	for _, coll := range []*mongo.Collection{a.Collection("x"), a.Collection("y"), b.Collection("x")} {
		if _, err := coll.InsertOne(ctx, bson.D{{Key: "_id", Value: 1}}); err != nil {
			t.Fatal(err)
		}
	}
	rename := bson.D{{Key: "renameCollection", Value: "a.y"}, {Key: "to", Value: "a.z"}}
	if err := client.Database("admin").RunCommand(ctx, rename).Err(); err != nil {
		t.Fatal(err)
	}
	if err := a.Drop(ctx); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"collection": "insert a.x, drop a.x, invalidate",
		"database":   "insert a.x, insert a.y, rename a.y, drop a.x, drop a.z, dropDatabase a, invalidate",
		"cluster":    "insert a.x, insert a.y, insert b.x, rename a.y, drop a.x, drop a.z, dropDatabase a",
	} {
		if got := kinds(t, streams[name], strings.Count(want, ",")+1); got != want {
			t.Errorf("%s: %s\nwant %s", name, got, want)
		}
	}
	if id := streams["collection"].ID(); id != 0 {
		t.Errorf("the cursor is %d after the invalidate", id)
	}
}

// An answer holds at most 16 MB of documents, and every document comes all the same.
func TestLargeBatches(t *testing.T) {
	_, client := connect(t, localmongo.Options{})
	coll := client.Database("d").Collection("c")
	cs, err := coll.Watch(t.Context(), mongo.Pipeline{})
	if err != nil {
		t.Fatal(err)
	}
	defer cs.Close(context.Background())
	const docs, size = 12, 3 << 20
	for i := range docs {
		if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: i}, {Key: "pad", Value: make([]byte, size)}}); err != nil {
			t.Fatal(err)
		}
	}
	left := 0
	for range docs {
		if !cs.Next(t.Context()) {
			t.Fatal(cs.Err())
		}
		left = max(left, cs.RemainingBatchLength())
	}
	if left == 0 || (left+1)*size > 17<<20 {
		t.Errorf("%d events of %d bytes came in one answer", left+1, size)
	}
	cur, err := coll.Find(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	var all []bson.Raw
	if err := cur.All(t.Context(), &all); err != nil || len(all) != docs {
		t.Errorf("%d documents, %v", len(all), err)
	}
}

func TestExplain(t *testing.T) {
	s, client := connect(t, localmongo.Options{})
	coll := client.Database("d").Collection("c")
	docs := make([]any, 500)
	for i := range docs {
		docs[i] = bson.D{{Key: "_id", Value: i}, {Key: "k", Value: i % 50}}
	}
	if _, err := coll.InsertMany(t.Context(), docs); err != nil {
		t.Fatal(err)
	}
	if _, err := coll.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: bson.D{{Key: "k", Value: 1}}}); err != nil {
		t.Fatal(err)
	}
	for cmd, want := range map[string]struct{ stage, looked string }{
		`{"find": "c", "filter": {"k": 7}}`:                                         {`"FETCH"`, "10"},
		`{"find": "c", "filter": {"k": 7}, "limit": 3}`:                             {`"FETCH"`, "3"},
		`{"find": "c", "filter": {"z": 7}}`:                                         {`"COLLSCAN"`, "500"},
		`{"find": "c", "filter": {"k": 7}, "hint": {"$natural": 1}}`:                {`"COLLSCAN"`, "500"},
		`{"find": "c", "filter": {}, "hint": "k_1", "sort": {"k": -1}, "limit": 2}`: {`"FETCH"`, "2"},
		`{"aggregate": "c", "pipeline": [{"$match": {"k": {"$gte": 48}}}, {"$sort": {"k": 1}}, {"$limit": 4}, {"$count": "n"}], "cursor": {}}`: {`"FETCH"`, "4"},
		`{"count": "c", "query": {"_id": {"$in": [1, 2, 900]}}}`:                                                                               {`"FETCH"`, "2"},
	} {
		before := s.Examined()
		raw, err := client.Database("d").RunCommand(t.Context(), bson.D{{Key: "explain", Value: parse(t, cmd)}, {Key: "verbosity", Value: "executionStats"}}).Raw()
		if err != nil {
			t.Errorf("%s: %v", cmd, err)
			continue
		}
		if stage, looked := field(t, raw, "queryPlanner", "winningPlan", "stage"), field(t, raw, "executionStats", "totalDocsExamined"); stage != want.stage || looked != want.looked {
			t.Errorf("%s: %s looked at %s documents, want %+v", cmd, stage, looked, want)
		}
		if n := s.Examined() - before; n > 500 {
			t.Errorf("%s: %d documents are counted", cmd, n)
		}
	}
}

// An event that is too large must not take the events before it along.
func TestOversizedEventBehindOthers(t *testing.T) {
	_, client := connect(t, localmongo.Options{})
	coll := client.Database("d").Collection("c")
	cs, err := coll.Watch(t.Context(), mongo.Pipeline{}, options.ChangeStream().SetFullDocument(options.UpdateLookup))
	if err != nil {
		t.Fatal(err)
	}
	defer cs.Close(context.Background())
	if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	if _, err := coll.UpdateByID(t.Context(), 1, bson.D{{Key: "$set", Value: bson.D{{Key: "big", Value: make([]byte, 9<<20)}}}}); err != nil {
		t.Fatal(err)
	}
	if !cs.Next(t.Context()) {
		t.Fatal(cs.Err())
	}
	if cs.Next(t.Context()) {
		t.Fatal("an event of 18 MB came")
	}
	serverError(t, cs.Err(), 10334)
}
