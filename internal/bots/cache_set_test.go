package bots

import (
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// idOf is the _id of a document with it.
func idOf(t testing.TB, id any) bson.RawValue {
	return raw(t, bson.D{{Key: "_id", Value: id}}).Lookup("_id")
}

func TestBotOfAnID(t *testing.T) {
	oid, other := bson.NewObjectID(), bson.NewObjectID()
	uuid := func(last byte) bson.Binary {
		return bson.Binary{Subtype: 4, Data: append(make([]byte, 15), last)}
	}
	var all []*Bot
	for name, id := range map[string]any{
		"object id": oid, "its text": oid.Hex(), "other object id": other, "uuid 1": uuid(1), "uuid 2": uuid(2),
		"number": int32(5), "text of a number": "5", "not utf-8": "b\xff", "empty": "", "none": nil,
	} {
		all = append(all, Compile(raw(t, bson.D{{Key: "_id", Value: id}, {Key: "name", Value: name}}), Options{}))
	}
	set := NewSet(all)
	for _, tt := range []struct {
		id   any
		want string
	}{
		{oid, "object id"}, {oid.Hex(), "its text"}, {other, "other object id"}, {other.Hex(), "other object id"},
		{uuid(1), "uuid 1"}, {uuid(2), "uuid 2"}, {uuid(3), ""}, {int32(5), "number"}, {int64(5), ""}, {5.0, ""}, {"5", "text of a number"},
		{"b\xff", "not utf-8"}, {"b\xfe", ""}, {"", ""}, {nil, ""}, {bson.A{}, ""}, {true, ""},
	} {
		got := ""
		if b := set.Bot(idOf(t, tt.id)); b != nil {
			got = b.Name
		}
		if got != tt.want {
			t.Errorf("%T %v: %q, want %q", tt.id, tt.id, got, tt.want)
		}
	}
	if b := set.Bot(bson.RawValue{}); b != nil {
		t.Errorf("a call without a bot has %q", b.Name)
	}
}
