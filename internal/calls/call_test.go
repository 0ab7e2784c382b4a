package calls_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/render"
)

func TestDeliveryID(t *testing.T) {
	at := time.UnixMilli(1780654625000)
	sum := func(id string) string {
		s := sha256.Sum256([]byte(id + "1780654625000"))
		return hex.EncodeToString(s[:])[:32]
	}
	oid, err := bson.ObjectIDFromHex("65f0c0ffee00000000000001")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		id   any
		want string
	}{
		{oid, sum(string(oid[:]))},
		{"call-1", sum("call-1")},
		{"", sum("")},
		{"é", sum("é")},
		{strings.Repeat("long", 100), sum(strings.Repeat("long", 100))},
		{int32(7), sum("\x07\x00\x00\x00")},
	} {
		if got := calls.DeliveryID(rawValue(t, c.id), at.In(zone(t, "Asia/Kolkata"))); got != c.want {
			t.Errorf("%v: got %s, want %s", c.id, got, c.want)
		}
	}
	call := calls.Decode(document(t, `{"_id":"call-1","completed_at":{"$date":{"$numberLong":"1780654625000"}}}`))
	if got := call.DeliveryID(); got != sum("call-1") {
		t.Errorf("of a call: got %s", got)
	}
	call = calls.Decode(document(t, `{"_id":"call-1"}`))
	if got := call.DeliveryID(); got != "" {
		t.Errorf("without a result: got %s", got)
	}
}

func TestDecode(t *testing.T) {
	raw := document(t, `{
		"_id":{"$oid":"65f0c0ffee00000000000001"},"session_id":"s1","bot_id":{"$oid":"65f0c0ffee00000000000002"},
		"call_type":"agent","skip_post_push":true,"completed_at":{"$date":"2026-06-05T10:17:05Z"},"created_at":"2026-06-05T10:15:00",
		"recording_url":"u","recording_key":"k","recording_access_token":"t","session_id2":"x",
		"post_call_push_result":{"status":"rejected","delivery_id":"d","completed_at":{"$date":"2026-06-05T10:17:04Z"},
			"attempts":3,"next_attempt_at":{"$date":"2026-06-05T11:00:00Z"},"http_status":503}}`)
	c := calls.Decode(raw)
	if c.ID.ObjectID().Hex() != "65f0c0ffee00000000000001" || c.SessionID != "s1" || c.BotID != "65f0c0ffee00000000000002" ||
		c.CallType != calls.CallTypeAgent || !c.SkipPostPush {
		t.Errorf("got %+v", c)
	}
	if got, want := c.CompletedAt, time.Date(2026, 6, 5, 10, 17, 5, 0, time.UTC); !got.Equal(want) {
		t.Errorf("completed at %v, want %v", got, want)
	}
	if got, want := c.StartedAt, time.Date(2026, 6, 5, 10, 15, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("started at %v, want %v", got, want)
	}
	if r := c.Recording(); r != (calls.Recording{URL: "u", Key: "k", Token: "t"}) {
		t.Errorf("recording: %q", r)
	}
	want := calls.Pushed{
		Present: true, Status: calls.StatusRejected, DeliveryID: "d", Attempts: 3,
		CompletedAt: time.Date(2026, 6, 5, 10, 17, 4, 0, time.UTC), NextAttemptAt: time.Date(2026, 6, 5, 11, 0, 0, 0, time.UTC),
	}
	if c.Pushed != want {
		t.Errorf("pushed: got %+v, want %+v", c.Pushed, want)
	}
}

