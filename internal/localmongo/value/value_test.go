package value_test

import (
	"bytes"
	"math"
	"testing"

	"github.com/256dpi/lungo/bsonkit"
	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"
	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// anyValue draws a value of any type that the kits know.
func anyValue(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		kinds := 12
		if depth == 0 {
			kinds = 10
		}
		switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
		case 0:
			return nil
		case 1:
			return rapid.Int32().Draw(t, "int")
		case 2:
			return rapid.OneOf(rapid.Int64(), rapid.Int64Range(1<<53-3, 1<<53+3), rapid.Int64Range(-3, 3)).Draw(t, "long")
		case 3:
			return rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.NaN(), 1 << 53, 1 << 63, -1 << 63, 2})).Draw(t, "double")
		case 4:
			return rapid.OneOf(rapid.String(), rapid.StringOfN(rapid.SampledFrom([]rune{0, 1, 'a', 0xff}), 0, 4, -1)).Draw(t, "string")
		case 5:
			return rapid.Bool().Draw(t, "bool")
		case 6:
			return primitive.DateTime(rapid.Int64().Draw(t, "date"))
		case 7:
			return primitive.Timestamp{T: rapid.Uint32().Draw(t, "t"), I: rapid.Uint32Range(0, 3).Draw(t, "i")}
		case 8:
			return primitive.ObjectID(rapid.SliceOfN(rapid.Byte(), 12, 12).Draw(t, "oid"))
		case 9:
			return primitive.Binary{Subtype: rapid.ByteRange(0, 4).Draw(t, "sub"), Data: rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 0xff}), 0, 4).Draw(t, "bin")}
		case 10:
			d := kit.D{}
			for range rapid.IntRange(0, 2).Draw(t, "fields") {
				d = append(d, kit.E{Key: rapid.SampledFrom([]string{"", "a", "b", "ab"}).Draw(t, "key"), Value: anyValue(depth-1).Draw(t, "field")})
			}
			return d
		default:
			a := kit.A{}
			for range rapid.IntRange(0, 2).Draw(t, "elements") {
				a = append(a, anyValue(depth-1).Draw(t, "element"))
			}
			return a
		}
	})
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

// Index keys must sort exactly as the kits compare, or an index would lose documents.
func TestKeysSortAsTheKitCompares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anyValue(2).Draw(t, "a"), anyValue(2).Draw(t, "b")
		want := bsonkit.Compare(a, b)
		ka, kb := value.AppendKey(nil, a, false), value.AppendKey(nil, b, false)
		if got := bytes.Compare(ka, kb); sign(got) != sign(want) {
			t.Fatalf("%#v against %#v: keys %x and %x give %d, the kit gives %d", a, b, ka, kb, got, want)
		}
		da, db := value.AppendKey(nil, a, true), value.AppendKey(nil, b, true)
		if got := bytes.Compare(da, db); sign(got) != -sign(want) {
			t.Fatalf("%#v against %#v, descending: %d, want %d", a, b, got, -want)
		}
		for _, desc := range []bool{false, true} {
			both := value.AppendKey(value.AppendKey(nil, a, desc), b, desc)
			if n := value.KeyLen(both, desc); n != len(ka) {
				t.Fatalf("%#v: the key is %d bytes, KeyLen says %d", a, len(ka), n)
			}
		}
	})
}

func TestKeyLiesWithinItsClass(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := anyValue(2).Draw(t, "v")
		k := value.AppendKey(nil, v, false)
		if bytes.Compare(value.ClassLow(v), k) > 0 || bytes.Compare(k, value.ClassHigh(v)) >= 0 {
			t.Fatalf("%#v: key %x is not between %x and %x", v, k, value.ClassLow(v), value.ClassHigh(v))
		}
	})
}

// What is decoded and encoded again must be the same bytes.
func TestCodecKeepsBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := kit.D{{Key: "v", Value: anyValue(3).Draw(t, "v")}}
		want, err := kit.Marshal(v)
		if err != nil {
			t.Skip(err)
		}
		if err := value.Validate(want); err != nil {
			t.Fatalf("%x is refused: %v", want, err)
		}
		d, err := value.Decode(want, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := value.Encode(d)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%x came back as %x: %v", want, got, err)
		}
	})
}

