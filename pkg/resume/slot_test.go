package resume

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/internal/localmongo/query"
)

func TestEachDocumentHasOnePartition(t *testing.T) {
	const documents = 8000
	for _, of := range []int{1, 2, 3, 4, 7} {
		count := make([]int, of)
		for n := range documents {
			id := rawValue(t, bson.NewObjectID())
			if n%2 == 0 {
				id = rawValue(t, fmt.Sprint("session-", n))
			}
			owners := 0
			for i := range of {
				if (Partition{i, of}).Owns(id) {
					owners++
					count[i]++
				}
			}
			if owners != 1 {
				t.Fatalf("%d partitions of %d own %v", owners, of, id)
			}
		}
		for i, n := range count {
			if even := documents / of; n < even*8/10 || n > even*12/10 {
				t.Errorf("partition %d of %d owns %d of %d documents", i, of, n, documents)
			}
		}
	}
}

// What is stored depends on these; they may not change.
func TestSlotsAreFixed(t *testing.T) {
	oid, err := bson.ObjectIDFromHex("66b0c2d1e4b0a1a2b3c4d5e6")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		id   any
		want int
	}{
		{oid, 1821}, {oid.Hex(), 1821}, {"call-1", 1721}, {"call-2", 3976}, {"7", 366}, {"+--+", 2255},
		{"", 3859}, {"né", 3427}, {7, 1880}, {bson.D{}, 3137},
	} {
		if got := Slot(rawValue(t, c.id)); got != c.want {
			t.Errorf("%v: %d, want %d", c.id, got, c.want)
		}
	}
}

// idsOfAKind are ids as platforms make them, one after the other.
var idsOfAKind = map[string]func(r *rand.Rand, i int) any{
	"ObjectIds of one process": func(_ *rand.Rand, i int) any { return objectID(0x66b0c2d1+i/50, 1, 0xfffff0+i) },
	"ObjectIds of four processes": func(_ *rand.Rand, i int) any {
		return objectID(0x66b0c2d1+i/50, uint64(i%4)*0x9e3779b97f, i%4*5_000_000+i/4)
	},
	"every sixteenth ObjectId": func(_ *rand.Rand, i int) any { return objectID(0x66b0c2d1, 1, 16*i) },
	"UUIDs": func(r *rand.Rand, _ int) any {
		return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", r.Uint32(), r.IntN(1<<16), r.IntN(1<<12), r.IntN(1<<12), r.Uint64()>>16)
	},
	"hexadecimal":       func(r *rand.Rand, _ int) any { return fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64()) },
	"decimal":           func(_ *rand.Rand, i int) any { return strconv.Itoa(i) },
	"decimal of a kind": func(_ *rand.Rand, i int) any { return fmt.Sprintf("call-%08d", i) },
	"short texts": func(r *rand.Rand, _ int) any {
		return string([]byte{slotAlphabet[r.IntN(62)], slotAlphabet[r.IntN(62)], slotAlphabet[r.IntN(62)]})
	},
	"texts with a host": func(r *rand.Rand, _ int) any { return fmt.Sprintf("%014x@pbx-1.example.com", r.Uint64()>>8) },
	"numbers":           func(_ *rand.Rand, i int) any { return int64(i) },
}

func objectID(at int, process uint64, count int) bson.ObjectID {
	var id bson.ObjectID
	binary.BigEndian.PutUint64(id[4:], process<<24|uint64(count)&0xffffff)
	binary.BigEndian.PutUint32(id[:], uint32(at))
	return id
}

// No partition has a fifth more than its share, whatever ids there are.
func TestSlotsAreEven(t *testing.T) {
	const documents = 10_000
	for name, next := range idsOfAKind {
		r := rand.New(rand.NewPCG(1, 2))
		var slots [Slots]int
		for i := range documents {
			slots[Slot(rawValue(t, next(r, i)))]++
		}
		for _, of := range []int{2, 3, 4, 5, 7, 16} {
			for i := range of {
				from, to := Partition{i, of}.Range()
				n := 0
				for _, here := range slots[from:to] {
					n += here
				}
				if share := documents / of; n > share*12/10 || n < share*8/10 {
					t.Errorf("%s: partition %d of %d has %d of %d documents", name, i, of, n, documents)
				}
			}
		}
	}
}

