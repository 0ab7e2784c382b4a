package calls

import (
	"fmt"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"
)

// What a mapper finds through the index of an object is what a walk finds, with keys
// that come twice or hold dots, in objects that end in the midst, and behind the last
// field that is kept.
func TestIndexFindsWhatAWalkFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SampledFrom([]string{"", "a", "b", "a.b", "b.a", "a.b.a", "0", "a.0"})
		var object func(depth int) bson.D
		object = func(depth int) bson.D {
			d := bson.D{}
			for range rapid.IntRange(0, 5).Draw(t, "fields") {
				var v any = int32(len(d))
				switch k := rapid.IntRange(0, 3).Draw(t, "kind"); {
				case depth < 3 && k == 0:
					v = object(depth + 1)
				case depth < 3 && k == 1:
					v = bson.A{object(depth + 1)}
				}
				d = append(d, bson.E{Key: key.Draw(t, "key"), Value: v})
			}
			return d
		}
		crm := object(0)
		for i := range rapid.SampledFrom([]int{0, 0, maxPlaces - 2, maxPlaces + 5}).Draw(t, "more") {
			crm = append(crm, bson.E{Key: fmt.Sprint("more", i), Value: int32(i)})
		}
		raw, err := bson.Marshal(bson.D{{Key: "crm_data", Value: crm}, {Key: "qc_analysis", Value: object(0)}})
		if err != nil {
			t.Fatal(err)
		}
		if at := rapid.IntRange(0, 2*len(raw)).Draw(t, "broken"); at < len(raw) {
			raw[at] ^= 0x55
		}
		call := Decode(raw)
		v := call.Variables(Env{})
		for range 20 {
			path := strings.Join(rapid.SliceOfN(key, 1, 4).Draw(t, "path"), ".")
			if rapid.Bool().Draw(t, "late") {
				path = fmt.Sprint("more", rapid.IntRange(0, maxPlaces+10).Draw(t, "n"))
			}
			for _, object := range []docField{docCRMData, docQC} {
				stored := call.value(object)
				if stored.Type != typeDocument {
					stored = value{}
				}
				want, _ := lookup(stored, path)
				if got := v.fieldOf(object, path); !got.Equal(want) {
					t.Fatalf("%s of %v is %v, by a walk %v", path, stored, got, want)
				}
			}
		}
	})
}
