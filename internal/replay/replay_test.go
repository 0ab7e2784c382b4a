package replay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/pkg/resume"
)

// usualStates are those of a replay that names none.
var usualStates = []inspect.State{inspect.StateFailed, inspect.StateRejected, inspect.StateDue, inspect.StateMissing}

var usualAsk = Ask{Query: inspect.Query{States: usualStates}}

var noon = time.Date(2026, 6, 5, 12, 0, 0, 0, time.UTC)

// shelf is calls in memory, and what was done to them.
type shelf struct {
	calls   []calls.Call
	query   calls.Stored
	marks   []calls.Mark
	at      []time.Time // of each batch
	records []Record
	refuse  func(batch int) error // of MarkDue
	lose    int                   // of each batch that are not marked
	reject  int                   // of each batch whose documents refuse

	cancelled int // after this many saves, 0 is never
	unmarked  int
}

func (s *shelf) Select(_ context.Context, q calls.Stored, fn func(calls.Call) error) error {
	s.query = q
	for _, c := range s.calls {
		if q.ReplayID != "" && c.Pushed.ReplayID != q.ReplayID {
			continue
		}
		if err := fn(c); err != nil {
			return err
		}
	}
	return nil
}

func (s *shelf) MarkDue(_ context.Context, marks []calls.Mark) (marked, refused int, err error) {
	s.at = append(s.at, time.Now())
	if s.refuse != nil {
		if err := s.refuse(len(s.at)); err != nil {
			return 0, 0, err
		}
	}
	s.marks = append(s.marks, marks...)
	return len(marks) - min(s.lose+s.reject, len(marks)), s.reject, nil
}

func (s *shelf) Unmark(context.Context, string) (int, error) {
	s.unmarked++
	return 0, nil
}

func (s *shelf) Save(_ context.Context, r Record) error {
	if s.cancelled > 0 && len(s.records) >= s.cancelled {
		return ErrCancelled
	}
	s.records = append(s.records, r)
	return nil
}

func (s *shelf) last() Record { return s.records[len(s.records)-1] }

func call(t testing.TB, id string, fields bson.M) calls.Call {
	t.Helper()
	doc := bson.M{"_id": id, "session_id": id, "bot_id": "bot", "completed_at": noon}
	for k, v := range fields {
		doc[k] = v
	}
	raw, err := bson.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return calls.Decode(raw)
}

func setOf(t testing.TB, docs ...bson.M) *bots.Set {
	t.Helper()
	var all []*bots.Bot
	for _, doc := range docs {
		raw, err := bson.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, bots.Compile(raw, bots.Options{}))
	}
	return bots.NewSet(all)
}

func pushes(id string) bson.M {
	return bson.M{"_id": id, "name": "Bot " + id, "post_call_push": bson.M{"url": "https://crm.example.com", "key_mapper": bson.M{"a": "b"}}}
}

func result(status string, fields bson.M) bson.M {
	r := bson.M{"status": status, "completed_at": noon, "delivery_id": "d"}
	for k, v := range fields {
		r[k] = v
	}
	return bson.M{"post_call_push_result": r}
}

func TestSurveyCountsWhatWouldBeDone(t *testing.T) {
	oid := bson.NewObjectID()
	s := &shelf{calls: []calls.Call{
		call(t, "missing", bson.M{"completed_at": noon.Add(time.Second)}),
		call(t, "older result", result("ok", bson.M{"completed_at": noon.Add(-time.Hour)})),
		call(t, "failed", result("failed", nil)),
		call(t, "rejected", result("rejected", nil)),
		call(t, "ok", result("ok", nil)),
		call(t, "platform ok", bson.M{"post_call_push_result": bson.M{"status": "ok"}}),
		call(t, "platform failed", bson.M{"post_call_push_result": bson.M{"status": "failed"}}),
		call(t, "this replay's", result("failed", bson.M{"replay_id": "r"})),
		call(t, "flag", bson.M{"skip_post_push": true}),
		call(t, "no bot", bson.M{"bot_id": "gone"}),
	}}
	ask := Ask{Query: inspect.Query{Since: noon, Until: noon.Add(time.Hour), Bots: []string{"bot", oid.Hex()}, States: usualStates}, Rate: 1}
	plan, err := Find(t.Context(), &inspect.Selection{Store: s, Bots: setOf(t, pushes("bot"))}, ask, "r")
	if err != nil {
		t.Fatal(err)
	}
	wantCounts := map[Count]int{{"bot", "Bot bot", "failed"}: 2, {"bot", "Bot bot", "missing"}: 2, {"bot", "Bot bot", "rejected"}: 1}
	wantSkips := map[Skip]int{{"bot", dispatch.ReasonSkipFlag}: 1, {"gone", dispatch.ReasonNoConfig}: 1}
	if !maps.Equal(plan.Counts, wantCounts) || !maps.Equal(plan.Skips, wantSkips) {
		t.Errorf("counts %v, skips %v", plan.Counts, plan.Skips)
	}
	if n := plan.Calls(); n != 5 || plan.calls[4].ID.StringValue() != "missing" || plan.Duration(2) != 2*time.Second {
		t.Errorf("%d calls, the last is %s, they take %v", n, plan.calls[4].ID, plan.Duration(2))
	}
	if len(s.query.Bots) != 4 || !s.query.From.Equal(noon) {
		t.Errorf("asked for %+v", s.query)
	}
}

