package calls_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
)

// A replay that is cancelled leaves the calls as they were, whatever stood on them and
// however often they were marked; what was attempted meanwhile stays.
func TestUnmarkGivesBackWhatStood(t *testing.T) {
	d := newDesk(t)
	noon := time.Date(2026, 6, 5, 12, 0, 0, 0, time.UTC)
	result := func(status string, fields ...bson.E) bson.D {
		return append(bson.D{
			{Key: "status", Value: status}, {Key: "completed_at", Value: noon}, {Key: "pushed_at", Value: noon},
			{Key: "attempts", Value: int32(2)}, {Key: "error", Value: "HTTP 500"}, {Key: "delivery_id", Value: "x"},
		}, fields...)
	}
	scheduled := []bson.E{
		{Key: "next_attempt_at", Value: noon.Add(time.Hour)}, {Key: "slot", Value: int32(7)}, {Key: "first_attempt_at", Value: noon},
	}
	pushed := map[string]any{
		"never":     nil,
		"failed":    result("failed"),
		"scheduled": result("failed", scheduled...),
		"replayed":  result("rejected", bson.E{Key: "replay_id", Value: "earlier"}),
		"attempted": result("failed"),
		"again":     result("ok"),
	}
	// Of an outcome of another result only what it was comes back.
	older := map[string]any{
		"platform": bson.D{{Key: "status", Value: "failed"}, {Key: "response_body", Value: "theirs"}},
		"older":    bson.D{{Key: "status", Value: "ok"}, {Key: "completed_at", Value: noon.Add(-time.Hour)}, {Key: "response_body", Value: "long"}},
	}
	for _, all := range []map[string]any{pushed, older} {
		for id, outcome := range all {
			doc := bson.D{{Key: "_id", Value: id}, {Key: "completed_at", Value: noon}}
			if outcome != nil {
				doc = append(doc, bson.E{Key: "post_call_push_result", Value: outcome})
			}
			d.insert(doc)
		}
	}
	read := func(id string) bson.Raw {
		raw, err := d.coll.FindOne(t.Context(), bson.D{{Key: "_id", Value: id}}).Raw()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	before := make(map[string]bson.Raw)
	for id := range pushed {
		before[id] = read(id)
	}
	mark := func(replay string, ids ...string) {
		var marks []calls.Mark
		err := d.store.Select(t.Context(), calls.Stored{}, func(c calls.Call) error {
			if id := c.ID.StringValue(); len(ids) == 0 || slices.Contains(ids, id) {
				marks = append(marks, calls.Mark{Snapshot: calls.SnapshotOf(&c), ReplayID: replay, At: noon.Add(2 * time.Hour), Slot: 9})
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if n, refused, err := d.store.MarkDue(t.Context(), marks); n != len(marks) || refused != 0 || err != nil {
			t.Fatalf("%d of %d marked, %d refused, %v", n, len(marks), refused, err)
		}
	}
	unmark := func(replay string, want int) {
		t.Helper()
		if n, err := d.store.Unmark(t.Context(), replay); n != want || err != nil {
			t.Errorf("%d calls are as before, want %d, %v", n, want, err)
		}
	}
	mark("r")
	mark("s", "again", "never") // once more, before anything was attempted
	if _, err := d.coll.UpdateByID(t.Context(), "attempted", bson.D{{Key: "$set", Value: bson.D{{Key: "post_call_push_result.attempts", Value: 1}}}}); err != nil {
		t.Fatal(err)
	}
	unmark("r", len(pushed)+len(older)-3)
	unmark("s", 2)
	unmark("r", 0)
	for id, want := range before {
		got := read(id)
		if id == "attempted" {
			if got.Lookup("post_call_push_result", "next_attempt_at").Type == 0 {
				t.Errorf("what was attempted meanwhile is not scheduled any more: %s", got)
			}
			continue
		}
		if !same(t, got, want) {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
	for id, status := range map[string]string{"platform": "failed", "older": "ok"} {
		c := calls.Decode(read(id))
		if string(c.Pushed.Status) != status || c.Due() || c.Pushed.ReplayID != "" || c.Pushed.CompletedAt.Equal(noon) {
			t.Errorf("%s: %s", id, c.Raw)
		}
	}
}

// A call that waited for its turn while its replay was cancelled is not due once more
// because it is deferred; one that is still due is.
func TestADeferralBringsNoCancelledReplayBack(t *testing.T) {
	d := newDesk(t)
	noon := time.Date(2026, 6, 5, 12, 0, 0, 0, time.UTC)
	d.insert(bson.M{"_id": "c", "completed_at": noon, "post_call_push_result": bson.M{
		"status": "rejected", "completed_at": noon, "pushed_at": noon, "attempts": 1,
	}})
	read := func() (c calls.Call) {
		if err := d.store.Select(t.Context(), calls.Stored{}, func(found calls.Call) error { c = found; return nil }); err != nil {
			t.Fatal(err)
		}
		return c
	}
	deferral := func(of calls.Call) {
		d.record(calls.Deferred(&of, calls.Attempt{Status: calls.StatusFailed, Error: "busy", At: noon}, noon.Add(2*time.Hour)))
	}
	final := read()
	if _, _, err := d.store.MarkDue(t.Context(), []calls.Mark{{Snapshot: calls.SnapshotOf(&final), ReplayID: "r", At: noon}}); err != nil {
		t.Fatal(err)
	}
	due := read()
	deferral(due)
	if c := read(); !c.Pushed.NextAttemptAt.Equal(noon.Add(2 * time.Hour)) {
		t.Errorf("it is not deferred: %s", c.Raw)
	}
	if n, err := d.store.Unmark(t.Context(), "r"); n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	deferral(due)
	if c := read(); c.Due() || c.Pushed.Attempts != 1 {
		t.Errorf("it is due once more: %s", c.Raw)
	}
}

// same compares two documents, whatever the order of the fields of the result; the slot of
// what is scheduled stays that of the mark, which is the call's.
func same(t *testing.T, a, b bson.Raw) bool {
	t.Helper()
	var x, y bson.M
	if bson.Unmarshal(a, &x) != nil || bson.Unmarshal(b, &y) != nil {
		t.Fatal("not a document")
	}
	for _, m := range []bson.M{x, y} {
		if r, ok := m["post_call_push_result"].(bson.D); ok {
			slices.SortFunc(r, func(a, b bson.E) int { return strings.Compare(a.Key, b.Key) })
			for i := range r {
				if r[i].Key == "slot" {
					r[i].Value = int32(0)
				}
			}
		}
	}
	left, _ := bson.MarshalExtJSON(bson.D{{Key: "r", Value: x["post_call_push_result"]}}, true, false)
	right, _ := bson.MarshalExtJSON(bson.D{{Key: "r", Value: y["post_call_push_result"]}}, true, false)
	return string(left) == string(right)
}
