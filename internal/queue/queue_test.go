package queue

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// yard is a queue without a road around it: what starts is noted.
type yard struct {
	*Queue
	fatal   func(string, ...any)
	notes   sync.Mutex           // timers start jobs too
	under   []*noted             // those that run
	where   map[*noted]string    // where each job is that was offered
	started map[string]int       // by key
	limits  map[string]Limits    // by key
	cost    func(n *noted) int64 // 100 by default
	label   string
}

// noted is a job of a yard.
type noted struct {
	Job
	y *yard
}

// Start implements Owner.
func (n *noted) Start() {
	y := n.y
	y.move(n, "waiting", "running")
	y.notes.Lock()
	y.under = append(y.under, n)
	y.started[n.Key]++
	y.notes.Unlock()
	y.mu.Lock()
	defer y.mu.Unlock()
	if most := n.lane.allowed(time.Now()); n.lane.active > most {
		y.fatal("%d run where %d are allowed", n.lane.active, most)
	}
}

// Defer implements Owner.
func (n *noted) Defer(until time.Time) {
	n.y.move(n, "waiting", "deferred")
	if !until.After(time.Now()) {
		n.y.fatal("deferred to %v, which is past", until)
	}
}

func newYard(slots, perLane int, fatal func(string, ...any)) *yard {
	return &yard{
		Queue: New(Options{
			Slots: slots, PerLane: perLane, Unproven: 8 * slots, Room: 3072, RoomCost: 1 << 20,
			Registerer: prometheus.NewRegistry(),
		}),
		fatal: fatal, where: make(map[*noted]string), started: make(map[string]int), limits: make(map[string]Limits),
		cost: func(*noted) int64 { return 100 },
	}
}

// move notes where a job is now, and that it was where it had to be.
func (y *yard) move(n *noted, from, to string) {
	y.notes.Lock()
	defer y.notes.Unlock()
	if y.where[n] != from {
		y.fatal("a job that is %s became %s", y.where[n], to)
	}
	y.where[n] = to
}

func (y *yard) offer(key string, c Class) *noted {
	n := &noted{y: y}
	n.Job = Job{Key: key, Class: c, Limits: y.limits[key], Timeout: 10 * time.Second, Owner: n, Label: y.label}
	n.Cost = y.cost(n)
	y.notes.Lock()
	y.where[n] = "waiting"
	y.notes.Unlock()
	if at, ok := y.Offer(&n.Job); !ok {
		n.Defer(at)
	}
	return n
}

// end ends the nth job that runs.
func (y *yard) end(i int, r Report) {
	y.notes.Lock()
	n := y.under[i]
	y.under = slices.Delete(y.under, i, i+1)
	y.notes.Unlock()
	y.move(n, "running", "ended")
	y.Done(&n.Job, r)
}

// running is how many jobs run.
func (y *yard) running() int {
	y.notes.Lock()
	defer y.notes.Unlock()
	return len(y.under)
}

// check holds the accounts against what is the case.
func (y *yard) check() {
	running := y.running()
	y.mu.Lock()
	defer y.mu.Unlock()
	var want sums
	active, waiting := 0, 0
	for key, l := range y.byKey {
		cost := int64(0)
		for c := range l.queue {
			for _, j := range l.queue[c].items[l.queue[c].head:] {
				cost += j.Cost
			}
		}
		y.notes.Lock()
		for _, n := range y.under {
			if n.Key == key {
				cost += n.Cost
			}
		}
		y.notes.Unlock()
		if l.cost != cost || l.active < 0 || l.active > l.limit.max {
			y.fatal("%s: cost %d (%d), %d run of at most %d", key, l.cost, cost, l.active, l.limit.max)
		}
		active += l.active
		waiting += l.waiting()
		want.add(l.part(), 1)
	}
	if y.sums != want || active != running || y.sums.waiting != waiting {
		y.fatal("accounts %+v, want %+v; %d run of %d, %d wait", y.sums, want, active, running, waiting)
	}
	if active > y.o.Slots+y.o.Unproven || y.sums.beside > y.o.Unproven {
		y.fatal("%d jobs run with %d slots, %d beside them", active, y.o.Slots, y.sums.beside)
	}
	there := 0
	for _, at := range y.where {
		if at == "waiting" {
			there++
		}
	}
	if there != waiting {
		y.fatal("%d jobs wait, of %d that should", waiting, there)
	}
}

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

