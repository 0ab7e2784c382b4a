package dispatch

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/pkg/push"
)

// yard is lanes without a dispatcher around them: what starts is noted.
type yard struct {
	*lanes
	fatal   func(string, ...any)
	notes   sync.Mutex             // timers start calls too
	under   []*delivery            // under way
	where   map[*delivery]string   // where each call is that was offered
	started map[string]int         // by destination
	limits  map[string]bots.Limits // by destination
}

func newYard(slots, perLane int, fatal func(string, ...any)) *yard {
	y := &yard{
		fatal: fatal, where: make(map[*delivery]string),
		started: make(map[string]int), limits: make(map[string]bots.Limits),
	}
	y.lanes = newLanes(slots, perLane, 3072, newMetrics(prometheus.NewRegistry(), 0), y.begin)
	return y
}

func (y *yard) begin(d *delivery) {
	y.move(d, "waiting", "under way")
	y.notes.Lock()
	y.under = append(y.under, d)
	y.started[d.bot.Push.Destination]++
	y.notes.Unlock()
	y.mu.Lock()
	defer y.mu.Unlock()
	if most := d.lane.allowed(time.Now()); d.lane.active > most {
		y.fatal("%d under way where %d are allowed", d.lane.active, most)
	}
}

// move notes where a call is now, and that it was where it had to be.
func (y *yard) move(d *delivery, from, to string) {
	y.notes.Lock()
	defer y.notes.Unlock()
	if y.where[d] != from {
		y.fatal("a call that is %s became %s", y.where[d], to)
	}
	y.where[d] = to
}

func (y *yard) offerOne(destination string, c class) *delivery {
	d := &delivery{
		item: &item{class: c, bytes: 100, held: 1}, at: time.Now(),
		bot: &bots.Bot{Push: &bots.Push{Destination: destination, Timeout: 10 * time.Second}},
	}
	y.notes.Lock()
	y.where[d] = "waiting"
	y.notes.Unlock()
	if at, ok := y.offer(d, y.limits[destination], time.Now()); !ok {
		y.move(d, "waiting", "put off")
		if !at.After(time.Now()) {
			y.fatal("put off to %v, which is past", at)
		}
	}
	return d
}

// end ends the nth call under way.
func (y *yard) end(n int, res push.Result) {
	y.notes.Lock()
	d := y.under[n]
	y.under = slices.Delete(y.under, n, n+1)
	y.notes.Unlock()
	y.move(d, "under way", "ended")
	put, at := y.done(d, &res, time.Now())
	for _, other := range put {
		y.move(other, "waiting", "put off")
		if !at.After(time.Now()) {
			y.fatal("put off to %v, which is past", at)
		}
	}
}

// underWay is how many calls are under way.
func (y *yard) underWay() int {
	y.notes.Lock()
	defer y.notes.Unlock()
	return len(y.under)
}

// check holds the accounts against what is the case.
func (y *yard) check() {
	under := y.underWay()
	y.mu.Lock()
	defer y.mu.Unlock()
	active, busy, slow, replay, waiting, bytes := 0, 0, 0, 0, 0, int64(0)
	for key, l := range y.byKey {
		active += l.active
		busy += min(1, l.active)
		replay += l.replay
		waiting += l.waiting()
		bytes += int64(l.waiting()) * 100
		if l.slow {
			slow += l.active
		}
		if l.active > l.limit.max || l.active < 0 {
			y.fatal("%s: %d under way of at most %d", key, l.active, l.limit.max)
		}
	}
	if y.free < 0 || y.free != y.slots-active || active != under {
		y.fatal("%d slots are free of %d; %d or %d are in use", y.free, y.slots, active, under)
	}
	if y.busy != busy || y.slow != slow || y.replay != replay || y.waiting != waiting || y.bytes != bytes {
		y.fatal("accounts: slow %d (%d) replay %d (%d) waiting %d (%d) bytes %d (%d)",
			y.slow, slow, y.replay, replay, y.waiting, waiting, y.bytes, bytes)
	}
	there := 0
	for _, at := range y.where {
		if at == "waiting" {
			there++
		}
	}
	if there != waiting {
		y.fatal("%d calls wait, of %d that should", waiting, there)
	}
}

