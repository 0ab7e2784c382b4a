package dispatch

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/pkg/push"
)

// lanes shares the slots for parallel pushes among the destinations: each lane
// that may start a call gets the next free slot in its turn.
type lanes struct {
	most    int // slots of one lane
	start   func(*delivery)
	metrics *metrics

	mu     sync.Mutex
	free   int
	replay int // slots that replayed calls hold
	slow   int // slots that slow lanes hold
	busy   int // lanes that hold a slot
	slots  int
	byKey  map[string]*lane
	ready  []*lane // lanes that may have a call to start, in turn
	held   []*lane // listed too, but only a slot of their kind helps them
	closed bool

	waiting int // calls in all queues
	bytes   int64
	room    int // calls that may wait in all queues together
}

// What slow lanes may hold of what all share: half of the slots, and a third of
// the room for waiting calls. However many destinations are down at once, the
// others go on.
const (
	slowSlots = 2 // one part in
	slowRoom  = 3
	// keptSlots is the part of the slots that is left for lanes that are not
	// slow, also when each slow one asks for its first.
	keptSlots = 8
	// scarceSlots is the part of the slots that is left for lanes which hold less
	// than an equal share: until it shows that lanes are down, they may not take
	// all there is.
	scarceSlots = 4
	// leastRoom is how many calls may wait in a lane whatever the others hold.
	leastRoom = 4
)

// laneIdle is how long an unused lane keeps what it learned.
const laneIdle = 30 * time.Minute

func newLanes(slots, perLane, room int, m *metrics, start func(*delivery)) *lanes {
	return &lanes{
		most: perLane, start: start, metrics: m,
		free: slots, slots: slots, room: room, byKey: make(map[string]*lane),
	}
}

// offer takes a call for its destination, or says when to come back with it.
// A call that is already due on its document may wait there at no cost, so it
// only gets what is free soon.
func (s *lanes) offer(d *delivery, set bots.Limits, now time.Time) (retryAt time.Time, queued bool) {
	s.mu.Lock()
	l := s.lane(d.bot.Push, set, now)
	l.used = now
	d.lane, l.url = l, d.bot.Push.PublicURL
	if until := l.blockedUntil(now); !until.IsZero() {
		s.mu.Unlock()
		return l.comeback(until), false
	}
	s.classify(l, now)
	if l.room(d.class) <= 0 || s.crowded(l) || s.closed {
		s.mu.Unlock()
		return spread(now.Add(time.Second), fullSpread), false
	}
	l.queue[d.class].push(d)
	s.waiting++
	s.bytes += d.item.bytes
	s.list(l)
	starts := s.startable(now)
	s.mu.Unlock()
	s.startAll(starts)
	return time.Time{}, true
}

// crowded reports whether others need the room that a call in this lane would
// take: what all lanes hold together counts against the limits of what may be
// pending, and when those are reached nothing is taken any more for anyone.
func (s *lanes) crowded(l *lane) bool {
	part := 1
	if l.slow {
		part = slowRoom
	}
	full := s.waiting >= s.room/part || s.bytes >= roomBytes/int64(part)
	return full && l.waiting() >= leastRoom
}

// roomBytes is how much of maxBytes may wait in the lanes.
const roomBytes = maxBytes / 4 * 3

// left notes that a call waits no more.
func (s *lanes) left(d *delivery) *delivery {
	s.waiting--
	s.bytes -= d.item.bytes
	return d
}

// classify finds out whether a lane is slow, and accounts for its slots.
func (s *lanes) classify(l *lane, now time.Time) {
	if slow := l.isSlow(now); slow != l.slow {
		l.slow = slow
		if slow {
			s.slow += l.active
		} else {
			s.slow -= l.active
		}
	}
}

// mayStart reports whether there is a slot for this lane.
func (s *lanes) mayStart(l *lane) bool {
	switch {
	case l.slow && s.slow >= max(1, s.slots/slowSlots):
		return l.active == 0 && s.free > s.slots/keptSlots
	case s.free <= s.slots/scarceSlots:
		return l.active == 0 || l.active < s.slots/s.busy
	}
	return true
}

// The jitter of calls that come back together: over this long after the lane
// opens, or has room. Few calls need not wait as long as many.
const (
	blockedSpread = 30 * time.Second
	leastSpread   = 2 * time.Second
	spreadPerCall = 100 * time.Millisecond
	fullSpread    = 5 * time.Second
)

func spread(from time.Time, over time.Duration) time.Time {
	return from.Add(rand.N(over)) //nolint:gosec // jitter
}

// done takes the end of an attempt and starts what its slot is free for. It
// returns the calls that cannot go now because the lane closed on them.
func (s *lanes) done(d *delivery, res *push.Result, now time.Time) (put []*delivery, retryAt time.Time) {
	s.mu.Lock()
	l := d.lane
	if l.slow {
		s.slow--
	}
	unhold := l.slow || d.class == classReplay || s.free <= s.slots/scarceSlots
	l.took(d, res, now)
	if l.active == 0 {
		s.busy--
	}
	s.classify(l, now)
	s.free++
	if d.class == classReplay {
		s.replay--
	}
	if unhold && len(s.held) > 0 {
		s.ready = append(s.ready, s.held...)
		clear(s.held)
		s.held = s.held[:0]
	}
	if until := l.blockedUntil(now); !until.IsZero() {
		for c := range l.queue {
			for l.queue[c].len() > 0 {
				put = append(put, s.left(l.queue[c].pop()))
			}
		}
		retryAt = until
		s.throttled(l, now) // nothing waits in memory any more
	}
	s.list(l)
	starts := s.startable(now)
	s.mu.Unlock()
	s.startAll(starts)
	return put, retryAt
}

