package dispatch

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/render"
)

// balance checks that what was taken is what ended and what is pending.
func (r *road) balance() (flow, int64) {
	r.t.Helper()
	f, pending := r.d.account()
	var taken, ended uint64
	for from := range sources {
		taken += f.taken[from]
		for end := range endings {
			ended += f.ended[from][end]
		}
	}
	if taken != ended+uint64(pending) {
		r.t.Errorf("taken %d, but %d ended and %d pending", taken, ended, pending)
	}
	return f, pending
}

func TestEveryCallIsAccountedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoad(t, botOf("bot", "https://crm.example.com/hook"), botOf("nowhere", ""))
		r.answer = func(req *push.Request, n int) push.Result {
			switch string(req.Body) {
			case `{"id":"refused"}`:
				return answered(400)
			case `{"id":"busy"}`:
				if n == 1 {
					return answered(503)
				}
			case `{"id":"lost"}`:
				return push.Result{Class: push.ClassBlocked, Err: errors.New("blocked")}
			case `{"id":"slow"}`:
				return push.Result{Class: push.ClassOK, HTTPStatus: 200, Duration: time.Hour}
			}
			return answered(200)
		}
		for _, id := range []string{"fine", "refused", "busy", "lost", "slow"} {
			r.store(id, nil)
		}
		r.store("flagged", bson.M{"skip_post_push": true})
		r.store("unaddressed", bson.M{"bot_id": "nowhere"})
		r.submit("gone")
		r.submit("slow") // once more while it is under way
		synctest.Wait()
		f, pending := r.balance()
		want := flow{
			taken: [sources]uint64{fromStored: 9},
			ended: [sources][endings]uint64{fromStored: {endOK: 1, endRejected: 1, endFailed: 1, endSkipped: 1, endDue: 1, endIgnored: 2}},
		}
		if f != want || pending != 2 {
			t.Errorf("flow %+v with %d pending, want %+v with 2", f, pending, want)
		}

		time.Sleep(time.Minute) // in fake time: the second try of the busy one
		synctest.Wait()
		f, _ = r.balance()
		if f.taken[fromDue] != 1 || f.ended[fromDue][endOK] != 1 {
			t.Errorf("the due call: %+v", f)
		}

		r.intake.Abort()
		r.stop()
		f, pending = r.balance()
		if pending != 0 || f.ended[fromStored][endReleased] != 2 {
			t.Errorf("after the stop: %+v with %d pending, want 2 released and none pending", f, pending)
		}
	})
}

// BenchmarkMissed shows what counting unresolved tokens costs: a payload of 25
// keys of which 10 come to nothing, with the count and without.
func BenchmarkMissed(b *testing.B) {
	mapper := bson.D{}
	for i := range 25 {
		text := "{{call.NAME}}"
		if i%5 < 2 {
			text = "{{analysis.DISPOSITION}}"
		}
		mapper = append(mapper, bson.E{Key: fmt.Sprintf("key_%d", i), Value: text})
	}
	bot := prepareBot(b, bson.M{"url": "https://crm.example.com", "key_mapper": mapper})
	call := prepareCall(b, nil)
	var counts misses
	for name, missed := range map[string]func(*render.Token, render.Miss){"counted": counts.missed, "not_counted": nil} {
		b.Run(name, func(b *testing.B) {
			env := PrepareEnv{Render: render.Options{Missed: missed}}
			b.ReportAllocs()
			for b.Loop() {
				Prepare(call, bot, env)
			}
		})
	}
}

// BenchmarkCounters shows what all counters of one pushed call cost.
func BenchmarkCounters(b *testing.B) {
	reg := prometheus.NewRegistry()
	m := newMetrics(reg, 100)
	bot := prepareBot(b, bson.M{"url": "https://crm.example.com"})
	now := time.Now()
	o := &calls.Outcome{Attempt: calls.Attempt{Status: calls.StatusOK}, CompletedAt: now.Add(-time.Second)}
	b.ReportAllocs()
	for b.Loop() {
		m.queueSeconds.Observe(.001)
		m.bots.attempted(bot, push.ClassOK)
		m.recorded(o, now)
		m.bots.recorded("bot-1", o)
	}
}
