package calls_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
)

// mostUpdate is more than an outcome needs: a text of 2,000 characters has at most
// 8,000 bytes, and three of them stand in the result and in the log.
const mostUpdate = 64 << 10

func checkUpdates(t *testing.T, o calls.Outcome) {
	t.Helper()
	for _, raw := range o.Updates() {
		if err := raw.Validate(); err != nil {
			t.Fatalf("%v: %.500v", err, raw)
		}
		if len(raw) > mostUpdate || checkTexts(bson.RawValue{Type: bson.TypeEmbeddedDocument, Value: raw}) != nil {
			t.Errorf("an update of %d bytes, %v: %.500s", len(raw), checkTexts(bson.RawValue{Type: bson.TypeEmbeddedDocument, Value: raw}), raw)
		}
		if attempts, ok := raw.Lookup("$set", "post_call_push_result", "attempts").Int32OK(); ok && attempts < 0 {
			t.Errorf("%d attempts", attempts)
		}
	}
}

var errNoText = errors.New("holds a text that is no UTF-8")

func checkTexts(v bson.RawValue) error {
	switch v.Type {
	case bson.TypeString:
		if !utf8.ValidString(v.StringValue()) {
			return errNoText
		}
	case bson.TypeEmbeddedDocument, bson.TypeArray:
		values, err := bson.Raw(v.Value).Values()
		if err != nil {
			return err
		}
		for _, inner := range values {
			if err := checkTexts(inner); err != nil {
				return err
			}
		}
	}
	return nil
}

// outcomes are those that a call may have.
func outcomes(c *calls.Call, text string, now time.Time) []calls.Outcome {
	a := calls.Attempt{Status: calls.StatusFailed, Error: text, ResponseBody: text, URL: text, At: now, Duration: time.Second}
	return []calls.Outcome{
		calls.Delivered(c, a), calls.Retry(c, a, now.Add(time.Hour)), calls.Deferred(c, a, now.Add(time.Hour)), calls.Finished(c, a), calls.Withdrawn(c, a),
	}
}

// What stood on a call before goes into no outcome without bounds.
func TestWhatStoodOnACallIsBounded(t *testing.T) {
	now := time.UnixMilli(1_780_000_000_000).UTC()
	for name, fields := range map[string]bson.M{
		"a long replay":     {"replay_id": strings.Repeat("r", 1<<20)},
		"a broken replay":   {"replay_id": "r\xff"},
		"a long status":     {"status": strings.Repeat("s", 1<<20)},
		"a broken status":   {"status": "failed\xff"},
		"too many attempts": {"attempts": int64(math.MaxInt64)},
		"at most attempts":  {"attempts": math.MaxInt32},
		"fewer than none":   {"attempts": -5},
		"not yet":           {"pushed_at": bson.DateTime(math.MinInt64), "first_attempt_at": bson.DateTime(math.MaxInt64)},
	} {
		t.Run(name, func(t *testing.T) {
			result := bson.M{"status": "failed", "completed_at": now, "next_attempt_at": now, "attempts": 1}
			for k, v := range fields {
				result[k] = v
			}
			raw, err := bson.Marshal(bson.M{"_id": "c", "completed_at": now, "post_call_push_result": result})
			if err != nil {
				t.Fatal(err)
			}
			c := calls.Decode(raw)
			for _, o := range outcomes(&c, strings.Repeat("é", 5000), now) {
				checkUpdates(t, o)
			}
		})
	}
}

// A hold keeps a due call due, however little its document takes, and goes with
// the next outcome.
func TestAHoldOnACall(t *testing.T) {
	now := time.UnixMilli(1_780_000_000_000).UTC()
	call := func(result bson.M) *calls.Call {
		raw, err := bson.Marshal(bson.M{"_id": "c", "completed_at": now, "post_call_push_result": result})
		if err != nil {
			t.Fatal(err)
		}
		c := calls.Decode(raw)
		return &c
	}
	due := call(bson.M{"status": "failed", "completed_at": now, "next_attempt_at": now, "attempts": 2, "hold_id": "old"})
	if due.Pushed.HoldID != "old" {
		t.Errorf("%+v", due.Pushed)
	}
	field := func(update bson.Raw, path ...string) (any, bool) {
		v, err := update.LookupErr(path...)
		return v, err == nil
	}
	a := calls.Attempt{Status: calls.StatusFailed, At: now}
	held := calls.Deferred(due, a, now)
	held.HoldID = "h1"
	for i, update := range held.Updates()[1:] { // the first is for a log alone
		_, unset := field(update, "$unset")
		_, next := field(update, "$set", "post_call_push_result.next_attempt_at")
		if _, said := field(update, "$set", "post_call_push_result.hold_id"); unset || !next || said != (i == 0) {
			t.Errorf("level %d: %v", i, update)
		}
	}
	fresh := calls.Deferred(call(bson.M{}), a, now)
	fresh.HoldID = "h1"
	if v, ok := field(fresh.Updates()[1], "$set", "post_call_push_result", "hold_id"); !ok {
		t.Errorf("%v", v)
	}
	for name, o := range map[string]calls.Outcome{
		"deferred": calls.Deferred(due, a, now.Add(time.Hour)), "withdrawn": calls.Withdrawn(due, a),
	} {
		if _, ok := field(o.Updates()[1], "$unset", "post_call_push_result.hold_id"); !ok {
			t.Errorf("%s: %v", name, o.Updates()[1])
		}
	}
	for name, o := range map[string]calls.Outcome{"delivered": calls.Delivered(due, a), "retry": calls.Retry(due, a, now)} {
		if _, ok := field(o.Updates()[1], "$set", "post_call_push_result", "hold_id"); ok {
			t.Errorf("%s: %v", name, o.Updates()[1])
		}
	}
}

// Every outcome of any call can be written, and is small.
func FuzzOutcome(f *testing.F) {
	f.Add([]byte(bigCall(f)), "HTTP 503", int64(1_780_000_000_000))
	f.Add([]byte(document(f, `{"_id":1,"completed_at":{"$date":"2026-06-05T12:00:00Z"},"events":null,"integration_log":1,"post_call_push_result":{"status":"x","attempts":1e300,"replay_id":"r","next_attempt_at":1}}`)), "\xff\x00", int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, raw []byte, text string, at int64) {
		c := calls.Decode(raw)
		for _, o := range outcomes(&c, strings.ToValidUTF8(text, "?"), time.UnixMilli(at)) {
			checkUpdates(t, o)
		}
	})
}
