package queue

import "time"

// limit is the adaptive concurrency of one lane: additive increase,
// multiplicative decrease (AIMD), as TCP does it. It starts low, doubles per
// round while all goes well, grows by one per round after its first cut, and is
// cut when the destination fails, throttles or slows down.
//
// It is a plain state machine; the queue's lock guards it.
type limit struct {
	max     int
	current float64
	slow    bool // past the first cut: grow by one per round
	cutAt   time.Time

	// latency is a moving average of answers, best the lowest that it came to;
	// best is forgotten slowly, so that a CRM that got slower for good finds a
	// new normal.
	latency float64 // seconds
	best    float64
}

const (
	limitStart = 4 // parallel requests to a destination that nothing is known of
	limitCut   = 0.5
	// latencyRise is how much slower than its best a destination may answer
	// before it gets fewer requests; below latencyFloor nothing is slow.
	latencyRise  = 3.0
	latencyFloor = 0.25 // seconds
	latencyShare = 0.1  // of a new sample in the average
	bestFade     = 1.002
)

func newLimit(most int) limit {
	return limit{max: most, current: float64(min(limitStart, most))}
}

// allowed is how many requests may be under way.
func (l *limit) allowed() int { return max(1, int(l.current)) }

// setMax follows a changed configuration.
func (l *limit) setMax(most int) {
	l.max = most
	l.current = min(l.current, float64(most))
}

// grow takes an answer. One that took more than half of the time it had is no
// sign that more would be borne: they would end as timeouts.
func (l *limit) grow(took, most time.Duration, busy int, now time.Time) {
	sample := took.Seconds()
	if l.latency == 0 {
		l.latency, l.best = sample, sample
	}
	l.latency += latencyShare * (sample - l.latency)
	l.best = min(l.best*bestFade, l.latency)
	if l.latency > latencyFloor && l.latency > latencyRise*l.best {
		l.cut(now)
		return
	}
	// A limit that is not used says nothing about a higher one.
	if busy*2 < l.allowed() || most > 0 && took > most/2 {
		return
	}
	step := 1.0
	if l.slow {
		step = 1 / l.current
	}
	l.current = min(l.current+step, float64(l.max))
}

// cut takes a failure. All requests that were under way fail together, so one
// cut per round is enough.
func (l *limit) cut(now time.Time) {
	round := time.Duration(max(l.latency, 0.1) * float64(time.Second))
	if now.Sub(l.cutAt) < round {
		return
	}
	l.cutAt = now
	l.slow = true
	l.current = max(1, l.current*limitCut)
}

// restart begins again from one, as after an open breaker.
func (l *limit) restart() {
	l.current, l.slow, l.latency = 1, false, 0
}
