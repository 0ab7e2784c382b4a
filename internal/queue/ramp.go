package queue

import "time"

// rampIdle is how long a lane was not used before Ramp makes it begin anew: what
// came together in less time is no backlog.
const rampIdle = 10 * time.Second

// Ramp makes a lane that idled, or is not there yet, begin slowly, as one whose
// destination was down: for when much comes to it at once. One in use keeps what
// it learned.
func (q *Queue) Ramp(key, label string) {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	l, ok := q.byKey[key]
	switch {
	case !ok:
		l = newLane(q.o.PerLane)
		l.label = label
		q.byKey[key] = l
	case l.active > 0 || l.waiting() > 0 || now.Sub(l.used) < rampIdle:
		return
	}
	l.used = now
	l.limit.restart()
	l.pace.down(now)
	l.adjust(now)
	q.prove(l, now)
}