// A call without an outcome that the saved position has not passed is left alone.
// Should the room for the clocks be too little, then a call is marked that is being
// pushed, and its outcome stands over the mark.
func TestSurveyLeavesCallsOnTheirWayAlone(t *testing.T) {
	for position, onTheWay := range map[time.Time]int{noon.Add(-time.Second): 1, noon.Add(time.Second): 0} {
		s := inspect.Selection{Bots: setOf(t, pushes("bot")), Store: &shelf{calls: []calls.Call{
			call(t, "missing", bson.M{"completed_at": noon.Format(time.RFC3339)}),
			call(t, "failed", result("failed", nil)), call(t, "flag", bson.M{"skip_post_push": true}),
		}}}
		s.Positions = []resume.Record{{Partition: resume.Partition{Of: 1}, Position: resume.At(position)}}
		plan, err := Find(t.Context(), &s, usualAsk, "")
		if err != nil || plan.OnTheWay != onTheWay || plan.Calls() != 2-onTheWay || len(plan.Skips) != 1 {
			t.Errorf("%s: %+v, %v", position, plan, err)
		}
	}
}

func TestSurveyIsBounded(t *testing.T) {
	s := inspect.Selection{Store: endless{call(t, "c", nil)}, Bots: setOf(t, pushes("bot"))}
	if _, err := Find(t.Context(), &s, usualAsk, ""); !errors.Is(err, ErrTooMany) {
		t.Errorf("the survey of endless calls: %v", err)
	}
}

// Calls that name any number of bots that do not exist are counted, within bounds.
func TestSkipsAreBounded(t *testing.T) {
	p := Plan{Skips: make(map[Skip]int)}
	sum := 0
	for i := range 3000 {
		p.skip(strings.Repeat("x", i), dispatch.ReasonNoConfig)
		p.skip(fmt.Sprint(i), dispatch.ReasonNoConfig)
	}
	for key, n := range p.Skips {
		sum += n
		if len(key.Bot) > mostBotText {
			t.Errorf("a bot of %d bytes is kept", len(key.Bot))
		}
	}
	if sum != 6000 || len(p.Skips) > mostSkips+1 || p.Skips[Skip{OtherBots, dispatch.ReasonNoConfig}] == 0 {
		t.Errorf("%d calls under %d names", sum, len(p.Skips))
	}
}

type endless struct{ calls.Call }

func (e endless) Select(_ context.Context, _ calls.Stored, fn func(calls.Call) error) error {
	for {
		if err := fn(e.Call); err != nil {
			return err
		}
	}
}

func planOf(t testing.TB, n int) *Plan {
	p := &Plan{}
	for i := range n {
		c := call(t, fmt.Sprintf("c-%d", i), nil)
		p.calls = append(p.calls, calls.SnapshotOf(&c))
	}
	return p
}

// Whatever the rate: every call is marked once, in order, due at the rate, and
// never more than the lead and one batch before it is due.
func TestMarkingKeepsTheRate(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 600).Draw(rt, "calls")
		rate := rapid.Float64Range(0.1, 1000).Draw(rt, "rate")
		var wrong string
		synctest.Test(t, func(t *testing.T) {
			s := &shelf{}
			begin := time.Now()
			told := 0
			r, err := Run(t.Context(), s, s, Record{ID: "r", Rate: rate}, planOf(t, n), func(Record) { told++ })
			span := time.Duration(float64(n-1) / rate * float64(time.Second))
			switch {
			case err != nil || r.State != StateMarked || r.Marked != n || r.Found != n || len(s.marks) != n:
				wrong = fmt.Sprintf("%v, %+v, %d marks", err, r, len(s.marks))
			case told != len(s.at) || s.last().State != StateMarked || s.last().Marked != n:
				wrong = "the record was not kept"
			case time.Since(begin) > max(0, span-lead)+time.Millisecond:
				wrong = fmt.Sprintf("it took %v for %v", time.Since(begin), span)
			}
			for i, m := range s.marks {
				due := begin.Add(time.Duration(float64(i) / rate * float64(time.Second)))
				if d := m.At.Sub(due); d < -time.Millisecond || d > time.Millisecond || m.ReplayID != "r" || m.Slot != resume.Slot(m.ID) {
					wrong = fmt.Sprintf("mark %d is %v off: %+v", i, d, m)
				}
			}
		})
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

