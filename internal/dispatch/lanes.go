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
	slots  int
	byKey  map[string]*lane
	ready  []*lane // lanes that may have a call to start, in turn
	closed bool
}

// laneIdle is how long an unused lane keeps what it learned.
const laneIdle = 30 * time.Minute

func newLanes(slots, perLane int, m *metrics, start func(*delivery)) *lanes {
	return &lanes{most: perLane, start: start, metrics: m, free: slots, slots: slots, byKey: make(map[string]*lane)}
}

// offer takes a call for its destination, or says when to come back with it.
// A call that is already due on its document may wait there at no cost, so it
// only gets what is free soon.
func (s *lanes) offer(d *delivery, now time.Time) (retryAt time.Time, queued bool) {
	s.mu.Lock()
	l := s.lane(d.bot.Push)
	l.used = now
	d.lane = l
	if until := l.blockedUntil(now); !until.IsZero() {
		s.mu.Unlock()
		return spread(until, blockedSpread), false
	}
	if l.room(d.class) <= 0 || s.closed {
		s.mu.Unlock()
		return spread(now.Add(time.Second), fullSpread), false
	}
	l.queue[d.class].push(d)
	s.list(l)
	starts := s.startable(now)
	s.mu.Unlock()
	s.startAll(starts)
	return time.Time{}, true
}

// The jitter of calls that come back together: over this long after the lane
// opens, or has room.
const (
	blockedSpread = 30 * time.Second
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
	l.took(d, res, now)
	s.free++
	if d.class == classReplay {
		s.replay--
	}
	if until := l.blockedUntil(now); !until.IsZero() {
		for c := range l.queue {
			for l.queue[c].len() > 0 {
				put = append(put, l.queue[c].pop())
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

func (s *lanes) lane(p *bots.Push) *lane {
	l, ok := s.byKey[p.Destination]
	if !ok {
		l = newLane(s.most)
		s.byKey[p.Destination] = l
	}
	l.configure(p, s.most)
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
		l.listed = false
		d, wait := l.next(now, s.replay < max(1, int(replayShare*float64(s.slots))))
		switch {
		case d != nil:
			s.throttled(l, now)
			s.free--
			if d.class == classReplay {
				s.replay++
			}
			starts = append(starts, d)
			s.list(l)
		case wait > 0:
			s.wakeIn(l, wait)
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

// full returns the destinations that take no more calls of a class now.
func (s *lanes) full(c class, now time.Time) map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	full := make(map[string]bool)
	for key, l := range s.byKey {
		if l.room(c) <= 0 || !l.blockedUntil(now).IsZero() {
			full[key] = true
		}
	}
	return full
}

// overdue takes the calls that have waited for too long in their lanes.
func (s *lanes) overdue(now time.Time) []*delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	var late []*delivery
	for _, l := range s.byKey {
		late = append(late, l.overdue(now)...)
	}
	return late
}

// tidy forgets lanes that were not used for long.
func (s *lanes) tidy(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, l := range s.byKey {
		if l.active == 0 && l.waiting() == 0 && now.Sub(l.used) > laneIdle && l.blockedUntil(now).IsZero() {
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
					taken = append(taken, d)
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
	s.ready = nil
	for _, l := range s.byKey {
		if l.timer != nil {
			l.timer.Stop()
		}
	}
}
