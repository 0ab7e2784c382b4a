package dispatch

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/push"
)

func TestAResultIsPushedOnceAndThenSettled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t)
		defer r.stop()
		r.store("a", nil)
		synctest.Wait()
		if o := r.last(); o.Status != calls.StatusOK || o.Attempts != 1 || !o.Final() || o.HTTPStatus != 200 {
			t.Errorf("outcome %+v", o)
		}
		if r.settled["a"] != 1 {
			t.Errorf("settled %d times", r.settled["a"])
		}
		r.submit("a") // a restart reads the event again
		synctest.Wait()
		if _, n := r.sends(); n != 1 {
			t.Errorf("sent %d times", n)
		}
		if r.settled["a"] != 2 {
			t.Errorf("the second event was settled %d times", r.settled["a"]-1)
		}
	})
}

func TestAResultStoredAnewIsANewDelivery(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t)
		defer r.stop()
		r.store("a", nil)
		synctest.Wait()
		first := r.last().DeliveryID
		time.Sleep(time.Minute)
		r.store("a", bson.M{"completed_at": time.Now()})
		synctest.Wait()
		if second := r.last().DeliveryID; second == first {
			t.Error("both results have one delivery id")
		}
		if n, total := r.sends(); n != 2 || total != 2 {
			t.Errorf("%d deliveries in %d sends", n, total)
		}
	})
}

func TestAResultStoredAnewWhileTheOldOneIsSentIsPushedAfterIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t)
		defer r.stop()
		r.answer = func(*push.Request, int) push.Result {
			res := answered(200)
			res.Duration = 5 * time.Second
			return res
		}
		r.store("a", nil)
		synctest.Wait()
		time.Sleep(time.Second)
		r.store("a", bson.M{"completed_at": time.Now()})
		r.submit("a")
		synctest.Wait()
		if _, total := r.sends(); total != 1 {
			t.Fatalf("%d sends while the first is under way", total)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n, total := r.sends(); n != 2 || total != 2 {
			t.Errorf("%d deliveries in %d sends", n, total)
		}
		if r.settled["a"] != 3 {
			t.Errorf("%d of 3 events settled", r.settled["a"])
		}
		if got := r.last(); got.CompletedAt.Equal(r.outcomes[0].CompletedAt) {
			t.Error("the older result was recorded last")
		}
	})
}

func TestReasonsNotToPush(t *testing.T) {
	noURL := bson.M{"_id": "nourl", "post_call_push": bson.M{"key_mapper": bson.M{"a": "b"}}}
	broken := bson.M{"_id": "broken", "post_call_push": bson.M{"url": "https://crm.example.com", "key_mapper": 7}}
	off := bson.M{"_id": "off", "post_call_push": bson.M{"url": "https://crm.example.com", "enabled": false}}
	for _, tc := range []struct {
		name   string
		fields bson.M
		want   calls.Status // "" when nothing is written
		count  Reason
	}{
		{"agent call", bson.M{"call_type": "agent"}, "", ReasonAgentCall},
		{"no result", bson.M{"completed_at": nil}, "", ReasonNoResult},
		{"unknown bot", bson.M{"bot_id": "who"}, "", ReasonNoConfig},
		{"switched off", bson.M{"bot_id": "off"}, "", ReasonDisabled},
		{"skip flag", bson.M{"skip_post_push": true}, "", ReasonSkipFlag},
		{"no url", bson.M{"bot_id": "nourl"}, calls.StatusSkipped, NoReason},
		{"unusable", bson.M{"bot_id": "broken"}, calls.StatusFailed, NoReason},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRoad(t, botOf("bot", "https://crm.example.com/hook"), noURL, broken, off)
				defer r.stop()
				r.store("a", tc.fields)
				synctest.Wait()
				if _, n := r.sends(); n != 0 {
					t.Errorf("sent %d times", n)
				}
				if r.settled["a"] != 1 {
					t.Errorf("settled %d times", r.settled["a"])
				}
				if tc.want == "" {
					if len(r.outcomes) != 0 {
						t.Errorf("recorded %+v", r.outcomes)
					}
					if got := counter(t, r.d.metrics.skips[tc.count]); got != 1 {
						t.Errorf("counted %v times", got)
					}
					return
				}
				if o := r.last(); o.Status != tc.want || !o.Final() || o.Error == "" || o.Attempts != 0 {
					t.Errorf("recorded %+v", o)
				}
			})
		})
	}
}