// Types that the kits do not know must come through untouched.
func TestCodecKeepsTypesTheKitsLack(t *testing.T) {
	want, err := bson.Marshal(bson.D{
		{Key: "min", Value: bson.MinKey{}}, {Key: "max", Value: bson.MaxKey{}}, {Key: "undef", Value: bson.Undefined{}},
		{Key: "js", Value: bson.JavaScript("f()")}, {Key: "sym", Value: bson.Symbol("s")},
		{Key: "scope", Value: bson.CodeWithScope{Code: "g()", Scope: bson.D{{Key: "x", Value: 1}}}},
		{Key: "ptr", Value: bson.DBPointer{DB: "d.c", Pointer: bson.NewObjectID()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := value.Validate(want); err != nil {
		t.Fatal(err)
	}
	d, err := value.Decode(want, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range d {
		if _, ok := value.Opaque(e.Value); !ok {
			t.Errorf("%s is not opaque", e.Key)
		}
	}
	if got, err := value.Encode(d); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%x came back as %x: %v", want, got, err)
	}
}

func TestDecodeTakesOnlyWhatIsNeeded(t *testing.T) {
	raw, err := bson.Marshal(bson.D{
		{Key: "a", Value: bson.D{{Key: "x", Value: int32(1)}, {Key: "y", Value: int32(2)}}},
		{Key: "b", Value: bson.A{bson.D{{Key: "x", Value: int32(3)}, {Key: "y", Value: int32(4)}}, int32(5)}},
		{Key: "c", Value: "c"},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := value.Decode(raw, value.NeedPaths("a.x", "b.y"))
	if err != nil {
		t.Fatal(err)
	}
	want := kit.D{
		{Key: "a", Value: kit.D{{Key: "x", Value: int32(1)}}},
		{Key: "b", Value: kit.A{kit.D{{Key: "y", Value: int32(4)}}, int32(5)}},
	}
	if bsonkit.Compare(got, want) != 0 {
		t.Errorf("decoded %v, want %v", got, want)
	}
	if got, err = value.Decode(raw, value.NeedPaths("b.1", "b.y", "a.x", "a")); err != nil {
		t.Fatal(err)
	}
	if bsonkit.Compare(bsonkit.Get(&got, "b.0.x"), int32(3)) != 0 || bsonkit.Get(&got, "a.y") == bsonkit.Missing {
		t.Errorf("an index in the path, or a path around another, must take all: %v", got)
	}
}

func TestValidateRefusesDeepNesting(t *testing.T) {
	doc := []byte{5, 0, 0, 0, 0}
	for range 400 {
		doc = append(append([]byte{0, 0, 0, 0, 3, 'a', 0}, doc...), 0)
		n := len(doc)
		doc[0], doc[1], doc[2], doc[3] = byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
	}
	if err := value.Validate(doc); err == nil {
		t.Error("400 levels are accepted")
	}
}

func FuzzValidate(f *testing.F) {
	seed, err := bson.Marshal(bson.D{{Key: "a", Value: bson.A{1, "x", bson.D{{Key: "b", Value: bson.Regex{Pattern: "p"}}}}}, {Key: "c", Value: bson.CodeWithScope{Code: "c", Scope: bson.D{}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{5, 0, 0, 0, 0})
	f.Add([]byte{12, 0, 0, 0, 2, 0, 0, 0, 0, 0x80, 0, 0})
	f.Fuzz(func(t *testing.T, doc []byte) {
		if value.Validate(doc) != nil {
			return
		}
		// What is valid must decode, encode to the same bytes, and have a key.
		d, err := value.Decode(doc, nil)
		if err != nil {
			t.Fatalf("valid, but cannot be decoded: %v", err)
		}
		got, err := value.Encode(d)
		if err != nil {
			t.Fatalf("decoded, but cannot be encoded: %v", err)
		}
		again, err := value.Decode(got, nil)
		if err != nil || bsonkit.Compare(d, again) != 0 {
			t.Fatalf("came back different: %v", err)
		}
		k := value.AppendKey(nil, d, false)
		if n := value.KeyLen(k, false); n != len(k) {
			t.Fatalf("key of %d bytes, KeyLen says %d", len(k), n)
		}
	})
}
