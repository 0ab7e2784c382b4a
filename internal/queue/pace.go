package queue

import (
	"math"
	"time"
)

// pace is the rate that a destination is found to bear: learned from 429
// answers, and low for a while after it was down, so that what waited meanwhile
// does not take it down again. Without a reason there is no pace.
//
// It is a plain state machine; the queue's lock guards it.
type pace struct {
	rate     float64       // requests per second; 0 for no limit
	doubling time.Duration // the rate doubles in this time while all goes well
	grownAt  time.Time
	cutAt    time.Time

	sent   float64 // requests of the last paceWindow, fading
	sentAt time.Time
}

const (
	paceWindow = 2 * time.Second
	paceLeast  = 0.5 // per second: below it a lane would not notice that it may send again
	paceCut    = 0.7 // of what was sent when it was too much
	paceFirst  = 4.0 // per second, for a destination that is back

	// A destination that was down is trusted again within a minute: 4 a second
	// become 130 in 20 s. One that counts requests is probed more slowly, as
	// finding its limit costs a refused request each time.
	backDoubling      = 4 * time.Second
	throttledDoubling = 20 * time.Second
	paceStep          = time.Second // of growth for one answer, at most
)

// started counts a request.
func (p *pace) started(now time.Time) {
	p.fade(now)
	p.sent++
}

// measured is the rate of the last moments.
func (p *pace) measured(now time.Time) float64 {
	p.fade(now)
	return p.sent / paceWindow.Seconds()
}

func (p *pace) fade(now time.Time) {
	if since := now.Sub(p.sentAt); since > 0 {
		p.sent *= math.Exp(-since.Seconds() / paceWindow.Seconds())
		p.sentAt = now
	}
}

// throttled takes an answer that asks for fewer requests. Those that were under
// way with it say the same, so one cut per round is enough.
func (p *pace) throttled(now time.Time, round time.Duration) {
	if now.Sub(p.cutAt) < max(round, time.Second) {
		return
	}
	p.cutAt = now
	bears := p.measured(now)
	if p.rate > 0 {
		bears = min(bears, p.rate)
	}
	p.rate, p.doubling, p.grownAt = max(bears*paceCut, paceLeast), throttledDoubling, now
}

// down begins again from paceFirst, for when the destination is back.
func (p *pace) down(now time.Time) {
	p.rate, p.doubling, p.grownAt = paceFirst, backDoubling, now
}

// answered takes an answer in good time. capacity is the rate that the lane has
// by its concurrency alone: once the pace is above it, it limits nothing.
func (p *pace) answered(now time.Time, capacity float64) {
	if p.rate == 0 {
		return
	}
	grown := min(now.Sub(p.grownAt), paceStep)
	p.grownAt = now
	p.rate *= math.Exp2(grown.Seconds() / p.doubling.Seconds())
	if p.rate > capacity {
		p.rate = 0
	}
}
