package calls_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/internal/calls"
)

func TestTextOfIDs(t *testing.T) {
	oid := bson.NewObjectID()
	uuid := bson.Binary{Subtype: 4, Data: []byte("\xaa\xaa\xaa\xaa\xe2\xbb\x42\x55\x8c\xaf\x41\x36\xc5\x66\xa9\x62")}
	for _, c := range []struct {
		id   any
		want string
	}{
		{"bot-1", "bot-1"}, {"", ""}, {" x ", " x "}, {oid, oid.Hex()}, {int32(7), "7"}, {int64(-8), "-8"}, {nil, ""},
		{uuid, "aaaaaaaa-e2bb-4255-8caf-4136c566a962"}, {"b\xff\xfe", "b\ufffd"}, {strings.Repeat("é", 200), strings.Repeat("é", 126) + "…"},
		{bson.D{{Key: "a", Value: "x"}}, `{"a": "x"}`},
	} {
		if got := calls.IDText(rawValue(t, c.id)); got != c.want {
			t.Errorf("%v: %q, want %q", c.id, got, c.want)
		}
	}
}

func TestFormsOfIDs(t *testing.T) {
	oid, err := bson.ObjectIDFromHex("65f0c0ffee00000000000001")
	if err != nil {
		t.Fatal(err)
	}
	const lower, upper = "65f0c0ffee00000000000001", "65F0C0FFEE00000000000001"
	uuid := bson.Binary{Subtype: 4, Data: []byte("0123456789abcdef")}
	for _, c := range []struct {
		id   any
		want []any
	}{
		{oid, []any{oid, lower, upper}},
		{lower, []any{lower, oid, upper}},
		{upper, []any{upper, oid, lower}},
		{"bot", []any{"bot"}},
		{int32(5), []any{int32(5)}},
		{uuid, []any{uuid}},
		{bson.D{{Key: "a", Value: 1}}, []any{bson.D{{Key: "a", Value: 1}}}},
		{"", nil}, {nil, nil}, {bson.Undefined{}, nil}, {bson.Binary{}, nil}, {bson.A{"a"}, nil}, {bson.Regex{Pattern: "."}, nil},
		{bson.D{{Key: "$gt", Value: ""}}, nil},
	} {
		got := calls.IDForms(rawValue(t, c.id))
		if len(got) != len(c.want) {
			t.Errorf("%v: %v", c.id, got)
			continue
		}
		for i, want := range c.want {
			if !got[i].Equal(rawValue(t, want)) {
				t.Errorf("%v: form %d is %v, want %v", c.id, i, got[i], want)
			}
		}
	}
	forms := calls.IDFormsOfText("30313233-3435-3637-3839-616263646566")
	if len(forms) != 2 || !forms[1].Equal(rawValue(t, uuid)) {
		t.Errorf("a UUID as people write it: %v", forms)
	}
}

// No stored value may crash the process or become a label that is no text.
func TestIDsOfAnyBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := bson.RawValue{Type: bson.Type(rapid.Byte().Draw(t, "type")), Value: rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "value")}
		if text := calls.IDText(id); !utf8.ValidString(text) || len(text) > 256 {
			t.Fatalf("%x: %q", id.Value, text)
		}
		calls.IDForms(id)
	})
}
