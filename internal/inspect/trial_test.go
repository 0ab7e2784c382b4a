package inspect

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/bots"
)

// onTrial is a shelf with a bot, its three calls, the newest one of an agent, and a
// call of nobody.
func onTrial(t *testing.T) (*Inspector, *bots.Bot) {
	t.Helper()
	s := newShelf(t)
	s.put(t, time.Now())
	s.replace(t.Context(), t, "bots", bson.D{
		{Key: "_id", Value: "b"}, {Key: "timezone", Value: "UTC"}, {Key: "post_call_push", Value: bson.D{
			{Key: "url", Value: "https://crm.example/x"}, {Key: "token", Value: "Bearer very-secret-1"},
			{Key: "key_mapper", Value: bson.D{{Key: "who", Value: "{{call.NAME}}"}, {Key: "remark", Value: "{{crm.remark}}"}}},
		}},
	})
	now := time.Now().UTC().Truncate(time.Millisecond)
	var docs []any
	for i := range 3 {
		docs = append(docs, bson.M{
			"_id": fmt.Sprint("c", i), "session_id": fmt.Sprint("s", i), "bot_id": "b", "completed_at": now.Add(-time.Duration(i) * time.Hour),
			"connected_event": bson.M{"NAME": fmt.Sprint("Asha ", i)},
		})
	}
	docs[0].(bson.M)["call_type"] = "agent"
	docs = append(docs, bson.M{"_id": "x", "session_id": "sx", "bot_id": "gone", "completed_at": now, "connected_event": bson.M{"NAME": "Ravi"}})
	s.replace(t.Context(), t, "calls", docs...)
	i := s.inspector()
	b, err := bots.ReadSome(t.Context(), i.o.Bots, []bson.RawValue{{Type: bson.TypeString, Value: []byte("\x02\x00\x00\x00b\x00")}}, i.o.Compile)
	if err != nil || len(b) != 1 {
		t.Fatalf("%v, %v", b, err)
	}
	return i, b[0]
}

func TestFillsOfABot(t *testing.T) {
	i, b := onTrial(t)
	f, err := i.Fills(t.Context(), b, 2)
	if err != nil || f.Calls != 2 || len(f.Keys) != 2 || f.Keys[0].Filled != 2 || f.Keys[1].Unresolved != 2 || f.At.IsZero() {
		t.Errorf("%+v, %v", f, err)
	}
	if len(f.Warnings) != 1 || f.Warnings[0].Code != bots.CodeNeverFilled || !strings.Contains(f.Warnings[0].Message, "in none of 2 calls") {
		t.Errorf("%+v", f.Warnings)
	}
	silent := &bots.Bot{ID: "silent"}
	if f, err := i.Fills(t.Context(), silent, 2); err != nil || f.Calls != 0 || f.Keys != nil {
		t.Errorf("%+v, %v", f, err)
	}
}

// A mapper, a push or a whole bot is tried on the call that was named.
func TestTryADocument(t *testing.T) {
	i, b := onTrial(t)
	for name, tt := range map[string]struct {
		document any
		call     string
		body     string
		url      string
		diff     int
		reason   string
		warns    string
	}{
		"a mapper":                       {bson.D{{Key: "who", Value: "{{call.NAME}}"}, {Key: "new", Value: "{{result.call_id}}"}}, "s1", `{"who":"Asha 1","new":"s1"}`, "https://crm.example/x", 2, "", ""},
		"a typo":                         {bson.D{{Key: "who", Value: "{{call.NAM}}"}}, "s1", `{"who":""}`, "https://crm.example/x", 2, "", "call.NAM"},
		"a mapper of the key key_mapper": {bson.D{{Key: "key_mapper", Value: bson.D{{Key: "who", Value: "x"}}}}, "c2", `{"who":"x"}`, "https://crm.example/x", 2, "", ""},
		"a push": {bson.D{{Key: "url", Value: "https://other.example/y"}, {Key: "key_mapper", Value: bson.D{{Key: "who", Value: "{{call.NAME}}"}}}}, "s2",
			`{"who":"Asha 2"}`, "https://other.example/y", 3, "", ""},
		"a bot":             {bson.D{{Key: "post_call_push", Value: bson.D{{Key: "url", Value: "https://a.example/"}, {Key: "key_mapper", Value: bson.D{{Key: "a", Value: "b"}}}}}}, "s2", `{"a":"b"}`, "https://a.example/", 5, "", ""},
		"the newest call":   {bson.D{{Key: "who", Value: "{{call.NAME}}"}, {Key: "remark", Value: ""}}, "", `{"who":"Asha 1","remark":""}`, "https://crm.example/x", 0, "", ""},
		"an agent's call":   {bson.D{{Key: "who", Value: "{{call.NAME}}"}}, "s0", `{"who":"Asha 0"}`, "https://crm.example/x", 1, "agent", ""},
		"another's call":    {bson.D{{Key: "who", Value: "{{call.NAME}}"}}, "sx", `{"who":"Ravi"}`, "https://crm.example/x", 1, "", ""},
		"switched off":      {bson.D{{Key: "url", Value: "https://crm.example/x"}, {Key: "enabled", Value: false}, {Key: "key_mapper", Value: bson.D{{Key: "who", Value: "a"}}}}, "s1", `{"who":"a"}`, "https://crm.example/x", 3, "switched off", ""},
		"a bot without one": {bson.D{{Key: "post_call_push", Value: nil}}, "s1", "", "", 0, "no push configuration", ""},
		"what is no push":   {bson.D{{Key: "post_call_push", Value: bson.D{{Key: "url", Value: 5}, {Key: "key_mapper", Value: 5}}}}, "s1", "", "", 0, "", "url"},
	} {
		raw, err := bson.Marshal(tt.document)
		if err != nil {
			t.Fatal(err)
		}
		r, err := i.Try(t.Context(), b, raw, tt.call)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r.Payload == nil {
			r.Payload = &Payload{}
		}
		text := fmt.Sprintf("%+v", *r.Payload)
		if r.Payload.Body != tt.body || r.Payload.URL != tt.url || len(r.Payload.Diff) != tt.diff || strings.Contains(text, "very-secret") {
			t.Errorf("%s: %s %s", name, text, r.Payload.Body)
			for _, d := range r.Payload.Diff {
				t.Log(d.Key)
			}
		}
		if (tt.reason == "") != (r.Reason == "") && name != "what is no push" || !strings.Contains(r.Reason, tt.reason) {
			t.Errorf("%s: the reason is %q", name, r.Reason)
		}
		if warnings := fmt.Sprintf("%+v", r.Warnings); !strings.Contains(warnings, tt.warns) {
			t.Errorf("%s: %s", name, warnings)
		}
	}
	if _, err := i.Try(t.Context(), b, bson.Raw("\x05\x00\x00\x00\x00"), "nobody"); err == nil || !strings.Contains(err.Error(), "no call is known") {
		t.Error(err)
	}
	if _, err := i.Try(t.Context(), &bots.Bot{ID: "q", RawID: bson.RawValue{Type: bson.TypeInt32, Value: []byte{1, 0, 0, 0}}}, bson.Raw("\x05\x00\x00\x00\x00"), ""); !errors.Is(err, ErrNoCalls) {
		t.Error(err)
	}
}
