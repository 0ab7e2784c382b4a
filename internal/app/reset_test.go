package app

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/internal/follow"
	"github.com/cxbridge/watcher/pkg/resume"
	"github.com/cxbridge/watcher/pkg/stream"
)

// positions is the store of the saved position.
func (r *road) positions() *resume.Store {
	r.t.Helper()
	s, err := resume.NewStore(r.DB.Collection(r.cfg.ResumeCollection), r.cfg.Name)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// reset moves the position as an operator does, by the server's clock.
func (r *road) reset(to resume.Position, repush string) {
	r.t.Helper()
	at, _, err := stream.ServerTime(r.t.Context(), r.Client)
	if err != nil {
		r.t.Fatal(err)
	}
	err = r.positions().Reset(r.t.Context(), resume.Partition{Of: 1}, to, resume.Reset{At: at, Repush: repush, By: "test"})
	if err != nil {
		r.t.Fatal(err)
	}
}

// stored stores a result of some time ago without an event that anybody reads.
func (r *road) stored(session, bot string, ago time.Duration, fields ...bson.E) {
	r.t.Helper()
	r.Call(session, bot, append(fields, bson.E{Key: "completed_at", Value: time.Now().Add(-ago).UTC()})...)
}

// byPlatform is what the platform's own push left on a call.
func byPlatform(status string) bson.E {
	return bson.E{Key: "post_call_push_result", Value: bson.D{
		{Key: "status", Value: status}, {Key: "http_status", Value: 200}, {Key: "response_body", Value: "{}"},
	}}
}

// pushes waits until the deliveries of calls were pushed this often, and none more.
func (r *road) pushes(w *running, want map[string]int) {
	r.t.Helper()
	check := func() error {
		for session, n := range want {
			if got := r.crm.At("/" + session); len(got) != n {
				return fmt.Errorf("%s was pushed %d times, want %d", session, len(got), n)
			}
		}
		if p := w.metric("watcher_dispatch_pending_calls"); p != 0 {
			return fmt.Errorf("%v calls pending", p)
		}
		return nil
	}
	r.eventually("the pushes", check)
}

// perCall makes a bot for each call, so that requests tell the call by their path.
func (r *road) perCall(sessions ...string) {
	for _, s := range sessions {
		r.PutBot(apptest.Bot(s, r.url(s)))
	}
}

// What each mode of a reset pushes again, where the oplog reaches and where it does not.
func TestResetPushesWhatWasAskedFor(t *testing.T) {
	tests := []struct {
		repush string
		want   map[string]int // pushes in the whole test
	}{
		{"missing", map[string]int{"fine": 1, "refused": 1, "never": 1, "platform-ok": 0, "platform-failed": 0, "older": 0}},
		{"failed", map[string]int{"fine": 1, "refused": 2, "never": 1, "platform-ok": 0, "platform-failed": 1, "older": 0}},
		{"all", map[string]int{"fine": 2, "refused": 2, "never": 1, "platform-ok": 1, "platform-failed": 1, "older": 0}},
	}
	for _, tt := range tests {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, history lost %v", tt.repush, lost), func(t *testing.T) {
				t.Parallel()
				r := newRoad(t)
				r.perCall("fine", "refused", "never", "platform-ok", "platform-failed", "older", "after")
				r.crm.Answers(func(q apptest.Request) apptest.Answer {
					if q.Path == "/refused" {
						return apptest.Answer{Status: http.StatusUnprocessableEntity}
					}
					return apptest.Answer{}
				})
				before := resume.Position{ClusterTime: r.server.ClusterTime()}
				if lost {
					before = resume.At(time.Now().Add(-time.Hour))
					r.stored("older", "older", 61*time.Minute) // before the reset, inside the margin of other sweeps
				}
				// Stored before the watcher first ran, and so never read.
				r.stored("never", "never", time.Second)
				r.stored("platform-ok", "platform-ok", time.Second, byPlatform("ok"))
				r.stored("platform-failed", "platform-failed", time.Second, byPlatform("failed"))
				old := r.server.ClusterTime() // before anything that the watcher reads
				w := r.start()
				r.Call("fine", "fine")
				r.Call("refused", "refused")
				r.final("fine", "ok")
				r.final("refused", "rejected")
				if lost {
					r.server.LoseHistory(old)
				}
				r.reset(before, tt.repush)
				// What is being sent when the watcher notices is cut off, and sent once more.
				r.eventually("the reset is noticed", func() error {
					if len(w.logs.find("let go of a partition")) == 0 {
						return errors.New("not yet")
					}
					return nil
				})
				r.Call("after", "after") // normal rules hold for it
				r.pushes(w, tt.want)
				r.pushes(w, map[string]int{"after": 1})
				if n := len(w.logs.find("sweeping the calls of a gap in the stream")); n != 0 != lost {
					t.Errorf("%d sweeps", n)
				}
				if lost {
					r.eventually("the sweep ends", func() error {
						if n := w.metric("watcher_app_sweeps_total", "outcome", "done"); n != 1 {
							return fmt.Errorf("%v sweeps", n)
						}
						return nil
					})
					for _, line := range w.logs.find("the gap is swept") {
						if line["found"].(float64) < 5 || line["pushed"].(float64)+line["already_pushed"].(float64) < 5 {
							t.Errorf("the sweep says %v", line)
						}
					}
					if len(w.logs.find("there is no index on completed_at: the sweep reads every call")) != 1 {
						t.Error("nothing is said of the index that is missing")
					}
				}
				// A restart afterwards pushes nothing again: the wish is fulfilled.
				w.halt()
				w = r.start()
				r.Call("later", "after")
				r.pushes(w, map[string]int{"after": 2})
				r.pushes(w, tt.want)
			})
		}
	}
}