func TestACallThatIsGoneIsSettled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t)
		defer r.stop()
		r.submit("gone")
		synctest.Wait()
		if r.settled["gone"] != 1 {
			t.Errorf("settled %d times", r.settled["gone"])
		}
	})
}

func TestTriesFollowTheScheduleFromTheDocument(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t)
		defer r.stop()
		r.answer = func(*push.Request, int) push.Result { return answered(503) }
		r.store("a", nil)
		synctest.Wait()
		first := r.last()
		if first.Status != calls.StatusRejected || first.Final() || first.Attempts != 1 {
			t.Fatalf("first outcome %+v", first)
		}
		if r.settled["a"] != 1 {
			t.Error("a call that is due again still holds its event")
		}
		wait := time.Until(first.NextAttemptAt)
		if wait < 15*time.Second || wait > 45*time.Second {
			t.Errorf("the second try is in %v", wait)
		}
		time.Sleep(wait - time.Millisecond)
		synctest.Wait()
		if _, n := r.sends(); n != 1 {
			t.Errorf("tried again too early: %d sends", n)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if o := r.last(); o.Attempts != 2 || o.Final() {
			t.Fatalf("second outcome %+v", o)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if o := r.last(); o.Attempts != 3 || !o.Final() || o.Status != calls.StatusRejected {
			t.Errorf("last outcome %+v", o)
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if n, total := r.sends(); n != 1 || total != 3 {
			t.Errorf("%d deliveries in %d sends", n, total)
		}
	})
}

func TestADueCallOfABotThatPushesNoMoreIsWithdrawn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t)
		defer r.stop()
		r.answer = func(*push.Request, int) push.Result { return answered(503) }
		r.store("a", nil)
		synctest.Wait()
		r.setBots(bson.M{"_id": "bot"})
		time.Sleep(time.Hour)
		synctest.Wait()
		if o := r.last(); o.Transition != calls.ToWithdrawn || o.Attempts != 1 || !o.Final() {
			t.Errorf("outcome %+v", o)
		}
		if _, n := r.sends(); n != 1 {
			t.Errorf("%d sends", n)
		}
	})
}

func TestReadsThatFailAreRepeated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t)
		defer r.stop()
		r.mu.Lock()
		r.loadErr = io.ErrUnexpectedEOF
		r.mu.Unlock()
		r.store("a", nil)
		time.Sleep(time.Minute)
		r.mu.Lock()
		r.loadErr = nil
		r.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if o := r.last(); o.Status != calls.StatusOK {
			t.Errorf("outcome %+v", o)
		}
	})
}

func TestADeadDestinationCostsTheOthersNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const dead, alive, n = "https://dead.example.com/hook", "https://alive.example.com/hook", 2000
		r := newRoad(t, botOf("dead", dead), botOf("alive", alive))
		defer r.stop()
		r.answer = func(req *push.Request, _ int) push.Result {
			if req.URL == dead {
				return push.Result{Class: push.ClassUnknown, Duration: 10 * time.Second, Err: context.DeadlineExceeded}
			}
			res := answered(200)
			res.Duration = 10 * time.Millisecond
			return res
		}
		begun := time.Now()
		for i := range n {
			r.store(fmt.Sprintf("d%04d", i), bson.M{"bot_id": "dead"})
			r.store(fmt.Sprintf("a%04d", i), bson.M{"bot_id": "alive"})
		}
		for r.countOf(alive) < n {
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
		}
		slowest := time.Since(begun)
		// 8 at a time, 10 ms each, and some put off for up to 6 s once.
		if slowest > 20*time.Second {
			t.Errorf("the live destination took %v", slowest)
		}
		if got := r.peak(dead); got > 8 {
			t.Errorf("%d requests to the dead destination at once", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if held := r.intake.Held(); held > 8 {
			t.Errorf("%d calls of a dead destination are held in memory", held)
		}
		if _, total := r.sends(); total > n+200 {
			t.Errorf("%d requests went to the dead destination", total-n)
		}
	})
}

