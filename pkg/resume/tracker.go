package resume

import (
	"sync"
	"time"
)

// Tracker knows which positions of a stream are settled and which are not. One
// goroutine tracks, in stream order; any goroutine may report done, in any
// order. The zero Tracker is not usable; see NewTracker.
//
// It sets no limit of its own: whoever hands out work decides how much may be
// pending (Pending says how much is). Its memory follows what is pending: runs
// of settled positions fold into one, so it holds at most two entries per
// pending event and one more.
type Tracker struct {
	mu        sync.Mutex
	head      *mark // a sentinel: head.next is the oldest, head.prev the newest
	pending   int
	events    uint64
	watermark Position
	known     bool
}

// mark is one position in the list between the watermark and the newest.
type mark struct {
	tracker    *Tracker
	prev, next *mark
	position   Position
	at         time.Time
	settled    bool
}

// NewTracker returns a Tracker that knows no position.
func NewTracker() *Tracker {
	head := &mark{}
	head.prev, head.next = head, head
	return &Tracker{head: head}
}

// Track notes that the event at p was read, and returns the function that says
// it is settled. That function may be called from anywhere and more than once;
// only the first call counts.
func (t *Tracker) Track(p Position) (done func()) {
	at := p.WallTime
	if at.IsZero() {
		at = time.Now()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending++
	t.events++
	return t.push(p, at, false).done
}

// Idle notes a position at which there is nothing to settle, such as that of an
// empty poll: it becomes the watermark once everything before it is settled.
// It is Track(p)() without the cost.
func (t *Tracker) Idle(p Position) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fold(t.push(p, time.Time{}, true))
}

// Watermark is the newest position with nothing unsettled at or before it. It
// is false until one is known.
func (t *Tracker) Watermark() (Position, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.watermark, t.known
}

// Pending is the number of events that are tracked and not settled.
func (t *Tracker) Pending() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pending
}

// OldestPending is how long the oldest unsettled event has been waiting, 0 when
// nothing is pending.
func (t *Tracker) OldestPending(now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	// The oldest mark is never settled: fold would have made it the watermark.
	if t.pending == 0 {
		return 0
	}
	return max(0, now.Sub(t.head.next.at))
}

// Events is the number of events tracked so far; idle positions do not count.
func (t *Tracker) Events() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.events
}

func (t *Tracker) push(p Position, at time.Time, settled bool) *mark {
	m := &mark{tracker: t, position: p, at: at, settled: settled, prev: t.head.prev, next: t.head}
	m.prev.next, m.next.prev = m, m
	return m
}

func (m *mark) done() {
	t := m.tracker
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.settled {
		return
	}
	m.settled = true
	t.pending--
	t.fold(m)
}

// fold removes what the settled mark m makes superfluous: a settled neighbour
// before it, itself if the one after is settled, and everything up to it if it
// is the oldest. Each mark is removed once, so the cost is constant on average.
func (t *Tracker) fold(m *mark) {
	if m.prev != t.head && m.prev.settled {
		m.prev.remove()
	}
	if m.next != t.head && m.next.settled {
		next := m.next
		m.remove()
		m = next
	}
	if m.prev == t.head {
		t.watermark, t.known = m.position, true
		m.remove()
	}
}

func (m *mark) remove() {
	m.prev.next, m.next.prev = m.next, m.prev
	// Late second calls of done keep m alive; it must not keep others alive.
	m.prev, m.next, m.position.Token = nil, nil, nil
}
