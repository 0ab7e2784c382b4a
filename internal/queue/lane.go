package queue

import (
	"time"

	"golang.org/x/time/rate"
)

// lane is the way to one destination: its concurrency, its rate, its breaker
// and the few jobs that wait for it in memory. The queue's lock guards it.
type lane struct {
	limit   limit
	breaker breaker
	rate    *rate.Limiter // nil: no limit is set or learned
	set     float64       // the configured rate, 0 for none
	pace    pace          // the learned rate
	// waitUntil is what the destination asked for: nothing before it.
	waitUntil time.Time

	queue   [classCount]fifo
	turn    int // counts starts, for the shares of the classes
	active  int // jobs that run
	replays int // of these, replayed
	cost    int64
	proven  bool // as Queue.prove found it
	listed  bool
	timer   *time.Timer
	// heard is when something last came back, or when the first of those that run
	// was started.
	heard time.Time
	// throttledAt is since when the rate alone holds jobs up; zero when it does not.
	throttledAt time.Time
	used        time.Time

	label     string
	problem   Problem
	deferrals int // since the last success
}

// Problem is what went wrong last in a lane. The zero Problem is nothing so far.
type Problem struct {
	What  any       // as Report.Problem had it
	Since time.Time // of the first since the last success; zero when a success came after it
	Last  time.Time
	Times int // since the last success
}

func (p *Problem) note(what any, now time.Time) {
	if what == nil {
		p.Since, p.Times = time.Time{}, 0
		return
	}
	if p.Times == 0 {
		p.Since = now
	}
	p.Times++
	p.What, p.Last = what, now
}

// The bounds of what waits in memory. What does not fit is deferred.
const (
	maxQueued = 1024            // jobs in one lane
	maxWait   = 5 * time.Second // in one lane, expected and in fact
	// FirstRoom is how many jobs may wait in a lane whose speed is not known, or that does not exist yet.
	FirstRoom  = 512
	probeQueue = 4 // jobs in a lane whose breaker is half open
	// oneIn is the least share of the starts that due and replayed jobs get
	// while live ones wait.
	oneIn = 4
	// replayQueue is how many replayed jobs may wait in one lane.
	replayQueue = 32
	// replayShare is the part of a lane, and of all slots, that replayed jobs may
	// hold.
	replayShare = 0.25
	// A lane is slow when it takes longer than slowLatency on average, and quiet
	// when nothing came back for quietAfter, or three times as long as usual.
	slowLatency = 1.0 // seconds
	quietAfter  = 250 * time.Millisecond
)

func newLane(most int) *lane { return &lane{limit: newLimit(most)} }

