package dispatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/pkg/push"
)

// holds makes these the holds that count.
func (r *road) holds(all ...hold.Hold) {
	for i := range all {
		if all[i].From.IsZero() {
			all[i].From = time.Now()
		}
	}
	r.d.SetHolds(hold.NewSet(all), time.Now())
}

// answers changes what the receivers answer while calls are under way.
func (r *road) answers(answer func(*push.Request, int) push.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

var botHeld = hold.Hold{ID: "h1", Bot: "bot", Why: "the CRM moves"}

// stands fails unless a call is due, held back and not attempted further.
func (r *road) stands(id, holdID string, attempts int) {
	r.t.Helper()
	c := r.call(id)
	if p := &c.Pushed; p.HoldID != holdID || p.NextAttemptAt.After(time.Now()) || p.NextAttemptAt.IsZero() || p.Attempts != attempts {
		r.t.Errorf("%s: held by %q, due at %v, %d attempts", id, p.HoldID, p.NextAttemptAt, p.Attempts)
	}
}

func after(d time.Duration) {
	time.Sleep(d) // of the bubble
	synctest.Wait()
}

func TestANewCallOfAHeldBotWaitsOnItsDocument(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t, botOf("bot", "https://crm.example.com/hook"), botOf("other", "https://crm.example.com/hook"))
		defer r.stop()
		r.holds(botHeld)
		r.store("a", nil)
		r.store("b", bson.M{"bot_id": "other"})
		after(time.Second)
		r.stands("a", "h1", 0)
		if n := r.settledOf("a"); n != 1 {
			t.Errorf("its event is done %d times", n)
		}
		for _, o := range r.outcomes {
			if o.ID.StringValue() == "a" && (r.sentOf(o.DeliveryID) != 0 || o.Error != "not attempted yet: held: the CRM moves" || o.Transition != calls.ToDeferred) {
				t.Errorf("%+v", o)
			}
		}
		if _, n := r.sends(); n != 1 {
			t.Errorf("%d sends, want that of the other bot", n)
		}
		flow, _ := r.balance()
		after(20 * time.Minute)
		if now, _ := r.balance(); now != flow {
			t.Error("held calls are read again and again")
		}
		r.holds()
		after(5 * time.Second)
		if c := r.call("a"); c.Pushed.Status != calls.StatusOK || c.Pushed.HoldID != "" || c.Pushed.Attempts != 1 {
			t.Errorf("after the release: %+v", c.Pushed)
		}
	})
}

func TestDueAndReplayedCallsOfAHeldBotStayDue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t)
		defer r.stop()
		r.answer = func(*push.Request, int) push.Result { return answered(503) }
		r.store("retry", nil)
		r.write("replay", bson.M{"post_call_push_result": bson.M{
			"status": "failed", "completed_at": time.Now(), "next_attempt_at": time.Now().Add(20 * time.Second), "replay_id": "r", "attempts": 0,
		}})
		r.mu.Lock()
		r.docs["replay"]["completed_at"] = time.Now()
		r.due["replay"], r.replay["replay"] = time.Now().Add(20*time.Second), "r"
		r.mu.Unlock()
		synctest.Wait()
		r.holds(botHeld)
		r.answers(func(*push.Request, int) push.Result { return answered(200) })
		after(time.Hour)
		if _, n := r.sends(); n != 1 {
			t.Errorf("%d sends", n)
		}
		for id, attempts := range map[string]int{"retry": 1, "replay": 0} {
			c := r.call(id)
			if c.Pushed.Attempts != attempts || !c.Due() || c.Pushed.NextAttemptAt.After(time.Now()) {
				t.Errorf("%s: %+v", id, c.Pushed)
			}
		}
		r.holds()
		after(5 * time.Second)
		for _, id := range []string{"retry", "replay"} {
			if c := r.call(id); c.Pushed.Status != calls.StatusOK {
				t.Errorf("%s: %+v", id, c.Pushed)
			}
		}
	})
}

// A due call that is on the road already when the hold comes says so, once.
func TestADueCallOnTheRoadIsMarkedAsHeld(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t)
		defer r.stop()
		r.holds(botHeld)
		at := time.Now().Add(-time.Minute)
		r.write("a", bson.M{"completed_at": at, "post_call_push_result": bson.M{
			"status": "rejected", "completed_at": at, "next_attempt_at": at, "attempts": 2, "first_attempt_at": at,
		}})
		for range 3 {
			if ok, err := r.intake.SubmitDue(context.Background(), Event{ID: rawID(t, "a")}); !ok || err != nil {
				t.Fatal(ok, err)
			}
			synctest.Wait()
		}
		r.stands("a", "h1", 2)
		if c := r.call("a"); len(r.outcomes) != 1 || !c.Pushed.NextAttemptAt.Equal(at.Truncate(time.Millisecond)) {
			t.Errorf("%d outcomes, due at %v", len(r.outcomes), c.Pushed.NextAttemptAt)
		}
	})
}

