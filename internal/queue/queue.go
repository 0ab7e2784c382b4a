// Package queue decides which job goes next. Jobs wait in the lane of their
// key; each lane has a concurrency that adapts to how its destination answers, a
// rate, a breaker and a time before which the destination wants nothing; all
// lanes share the slots of the process and the room for jobs that wait.
//
// It owns the order of starts and what is held in memory on the way to them. It
// does not run a job, and it knows no bot, call or request.
package queue

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Class orders the jobs of a lane.
type Class uint8

// The classes, the most urgent first.
const (
	Live   Class = iota // new
	Due                 // attempted before, or deferred
	Replay              // an operator asked for it
	classCount
)

var classNames = [...]string{"live", "due", "replay"}

var _ [classCount]struct{} = [len(classNames)]struct{}{}

func (c Class) String() string { return classNames[c] }

// Owner is what stands behind a job. Its methods must not block, and are called
// outside of the queue's lock.
type Owner interface {
	// Start is called when the job's turn has come. Queue.Done follows.
	Start()
	// Defer is called when a job that waited leaves without a turn: its lane is
	// blocked until then, or it waited for too long.
	Defer(until time.Time)
}

// Job is one piece of work for one lane. It is offered once.
type Job struct {
	Key     string // names the lane
	Class   Class
	Cost    int64         // bytes that it holds in memory until it is done
	Limits  Limits        // as they are configured for the lane now
	Timeout time.Duration // of the work; an answer after half of it asks for no more at once
	Label   string        // of the lane, for people
	Owner   Owner

	lane   *lane
	queued time.Time
}

// Limits are what is configured for a lane. 0 is no limit of its own.
type Limits struct {
	Concurrency int
	PerSecond   float64
}

// Health is what the end of a job says about its destination.
type Health uint8

// The values of Health.
const (
	Healthy     Health = iota // it answered, whatever it said of the job
	Busy                      // it works and asks for less
	Down                      // it did not answer, or is failing
	Interrupted               // the job was cut off from this side: nothing is known
)

// Report is how a job ended.
type Report struct {
	Health     Health
	Took       time.Duration
	RetryAfter time.Duration // as the destination asked; 0 when it did not
	Problem    any           // what went wrong, for people; nil when nothing did
}

// Options are what a Queue is made of.
type Options struct {
	Slots      int   // jobs that run at once
	PerLane    int   // of these, in one lane
	Unproven   int   // lanes that may run a job beside the slots, see Queue.mayStart
	Room       int   // jobs that may wait
	RoomCost   int64 // bytes that jobs may hold, those that run included
	Registerer prometheus.Registerer
}

// Queue is all lanes. It is safe for concurrent use.
type Queue struct {
	o       Options
	metrics *metrics

	mu     sync.Mutex
	byKey  map[string]*lane
	ready  []*lane // lanes that may have a job to start, in turn
	parked []*lane // listed too, but only a slot of their kind helps them
	closed bool
	sums   sums
}

// laneIdle is how long an unused lane keeps what it learned.
const laneIdle = 30 * time.Minute

// New returns an empty queue.
func New(o Options) *Queue {
	q := &Queue{o: o, byKey: make(map[string]*lane)}
	q.metrics = newMetrics(o.Registerer, q)
	return q
}

// sums are the totals over all lanes. They change only in Queue.change, which
// takes a lane's part out before it changes and adds it after.
type sums struct {
	slots    int // in use: jobs that run, but for the one of each unproven lane
	lanes    int // proven lanes with a job that runs
	slow     int // slots that unproven lanes use
	beside   int // unproven lanes with a job that runs
	replays  int // jobs of class Replay that run
	waiting  int
	cost     int64
	slowCost int64 // of the lanes that are not proven
}

// part is what a lane adds to the sums.
func (l *lane) part() sums {
	s := sums{replays: l.replays, waiting: l.waiting(), cost: l.cost}
	if l.proven {
		s.slots, s.lanes = l.active, min(1, l.active)
		return s
	}
	s.beside, s.slow, s.slowCost = min(1, l.active), max(0, l.active-1), l.cost
	s.slots = s.slow
	return s
}

func (s *sums) add(p sums, sign int) {
	s.slots += sign * p.slots
	s.lanes += sign * p.lanes
	s.slow += sign * p.slow
	s.beside += sign * p.beside
	s.replays += sign * p.replays
	s.waiting += sign * p.waiting
	s.cost += int64(sign) * p.cost
	s.slowCost += int64(sign) * p.slowCost
}

// change is the only way in which a lane's accounts change.
func (q *Queue) change(l *lane, f func()) {
	q.sums.add(l.part(), -1)
	f()
	q.sums.add(l.part(), 1)
}

// The shares of what all lanes have in common. Each rule is there for a test that
// fails without it; those that are not here are in isolation_test.go of package
// dispatch.
const (
	// Lanes that are not proven use at most half of the slots.
	// TestDestinationsThatAreDeadAtTheStartLeaveTheOthersTheirSlots.
	slowSlots = 2
	// They hold at most a third of the room and of the memory.
	// TestUnprovenLanesLeaveTheOthersTheirRoom.
	slowRoom = 3
	// The last quarter of the slots is for lanes that have less than an equal
	// share: many that die at once may not take all there is before it shows.
	// TestManyDestinationsThatDieAtOnceLeaveTheOthersTheirSlots.
	scarceSlots = 4
)