// configure follows the limits that are set for this destination.
func (l *lane) configure(set Limits, most int, now time.Time) {
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

// queued is how many jobs wait that are as urgent as c, or more so.
func (l *lane) queued(c Class) int {
	n := 0
	for i := range c + 1 {
		n += l.queue[i].len()
	}
	return n
}

// waiting is how many jobs wait.
func (l *lane) waiting() int { return l.queued(classCount - 1) }

// perSecond is how many jobs the lane can run by its concurrency alone; 0 when
// nothing is known of its speed.
func (l *lane) perSecond() float64 {
	if l.limit.latency == 0 {
		return 0
	}
	return float64(l.limit.allowed()) / max(l.limit.latency, 0.001)
}

// room is how many more jobs of a class may wait here. Less urgent jobs take
// none of the room of more urgent ones, but for a small part of their own, so
// that they do get a turn while more urgent ones never end.
func (l *lane) room(c Class) int {
	most, perSecond := FirstRoom, FirstRoom/maxWait.Seconds()
	if l.limit.latency > 0 {
		most, perSecond = maxQueued, l.perSecond()
	}
	if l.rate != nil {
		perSecond = min(perSecond, float64(l.rate.Limit()))
	}
	most = min(most, max(1, int(perSecond*maxWait.Seconds())))
	if l.breaker.open {
		most = probeQueue
	}
	own := max(1, most/oneIn)
	if c == Replay {
		most = min(most, replayQueue)
		own = 1
	}
	left := most - l.queued(c)
	if c != Live {
		left = max(left, own-l.queue[c].len())
	}
	return left
}

// quiet reports whether nothing came back for longer than usual.
func (l *lane) quiet(now time.Time) bool {
	usual := time.Duration(l.limit.latency * float64(time.Second))
	return l.active > 0 && now.Sub(l.heard) > max(quietAfter, 3*usual)
}

// isProven reports whether a slot given to this lane is soon free again: it has
// answered, in good time, did not fail since, and has not gone quiet.
func (l *lane) isProven(now time.Time) bool {
	return l.limit.latency > 0 && l.limit.latency <= slowLatency && l.breaker.failures == 0 && !l.quiet(now)
}

// blockedUntil returns when the lane takes jobs again, or zero when it does.
func (l *lane) blockedUntil(now time.Time) time.Time {
	until := l.waitUntil
	if l.breaker.open && l.breaker.until.After(until) {
		until = l.breaker.until
	}
	if !until.After(now) {
		return time.Time{}
	}
	return until
}

// retryAt is when a deferred job comes back to a lane that opens then: one after
// the other in the order in which they were deferred, as far as there is time.
func (l *lane) retryAt(opens time.Time) time.Time {
	place := time.Duration(l.deferrals) * spreadPerJob
	if place > blockedSpread-leastSpread {
		return spread(opens, blockedSpread)
	}
	return spread(opens.Add(place), leastSpread)
}

// next says of which class the job is that starts now: classCount when none does,
// with the time to look again when only a block or the rate is in the way.
// replays says whether there is a slot for a replayed job.
func (l *lane) next(now time.Time, replays bool) (Class, time.Duration) {
	if l.waiting() == 0 || l.active >= l.allowed(now) {
		return classCount, 0
	}
	if until := l.blockedUntil(now); !until.IsZero() {
		return classCount, until.Sub(now)
	}
	class := l.pick(replays)
	if class == classCount || l.rate == nil {
		return class, 0
	}
	if r := l.rate.ReserveN(now, 1); r.DelayFrom(now) > 0 {
		wait := r.DelayFrom(now)
		r.CancelAt(now)
		return classCount, wait
	}
	return class, 0
}

// begin starts the next job of a class.
func (l *lane) begin(class Class, now time.Time) *Job {
	j := l.queue[class].pop()
	l.turn++
	if l.active == 0 {
		l.heard = now
	}
	l.active++
	l.pace.started(now)
	if class == Replay {
		l.replays++
	}
	return j
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
func (l *lane) pick(replays bool) Class {
	mayReplay := replays && l.queue[Replay].len() > 0 &&
		(l.replays == 0 || float64(l.replays+1) <= replayShare*float64(l.limit.allowed()))
	if l.turn%oneIn == oneIn-1 {
		// Of these turns again one in four is the replays'.
		if mayReplay && (l.turn%(oneIn*oneIn) == oneIn*oneIn-1 || l.queue[Due].len() == 0) {
			return Replay
		}
		if l.queue[Due].len() > 0 {
			return Due
		}
	}
	for _, c := range []Class{Live, Due} {
		if l.queue[c].len() > 0 {
			return c
		}
	}
	if mayReplay {
		return Replay
	}
	return classCount
}

// maxRetryAfter bounds how long one RetryAfter stops a whole lane. The job that got
// it waits as long as it says; the others ask again after this.
const maxRetryAfter = 5 * time.Minute

// ended takes the end of a job.
func (l *lane) ended(j *Job, r Report, now time.Time) {
	l.active--
	if j.Class == Replay {
		l.replays--
	}
	l.used, l.heard = now, now
	switch r.Health {
	case Interrupted:
		return // a probe that says nothing leaves the breaker ready for the next
	case Healthy:
		l.breaker.succeeded()
		l.limit.grow(r.Took, j.Timeout, l.active+1, now)
		l.pace.answered(now, l.perSecond())
	case Busy:
		l.breaker.succeeded()
		l.limit.cut(now)
		l.pace.throttled(now, r.Took)
	case Down:
		if l.breaker.failed(now) {
			l.limit.restart()
			l.pace.down(now)
		}
		l.limit.cut(now)
	}
	if r.RetryAfter > 0 && r.Health != Healthy {
		if until := now.Add(min(r.RetryAfter, maxRetryAfter)); until.After(l.waitUntil) {
			l.waitUntil = until
		}
	}
	l.adjust(now)
	if l.problem.note(r.Problem, now); r.Problem == nil {
		l.deferrals = 0
	}
}

// idleProbe reports whether the breaker has been half open for long without a job.
func (l *lane) idleProbe(now time.Time) bool {
	since := l.breaker.until
	if l.used.After(since) {
		since = l.used
	}
	return l.breaker.probing(now) && l.active == 0 && l.waiting() == 0 && now.Sub(since) > breakIdle
}

// overdue reports whether a job has waited for too long.
func (l *lane) overdue(now time.Time) bool {
	for c := range l.queue {
		if q := &l.queue[c]; q.len() > 0 && now.Sub(q.first().queued) > maxWait {
			return true
		}
	}
	return false
}