// What waits in a lane leaves it at once, however slow the lane is; what is being
// sent ends.
func TestAHoldTakesWaitingCallsOutOfTheirLane(t *testing.T) {
	bubble(t, func(t *testing.T) {
		slow := botOf("bot", "https://crm.example.com/hook")
		slow["post_call_push"].(bson.M)["rate_limit_per_second"] = 1
		slow["post_call_push"].(bson.M)["max_concurrency"] = 1
		r := newRoad(t, slow, botOf("other", "https://other.example.com"))
		defer r.stop()
		r.answer = func(*push.Request, int) push.Result {
			res := answered(200)
			res.Duration = 3 * time.Second
			return res
		}
		for i := range 4 {
			r.store(fmt.Sprintf("c%d", i), nil)
		}
		r.store("b", bson.M{"bot_id": "other"})
		synctest.Wait()
		if _, n := r.sends(); n != 2 {
			t.Fatalf("%d under way", n)
		}
		r.holds(botHeld)
		synctest.Wait()
		held := 0
		for i := range 4 {
			if c := r.call(fmt.Sprintf("c%d", i)); c.Pushed.HoldID == "h1" {
				held++
			}
		}
		if held != 3 {
			t.Errorf("%d of 3 calls are held at once", held)
		}
		after(time.Hour)
		if n := r.count(); n[calls.StatusOK] != 2 || n[calls.StatusFailed] != 3 {
			t.Errorf("%v", n)
		}
		r.holds()
		after(time.Minute)
		if n := r.count(); n[calls.StatusOK] != 5 {
			t.Errorf("after the release: %v", n)
		}
		if deliveries, total := r.sends(); deliveries != 5 || total != 5 {
			t.Errorf("%d sends of %d deliveries", total, deliveries)
		}
	})
}

// A backlog that is released goes out slowly at first, and behind live calls.
func TestAReleasedBacklogIsRamped(t *testing.T) {
	quick := func(*push.Request, int) push.Result {
		res := answered(200)
		res.Duration = 20 * time.Millisecond
		return res
	}
	for name, restart := range map[string]bool{"as it was": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				const backlog = 600
				r := newRoad(t)
				r.answer = quick
				r.store("first", nil)
				after(time.Second)
				r.holds(botHeld)
				for i := range backlog {
					r.store(fmt.Sprintf("c%03d", i), nil)
				}
				after(time.Hour)
				if restart {
					docs, due := r.docs, r.due
					r.stop()
					r = newRoadOf(t, func(*Options) {})
					r.holds(botHeld)
					r.mu.Lock()
					r.docs, r.due, r.answer = docs, due, quick
					r.mu.Unlock()
					after(time.Minute)
				}
				defer func() { r.stop() }()
				if _, n := r.sends(); n > 1 {
					t.Fatalf("%d sends while held", n)
				}
				r.holds()
				after(2 * time.Second)
				r.store("live", nil)
				after(2 * time.Second)
				if _, n := r.sends(); n < 10 || n > 60 {
					t.Errorf("%d sends in the first 4 s", n)
				}
				if c := r.call("live"); c.Pushed.Status != calls.StatusOK {
					t.Errorf("a live call waits behind the backlog: %+v", c.Pushed)
				}
				after(2 * time.Minute)
				if n := r.count(); n[calls.StatusOK] != backlog+2 {
					t.Errorf("%v", n)
				}
				if deliveries, total := r.sends(); deliveries != total {
					t.Errorf("%d sends of %d deliveries", total, deliveries)
				}
			})
		})
	}
}

// The time for which a call was held does not count for its age.
func TestAHoldAgesNoDelivery(t *testing.T) {
	for name, c := range map[string]struct{ before, after push.Result }{
		"it answers":       {answered(503), answered(503)},
		"it is down":       {failed, failed},
		"it is mended":     {failed, answered(200)},
		"a new one failed": {push.Result{}, failed},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRoadOf(t, func(o *Options) {
					o.Schedule = push.Schedule{Delays: []time.Duration{time.Minute}, MaxAttempts: 100, MaxAge: 20 * time.Minute}
				})
				defer r.stop()
				r.answer = func(*push.Request, int) push.Result { return c.before }
				held := botHeld
				held.From = time.Now()
				if c.before.Class != 0 || c.before.Err != nil || c.before.HTTPStatus != 0 {
					for i := range 8 {
						r.store(fmt.Sprintf("c%d", i), nil)
					}
					after(5 * time.Minute)
					held.From = time.Now()
					r.holds(held)
				} else {
					r.holds(held)
					for i := range 8 {
						r.store(fmt.Sprintf("c%d", i), nil)
					}
				}
				after(2 * time.Hour)
				if n := r.final(); n != 0 {
					t.Fatalf("%d ended while held", n)
				}
				held.Ended = time.Now()
				r.answers(func(*push.Request, int) push.Result { return c.after })
				r.holds(held)
				after(10 * time.Minute) // at most 15 without the hold
				if n := r.final(); c.after.HTTPStatus == 200 && n != 8 || c.after.HTTPStatus != 200 && n != 0 {
					t.Errorf("%d have ended soon after the release: %+v", n, r.last())
				}
				after(time.Hour)
				if n := r.final(); n != 8 {
					t.Errorf("%d have ended of 8", n)
				}
			})
		})
	}
}