var errNoAnswer = errors.New("no answer")

// script is drawn before a bubble is entered, as rapid cannot work in one.
type script []uint32

// next is a number below n; 0 when the script is at its end.
func (s *script) next(n int) int {
	if len(*s) == 0 {
		return 0
	}
	v := (*s)[0]
	*s = (*s)[1:]
	return int(v) % n
}

func TestLanesLoseNothingAndAllowNoMoreThanTheyMay(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		drawn := script(rapid.SliceOfN(rapid.Uint32Range(0, 1<<20), 10, 500).Draw(rt, "script"))
		var wrong string
		synctest.Test(t, func(*testing.T) {
			wrong = play(drawn)
		})
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

// play does what a script says and returns the first thing that went wrong.
func play(s script) (wrong string) {
	y := newYard(1+s.next(12), 1+s.next(6), func(format string, args ...any) {
		if wrong == "" {
			wrong = fmt.Sprintf(format, args...)
		}
	})
	defer y.close()
	y.room = 16 + s.next(200)
	destinations := 1 + s.next(6)
	for i := range destinations {
		if s.next(2) == 0 {
			y.limits[fmt.Sprint(i)] = bots.Limits{
				Concurrency: s.next(4),
				PerSecond:   []float64{0, 0.5, 3, 50}[s.next(4)],
			}
		}
	}
	for len(s) > 0 && wrong == "" {
		switch s.next(10) {
		case 0, 1, 2, 3:
			for range 1 + s.next(12) {
				y.offerOne(fmt.Sprint(s.next(destinations)), class(s.next(int(classes))))
			}
		case 4, 5, 6, 7:
			if y.underWay() > 0 {
				y.end(s.next(y.underWay()), s.result())
			}
		case 8:
			time.Sleep(time.Duration(1+s.next(20_000)) * time.Millisecond)
		default:
			y.sweep(&s)
		}
		synctest.Wait()
		y.check()
	}
	y.drainAll()
	return wrong
}

func (s *script) result() push.Result {
	res := push.Result{Duration: time.Duration(s.next(9000)) * time.Millisecond}
	switch s.next(7) {
	case 0:
		res.Class, res.Err = push.ClassUnknown, errNoAnswer
	case 1:
		res.Class, res.Err = push.ClassUnreached, errNoAnswer
	case 2:
		res.Class, res.HTTPStatus, res.Err = push.ClassBusy, 429, errNoAnswer
		res.RetryAfter = time.Duration(s.next(100)) * time.Second
	case 3:
		res.Class, res.Err = push.ClassCanceled, errNoAnswer
	}
	return res
}

// sweep does what is done from time to time.
func (y *yard) sweep(s *script) {
	now := time.Now()
	for _, d := range y.overdue(now) {
		y.move(d, "waiting", "put off")
	}
	y.tidy(now)
	if s.next(4) == 0 {
		n := 0
		for _, d := range y.take(func(*delivery) bool { n++; return n%3 == 0 }) {
			y.move(d, "waiting", "taken")
		}
	}
}

// drainAll ends everything well until nothing waits any more. A call that still
// waits then would wait for ever.
func (y *yard) drainAll() {
	for range 2000 {
		synctest.Wait()
		for y.underWay() > 0 {
			y.end(0, push.Result{Duration: 10 * time.Millisecond})
		}
		synctest.Wait()
		y.mu.Lock()
		waiting := y.waiting
		y.mu.Unlock()
		if waiting == 0 {
			return
		}
		time.Sleep(time.Second)
		synctest.Wait()
	}
	y.check()
	y.fatal("calls wait for ever")
}

func TestEachClassGetsItsShareOfABusyLane(t *testing.T) {
	bubble(t, func(t *testing.T) {
		y := newYard(8, 4, t.Fatalf)
		defer y.close()
		begun := make(map[class]int)
		for range 4000 {
			for c := range classes {
				for y.countWaiting("crm", c) < 3 {
					y.offerOne("crm", c)
				}
			}
			begun[y.under[0].class]++
			y.end(0, push.Result{Duration: 20 * time.Millisecond})
		}
		if begun[classLive] < 2500 || begun[classDue] < 600 || begun[classReplay] < 150 {
			t.Errorf("of 4000 starts: %v", begun)
		}
	})
}

func (y *yard) countWaiting(destination string, c class) int {
	if l := y.byKey[destination]; l != nil {
		return l.queue[c].len()
	}
	return 0
}

func TestABusyLaneLeavesTheOthersTheirTurn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		y := newYard(4, 4, t.Fatalf) // one lane could take all slots
		defer y.close()
		for range 300 {
			for _, to := range []string{"busy", "busy", "busy", "rare"} {
				if y.countWaiting(to, classLive) < 10 {
					y.offerOne(to, classLive)
				}
			}
			y.end(0, push.Result{Duration: 20 * time.Millisecond})
		}
		if y.started["rare"] < 100 {
			t.Errorf("starts %v", y.started)
		}
	})
}