// mayStart reports whether there is a slot for one more job of this lane.
//
// The first job of a lane that is not proven runs beside the slots: a
// destination that never answers takes none of them, and one that answers is
// known for it after its first answer.
// TestThousandsOfHangingDestinationsCostTheOthersNothing.
func (q *Queue) mayStart(l *lane) bool {
	s := &q.sums
	free := q.o.Slots - s.slots
	switch {
	case !l.proven && l.active == 0:
		return s.beside < q.o.Unproven
	case free <= 0:
		return false
	case !l.proven:
		return s.slow < max(1, q.o.Slots/slowSlots)
	case free <= q.o.Slots/scarceSlots:
		return l.active == 0 || l.active < q.o.Slots/(s.lanes+s.beside)
	}
	return true
}

// mayHold reports whether there is room for so many more bytes in this lane, and
// for one more job that waits.
func (q *Queue) mayHold(l *lane, cost int64, wait bool) bool {
	room, roomCost, held := q.o.Room, q.o.RoomCost, q.sums.cost
	if !l.proven {
		room, roomCost, held = room/slowRoom, roomCost/slowRoom, q.sums.slowCost
	}
	return (!wait || q.sums.waiting < room) && (held+cost <= roomCost || held == 0)
}

// Offer takes a job into its lane, or says until when to come back with it.
func (q *Queue) Offer(j *Job) (until time.Time, ok bool) {
	now := time.Now()
	q.mu.Lock()
	l := q.lane(j, now)
	j.lane, j.queued = l, now
	if until := l.blockedUntil(now); !until.IsZero() {
		l.deferrals++
		at := l.retryAt(until)
		q.mu.Unlock()
		return at, false
	}
	q.prove(l, now)
	atOnce := l.waiting() == 0 && l.active < l.allowed(now) && q.mayStart(l)
	if q.closed || !q.mayHold(l, j.Cost, !atOnce) || !atOnce && l.room(j.Class) <= 0 {
		l.deferrals++
		q.mu.Unlock()
		return spread(now.Add(time.Second), fullSpread), false
	}
	q.change(l, func() {
		l.queue[j.Class].push(j)
		l.cost += j.Cost
	})
	q.unlockAndStart(l, now)
	return time.Time{}, true
}

// Grow adds to the cost of a job that runs, and reports whether there is room.
func (q *Queue) Grow(j *Job, by int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.mayHold(j.lane, by, false) {
		return false
	}
	q.change(j.lane, func() { j.lane.cost += by })
	j.Cost += by
	return true
}

// Done takes the end of a job, and starts what its slot is free for. When the
// lane closed on them, the jobs that wait in it are deferred.
func (q *Queue) Done(j *Job, r Report) {
	now := time.Now()
	q.mu.Lock()
	l := j.lane
	// Whether the slot is one that a parked lane may have waited for.
	helps := !l.proven || j.Class == Replay || q.o.Slots-q.sums.slots <= q.o.Slots/scarceSlots
	q.change(l, func() {
		l.cost -= j.Cost
		l.ended(j, r, now)
		l.proven = l.isProven(now)
	})
	if helps {
		q.unpark()
	}
	until, late := l.blockedUntil(now), []*Job(nil)
	if !until.IsZero() {
		late = q.remove(l, func(*Job) bool { return true })
		q.throttled(l, now) // nothing waits in memory any more
	}
	q.unlockAndStart(l, now)
	q.deferAll(late, until)
}

// deferAll defers jobs of one lane, one after the other in their order.
func (q *Queue) deferAll(late []*Job, until time.Time) {
	for _, j := range late {
		q.mu.Lock()
		j.lane.deferrals++
		at := j.lane.retryAt(until)
		q.mu.Unlock()
		j.Owner.Defer(at)
	}
}

// lane returns the lane of a job, with its limits as they are now.
func (q *Queue) lane(j *Job, now time.Time) *lane {
	l, ok := q.byKey[j.Key]
	if !ok {
		l = newLane(q.o.PerLane)
		q.byKey[j.Key] = l
	}
	l.used, l.label = now, j.Label
	l.configure(j.Limits, q.o.PerLane, now)
	return l
}

// prove finds out whether a lane is proven now.
func (q *Queue) prove(l *lane, now time.Time) {
	if proven := l.isProven(now); proven != l.proven {
		q.change(l, func() { l.proven = proven })
		q.unpark() // a slot more or less is free
	}
}

// unpark lets the parked lanes try again.
func (q *Queue) unpark() {
	q.ready = append(q.ready, q.parked...)
	clear(q.parked)
	q.parked = q.parked[:0]
}

// list puts a lane in line once.
func (q *Queue) list(l *lane) {
	if !l.listed && l.waiting() > 0 {
		l.listed = true
		q.ready = append(q.ready, l)
	}
}