// Holds that come, go and run out as the store of the holds says.
func TestHoldsThatAreFollowed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t)
		defer r.stop()
		s := &shelf{}
		h := hold.New(hold.Options{
			Records: s, OnChange: r.d.SetHolds, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Registerer: prometheus.NewRegistry(),
		})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { _ = h.Run(ctx); close(ended) }()
		defer func() { cancel(); <-ended }()
		check := func(what, id string, sent bool) {
			t.Helper()
			r.store(id, nil)
			after(time.Second)
			if c := r.call(id); (c.Pushed.Status == calls.StatusOK) != sent {
				t.Errorf("%s: %+v", what, c.Pushed)
			}
		}
		check("nothing is held", "a", true)
		held := botHeld
		held.From, held.Until = time.Now(), time.Now().Add(time.Hour)
		s.put(errors.New("away"), held)
		check("one begins while MongoDB is away", "b", true)
		s.put(nil, held)
		after(time.Second)
		check("MongoDB is back", "c", false)
		s.put(errors.New("away"), hold.Hold{})
		after(time.Minute)
		check("MongoDB is away again", "d", false)
		after(time.Hour)
		check("its time is over", "e", true)
		after(10 * time.Second)
		if n := r.count(); n[calls.StatusOK] != 5 {
			t.Errorf("nobody released them: %v", n)
		}
	})
}

// shelf is where the holds stand.
type shelf struct {
	mu  sync.Mutex
	all []hold.Hold
	err error
}

func (s *shelf) List(context.Context) ([]hold.Hold, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all, s.err
}

func (s *shelf) put(err error, all ...hold.Hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all, s.err = all, err
}

// A bot that moves to another host is held by that one's holds from then on.
func TestABotMovesAwayFromAHeldHost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t, botOf("bot", "https://old.example.com/hook"))
		defer r.stop()
		r.holds(hold.Hold{ID: "h2", Host: "old.example.com", Why: "it is replaced"})
		r.store("a", nil)
		after(time.Minute)
		r.stands("a", "h2", 0)
		r.setBots(botOf("bot", "https://new.example.com/hook"))
		after(10 * time.Second)
		if c := r.call("a"); c.Pushed.Status != calls.StatusOK {
			t.Errorf("%+v", c.Pushed)
		}
		r.setBots(botOf("bot", "https://old.example.com:443/hook"))
		r.store("b", nil)
		after(time.Second)
		r.stands("b", "h2", 0)
	})
}

// A held call whose document takes no outcome waits in memory and is not read
// each second.
func TestAHeldCallThatTakesNoOutcomeWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t)
		defer r.stop()
		refused := 0
		r.refuses = func(o *calls.Outcome) bool {
			if o.Transition == calls.ToDeferred {
				refused++
			}
			return o.Transition == calls.ToDeferred
		}
		r.holds(botHeld)
		r.store("a", nil)
		after(5 * time.Minute)
		if _, n := r.sends(); n != 0 || refused > 12 || r.settledOf("a") != 0 {
			t.Errorf("%d sends, %d writes, done %d times", n, refused, r.settledOf("a"))
		}
		r.holds()
		after(time.Minute)
		if c := r.call("a"); c.Pushed.Status != calls.StatusOK || r.settledOf("a") != 1 {
			t.Errorf("%+v", c.Pushed)
		}
	})
}

// What an operator wrote as the reason may hold a credential of the bot.
func TestTheReasonOfAHoldGivesNoCredentialAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		bot := botOf("bot", "https://crm.example.com/hook")
		bot["post_call_push"].(bson.M)["token"] = "tkn-0123456789abcdef"
		r := newRoad(t, bot)
		defer r.stop()
		r.holds(hold.Hold{ID: "h", Bot: "bot", Why: "tkn-0123456789abcdef leaked"})
		r.store("a", nil)
		after(time.Second)
		if o := r.last(); strings.Contains(o.Error, "0123456789") || !strings.Contains(o.Error, "leaked") {
			t.Errorf("%q", o.Error)
		}
	})
}
