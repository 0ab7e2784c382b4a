package queue

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever happens, a limit stays between one and its maximum, and falls after
// a failure that is not of the same round.
func TestALimitStaysInItsBounds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		most := rapid.IntRange(1, 64).Draw(rt, "most")
		l := newLimit(most)
		now := time.Unix(0, 0)
		for range rapid.IntRange(1, 200).Draw(rt, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(rt, "ms")) * time.Millisecond)
			switch rapid.IntRange(0, 5).Draw(rt, "step") {
			case 0:
				before, late := l.current, now.Sub(l.cutAt) > time.Hour
				l.cut(now)
				if late && before > 1 && l.current >= before {
					rt.Fatalf("%v after a cut of %v", l.current, before)
				}
			case 1:
				most = rapid.IntRange(1, 64).Draw(rt, "most")
				l.setMax(most)
			case 2:
				l.restart()
			default:
				took := time.Duration(rapid.IntRange(0, 12_000).Draw(rt, "took")) * time.Millisecond
				l.grow(took, 10*time.Second, rapid.IntRange(1, 64).Draw(rt, "busy"), now)
			}
			if n := l.allowed(); n < 1 || n > most {
				rt.Fatalf("%d are allowed of %d", n, most)
			}
		}
	})
}

func TestALimitGrowsWhileAnswersAreQuickAndShrinksWhenTheyAreNot(t *testing.T) {
	l := newLimit(64)
	now := time.Unix(0, 0)
	answer := func(n int, took time.Duration) {
		for range n {
			now = now.Add(took / time.Duration(l.allowed()))
			l.grow(took, 10*time.Second, l.allowed(), now)
		}
	}
	if l.allowed() != limitStart {
		t.Errorf("begins with %d", l.allowed())
	}
	answer(100, 100*time.Millisecond)
	if l.allowed() != 64 {
		t.Errorf("%d after 100 quick answers", l.allowed())
	}
	answer(60, 2*time.Second)
	if l.allowed() > 32 {
		t.Errorf("%d after 60 answers that took 20 times as long", l.allowed())
	}
	// Slow for good: a new normal is found.
	answer(3000, 2*time.Second)
	if l.allowed() < 8 {
		t.Errorf("%d after it has been slow for long", l.allowed())
	}
	slow := newLimit(64)
	l = slow
	answer(200, 9*time.Second)
	if l.allowed() != limitStart {
		t.Errorf("%d for one that answers just in time", l.allowed())
	}
}

func TestAPaceIsFoundAndLeft(t *testing.T) {
	var p pace
	now := time.Unix(0, 0)
	send := func(perSecond int, d time.Duration) {
		for range int(d.Seconds() * float64(perSecond)) {
			now = now.Add(time.Second / time.Duration(perSecond))
			p.started(now)
		}
	}
	send(50, 10*time.Second)
	if m := p.measured(now); m < 45 || m > 55 {
		t.Errorf("50 a second measure as %v", m)
	}
	p.throttled(now, 0)
	if p.rate < 30 || p.rate > 38 {
		t.Errorf("after a 429 at 50 a second: %v", p.rate)
	}
	first := p.rate
	p.throttled(now.Add(100*time.Millisecond), 0) // of the same round
	if p.rate != first {
		t.Errorf("one round cuts twice: %v", p.rate)
	}
	for range 100 {
		now = now.Add(time.Minute)
		p.throttled(now, 0)
	}
	if p.rate != paceLeast {
		t.Errorf("the least rate is %v", p.rate)
	}
	p.down(now)
	if p.rate != paceFirst {
		t.Errorf("after an outage: %v", p.rate)
	}
	now = now.Add(time.Hour) // one answer after a long silence is no proof
	p.answered(now, 1000)
	if p.rate > paceFirst*1.3 {
		t.Errorf("one answer makes %v of it", p.rate)
	}
	for p.rate > 0 && now.Before(time.Unix(0, 0).Add(1000*time.Hour)) {
		now = now.Add(100 * time.Millisecond)
		p.answered(now, 1000)
	}
	if p.rate != 0 {
		t.Error("the pace never ends")
	}
}
