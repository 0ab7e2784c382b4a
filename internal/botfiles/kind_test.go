package botfiles

import (
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func TestCheckKind(t *testing.T) {
	bot, call := bson.M{"_id": "b", "post_call_push": bson.M{}}, bson.M{"_id": "c", "session_id": "s", "bot_id": "b"}
	settings, other := bson.M{"_id": "system", "minio": bson.M{}}, bson.M{"_id": "x", "name": "n"}
	for _, tt := range []struct {
		doc  bson.M
		want Kind
		err  string
	}{
		{bot, Bot, ""}, {call, Call, ""}, {settings, Settings, ""}, {other, Bot, ""}, {other, Call, ""}, {other, Settings, ""}, {call, AnyKind, ""},
		{call, Bot, "holds a call, not a bot"}, {bot, Call, "holds a bot, not a call"}, {settings, Bot, "holds the settings, not a bot"}, {bot, Settings, "holds a bot, not the settings"},
		{bson.M{"post_call_push": nil, "session_id": "s"}, Bot, ""}, // odd, but a bot that has none
		{bson.M{"key_mapper": bson.M{}}, Call, "holds a bot, not a call"},
	} {
		raw, err := bson.Marshal(tt.doc)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := CheckKind(raw, tt.want); err != nil {
			got = err.Error()
		}
		if got != tt.err {
			t.Errorf("%v as %s: %q, want %q", tt.doc, tt.want, got, tt.err)
		}
	}
}