var errTest = errors.New("the test says no")

// An interruption ends the marking at once, keeps the record, and a later run
// goes on behind what is marked.
func TestMarkingIsInterruptedAndGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, interrupt := context.WithCancel(t.Context())
		s := &shelf{lose: 1, reject: 2}
		begin := time.Now()
		time.AfterFunc(30*time.Second, interrupt)
		plan := planOf(t, 1000)
		r, err := Run(ctx, s, s, Record{ID: "r", Rate: 10}, plan, func(Record) {})
		if !errors.Is(err, ErrInterrupted) || time.Since(begin) != 30*time.Second || s.last().State != StateInterrupted {
			t.Fatalf("%v after %v, %+v", err, time.Since(begin), s.last())
		}
		// Up to 40 s ahead in batches of 2 s, of each of which one call changed and two refused.
		if len(s.marks) != 420 || r.Passed != 21 || r.Refused != 42 || r.Marked != 357 || r.Due.Sub(begin) != 41900*time.Millisecond {
			t.Errorf("%d marks, due %v, %+v", len(s.marks), r.Due.Sub(begin), r)
		}
		again := &shelf{}
		time.Sleep(time.Second)
		rest := &Plan{calls: plan.calls[420:]}
		r, err = Run(t.Context(), again, again, r, rest, func(Record) {})
		if err != nil || r.Found != 1000 || r.Marked != 937 || r.State != StateMarked {
			t.Errorf("%v, %+v", err, r)
		}
		if first := again.marks[0].At.Sub(begin); first != 42*time.Second {
			t.Errorf("it goes on %v after the start", first)
		}
	})
}

func TestMarkingEndsWithAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{refuse: func(batch int) error {
			if batch == 2 {
				return errTest
			}
			return nil
		}}
		r, err := Run(t.Context(), s, s, Record{ID: "r", Rate: 1000}, planOf(t, 1200), func(Record) {})
		if !errors.Is(err, errTest) || !errors.Is(err, ErrInterrupted) || r.Marked != 500 || s.last().State != StateInterrupted {
			t.Errorf("%v, %+v", err, s.last())
		}
	})
}

func TestReportCountsWhatBecameOfThem(t *testing.T) {
	mine := func(status string, fields bson.M) bson.M {
		r := result(status, fields)
		r["post_call_push_result"].(bson.M)["replay_id"] = "r"
		return r
	}
	s := &shelf{calls: []calls.Call{
		call(t, "a", mine("ok", nil)),
		call(t, "b", mine("ok", nil)),
		call(t, "c", mine("rejected", nil)),
		call(t, "d", mine("failed", bson.M{"next_attempt_at": noon, "attempts": 0})),
		call(t, "e", mine("failed", bson.M{"next_attempt_at": noon, "attempts": 2})),
		call(t, "f", result("ok", nil)),
	}}
	report, err := ReportOn(t.Context(), s, Record{ID: "r", Marked: 7, State: StateMarked})
	if err != nil || report.Done["ok"] != 2 || report.Done["rejected"] != 1 || report.Waiting != 1 || report.Retrying != 1 || report.Replaced != 2 {
		t.Errorf("%+v, %v", report, err)
	}
}

// A replay that is cancelled while its calls are marked takes back what it marked, and
// goes on no more.
func TestMarkingEndsWhenItIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{cancelled: 2}
		_, err := Run(t.Context(), s, s, Record{ID: "r", Rate: 10}, planOf(t, 100), func(Record) {})
		if !errors.Is(err, ErrCancelled) || errors.Is(err, ErrInterrupted) || s.unmarked != 1 || len(s.marks) != 40 {
			t.Errorf("%v, taken back %d times, %d marks", err, s.unmarked, len(s.marks))
		}
	})
}

// What changed while a replay was interrupted is accounted for.
func TestContinuedReplayKeepsWhatItFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{}
		r, err := Run(t.Context(), s, s, Record{ID: "r", Rate: 1000, Found: 100, Marked: 40, Passed: 1}, planOf(t, 50), func(Record) {})
		if err != nil || r.Found != 100 || r.Marked != 90 || r.Passed != 10 {
			t.Errorf("%+v, %v", r, err)
		}
		r, err = Run(t.Context(), s, s, Record{ID: "r", Rate: 1000, Found: 10, Marked: 5}, planOf(t, 20), func(Record) {})
		if err != nil || r.Found != 25 || r.Marked != 25 || r.Passed != 0 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}