// startable gives out the free slots, one to each lane in turn.
func (q *Queue) startable(now time.Time) []*Job {
	var starts []*Job
	for len(q.ready) > 0 && !q.closed {
		l := q.ready[0]
		q.ready[0] = nil
		q.ready = q.ready[1:]
		q.prove(l, now)
		if l.waiting() > 0 && l.active < l.allowed(now) && !q.mayStart(l) {
			q.parked = append(q.parked, l)
			continue
		}
		l.listed = false
		class, wait := l.next(now, q.sums.replays < max(1, int(replayShare*float64(q.o.Slots))))
		switch {
		case class < classCount:
			q.throttled(l, now)
			q.change(l, func() { starts = append(starts, l.begin(class, now)) })
			q.list(l)
		case wait > 0:
			q.wakeIn(l, wait)
		case l.active == 0 && l.waiting() > 0:
			// The replays of others hold all slots that replays may have.
			l.listed = true
			q.parked = append(q.parked, l)
		}
		// Else the lane is at its limit: the end of one of its jobs lists it.
	}
	return starts
}

// unlockAndStart puts a lane in line, gives out the free slots, and starts their jobs
// outside of the lock.
func (q *Queue) unlockAndStart(l *lane, now time.Time) {
	q.list(l)
	starts := q.startable(now)
	q.mu.Unlock()
	for _, j := range starts {
		j.Owner.Start()
	}
}

// wakeIn looks at a lane again when its rate or its block allows the next job.
func (q *Queue) wakeIn(l *lane, wait time.Duration) {
	if l.throttledAt.IsZero() {
		l.throttledAt = time.Now()
	}
	if l.timer != nil {
		l.timer.Stop()
	}
	l.timer = time.AfterFunc(wait, func() {
		now := time.Now()
		q.mu.Lock()
		if l.waiting() == 0 {
			q.throttled(l, now)
		}
		q.unlockAndStart(l, now)
	})
}

// throttled counts the time for which jobs of a lane had to wait for its rate,
// when that ends.
func (q *Queue) throttled(l *lane, now time.Time) {
	if !l.throttledAt.IsZero() {
		q.metrics.throttled.Add(max(0, now.Sub(l.throttledAt).Seconds()))
		l.throttledAt = time.Time{}
	}
}

// remove takes the waiting jobs of a lane that match out of it.
func (q *Queue) remove(l *lane, match func(*Job) bool) []*Job {
	var removed []*Job
	q.change(l, func() {
		for c := range l.queue {
			for range l.queue[c].len() {
				if j := l.queue[c].pop(); match(j) {
					removed = append(removed, j)
					l.cost -= j.Cost
				} else {
					l.queue[c].push(j)
				}
			}
		}
	})
	return removed
}

// Remove takes the waiting jobs that match out of the queue, without a word to
// their owners.
func (q *Queue) Remove(match func(Owner) bool) []Owner {
	q.mu.Lock()
	defer q.mu.Unlock()
	var owners []Owner
	for _, l := range q.byKey {
		for _, j := range q.remove(l, func(j *Job) bool { return match(j.Owner) }) {
			owners = append(owners, j.Owner)
		}
	}
	return owners
}

// tickEvery is how often the queue looks for jobs that waited for too long and
// for lanes that changed without an event.
const tickEvery = time.Second

// Run looks after the lanes until ctx ends; then nothing starts any more. Jobs
// that wait stay until they are removed.
func (q *Queue) Run(ctx context.Context) {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			q.close()
			return
		case <-ticker.C:
			q.tick(time.Now())
		}
	}
}

// tick defers the jobs that have waited for too long, notices lanes that have
// gone quiet or that nobody is left to probe, and forgets those that were not used
// for long.
func (q *Queue) tick(now time.Time) {
	q.mu.Lock()
	var late []*Job
	for key, l := range q.byKey {
		q.prove(l, now)
		if l.idleProbe(now) {
			l.breaker.expire()
		}
		if l.overdue(now) {
			late = append(late, q.remove(l, func(j *Job) bool { return now.Sub(j.queued) > maxWait })...)
		}
		if l.active == 0 && !l.listed && l.waiting() == 0 && now.Sub(l.used) > laneIdle && l.blockedUntil(now).IsZero() {
			delete(q.byKey, key)
		}
	}
	for _, j := range late {
		j.lane.deferrals++
	}
	q.mu.Unlock()
	for _, j := range late {
		j.Owner.Defer(spread(now.Add(time.Second), fullSpread))
	}
}

func (q *Queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.ready, q.parked = nil, nil
	for _, l := range q.byKey {
		if l.timer != nil {
			l.timer.Stop()
		}
	}
}

// The jitter of jobs that come back together: over this long after the lane
// opens, or has room. Few jobs need not wait as long as many.
const (
	blockedSpread = 30 * time.Second
	leastSpread   = 2 * time.Second
	spreadPerJob  = 100 * time.Millisecond
	fullSpread    = 5 * time.Second
)

func spread(from time.Time, over time.Duration) time.Time {
	return from.Add(rand.N(over)) //nolint:gosec // jitter
}
