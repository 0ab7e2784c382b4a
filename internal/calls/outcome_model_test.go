package calls_test

import (
	"fmt"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/internal/calls"
)

// rivals are owners of one call that do not know of each other: each reads it,
// attempts it, and its write arrives whenever it likes, once, twice or never, as that
// of an owner does that was cut off. Operators mark the call and take the marks back,
// and its result is stored again.
type rivals struct {
	*desk
	id   string
	now  time.Time // never the same twice, as the time of an outcome
	sent []*attempted
	// unmarked is whether a mark was taken back. What stood before it stands there then,
	// and a write that was on its way finds what its owner had read, a second time.
	unmarked bool
}

// attempted is an attempt and what its owner had read.
type attempted struct {
	outcome calls.Outcome
	known   bool // its owner learned that it is written
}

func (r *rivals) read() calls.Call {
	raw, err := r.coll.FindOne(r.t.Context(), bson.D{{Key: "_id", Value: r.id}}).Raw()
	if err != nil {
		r.t.Fatal(err)
	}
	return calls.Decode(raw)
}

func (r *rivals) tick() time.Time {
	r.now = r.now.Add(time.Second)
	return r.now
}

// store stores the result, or stores it anew.
func (r *rivals) store(*rapid.T) {
	_, err := r.coll.UpdateOne(r.t.Context(), bson.D{{Key: "_id", Value: r.id}},
		bson.D{{Key: "$set", Value: bson.D{{Key: "completed_at", Value: r.tick()}}}})
	if err != nil {
		r.t.Fatal(err)
	}
}

// attempt is what an owner does with what stands on the call now.
func (r *rivals) attempt(rt *rapid.T) {
	call := r.read()
	if call.Pushed.CompletedAt.Equal(call.CompletedAt) && !call.Due() {
		rt.Skip("nothing is to be done")
	}
	a := calls.Attempt{Status: calls.StatusRejected, At: r.tick(), Error: "HTTP 503"}
	o := calls.Retry(&call, a, r.now.Add(time.Hour))
	switch rapid.SampledFrom([]string{"ok", "final", "retry", "deferred"}).Draw(rt, "outcome") {
	case "ok":
		a.Status = calls.StatusOK
		o = calls.Delivered(&call, a)
	case "final":
		o = calls.Delivered(&call, a)
	case "deferred":
		o = calls.Deferred(&call, a, r.now.Add(time.Hour))
	}
	r.sent = append(r.sent, &attempted{outcome: o})
}

// one is an attempt of which a write may be on its way.
func (r *rivals) one(rt *rapid.T) *attempted {
	if len(r.sent) == 0 {
		rt.Skip("nothing was attempted")
	}
	return rapid.SampledFrom(r.sent).Draw(rt, "attempt")
}

// arrive lets a write arrive of which its owner learns nothing.
func (r *rivals) arrive(rt *rapid.T) {
	a := r.one(rt)
	r.check(rt, a, func() {
		filter, update := a.outcome.Write()
		if _, err := r.coll.UpdateOne(r.t.Context(), filter, update); err != nil {
			rt.Fatal(err)
		}
	})
}

// record is the write of an owner that reaches MongoDB, for the first time or again.
func (r *rivals) record(rt *rapid.T) {
	a := r.one(rt)
	r.check(rt, a, func() { r.desk.record(a.outcome) })
	a.known = true
	if is := r.read().Pushed; is.CompletedAt.Before(a.outcome.CompletedAt) && !r.unmarked {
		rt.Fatalf("nothing on the call tells of the result: there stands\n%+v", is)
	}
}

func (r *rivals) mark(rt *rapid.T) {
	call := r.read()
	if call.CompletedAt.IsZero() {
		rt.Skip("no result")
	}
	mark := calls.Mark{Snapshot: calls.SnapshotOf(&call), ReplayID: fmt.Sprint("r", r.tick().Unix()), At: r.now}
	if _, _, err := r.desk.store.MarkDue(r.t.Context(), []calls.Mark{mark}); err != nil {
		rt.Fatal(err)
	}
}