// peak is the most requests that were under way to a URL at once.
func (r *road) peak(url string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.most[url]
}

// countOf is how many deliveries to a URL were answered.
func (r *road) countOf(url string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, o := range r.outcomes {
		if o.URL == url && o.Status == calls.StatusOK {
			n++
		}
	}
	return n
}

func TestADestinationThatComesBackGetsEverything(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoadOf(t, func(o *Options) { o.Schedule = push.DefaultSchedule() })
		defer r.stop()
		back := time.Now().Add(10 * time.Minute)
		r.answer = func(*push.Request, int) push.Result {
			if time.Now().Before(back) {
				return push.Result{Class: push.ClassUnreached, Err: io.EOF}
			}
			res := answered(200)
			res.Duration = 20 * time.Millisecond
			return res
		}
		const n = 500
		for i := range n {
			r.store(fmt.Sprintf("c%03d", i), nil)
		}
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if got := r.count(); got[calls.StatusOK] != n {
			t.Errorf("statuses %v", got)
		}
		if d, _ := r.sends(); d != n {
			t.Errorf("%d deliveries", d)
		}
	})
}

func TestABotsRateIsKept(t *testing.T) {
	bubble(t, func(t *testing.T) {
		bot := botOf("bot", "https://crm.example.com/hook")
		bot["post_call_push"].(bson.M)["rate_limit_per_second"] = 5
		r := newRoad(t, bot)
		defer r.stop()
		begun := time.Now()
		for i := range 100 {
			r.store(fmt.Sprintf("c%03d", i), nil)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		_, n := r.sends()
		// A burst of one second's worth, then 5 a second.
		if most := 5 + int(time.Since(begun).Seconds()*5); n > most || n < most/2 {
			t.Errorf("%d sends in %v, want up to %d", n, time.Since(begun), most)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got := r.count(); got[calls.StatusOK] != 100 {
			t.Errorf("statuses %v", got)
		}
	})
}

func TestRetryAfterHoldsTheDestination(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t)
		defer r.stop()
		var throttled atomic.Bool
		throttled.Store(true)
		r.answer = func(*push.Request, int) push.Result {
			if throttled.Load() {
				res := answered(429)
				res.RetryAfter = 2 * time.Minute
				return res
			}
			return answered(200)
		}
		r.store("a", nil)
		synctest.Wait()
		r.store("b", nil)
		synctest.Wait()
		time.Sleep(119 * time.Second)
		synctest.Wait()
		if _, n := r.sends(); n != 1 {
			t.Fatalf("%d sends before the destination wanted them", n)
		}
		throttled.Store(false)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if got := r.count(); got[calls.StatusOK] != 2 {
			t.Errorf("statuses %v", got)
		}
	})
}

func TestStopLetsAttemptsEndAndDropsTheRest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t)
		r.answer = func(*push.Request, int) push.Result {
			res := answered(200)
			res.Duration = 5 * time.Second
			return res
		}
		for i := range 50 {
			r.store(fmt.Sprintf("c%02d", i), nil)
		}
		synctest.Wait()
		r.intake.Stop()
		<-r.intake.Idle()
		_, n := r.sends()
		settled := 0
		for _, k := range r.settled {
			settled += k
		}
		if n == 0 || n > 8 || settled != n || len(r.outcomes) != n {
			t.Errorf("%d sent, %d settled, %d recorded", n, settled, len(r.outcomes))
		}
		if err := r.intake.Submit(t.Context(), Event{ID: bson.RawValue{Type: bson.TypeNull}}, func() {}); err == nil {
			t.Error("a stopped intake takes calls")
		}
		r.stop()
	})
}

func TestAbortSettlesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t)
		r.answer = func(*push.Request, int) push.Result {
			res := answered(200)
			res.Duration = time.Hour
			return res
		}
		r.store("a", nil)
		synctest.Wait()
		r.intake.Stop()
		r.intake.Abort()
		<-r.intake.Idle()
		if len(r.settled) != 0 || len(r.outcomes) != 0 {
			t.Errorf("settled %v, recorded %v", r.settled, r.outcomes)
		}
		r.stop()
	})
}
