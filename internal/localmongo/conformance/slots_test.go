package conformance

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/pkg/resume"
)

// idsOfAllTypes are ids as they may stand in a documentKey: of those in computed the
// server finds the slot.
func idsOfAllTypes() (computed, others []any) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 50 {
		computed = append(computed, bson.NewObjectID(), fmt.Sprint("call-", r.IntN(1e6)), fmt.Sprintf("%x", r.Uint64()),
			string(rune(' '+i)), fmt.Sprint(i))
	}
	others = []any{
		"", "né", "ключ", "a\x80", "\xff\x80\x80\x80\x80", "\x80", "日本語のテキスト", bson.Null{}, true, 1, int64(1) << 40, 1.5, bson.DateTime(1), bson.Timestamp{T: 1},
		bson.Binary{Subtype: 4, Data: make([]byte, 16)}, bson.NewDecimal128(1, 2), bson.D{{Key: "a", Value: 1}}, bson.D{},
		bson.MinKey{}, bson.MaxKey{}, bson.JavaScript("x"), bson.Symbol("x"), bson.Undefined{},
	}
	return computed, others
}

// The condition of a partition fails on nothing, and says what Owns says where the
// server can compute the slot.
func TestMatchOfPartitions(t *testing.T) {
	onEach(t, func(t *testing.T, db *mongo.Database) {
		coll := db.Collection("events")
		computed, others := idsOfAllTypes()
		docs := []any{bson.D{{Key: "_id", Value: -1}}, bson.D{{Key: "_id", Value: -2}, {Key: "documentKey", Value: nil}}}
		ids := append(computed, others...)
		for i, id := range ids {
			docs = append(docs, bson.D{{Key: "_id", Value: i}, {Key: "documentKey", Value: bson.D{{Key: "_id", Value: id}}}})
		}
		if _, err := coll.InsertMany(t.Context(), docs); err != nil {
			t.Fatal(err)
		}
		for _, p := range []resume.Partition{{Index: 0, Of: 2}, {Index: 1, Of: 2}, {Index: 2, Of: 5}, {Index: 15, Of: 16}} {
			cursor, err := coll.Find(t.Context(), p.Match("documentKey._id"))
			if err != nil {
				t.Fatal(err)
			}
			var found []struct {
				N int `bson:"_id"`
			}
			if err := cursor.All(t.Context(), &found); err != nil {
				t.Fatal(err)
			}
			passed := make(map[int]bool)
			for _, f := range found {
				passed[f.N] = true
			}
			if !passed[-1] || !passed[-2] {
				t.Errorf("%s: what has no documentKey does not pass", p)
			}
			for i, id := range ids {
				owned := p.Owns(value(t, id))
				if owned && !passed[i] || i < len(computed) && passed[i] != owned {
					t.Errorf("%s: %v of type %T passes %v, owned %v", p, id, id, passed[i], owned)
				}
			}
		}
	})
}