// The last replays of one lane wait for slots that the replays of another hold.
func TestReplaysGoOnWhenThoseOfOthersEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		y := newYard(4, 4, t.Fatalf) // one slot for replays
		defer y.close()
		y.offerOne("a", classReplay)
		y.offerOne("b", classReplay)
		if y.underWay() != 1 {
			t.Fatalf("%d replays under way", len(y.under))
		}
		y.end(0, push.Result{Duration: time.Millisecond})
		if y.underWay() != 1 || y.started["b"] != 1 {
			t.Errorf("started %v", y.started)
		}
	})
}

func TestBotsOfOneDestinationShareTheLowestLimits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		y := newYard(64, 16, t.Fatalf)
		defer y.close()
		y.limits["crm"] = bots.Limits{Concurrency: 2, PerSecond: 10}
		begun := time.Now()
		for range 60 {
			y.offerOne("crm", classLive)
		}
		most := 0
		for time.Since(begun) < 4*time.Second {
			most = max(most, y.underWay())
			for y.underWay() > 0 {
				y.end(0, push.Result{Duration: 5 * time.Millisecond})
			}
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
		}
		if n := y.started["crm"]; most > 2 || n > 10+40 || n < 40 {
			t.Errorf("%d sent in 4 s at 10 a second, %d at once", n, most)
		}
	})
}

func TestADestinationThatThrottlesIsSentLess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		y := newYard(64, 16, t.Fatalf)
		defer y.close()
		const allows = 20 // a second; it names no Retry-After
		var recent []time.Time
		refused, served := 0, 0
		begun := time.Now()
		for time.Since(begun) < 2*time.Minute {
			for range 10 {
				y.offerOne("crm", classLive)
			}
			for n := y.underWay(); n > 0; n-- {
				now := time.Now()
				recent = slices.DeleteFunc(recent, func(at time.Time) bool { return now.Sub(at) >= time.Second })
				if len(recent) >= allows {
					refused++
					y.end(0, push.Result{Class: push.ClassBusy, HTTPStatus: 429, Err: errNoAnswer, Duration: 20 * time.Millisecond})
					continue
				}
				recent = append(recent, now)
				served++
				y.end(0, push.Result{Duration: 20 * time.Millisecond})
			}
			synctest.Wait()
			time.Sleep(20 * time.Millisecond)
			synctest.Wait()
		}
		// 500 a second want to go.
		if served < allows*120/2 || refused > served/10 {
			t.Errorf("%d served, %d refused of 2 minutes at %d a second", served, refused, allows)
		}
		t.Logf("served %d, refused %d", served, refused)
	})
}

// A queue that is never empty must not grow.
func TestAQueueUsesItsRoomAgain(t *testing.T) {
	var q fifo
	for range 3 {
		q.push(&delivery{})
	}
	for range 100_000 {
		q.push(&delivery{})
		q.pop()
	}
	if cap(q.items) > 64 || q.len() != 3 {
		t.Errorf("%d calls in room for %d", q.len(), cap(q.items))
	}
}