func TestDecodeOfAnyShape(t *testing.T) {
	for doc, check := range map[string]func(calls.Call) bool{
		`{}`:                         func(c calls.Call) bool { return c.SessionID == "" && c.CompletedAt.IsZero() && !c.Pushed.Present },
		`{"bot_id":7}`:               func(c calls.Call) bool { return c.BotID == "7" },
		`{"bot_id":null}`:            func(c calls.Call) bool { return c.BotID == "" },
		`{"bot_id":{"a":1}}`:         func(c calls.Call) bool { return c.BotID != "" && c.Bot.Type == bson.TypeEmbeddedDocument },
		`{"_id":"x"}`:                func(c calls.Call) bool { return c.ID.StringValue() == "x" },
		`{"_id":{"a":1}}`:            func(c calls.Call) bool { return c.ID.Type == bson.TypeEmbeddedDocument },
		`{"skip_post_push":"true"}`:  func(c calls.Call) bool { return c.SkipPostPush },
		`{"skip_post_push":1}`:       func(c calls.Call) bool { return c.SkipPostPush },
		`{"skip_post_push":"0"}`:     func(c calls.Call) bool { return !c.SkipPostPush },
		`{"skip_post_push":"maybe"}`: func(c calls.Call) bool { return !c.SkipPostPush },
		`{"skip_post_push":null}`:    func(c calls.Call) bool { return !c.SkipPostPush },
		`{"completed_at":null}`:      func(c calls.Call) bool { return c.CompletedAt.IsZero() },
		`{"completed_at":"nope"}`:    func(c calls.Call) bool { return c.CompletedAt.IsZero() && c.DeliveryID() == "" },
		`{"completed_at":{"a":1}}`:   func(c calls.Call) bool { return c.CompletedAt.IsZero() },
		`{"completed_at":"2026-06-05T10:17:05.123456"}`:              func(c calls.Call) bool { return c.CompletedAt.Nanosecond() == 123e6 },
		`{"completed_at":1780654504}`:                                func(c calls.Call) bool { return c.CompletedAt.Unix() == 1780654504 },
		`{"session_id":{"$oid":"65f0c0ffee00000000000001"}}`:         func(c calls.Call) bool { return c.SessionID == "" },
		`{"post_call_push_result":[1]}`:                              func(c calls.Call) bool { return !c.Pushed.Present },
		`{"post_call_push_result":"ok"}`:                             func(c calls.Call) bool { return c.Pushed == calls.Pushed{} },
		`{"post_call_push_result":{}}`:                               func(c calls.Call) bool { return c.Pushed == calls.Pushed{Present: true} },
		`{"post_call_push_result":{"attempts":-2}}`:                  func(c calls.Call) bool { return c.Pushed.Attempts == 0 },
		`{"post_call_push_result":{"attempts":1e300}}`:               func(c calls.Call) bool { return c.Pushed.Attempts > 1000 },
		`{"post_call_push_result":{"attempts":{"$numberLong":"2"}}}`: func(c calls.Call) bool { return c.Pushed.Attempts == 2 },
		`{"post_call_push_result":{"attempts":"3","status":1,"next_attempt_at":null}}`: func(c calls.Call) bool {
			return c.Pushed == calls.Pushed{Present: true}
		},
		`{"session_id":"first","session_id":"second"}`: func(c calls.Call) bool { return c.SessionID == "first" },
	} {
		raw := document(t, doc)
		if !check(calls.Decode(raw)) {
			t.Errorf("%s: got %+v", doc, calls.Decode(raw))
		}
	}
}

func TestDecodeOfALargeCall(t *testing.T) {
	raw, err := bson.Marshal(bson.D{
		{Key: "latency_samples", Value: strings.Repeat("x", 15<<20)},
		{Key: "session_id", Value: "behind it"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c := calls.Decode(raw); c.SessionID != "behind it" {
		t.Errorf("got %q", c.SessionID)
	}
}

// TestDecodeOfEveryDamage cuts and flips a document everywhere: the result may
// be anything, but the payload is JSON and nothing panics.
func TestDecodeOfEveryDamage(t *testing.T) {
	raw, mapper := bigCall(t), mapper25()
	check := func(damaged bson.Raw) {
		call := calls.Decode(damaged)
		if body := rendered(mapper, call.Variables(calls.Env{})); !json.Valid(body) {
			t.Fatalf("not JSON: %s", body)
		}
	}
	for i := range raw {
		check(slices.Clone(raw[:i:i]))
		for _, b := range []byte{0, 0x7f, 0xff, raw[i] ^ 1} {
			damaged := slices.Clone(raw)
			damaged[i] = b
			check(damaged)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(bigCall(f)))
	f.Add([]byte(document(f, `{"crm_data":{"a":{"$numberDecimal":"1.1"},"b":{"$regularExpression":{"pattern":"a","options":"i"}}}}`)))
	mapper := mapper25()
	f.Fuzz(func(t *testing.T, raw []byte) {
		call := calls.Decode(raw)
		vars := call.Variables(calls.Env{})
		for ns, fields := range vars.Names() {
			for _, field := range fields {
				vars.AppendText(nil, render.Name{Namespace: ns, Field: field})
			}
		}
		if body := rendered(mapper, vars); !json.Valid(body) {
			t.Errorf("not JSON: %s", body)
		}
		_ = call.DeliveryID()
	})
}