// A first start that reaches behind the oplog pushes what nobody pushed, exactly
// from there on.
func TestFirstStartBehindTheOplogSweeps(t *testing.T) {
	r := newRoad(t)
	r.perCall("inside", "platform", "outside", "live")
	r.cfg.Start = config.Start{Ago: 2 * time.Hour}
	r.stored("inside", "inside", 119*time.Minute)
	r.stored("platform", "platform", time.Hour, byPlatform("failed"))
	r.stored("outside", "outside", 121*time.Minute)
	r.server.LoseHistory(bson.Timestamp{})
	r.cfg.OnHistoryLost = config.LostFail // what was asked for is swept anyway
	w := r.start()
	r.Call("live", "live")
	r.pushes(w, map[string]int{"inside": 1, "platform": 0, "outside": 0, "live": 1})
	r.eventually("the sweep is counted", func() error {
		pushed := w.metric("watcher_app_swept_calls_total", "result", "pushed")
		already := w.metric("watcher_app_swept_calls_total", "result", "already_pushed")
		if pushed < 1 || pushed+already < 2 {
			return fmt.Errorf("%v pushed, %v already", pushed, already)
		}
		return nil
	})
}

// With --on-history-lost=fail the watcher ends, and its position stays.
func TestHistoryLostCanFail(t *testing.T) {
	r := newRoad(t, "bot")
	w := r.start()
	r.Call("s", "bot")
	r.final("s", "ok")
	w.halt()
	before, found, err := r.positions().Record(t.Context(), resume.Partition{Of: 1})
	if err != nil || !found || before.Position.IsZero() {
		t.Fatalf("no position: %+v, %v", before, err)
	}
	r.Call("missed", "bot")
	r.server.LoseHistory(bson.Timestamp{})
	r.cfg.OnHistoryLost = config.LostFail
	failed := r.launchFailing()
	if _, ok := errors.AsType[*follow.HistoryLostError](failed); !ok {
		t.Fatalf("it ended with %v", failed)
	}
	after, _, err := r.positions().Record(t.Context(), resume.Partition{Of: 1})
	if err != nil || after.Position.String() != before.Position.String() {
		t.Errorf("the position moved from %v to %v, %v", before.Position, after.Position, err)
	}
	if o := r.outcomeOf("missed"); o != nil {
		t.Errorf("it was pushed: %+v", o)
	}
	r.cfg.OnHistoryLost = config.LostSweep
	r.start()
	r.final("missed", "ok")
}

// A reset while calls are in flight: the attempt is cut off, everything from
// there on is pushed once more, and what the old holder saves late is void.
func TestResetWhileCallsAreInFlight(t *testing.T) {
	r := newRoad(t)
	r.perCall("done", "held", "queued")
	release := make(chan struct{})
	r.crm.Answers(func(q apptest.Request) apptest.Answer {
		if q.Path == "/held" && q.Number == 1 {
			return apptest.Answer{Until: release}
		}
		return apptest.Answer{}
	})
	defer close(release)
	before := resume.Position{ClusterTime: r.server.ClusterTime()}
	w := r.start()
	r.Call("done", "done")
	r.final("done", "ok")
	r.Call("held", "held")
	r.eventually("a push is under way", func() error {
		if len(r.crm.At("/held")) != 1 {
			return errors.New("none")
		}
		return nil
	})
	old, _, err := r.positions().Record(t.Context(), resume.Partition{Of: 1})
	if err != nil {
		t.Fatal(err)
	}
	asked := time.Now()
	r.reset(before, "all")
	r.pushes(w, map[string]int{"done": 2, "held": 2})
	if took := time.Since(asked); took > 10*time.Second {
		t.Errorf("it took %v to notice", took)
	}
	r.final("held", "ok")
	now, _, err := r.positions().Record(t.Context(), resume.Partition{Of: 1})
	if err != nil || now.Term <= old.Term || now.Reset == nil || now.Reset.Repush != "all" {
		t.Errorf("after the reset: %+v, %v", now, err)
	}
	late, err := r.DB.Collection(r.cfg.ResumeCollection).UpdateOne(t.Context(),
		bson.D{{Key: "_id", Value: old.ID}, {Key: "term", Value: old.Term}}, bson.D{{Key: "$set", Value: bson.D{{Key: "token", Value: old.Position.Token}}}})
	if err != nil || late.MatchedCount != 0 {
		t.Errorf("a save with the old term found the record: %+v, %v", late, err)
	}
	if len(w.logs.find("let go of a partition")) == 0 {
		t.Error("the old holding never ended")
	}
}

// launchFailing runs a watcher that ends by itself.
func (r *road) launchFailing() error {
	r.t.Helper()
	w := r.launch()
	select {
	case <-w.ended:
	case <-time.After(apptest.Patience):
		r.t.Fatal("the watcher did not end")
	}
	err := w.err
	w.err = nil // it is what the test looks at
	return err
}