// A server that evaluates the condition of a partition lets through all that it
// owns, and of ObjectIds and ASCII texts nothing else. It never fails.
func TestMatchIsOwns(t *testing.T) {
	var conditions []*query.Filter
	var partitions []Partition
	for _, of := range []int{2, 3, 16} {
		for i := range of {
			raw, err := bson.Marshal(Partition{i, of}.Match("documentKey._id"))
			if err != nil {
				t.Fatal(err)
			}
			f, err := query.CompileFilter(raw)
			if err != nil {
				t.Fatal(err)
			}
			conditions, partitions = append(conditions, f), append(partitions, Partition{i, of})
		}
	}
	matches := func(t *rapid.T, i int, event any) bool {
		raw, err := bson.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		ok, err := conditions[i].Match(raw)
		if err != nil {
			t.Fatalf("%v: %v", event, err)
		}
		return ok
	}
	rapid.Check(t, func(t *rapid.T) {
		id, computed := anyID().Draw(t, "id"), false
		raw := bson.RawValue{}
		raw.Type, raw.Value, _ = bson.MarshalValue(id)
		switch id := id.(type) {
		case bson.ObjectID:
			computed = true
		case string:
			computed = id != "" && !strings.ContainsFunc(strings.ToValidUTF8(id, "é"), func(c rune) bool { return c > 127 })
		}
		for i, p := range partitions {
			owned, got := p.Owns(raw), matches(t, i, bson.D{{Key: "documentKey", Value: bson.D{{Key: "_id", Value: id}}}})
			if owned && !got || computed && got != owned {
				t.Errorf("%v of type %s, partition %s: matches %v, owned %v", id, raw.Type, p, got, owned)
			}
		}
	})
	rapid.Check(t, func(t *rapid.T) { // events without an id are for everybody
		for _, event := range []bson.D{{}, {{Key: "documentKey", Value: nil}}, {{Key: "documentKey", Value: bson.D{}}}, {{Key: "documentKey", Value: 5}}} {
			if i := rapid.IntRange(0, len(partitions)-1).Draw(t, "partition"); !matches(t, i, event) {
				t.Errorf("%v does not match", event)
			}
		}
	})
}

// anyID is a value of any type of BSON.
func anyID() *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		text := rapid.OneOf(rapid.StringMatching(`[0-9a-zA-Z+_-]{0,12}`), rapid.String(),
			rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 12), func(b []byte) string { return string(b) }))
		switch rapid.IntRange(0, 21).Draw(t, "type") {
		case 0, 1, 2:
			var id bson.ObjectID
			copy(id[:], rapid.SliceOfN(rapid.Byte(), 12, 12).Draw(t, "bytes"))
			return id
		case 3, 4, 5:
			return text.Draw(t, "text")
		case 6:
			return rapid.Int32().Draw(t, "int")
		case 7:
			return rapid.Int64().Draw(t, "long")
		case 8:
			return rapid.Float64().Draw(t, "double")
		case 9:
			return rapid.Bool().Draw(t, "bool")
		case 10:
			return bson.DateTime(rapid.Int64().Draw(t, "date"))
		case 11:
			return bson.Timestamp{T: rapid.Uint32().Draw(t, "t")}
		case 12:
			return bson.Binary{Subtype: rapid.Byte().Draw(t, "subtype"), Data: []byte(text.Draw(t, "data"))}
		case 13:
			return bson.NewDecimal128(rapid.Uint64().Draw(t, "high"), rapid.Uint64().Draw(t, "low"))
		case 14:
			return bson.D{{Key: "a", Value: text.Draw(t, "inside")}}
		case 15:
			return bson.A{text.Draw(t, "first"), 1}
		case 16:
			return bson.Regex{Pattern: "a"}
		case 17:
			return bson.Symbol(text.Draw(t, "symbol"))
		case 18:
			return bson.JavaScript("a")
		case 19:
			return bson.MinKey{}
		case 20:
			return bson.Undefined{}
		}
		return bson.Null{}
	})
}
