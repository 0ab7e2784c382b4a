package dispatch

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/push"
)

// Which calls an operator asks to leave alone.
func TestWhatNeedsNothingMore(t *testing.T) {
	at := time.Date(2026, 6, 5, 10, 0, 0, 0, time.UTC)
	asked := at.Add(time.Hour)
	result := func(status calls.Status, fields bson.M) bson.M {
		r := bson.M{"status": string(status), "completed_at": at, "delivery_id": "d", "pushed_at": at.Add(time.Second)}
		for k, v := range fields {
			r[k] = v
		}
		return r
	}
	platform := bson.M{"status": "rejected", "http_status": 500, "response_body": ""}
	tests := map[string]struct {
		result                    any
		missing, failed, all, new bool // settled under each policy; new is none at all
	}{
		"never pushed":           {nil, false, false, false, false},
		"ok":                     {result("ok", nil), true, true, false, true},
		"rejected":               {result("rejected", nil), true, false, false, true},
		"of an older result":     {result("ok", bson.M{"completed_at": at.Add(-time.Minute)}), false, false, false, false},
		"pushed since asked":     {result("failed", bson.M{"pushed_at": asked}), true, true, true, true},
		"a try is scheduled":     {result("failed", bson.M{"next_attempt_at": at.Add(5 * time.Hour)}), true, true, true, true},
		"pushed by the platform": {platform, true, false, false, false},
	}
	for name, tt := range tests {
		call := calls.Decode(marshal(t, bson.M{"_id": "c", "completed_at": at, "post_call_push_result": tt.result}))
		for policy, want := range map[Policy]bool{
			{}: tt.new,
			{Repush: RepushMissing, Asked: asked, Past: true}: tt.missing,
			{Repush: RepushFailed, Asked: asked, Past: true}:  tt.failed,
			{Repush: RepushAll, Asked: asked, Past: true}:     tt.all,
		} {
			if got := policy.Settled(&call); got != want {
				t.Errorf("%s, %q: settled %v, want %v", name, policy.Repush, got, want)
			}
		}
	}
}

// Two policies of one call that is on its way: the one that asks for more counts,
// and a new event makes it a live call.
func TestPoliciesOfOneCallAreJoined(t *testing.T) {
	past := Policy{Repush: RepushMissing, Past: true, Backlog: true}
	all := Policy{Repush: RepushAll, Asked: time.Unix(9, 0), Past: true}
	for _, tt := range []struct{ a, b, want Policy }{
		{past, Policy{}, Policy{Repush: RepushMissing}},
		{Policy{}, past, Policy{}},
		{past, all, all},
		{all, past, all},
		{all, Policy{}, Policy{Repush: RepushAll, Asked: time.Unix(9, 0)}},
		{past, past, past},
	} {
		if got := tt.a.and(tt.b); got != tt.want {
			t.Errorf("%+v and %+v: %+v, want %+v", tt.a, tt.b, got, tt.want)
		}
	}
}

// A backlog that is looked up waits behind the live calls of its destination.
func TestCallsOfABacklogGoBehindLiveOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoad(t)
		r.answer = func(*push.Request, int) push.Result {
			time.Sleep(time.Second) // of the bubble
			return answered(200)
		}
		const backlog, live = 40, 8
		ids := make(map[string]bool)
		for i := range backlog {
			id := "old-" + string(rune('A'+i))
			ids[id] = true
			r.write(id, nil)
			if err := r.intake.Submit(context.Background(), Event{ID: rawID(t, id), Policy: Policy{Past: true, Backlog: true}}, func() {}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		begun := time.Now()
		for i := range live {
			r.store("live-"+string(rune('A'+i)), nil)
		}
		time.Sleep(time.Minute)
		r.stop()
		// Those that waited for too long were put off once, which is no push.
		r.outcomes = slices.DeleteFunc(r.outcomes, func(o calls.Outcome) bool { return o.Transition == calls.ToDeferred })
		last, behind := time.Time{}, 0
		for _, o := range r.outcomes {
			if !ids[o.ID.StringValue()] && o.At.After(last) {
				last = o.At
			}
		}
		for _, o := range r.outcomes {
			if ids[o.ID.StringValue()] && o.At.After(last) {
				behind++
			}
		}
		if len(r.outcomes) != backlog+live || behind < backlog/3 || last.Sub(begun) > 10*time.Second {
			t.Errorf("%d outcomes; the last live one came after %v, %d of the backlog after it", len(r.outcomes), last.Sub(begun), behind)
		}
	})
}