func TestTheQueueLosesNothingAndAllowsNoMoreThanItMay(t *testing.T) {
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
	y.o.Room = 16 + s.next(200)
	y.o.RoomCost = int64(1000 + s.next(20_000))
	y.cost = func(*noted) int64 { return int64(1 + s.next(400)) }
	keys := 1 + s.next(6)
	for i := range keys {
		if s.next(2) == 0 {
			y.limits[fmt.Sprint(i)] = Limits{
				Concurrency: s.next(4),
				PerSecond:   []float64{0, 0.5, 3, 50}[s.next(4)],
			}
		}
	}
	for len(s) > 0 && wrong == "" {
		switch s.next(10) {
		case 0, 1, 2, 3:
			for range 1 + s.next(12) {
				y.offer(fmt.Sprint(s.next(keys)), Class(s.next(int(classCount))))
			}
		case 4, 5, 6, 7:
			if y.running() > 0 {
				y.end(s.next(y.running()), s.report())
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

func (s *script) report() Report {
	r := Report{Took: time.Duration(s.next(9000)) * time.Millisecond}
	switch s.next(7) {
	case 0, 1:
		r.Health, r.Problem = Down, "no answer"
	case 2:
		r.Health, r.Problem, r.RetryAfter = Busy, "429", time.Duration(s.next(100))*time.Second
	case 3:
		r.Health = Interrupted
	}
	return r
}

// sweep does what is done from time to time.
func (y *yard) sweep(s *script) {
	y.tick(time.Now())
	if s.next(4) == 0 {
		i := 0
		for _, owner := range y.Remove(func(Owner) bool { i++; return i%3 == 0 }) {
			y.move(owner.(*noted), "waiting", "removed")
		}
	}
	if s.next(8) == 0 {
		y.Ramp(fmt.Sprint(s.next(6)), "")
	}
	if s.next(3) == 0 && y.running() > 0 {
		y.notes.Lock()
		n := y.under[0]
		y.notes.Unlock()
		y.Grow(&n.Job, int64(s.next(300)))
	}
}

// drainAll ends everything well until nothing waits any more. A job that still
// waits then would wait for ever.
func (y *yard) drainAll() {
	for range 2000 {
		synctest.Wait()
		for y.running() > 0 {
			y.end(0, Report{Took: 10 * time.Millisecond})
		}
		synctest.Wait()
		y.mu.Lock()
		waiting := y.sums.waiting
		y.mu.Unlock()
		if waiting == 0 {
			return
		}
		time.Sleep(time.Second)
		synctest.Wait()
	}
	y.check()
	y.fatal("jobs wait for ever")
}

func TestEachClassGetsItsShareOfABusyLane(t *testing.T) {
	bubble(t, func(t *testing.T) {
		y := newYard(8, 4, t.Fatalf)
		defer y.close()
		begun := make(map[Class]int)
		for range 4000 {
			for c := range classCount {
				for y.countWaiting("crm", c) < 3 {
					y.offer("crm", c)
				}
			}
			begun[y.under[0].Class]++
			y.end(0, Report{Took: 20 * time.Millisecond})
		}
		if begun[Live] < 2500 || begun[Due] < 600 || begun[Replay] < 150 {
			t.Errorf("of 4000 starts: %v", begun)
		}
	})
}

func (y *yard) countWaiting(key string, c Class) int {
	if l := y.byKey[key]; l != nil {
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
				if y.countWaiting(to, Live) < 10 {
					y.offer(to, Live)
				}
			}
			y.end(0, Report{Took: 20 * time.Millisecond})
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
		y.offer("a", Replay)
		y.offer("b", Replay)
		if y.running() != 1 {
			t.Fatalf("%d replays run", len(y.under))
		}
		y.end(0, Report{Took: time.Millisecond})
		if y.running() != 1 || y.started["b"] != 1 {
			t.Errorf("started %v", y.started)
		}
	})
}

func TestALaneKeepsToItsLimits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		y := newYard(64, 16, t.Fatalf)
		defer y.close()
		y.limits["crm"] = Limits{Concurrency: 2, PerSecond: 10}
		begun := time.Now()
		for range 60 {
			y.offer("crm", Live)
		}
		most := 0
		for time.Since(begun) < 4*time.Second {
			most = max(most, y.running())
			for y.running() > 0 {
				y.end(0, Report{Took: 5 * time.Millisecond})
			}
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
		}
		if n := y.started["crm"]; most > 2 || n > 10+40 || n < 40 {
			t.Errorf("%d started in 4 s at 10 a second, %d at once", n, most)
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
				y.offer("crm", Live)
			}
			for n := y.running(); n > 0; n-- {
				now := time.Now()
				recent = slices.DeleteFunc(recent, func(at time.Time) bool { return now.Sub(at) >= time.Second })
				if len(recent) >= allows {
					refused++
					y.end(0, Report{Health: Busy, Problem: "429", Took: 20 * time.Millisecond})
					continue
				}
				recent = append(recent, now)
				served++
				y.end(0, Report{Took: 20 * time.Millisecond})
			}
			synctest.Wait()
			time.Sleep(20 * time.Millisecond)
			synctest.Wait()
		}
		// 500 a second want to go.
		if served < allows*120/2 || refused > served/10 {
			t.Errorf("%d served, %d refused of 2 minutes at %d a second", served, refused, allows)
		}
	})
}

// A job whose lane does not move leaves after a while, without anybody asking.
func TestAJobDoesNotWaitForLong(t *testing.T) {
	bubble(t, func(t *testing.T) {
		y := newYard(8, 1, t.Fatalf)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { y.Run(ctx); close(ended) }()
		y.offer("crm", Live)
		late := y.offer("crm", Live)
		time.Sleep(maxWait + 2*tickEvery)
		y.notes.Lock()
		if y.where[late] != "deferred" {
			t.Errorf("it is %s", y.where[late])
		}
		y.notes.Unlock()
		cancel()
		<-ended
	})
}

// A queue that is never empty must not grow.
func TestAQueueUsesItsRoomAgain(t *testing.T) {
	var q fifo
	for range 3 {
		q.push(&Job{})
	}
	for range 100_000 {
		q.push(&Job{})
		q.pop()
	}
	if cap(q.items) > 64 || q.len() != 3 {
		t.Errorf("%d jobs in room for %d", q.len(), cap(q.items))
	}
}

// bubble runs a test on a fake clock.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}
