package dispatch

import (
	"net/http"
	"sync/atomic"
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
	pace    pace          // the learned rate
	hold    time.Time     // what the destination asked for: nothing before it

	queue  [classes]fifo
	turn   int // counts starts, for the shares of the classes
	active int
	replay int // of these, replayed
	listed bool
	timer  *time.Timer
	// heard is when something last came back, or when the first of those under
	// way was sent.
	heard time.Time
	slow  bool // as lanes.classify found it
	// throttledAt is since when the rate alone holds calls up; zero when it does not.
	throttledAt time.Time
	used        time.Time

	url     string // of the bot that came last, for people
	trouble trouble
	putOff  atomic.Int64 // calls put off since the last success
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
	// A lane is slow when it takes longer than slowLatency on average, and quiet
	// when nothing came back for quietAfter, or three times as long as usual.
	slowLatency = 1.0 // seconds
	quietAfter  = 250 * time.Millisecond
)

func newLane(most int) *lane { return &lane{limit: newLimit(most), breaker: newBreaker()} }

// configure follows the limits that the bots of this destination have set.
func (l *lane) configure(set bots.Limits, most int, now time.Time) {
	if set.Concurrency > 0 {
		most = min(most, set.Concurrency)
	}
	if most != l.limit.max {
		l.limit.setMax(most)
	}
	if set.PerSecond != l.set {
		l.set = set.PerSecond
		l.adjust(now)
	}
}

// adjust puts the limiter to the lower of the rate that was set and the one
// that was learned. A rate that was set may be used up at once for each second,
// as those who publish such limits count; a learned one is kept to evenly.
func (l *lane) adjust(now time.Time) {
	perSecond, burst := l.set, max(1, int(l.set))
	if p := l.pace.rate; p > 0 && (l.set == 0 || p < l.set) {
		perSecond, burst = p, max(1, int(p/10))
	}
	switch {
	case perSecond == 0:
		l.rate = nil
	case l.rate == nil:
		l.rate = rate.NewLimiter(rate.Limit(perSecond), burst)
	default: // what was used of the old one counts in the new one
		l.rate.SetLimitAt(now, rate.Limit(perSecond))
		l.rate.SetBurstAt(now, burst)
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

// perSecond is how many calls the lane can send by its concurrency alone; 0 when
// nothing is known of its speed.
func (l *lane) perSecond() float64 {
	if l.limit.latency == 0 {
		return 0
	}
	return float64(l.limit.allowed()) / max(l.limit.latency, 0.001)
}

// room is how many more calls of a class may wait here. Less urgent calls take
// none of the room of more urgent ones, but for a small part of their own, so
// that they do get a turn while more urgent ones never end.
func (l *lane) room(c class) int {
	most := firstQueue
	switch {
	case l.breaker.open:
		most = probeQueue
	case l.limit.latency > 0:
		perSecond := l.perSecond()
		if l.rate != nil {
			perSecond = min(perSecond, float64(l.rate.Limit()))
		}
		most = min(maxQueued, max(1, int(perSecond*maxWait.Seconds())))
	}
	own := max(1, most/oneIn)
	if c == classReplay {
		most = min(most, replayQueue)
		own = 1
	}
	left := most - l.queued(c)
	if c != classLive {
		left = max(left, own-l.queue[c].len())
	}
	return left
}

// wants reports whether calls of a class are to be read for this lane: when it
// has room for as many as it has already, so that one read brings many.
func (l *lane) wants(c class) bool { return l.room(c) > l.queue[c].len() }

// quiet reports whether nothing came back for longer than usual.
func (l *lane) quiet(now time.Time) bool {
	usual := time.Duration(l.limit.latency * float64(time.Second))
	return l.active > 0 && now.Sub(l.heard) > max(quietAfter, 3*usual)
}

// isSlow reports whether a slot given to this lane may be gone for long: nothing
// is known of it, it fails, it takes its time, or it has gone quiet.
func (l *lane) isSlow(now time.Time) bool {
	return l.limit.latency == 0 || l.limit.latency > slowLatency || l.breaker.failures > 0 || l.quiet(now)
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

// comeback is when a call comes back to a lane that opens then: one after the
// other in the order in which they were put off, as far as there is time for it.
func (l *lane) comeback(opens time.Time) time.Time {
	place := time.Duration(l.putOff.Load()) * spreadPerCall
	if place > blockedSpread-leastSpread {
		return spread(opens, blockedSpread)
	}
	return spread(opens.Add(place), leastSpread)
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
	if l.active == 0 {
		l.heard = now
	}
	l.active++
	l.pace.started(now)
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
		// Of these turns again one in four is the replays'.
		if mayReplay && (l.turn%(oneIn*oneIn) == oneIn*oneIn-1 || l.queue[classDue].len() == 0) {
			return classReplay
		}
		if l.queue[classDue].len() > 0 {
			return classDue
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
	l.used, l.heard = now, now
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
		l.limit.grow(res.Duration, d.bot.Push.Timeout, l.active+1, now)
		l.pace.answered(now, l.perSecond())
	case strained:
		l.breaker.succeeded()
		l.limit.cut(now)
		l.pace.throttled(now, res.Duration)
	case down:
		if l.breaker.failed(now) {
			l.limit.restart()
			l.pace.down(now)
		}
		l.limit.cut(now)
	}
	l.adjust(now)
	if l.trouble.note(res, now); res.Err == nil {
		l.putOff.Store(0)
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
		// Below 500 it works and says when to come back: 429, 425, and what a
		// bot's retry_when takes for a limit, as Salesforce's 403. 408 is a
		// request that did not get through.
		if res.HTTPStatus < http.StatusInternalServerError && res.HTTPStatus != http.StatusRequestTimeout {
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
		for q.len() > 0 && now.Sub(q.first().at) > maxWait {
			late = append(late, q.pop())
		}
	}
	return late
}
