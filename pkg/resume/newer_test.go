package resume

import (
	"context"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// While replicas of two versions run together, the older one writes into records of
// the newer one. What it does not know stays: fields, and records of another kind.
func TestWhatANewerVersionWroteStays(t *testing.T) { onEach(t, whatANewerVersionWroteStays) }

func whatANewerVersionWroteStays(t *testing.T, coll *mongo.Collection) {
	s := newTestStore(t, coll, "x")
	holdOnce(t, s, "first")
	unknown := bson.D{{Key: "of_a_newer_version", Value: bson.D{{Key: "kept", Value: true}}}}
	if _, err := coll.UpdateMany(t.Context(), bson.D{}, bson.D{{Key: "$set", Value: unknown}}); err != nil {
		t.Fatal(err)
	}
	if _, err := coll.InsertOne(t.Context(), append(bson.D{{Key: "_id", Value: "x/newer/1"}, {Key: "term", Value: "z"}}, unknown...)); err != nil {
		t.Fatal(err)
	}
	before := idsOf(t, coll, unknown)
	if len(before) < 3 { // the position, the layout and the unknown one
		t.Fatalf("only %v", before)
	}

	holdOnce(t, s, "second")
	if err := s.Reset(t.Context(), Partition{0, 1}, At(time.Unix(7, 0)), Reset{At: time.Unix(8, 0), By: "me"}); err != nil {
		t.Fatal(err)
	}
	holdOnce(t, s, "third")
	if after := idsOf(t, coll, unknown); len(after) != len(before) {
		t.Errorf("it stands on %v, and stood on %v", after, before)
	}
	r, ok, err := s.Record(t.Context(), Partition{0, 1})
	if err != nil || !ok || r.Damage != nil || r.Term < 4 {
		t.Errorf("%+v, %v, %v", r, ok, err)
	}
}

// holdOnce lets a replica take the partition, save and leave.
func holdOnce(t *testing.T, s *Store, owner string) {
	t.Helper()
	g, err := NewGroup(GroupConfig{Store: s, Partitions: 1, Owner: owner, Beat: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	held := false
	err = g.Run(ctx, func(ctx context.Context, lease *Lease) error {
		defer cancel()
		held = true
		return lease.Save(ctx, At(time.Unix(5, 0)), Origin{})
	})
	if err != nil || !held {
		t.Fatalf("%s: held %v, %v", owner, held, err)
	}
}

func idsOf(t *testing.T, coll *mongo.Collection, filter bson.D) (ids []string) {
	t.Helper()
	if err := coll.Distinct(t.Context(), "_id", filter).Decode(&ids); err != nil {
		t.Fatal(err)
	}
	return ids
}
