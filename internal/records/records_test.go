package records

import (
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
)

// A shelf holds what is of its name and kind alone.
func TestAShelfHoldsItsOwn(t *testing.T) {
	client, err := mongo.Connect(options.Client().ApplyURI(localmongotest.Start(t, localmongo.Options{}).URI()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Disconnect(t.Context()) }()
	coll := client.Database("d").Collection("resume")
	for _, id := range []string{"a/0-of-1", "a/hold", "a/hold/1", "a/hold/2", "a/hold0", "a/holds/1", "a/replay/1", "ab/hold/1", "b/hold/9"} {
		if _, err := coll.InsertOne(t.Context(), bson.M{"_id": id}); err != nil {
			t.Fatal(err)
		}
	}
	s := New(coll, "a", "hold")
	for _, tt := range []struct {
		newest bool
		most   int
		want   string
	}{{false, 0, "12"}, {true, 0, "21"}, {true, 1, "2"}} {
		docs, err := s.List(t.Context(), tt.newest, tt.most)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, d := range docs {
			got += d.ID
		}
		if got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
	if n, err := s.CountDocuments(t.Context(), s.ByID("2")); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if first, second := NewID(time.Unix(1, 0)), NewID(time.Unix(2, 0)); first >= second || len(first) != 22 {
		t.Errorf("%s, %s", first, second)
	}
}