func (s *lanes) lane(p *bots.Push, set bots.Limits, now time.Time) *lane {
	l, ok := s.byKey[p.Destination]
	if !ok {
		l = newLane(s.most)
		l.slow = true // nothing is known of it
		s.byKey[p.Destination] = l
	}
	l.configure(set, s.most, now)
	return l
}

// list puts a lane in line once.
func (s *lanes) list(l *lane) {
	if !l.listed && l.waiting() > 0 {
		l.listed = true
		s.ready = append(s.ready, l)
	}
}

// startable gives out the free slots, one to each lane in turn.
func (s *lanes) startable(now time.Time) []*delivery {
	var starts []*delivery
	for s.free > 0 && len(s.ready) > 0 && !s.closed {
		l := s.ready[0]
		s.ready[0] = nil
		s.ready = s.ready[1:]
		s.classify(l, now)
		if !s.mayStart(l) {
			s.held = append(s.held, l)
			continue
		}
		l.listed = false
		d, wait := l.next(now, s.replay < max(1, int(replayShare*float64(s.slots))))
		switch {
		case d != nil:
			s.throttled(l, now)
			s.left(d)
			s.free--
			if l.active == 1 {
				s.busy++
			}
			if l.slow {
				s.slow++
			}
			if d.class == classReplay {
				s.replay++
			}
			starts = append(starts, d)
			s.list(l)
		case wait > 0:
			s.wakeIn(l, wait)
		case l.active == 0 && l.waiting() > 0:
			// The replays of others hold all slots that replays may have.
			l.listed = true
			s.held = append(s.held, l)
		}
		// Else the lane is at its limit: the end of one of its calls lists it.
	}
	return starts
}

// wakeIn looks at a lane again when its rate allows the next call.
func (s *lanes) wakeIn(l *lane, wait time.Duration) {
	if l.throttledAt.IsZero() {
		l.throttledAt = time.Now()
	}
	if l.timer != nil {
		l.timer.Stop()
	}
	l.timer = time.AfterFunc(wait, func() {
		now := time.Now()
		s.mu.Lock()
		if l.waiting() == 0 {
			s.throttled(l, now)
		}
		s.list(l)
		starts := s.startable(now)
		s.mu.Unlock()
		s.startAll(starts)
	})
}

// throttled counts the time for which calls of a lane had to wait for its rate,
// when that ends.
func (s *lanes) throttled(l *lane, now time.Time) {
	if !l.throttledAt.IsZero() {
		s.metrics.throttled.Add(max(0, now.Sub(l.throttledAt).Seconds()))
		l.throttledAt = time.Time{}
	}
}

func (s *lanes) startAll(starts []*delivery) {
	for _, d := range starts {
		s.start(d)
	}
}

// rooms returns how many due calls of a class to read for each known
// destination: 0 for those that are full, blocked for those that take none.
func (s *lanes) rooms(c class, now time.Time) map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	rooms := make(map[string]int, len(s.byKey))
	for key, l := range s.byKey {
		switch {
		case !l.blockedUntil(now).IsZero():
			rooms[key] = blocked
		case l.wants(c) && !s.crowded(l):
			rooms[key] = l.room(c)
		default:
			rooms[key] = 0
		}
	}
	return rooms
}

// blocked is the room of a lane that takes no calls now.
const blocked = -1

// down returns the destinations whose breaker is open.
func (s *lanes) down() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	down := make(map[string]bool)
	for key, l := range s.byKey {
		if l.breaker.open {
			down[key] = true
		}
	}
	return down
}

// overdue takes the calls that have waited for too long in their lanes.
func (s *lanes) overdue(now time.Time) []*delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	var late []*delivery
	for _, l := range s.byKey {
		late = append(late, l.overdue(now)...)
	}
	for _, d := range late {
		s.left(d)
	}
	return late
}

// tidy forgets lanes that were not used for long, and notices those that have
// gone quiet.
func (s *lanes) tidy(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, l := range s.byKey {
		s.classify(l, now)
		if l.active == 0 && !l.listed && l.waiting() == 0 && now.Sub(l.used) > laneIdle && l.blockedUntil(now).IsZero() {
			delete(s.byKey, key)
		}
	}
}

// take removes the waiting calls that match.
func (s *lanes) take(match func(*delivery) bool) []*delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	var taken []*delivery
	for _, l := range s.byKey {
		for c := range l.queue {
			for range l.queue[c].len() {
				if d := l.queue[c].pop(); match(d) {
					taken = append(taken, s.left(d))
				} else {
					l.queue[c].push(d)
				}
			}
		}
	}
	return taken
}

// close ends all starts.
func (s *lanes) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.ready, s.held = nil, nil
	for _, l := range s.byKey {
		if l.timer != nil {
			l.timer.Stop()
		}
	}
}
