package localmongo_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/localmongo"
)

// bigCall is a call as the platform stores it: some 60 fields, 100 KB of which most is
// data that nobody maps.
func bigCall(id int) bson.D {
	d := bson.D{{Key: "_id", Value: id}, {Key: "session_id", Value: fmt.Sprint("s", id)}, {Key: "bot_id", Value: "b1"}}
	for i := range 50 {
		d = append(d, bson.E{Key: fmt.Sprint("field", i), Value: "value"})
	}
	entry := bson.D{{Key: "role", Value: "user"}, {Key: "content", Value: strings.Repeat("word ", 20)}, {Key: "at", Value: 1.5}}
	list := make(bson.A, 300)
	for i := range list {
		list[i] = entry
	}
	return append(d, bson.E{Key: "transcript", Value: list}, bson.E{Key: "latency_samples", Value: make([]byte, 50_000)}, bson.E{Key: "events", Value: bson.A{entry}})
}

func fill(b *testing.B, coll *mongo.Collection, n int) {
	b.Helper()
	for i := 0; i < n; i += 50 {
		docs := make([]any, 50)
		for j := range docs {
			docs[j] = bigCall(i + j)
		}
		if _, err := coll.InsertMany(b.Context(), docs); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkInsertSmall(b *testing.B) {
	_, client := connect(b, localmongo.Options{})
	coll := client.Database("d").Collection("c")
	for i := 0; b.Loop(); i++ {
		if _, err := coll.InsertOne(b.Context(), bson.D{{Key: "_id", Value: i}}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkInsertBig(b *testing.B) {
	_, client := connect(b, localmongo.Options{HistoryBytes: 64 << 20})
	coll := client.Database("d").Collection("c")
	raw, err := bson.Marshal(bigCall(1)[1:])
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(raw)))
	n := 0
	for b.Loop() {
		if n++; n%500 == 0 { // keep the store small
			if err := coll.Drop(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := coll.InsertOne(b.Context(), bson.Raw(raw)); err != nil {
			b.Fatal(err)
		}
	}
}

// One find of 100 calls by _id with the fields that some mapper names: how the watcher
// loads.
func BenchmarkFindHundredByID(b *testing.B) {
	_, client := connect(b, localmongo.Options{})
	coll := client.Database("d").Collection("c")
	fill(b, coll, 500)
	ids := make(bson.A, 100)
	for i := range ids {
		ids[i] = i * 5
	}
	project := options.Find().SetProjection(bson.D{{Key: "session_id", Value: 1}, {Key: "bot_id", Value: 1}, {Key: "field7", Value: 1}, {Key: "transcript.role", Value: 1}})
	for b.Loop() {
		cur, err := coll.Find(b.Context(), bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}}, project)
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		for cur.Next(b.Context()) {
			n++
		}
		if n != 100 {
			b.Fatalf("%d documents, %v", n, cur.Err())
		}
	}
}

// One bulk write of 100 outcomes onto calls of 100 KB: how the watcher records.
func BenchmarkRecordHundred(b *testing.B) {
	_, client := connect(b, localmongo.Options{})
	coll := client.Database("d").Collection("c")
	fill(b, coll, 500)
	entry := bson.D{{Key: "type", Value: "post_call_push"}, {Key: "status", Value: "ok"}, {Key: "http_status", Value: 200}, {Key: "response_body", Value: "{}"}}
	for n := 0; b.Loop(); n++ {
		models := make([]mongo.WriteModel, 100)
		for i := range models {
			models[i] = mongo.NewUpdateOneModel().SetFilter(bson.D{{Key: "_id", Value: i * 5}}).SetUpdate(bson.D{
				{Key: "$set", Value: bson.D{{Key: "post_call_push_result", Value: append(entry, bson.E{Key: "n", Value: n})}}},
				{Key: "$push", Value: bson.D{{Key: "integration_log", Value: bson.D{{Key: "$each", Value: bson.A{entry}}, {Key: "$slice", Value: -50}}}}},
			})
		}
		if res, err := coll.BulkWrite(b.Context(), models, options.BulkWrite().SetOrdered(false)); err != nil || res.ModifiedCount != 100 {
			b.Fatalf("%+v, %v", res, err)
		}
	}
}

// Results stored one by one, read by a stream with a filter and a projection.
func BenchmarkStoreAndWatch(b *testing.B) {
	_, client := connect(b, localmongo.Options{})
	coll := client.Database("d").Collection("c")
	fill(b, coll, 100)
	cs, err := coll.Watch(b.Context(), mongo.Pipeline{
		{{Key: "$match", Value: bson.D{{Key: "updateDescription.updatedFields.completed_at", Value: bson.D{{Key: "$exists", Value: true}}}}}},
		{{Key: "$project", Value: bson.D{{Key: "documentKey", Value: 1}, {Key: "completed_at", Value: "$updateDescription.updatedFields.completed_at"}}}},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = cs.Close(b.Context()) }()
	done := make(chan int, 1)
	stop := time.UnixMilli(1)
	go func() {
		n := 0
		for cs.Next(b.Context()) && !cs.Current.Lookup("completed_at").Time().Equal(stop) {
			n++
		}
		done <- n
	}()
	n := 0
	for b.Loop() {
		n++
		if _, err := coll.UpdateByID(b.Context(), n%100, bson.D{{Key: "$set", Value: bson.D{{Key: "completed_at", Value: time.UnixMilli(int64(n) + 1000)}}}}); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := coll.UpdateByID(b.Context(), 0, bson.D{{Key: "$set", Value: bson.D{{Key: "completed_at", Value: stop}}}}); err != nil {
		b.Fatal(err)
	}
	if got := <-done; got != n {
		b.Fatalf("%d events of %d writes", got, n)
	}
}