func (r *rivals) unmark(rt *rapid.T) {
	replay := r.read().Pushed.ReplayID
	if replay == "" || rapid.IntRange(0, 3).Draw(rt, "rarely") > 0 {
		rt.Skip("no mark")
	}
	if _, err := r.desk.store.Unmark(r.t.Context(), replay); err != nil {
		rt.Fatal(err)
	}
	r.unmarked = true
}

// check holds what a write changes against what stood on the call before.
func (r *rivals) check(rt *rapid.T, a *attempted, write func()) {
	before := r.read()
	write()
	o, was, is := &a.outcome, before.Pushed, r.read().Pushed
	switch {
	case was == is:
	case !is.CompletedAt.Equal(o.CompletedAt):
		rt.Fatalf("the write left an outcome of another result: %+v", is)
	case was.CompletedAt.Equal(o.Seen.CompletedAt) && (was.PushedAt.Equal(o.Seen.PushedAt) || !was.CompletedAt.Equal(o.CompletedAt)):
		// Nobody wrote an outcome since its owner read the call.
	case o.Status == calls.StatusOK && was.Status != calls.StatusOK && (was.CompletedAt.Equal(o.CompletedAt) || !was.Present):
		// An ok is the truth about its result.
	case was.CompletedAt.Before(o.CompletedAt):
		// Nothing stood there of this result.
	default:
		rt.Fatalf("what another wrote is gone: its owner had read\n%+v, there stood\n%+v, and now\n%+v", o.Seen, was, is)
	}
}

// Check holds at every moment: each attempt whose owner knows that it is written stands in
// the log once, and no other more often.
func (r *rivals) Check(rt *rapid.T) {
	call := r.read()
	logged := make(map[time.Time]int)
	for _, entry := range call.Log() {
		logged[entry.At]++
	}
	for _, a := range r.sent {
		least, most := 0, 1
		if a.known && a.outcome.Transition != calls.ToDeferred {
			least = 1
		}
		if r.unmarked {
			most = 2
		}
		if n := logged[a.outcome.At]; n < least || n > most {
			rt.Fatalf("the attempt of %v stands in the log %d times: %+v", a.outcome.At, n, a.outcome)
		}
	}
}

// However owners are cut off and their writes come late, none replaces what it has
// not read.
func TestALateWriteReplacesNothingThatItsOwnerHasNotRead(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		r := &rivals{desk: d, id: fmt.Sprint(n), now: recordedAt}
		d.insert(bson.D{{Key: "_id", Value: r.id}, {Key: "completed_at", Value: recordedAt}})
		rt.Repeat(map[string]func(*rapid.T){
			"": r.Check, "attempt": r.attempt, "attempt too": r.attempt, "arrive": r.arrive, "record": r.record,
			"mark": r.mark, "unmark": r.unmark, "store": r.store,
		})
	})
}

// The outcome of an older result that comes late, between the read and the write of a
// newer one, does not keep the newer one from its retry.
func TestAnOutcomeOfAnOlderResultGivesWay(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	for id, how := range map[string]func(*calls.Call, calls.Attempt) calls.Outcome{
		"retry": func(c *calls.Call, a calls.Attempt) calls.Outcome {
			return calls.Retry(c, a, recordedAt.Add(time.Hour))
		},
		"deferred": func(c *calls.Call, a calls.Attempt) calls.Outcome {
			return calls.Deferred(c, a, recordedAt.Add(time.Hour))
		},
		"final":    calls.Delivered,
		"finished": calls.Finished,
	} {
		r := &rivals{desk: d, id: id}
		d.insert(bson.D{{Key: "_id", Value: id}, {Key: "completed_at", Value: recordedAt}})
		older := r.read()
		newer := calls.Decode(marshal(t, bson.D{{Key: "_id", Value: id}, {Key: "completed_at", Value: recordedAt.Add(time.Minute)}}))
		d.record(calls.Delivered(&older, calls.Attempt{Status: calls.StatusRejected, At: recordedAt.Add(time.Second)}))
		o := how(&newer, calls.Attempt{Status: calls.StatusFailed, At: recordedAt.Add(time.Minute)})
		for range 2 { // its acknowledgement was lost
			d.record(o)
		}
		if is := r.read().Pushed; !is.CompletedAt.Equal(newer.CompletedAt) || !is.NextAttemptAt.Equal(o.NextAttemptAt) {
			t.Errorf("%s: there stands %+v", id, is)
		}
	}
}
