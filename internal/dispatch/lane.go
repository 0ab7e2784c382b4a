package dispatch

import (
	"time"

	"golang.org/x/time/rate"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/pkg/push"
)

// lane is the way to one destination: its concurrency, its rate, its breaker
// and the few calls that wait for it in memory. The lanes' lock guards it.
type lane struct {
	limit   limit
	breaker breaker
	rate    *rate.Limiter // nil: no limit was set or learned
	set     float64       // the configured rate, 0 for none
	hold    time.Time     // what the destination asked for: nothing before it

	queue  [classes]fifo
	turn   int // counts starts, for the shares of the classes
	active int
	replay int // of these, replayed
	listed bool
	timer  *time.Timer
	// throttledAt is since when the rate alone holds calls up; zero when it does not.
	throttledAt time.Time
	used        time.Time
	lastErr     string
}

// class orders the calls of a lane.
type class uint8

const (
	classLive   class = iota // from the stream, or swept
	classDue                 // tried before, or put off
	classReplay              // an operator wants it again
	classes
)

// The bounds of what waits in memory. What does not fit stands on its document
// and comes back from there.
const (
	maxQueued  = 1024            // calls in one lane, a quarter of what may be pending by default
	maxWait    = 5 * time.Second // in one lane, expected and in fact
	firstQueue = 512             // calls in a lane whose speed is not known yet
	probeQueue = 4               // calls in a lane whose breaker is half open
	// oneIn is the least share of the starts that due and replayed calls get
	// while live ones wait.
	oneIn = 4
	// replayQueue is how many replayed calls may wait in one lane.
	replayQueue = 32
	// replayShare is the part of a lane that replayed calls may hold.
	replayShare = 0.25
)

func newLane(most int) *lane { return &lane{limit: newLimit(most), breaker: newBreaker()} }

// configure follows the configuration of the bot of a new call. Bots that
// share a destination should agree; where they do not, the newest wins.
func (l *lane) configure(p *bots.Push, most int) {
	if p.MaxConcurrency > 0 {
		most = min(most, p.MaxConcurrency)
	}
	if most != l.limit.max {
		l.limit.setMax(most)
	}
	if p.RatePerSecond != l.set {
		l.set = p.RatePerSecond
		l.rate = nil
		if l.set > 0 {
			l.rate = rate.NewLimiter(rate.Limit(l.set), max(1, int(l.set)))
		}
	}
}

// queued is how many calls wait that are as urgent as c, or more so.
func (l *lane) queued(c class) int {
	n := 0
	for i := range c + 1 {
		n += l.queue[i].len()
	}
	return n
}

// waiting is how many calls wait.
func (l *lane) waiting() int { return l.queued(classes - 1) }

// room is how many more calls of a class may wait here. Less urgent calls take
// none of the room of more urgent ones.
func (l *lane) room(c class) int {
	most := firstQueue
	switch {
	case l.breaker.open:
		most = probeQueue
	case l.limit.latency > 0:
		perSecond := float64(l.limit.allowed()) / max(l.limit.latency, 0.001)
		if l.set > 0 {
			perSecond = min(perSecond, l.set)
		}
		most = min(maxQueued, max(1, int(perSecond*maxWait.Seconds())))
	}
	if c == classReplay {
		most = min(most, replayQueue)
	}
	return most - l.queued(c)
}

// blockedUntil returns when the lane takes calls again, or zero when it does.
func (l *lane) blockedUntil(now time.Time) time.Time {
	until := l.breaker.openUntil(now)
	if l.hold.After(until) {
		until = l.hold
	}
	if !until.After(now) {
		return time.Time{}
	}
	return until
}

// next takes the call to start now; nil when there is none, with the time to
// look again when only the rate is in the way. replays says whether there is a
// slot for a replayed call.
func (l *lane) next(now time.Time, replays bool) (*delivery, time.Duration) {
	if l.waiting() == 0 || l.active >= l.allowed(now) {
		return nil, 0
	}
	if until := l.blockedUntil(now); !until.IsZero() {
		return nil, until.Sub(now)
	}
	from := l.pick(replays)
	if from == classes {
		return nil, 0
	}
	if l.rate != nil {
		if r := l.rate.ReserveN(now, 1); r.DelayFrom(now) > 0 {
			wait := r.DelayFrom(now)
			r.CancelAt(now)
			return nil, wait
		}
	}
	d := l.queue[from].pop()
	l.turn++
	l.active++
	if from == classReplay {
		l.replay++
	}
	return d, 0
}

// allowed is the concurrency of this moment: a breaker that is half open lets
// one through.
func (l *lane) allowed(now time.Time) int {
	if l.breaker.probing(now) {
		return 1
	}
	return l.limit.allowed()
}

// pick chooses the class of the next start.
func (l *lane) pick(replays bool) class {
	mayReplay := replays && l.queue[classReplay].len() > 0 &&
		(l.replay == 0 || float64(l.replay+1) <= replayShare*float64(l.limit.allowed()))
	if l.turn%oneIn == oneIn-1 {
		if l.queue[classDue].len() > 0 {
			return classDue
		}
		if mayReplay {
			return classReplay
		}
	}
	for _, c := range []class{classLive, classDue} {
		if l.queue[c].len() > 0 {
			return c
		}
	}
	if mayReplay {
		return classReplay
	}
	return classes
}

// took takes the end of an attempt.
func (l *lane) took(d *delivery, res *push.Result, now time.Time) {
	l.active--
	if d.class == classReplay {
		l.replay--
	}
	l.used = now
	if res.Class == push.ClassCanceled {
		l.breaker.canceled()
		return
	}
	if res.RetryAfter > 0 {
		if until := now.Add(min(res.RetryAfter, maxHold)); until.After(l.hold) {
			l.hold = until
		}
	}
	switch judge(res) {
	case healthy:
		l.breaker.succeeded()
		l.limit.grow(res.Duration, l.active+1, now)
		l.lastErr = ""
	case strained:
		l.breaker.succeeded()
		l.limit.cut(now)
	case down:
		if l.breaker.failed(now) {
			l.limit.restart()
		}
		l.limit.cut(now)
	}
	if res.Err != nil {
		l.lastErr = res.Err.Error()
	}
}

// maxHold bounds how long one Retry-After holds a whole lane. The call that
// got it waits as long as it says; the others ask again after this.
const maxHold = 5 * time.Minute

// health is what an attempt says about a destination, not about its call.
type health uint8

const (
	healthy  health = iota // it answered, whatever it said of the call
	strained               // it asks for fewer requests
	down                   // it did not answer, or is failing
)

func judge(res *push.Result) health {
	switch res.Class {
	case push.ClassUnreached, push.ClassUnknown:
		return down
	case push.ClassBusy:
		if res.HTTPStatus == 429 || res.HTTPStatus == 425 {
			return strained
		}
		return down
	default:
		return healthy
	}
}

// overdue takes the calls that have waited for too long.
func (l *lane) overdue(now time.Time) []*delivery {
	var late []*delivery
	for c := range l.queue {
		q := &l.queue[c]
		for q.len() > 0 && now.Sub(q.items[q.head].at) > maxWait {
			late = append(late, q.pop())
		}
	}
	return late
}

// fifo is a queue of calls.
type fifo struct {
	items []*delivery
	head  int
}

func (f *fifo) len() int { return len(f.items) - f.head }

func (f *fifo) push(d *delivery) { f.items = append(f.items, d) }

func (f *fifo) pop() *delivery {
	d := f.items[f.head]
	f.items[f.head] = nil
	f.head++
	if f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
	}
	return d
}
