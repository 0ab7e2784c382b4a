package conformance

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/calls"
)

var noon = time.Date(2026, 6, 5, 12, 0, 0, 0, time.UTC)

func TestLoad(t *testing.T) {
	onEach(t, func(t *testing.T, db *mongo.Database) {
		coll := db.Collection("calls")
		insert(t, coll,
			`{"_id": {"$oid": "65f0c0ffee00000000000001"}, "session_id": "s1", "bot_id": "b1", "big": "x", "connected_event": {"name": "Asha", "city": {"pin": 5}}, "transcript": [{"role": "user", "text": "hello"}, "odd", {"role": "bot"}]}`,
			`{"_id": "two", "session_id": "s2", "bot_id": {"$oid": "65f0c0ffee00000000000009"}}`,
			`{"_id": "three", "session_id": "s3"}`)
		oid, err := bson.ObjectIDFromHex("65f0c0ffee00000000000001")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		err = calls.NewStore(coll).Load(t.Context(), calls.Read{
			IDs:    []bson.RawValue{value(t, oid), value(t, "two"), value(t, "gone")},
			Fields: []string{"_id", "session_id", "connected_event.city", "transcript.role"},
		}, func(c calls.Call) bool {
			got = append(got, fmt.Sprintf("%s %d", c.Name(), c.Size()))
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		// The sizes show that big, name and text were left out.
		if len(got) != 2 || !strings.HasPrefix(got[0], "s1 ") || !strings.HasPrefix(got[1], "s2 ") {
			t.Fatalf("loaded %q", got)
		}
		raw, err := bson.Marshal(doc(t, `{"_id": {"$oid": "65f0c0ffee00000000000001"}, "session_id": "s1", "connected_event": {"city": {"pin": 5}}, "transcript": [{"role": "user"}, {"role": "bot"}], "_log_type": "missing", "_events_type": "missing"}`))
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("s1 %d", len(raw)); got[0] != want {
			t.Errorf("loaded %q, want %q", got[0], want)
		}
	})
}

// dueCall is a call with a try at some minutes after noon.
func dueCall(id int, bot string, minutes, slot int) string {
	return fmt.Sprintf(`{"_id": %d, "bot_id": %q, "post_call_push_result": {"status": "failed", "attempts": 1, "next_attempt_at": {"$date": %q}, "slot": %d}}`,
		id, bot, noon.Add(time.Duration(minutes)*time.Minute).Format(time.RFC3339), slot)
}

func TestDue(t *testing.T) {
	onEach(t, func(t *testing.T, db *mongo.Database) {
		coll := db.Collection("calls")
		store := calls.NewStore(coll)
		for range 2 { // creating it again does no harm
			if err := store.EnsureIndexes(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if ok, err := store.HasDueIndex(t.Context()); err != nil || !ok {
			t.Errorf("the index is not seen: %v", err)
		}
		insert(t, coll, `{"_id": 0, "bot_id": "a"}`,
			dueCall(1, "a", -2, 10), dueCall(2, "a", 2, 20), dueCall(3, "b", -1, 30), dueCall(4, "c", 0, 4000),
			`{"_id": 5, "bot_id": "a", "post_call_push_result": {"status": "ok"}}`,
			`{"_id": 6, "bot_id": "a", "post_call_push_result": {"next_attempt_at": "no date"}}`)
		due := func(q calls.DueQuery) string {
			t.Helper()
			q.Now = noon
			if q.Limit == 0 {
				q.Limit = 10
			}
			got, err := store.Due(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			n, _, err := store.CountDue(t.Context(), q)
			if err != nil || n != len(got) {
				t.Errorf("%+v: %d are counted and %d found, %v", q, n, len(got), err)
			}
			var ids []string
			for _, c := range got {
				ids = append(ids, fmt.Sprintf("%d@%s", c.ID.Int32(), calls.IDText(c.Bot)))
			}
			slices.Sort(ids)
			return strings.Join(ids, " ")
		}
		for _, c := range []struct {
			q    calls.DueQuery
			want string
		}{
			{calls.DueQuery{}, "1@a 3@b 4@c"},
			{calls.DueQuery{Except: []bson.RawValue{value(t, "a"), value(t, "zz")}}, "3@b 4@c"},
			{calls.DueQuery{Only: []bson.RawValue{value(t, "b")}}, "3@b"},
			{calls.DueQuery{FromSlot: 0, ToSlot: 2048}, "1@a 3@b"},
			{calls.DueQuery{Replay: true}, ""},
		} {
			if got := due(c.q); got != c.want {
				t.Errorf("%+v: %q, want %q", c.q, got, c.want)
			}
		}
		if got := due(calls.DueQuery{Limit: 2}); len(strings.Fields(got)) != 2 {
			t.Errorf("limited to two: %q", got)
		}
		_, oldest, err := store.CountDue(t.Context(), calls.DueQuery{Now: noon, Limit: 10})
		if err != nil || !oldest.Equal(noon.Add(-2*time.Minute)) {
			t.Errorf("the oldest is of %v, %v", oldest, err)
		}
	})
}

// What a log that forgets stands on: an index with a time limit, made once, refused with
// another limit, and made anew.
func TestIndexWithATimeLimit(t *testing.T) {
	onEach(t, func(t *testing.T, db *mongo.Database) {
		indexes := db.Collection("log").Indexes()
		create := func(seconds int32) error {
			_, err := indexes.CreateOne(t.Context(), mongo.IndexModel{
				Keys: doc(t, `{"at": 1}`), Options: options.Index().SetName("ttl").SetExpireAfterSeconds(seconds),
			})
			return err
		}
		for range 2 {
			if err := create(60); err != nil {
				t.Fatal(err)
			}
		}
		var refused mongo.ServerError
		if err := create(120); !errors.As(err, &refused) || !refused.HasErrorCode(85) {
			t.Fatalf("another limit: %v, want code 85", err)
		}
		if err := indexes.DropOne(t.Context(), "ttl"); err != nil {
			t.Fatal(err)
		}
		if err := create(120); err != nil {
			t.Fatal(err)
		}
		all, err := indexes.ListSpecifications(t.Context())
		if err != nil || len(all) != 2 || all[1].ExpireAfterSeconds == nil || *all[1].ExpireAfterSeconds != 120 {
			t.Errorf("%+v, %v", all, err)
		}
	})
}

func TestCountWaiting(t *testing.T) {
	onEach(t, func(t *testing.T, db *mongo.Database) {
		coll := db.Collection("calls")
		store := calls.NewStore(coll)
		insert(t, coll, `{"_id": 0, "bot_id": "a"}`)
		if _, err := store.CountWaiting(t.Context(), noon, 100); !errors.Is(err, calls.ErrNoDueIndex) {
			t.Errorf("without the index: %v", err)
		}
		if err := store.EnsureIndexes(t.Context()); err != nil {
			t.Fatal(err)
		}
		insert(t, coll, dueCall(1, "a", -2, 10), dueCall(2, "a", 2, 20), dueCall(3, "b", 1, 30),
			`{"_id": 4, "bot_id": "b", "post_call_push_result": {"replay_id": "r1", "next_attempt_at": {"$date": "2026-06-05T11:00:00Z"}}}`,
			`{"_id": 5, "post_call_push_result": {"status": "failed", "attempts": 3, "http_status": 503, "error": "HTTP 503", "next_attempt_at": {"$date": "2026-06-05T13:00:00Z"}}}`,
			`{"_id": 6, "bot_id": "a", "post_call_push_result": {"status": "ok"}}`,
			`{"_id": 7, "bot_id": "a", "post_call_push_result": {"next_attempt_at": "no date"}}`)
		waiting := func(most int) []string {
			t.Helper()
			all, err := store.CountWaiting(t.Context(), noon, most)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, w := range all {
				got = append(got, fmt.Sprint(w.Bot, " ", w.Calls, " ", w.Due, " ", w.Failing, " ", w.Replay, " ", w.First.Sub(noon)))
			}
			slices.Sort(got)
			return got
		}
		want := []string{`"a" 2 1 2 0 -2m0s`, `"b" 2 1 1 1 -1h0m0s`, `null 1 0 1 0 1h0m0s`}
		if got := waiting(100); !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		if got := waiting(1); len(got) != 1 {
			t.Errorf("counted no further than one: %q", got)
		}
		for bot, want := range map[string]string{"": "failed 503 HTTP 503 3", "a": "failed 0  1", "zz": " 0  0"} {
			id := bson.RawValue{Type: bson.TypeNull}
			if bot != "" {
				id = value(t, bot)
			}
			last, err := store.Sample(t.Context(), id)
			if got := fmt.Sprint(last.Status, " ", last.HTTPStatus, " ", last.Error, " ", last.Attempts); err != nil || got != want {
				t.Errorf("a call of %q: %q, want %q, %v", bot, got, want, err)
			}
		}
	})
}

func TestSelectAndMarkDue(t *testing.T) {
	onEach(t, func(t *testing.T, db *mongo.Database) {
		coll := db.Collection("calls")
		store := calls.NewStore(coll)
		insert(t, coll,
			`{"_id": 1, "session_id": "s1", "bot_id": "a", "completed_at": {"$date": "2026-06-05T12:00:00Z"}}`,
			`{"_id": 2, "session_id": "s2", "bot_id": "a", "completed_at": {"$date": "2026-06-05T12:01:00Z"}, "post_call_push_result": {"status": "ok", "completed_at": {"$date": "2026-06-05T12:01:00Z"}, "pushed_at": {"$date": "2026-06-05T12:01:01Z"}, "attempts": 1}}`,
			`{"_id": 3, "session_id": "s3", "bot_id": "b", "completed_at": {"$date": "2026-06-05T13:00:00Z"}}`,
			`{"_id": 4, "session_id": "s4", "bot_id": "a", "completed_at": "12:00"}`)
		var marks []calls.Mark
		err := store.Select(t.Context(), calls.Stored{From: noon, To: noon.Add(time.Minute), Bots: []bson.RawValue{value(t, "a")}}, func(c calls.Call) error {
			marks = append(marks, calls.Mark{Snapshot: calls.SnapshotOf(&c), ReplayID: "r1", At: noon, Slot: 7})
			return nil
		})
		if err != nil || len(marks) != 2 {
			t.Fatalf("selected %d, %v", len(marks), err)
		}
		// The second time, the first call's result stands as marked, and only the one that
		// was pushed before is marked again.
		for _, want := range []int{2, 1} {
			if n, _, err := store.MarkDue(t.Context(), marks); err != nil || n != want {
				t.Errorf("marked %d, want %d: %v", n, want, err)
			}
		}
		if _, err := coll.UpdateByID(t.Context(), 1, doc(t, `{"$set": {"completed_at": {"$date": "2026-06-05T12:00:30Z"}}}`)); err != nil {
			t.Fatal(err)
		}
		if n, _, err := store.MarkDue(t.Context(), marks); err != nil || n != 1 {
			t.Errorf("a call that was stored again is marked: %d, %v", n, err)
		}
		due, err := store.Due(t.Context(), calls.DueQuery{Now: noon, Replay: true, Limit: 10})
		if err != nil || len(due) != 2 {
			t.Errorf("due by the replay: %v, %v", due, err)
		}
	})
}

func TestSelectFindsEveryForm(t *testing.T) {
	onEach(t, func(t *testing.T, db *mongo.Database) {
		coll := db.Collection("calls")
		insert(t, coll,
			`{"_id": "date", "completed_at": {"$date": "2026-06-05T12:00:00Z"}}`,
			`{"_id": "text", "completed_at": "2026-06-05T17:30:00.000001+05:30"}`,
			`{"_id": "basic text", "completed_at": "20260605T120000Z"}`,
			`{"_id": "blanks", "completed_at": "  2026-06-05 12:00 "}`,
			`{"_id": "seconds", "completed_at": 1780660800}`,
			`{"_id": "double", "completed_at": 1780660800.0004}`,
			`{"_id": "milliseconds", "completed_at": {"$numberLong": "1780660800000"}}`,
			`{"_id": "decimal", "completed_at": {"$numberDecimal": "1780660800.000"}}`,
			`{"_id": "timestamp", "completed_at": {"$timestamp": {"t": 1780660800, "i": 4000000000}}}`,
			`{"_id": "agent", "completed_at": {"$date": "2026-06-05T12:00:00Z"}, "call_type": "agent"}`,
			`{"_id": "a second before", "completed_at": "2026-06-05T11:59:59Z"}`,
			`{"_id": "a second after", "completed_at": 1780660801}`,
			`{"_id": "no time", "completed_at": "2026-06-05, noon"}`,
			`{"_id": "dates", "completed_at": [{"$date": "2026-06-05T12:00:00Z"}]}`,
			`{"_id": "null", "completed_at": null}`)
		for _, indexed := range []bool{false, true} {
			if indexed {
				if _, err := coll.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: doc(t, `{"completed_at": 1}`)}); err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			err := calls.NewStore(coll).Select(t.Context(), calls.Stored{From: noon, To: noon}, func(c calls.Call) error {
				got = append(got, c.ID.StringValue())
				return nil
			})
			slices.Sort(got)
			want := []string{"basic text", "blanks", "date", "decimal", "double", "milliseconds", "seconds", "text", "timestamp"}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("with an index %v: %q, %v", indexed, got, err)
			}
		}
	})
}

func TestRecord(t *testing.T) {
	onEach(t, func(t *testing.T, db *mongo.Database) {
		coll := db.Collection("calls")
		insert(t, coll, `{"_id": 1, "events": [{"type": "answered"}]}`, `{"_id": 2, "events": "no array"}`, `{"_id": 3}`)
		r := calls.NewRecorder(coll, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(t.Context()) }()
		done, times := make(chan bool), 0
		outcome := func(id, attempt int, next time.Time) {
			o := calls.Outcome{
				Transition: calls.ToRetry, ID: value(t, int32(id)), CompletedAt: noon, DeliveryID: "d",
				Attempt:  calls.Attempt{Status: calls.StatusFailed, Method: "POST", At: noon.Add(time.Duration(attempt) * time.Second)},
				Attempts: attempt, NextAttemptAt: next,
			}
			if next.IsZero() {
				o.Transition = calls.ToDelivered
			}
			if attempt > 1 {
				o.Seen = calls.Pushed{CompletedAt: noon, PushedAt: noon.Add(time.Duration(attempt-1) * time.Second)}
			}
			r.Record(o, func(bool) { done <- true })
			<-done
			times++
		}
		for i := range 60 {
			outcome(1, i+1, noon.Add(time.Hour))
		}
		outcome(1, 61, time.Time{})
		outcome(2, 1, time.Time{})
		outcome(3, 1, time.Time{})
		outcome(99, 1, time.Time{}) // gone meanwhile
		r.Close()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if times != 64 {
			t.Errorf("%d outcomes are done, want 64", times)
		}
		for id, want := range map[int]struct{ log, events int }{1: {50, 2}, 3: {1, 1}} {
			raw := one(t, coll, id)
			logged, err := raw.Lookup("integration_log").Array().Values()
			if err != nil {
				t.Fatal(err)
			}
			events, err := raw.Lookup("events").Array().Values()
			if err != nil {
				t.Fatal(err)
			}
			if len(logged) != want.log || len(events) != want.events {
				t.Errorf("call %d has %d log entries and %d events, want %+v", id, len(logged), len(events), want)
			}
			if _, err := raw.LookupErr("post_call_push_result", "next_attempt_at"); err == nil {
				t.Errorf("call %d: a final outcome has a next try", id)
			}
		}
		odd := one(t, coll, 2)
		if got := odd.Lookup("post_call_push_result", "status").StringValue(); got != "failed" || odd.Lookup("events").StringValue() != "no array" {
			t.Errorf("the call whose events are no array: %s", odd)
		}
	})
}
