package resume

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// A session is certain for as long as it lasts after a beat that was acknowledged, by
// whichever clock says more; alone, after a beat that was sent.
func TestHowLongASessionIsCertain(t *testing.T) {
	const lasts = 10 * time.Second
	began := time.Now()
	at := func(mono, wall time.Duration) instant {
		return instant{mono: began.Add(mono), wall: began.Round(0).Add(wall)}
	}
	sec := func(n int) time.Duration { return time.Duration(n) * time.Second }
	for name, c := range map[string]struct {
		clock clock
		now   instant
		left  time.Duration
	}{
		"just acknowledged":            {clock{acked: at(0, 0)}, at(0, 0), lasts},
		"a while ago":                  {clock{acked: at(0, 0)}, at(sec(4), sec(4)), sec(6)},
		"too long ago":                 {clock{acked: at(0, 0)}, at(sec(12), sec(12)), -sec(2)},
		"the host was suspended":       {clock{acked: at(0, 0)}, at(sec(1), time.Hour), lasts - time.Hour},
		"the wall clock was set back":  {clock{acked: at(0, 0)}, at(sec(12), -time.Hour), -sec(2)},
		"alone, the store is away":     {clock{acked: at(0, 0), sent: at(time.Hour, time.Hour), alone: true}, at(time.Hour+sec(2), time.Hour+sec(2)), sec(8)},
		"alone, the host suspended":    {clock{acked: at(sec(9), sec(9)), sent: at(sec(9), sec(9)), alone: true}, at(sec(10), time.Hour), lasts - time.Hour + sec(9)},
		"alone, the process was still": {clock{acked: at(0, 0), sent: at(0, 0), alone: true}, at(time.Minute, time.Minute), lasts - time.Minute},
	} {
		if got := c.clock.left(c.now, lasts); got != c.left {
			t.Errorf("%s: %s left, want %s", name, got, c.left)
		}
	}
	if left := (clock{}).left(now(), lasts); left > 0 {
		t.Errorf("%s left without a beat", left)
	}
	rapid.Check(t, func(t *rapid.T) {
		span := rapid.Int64Range(-int64(24*time.Hour), int64(24*time.Hour))
		passed := rapid.Int64Range(0, int64(24*time.Hour))
		acked, later := span.Draw(t, "wall at the beat"), passed.Draw(t, "passed")
		c := clock{acked: at(0, time.Duration(acked))}
		n := at(time.Duration(later), time.Duration(span.Draw(t, "wall")))
		if c.left(n, lasts) > 0 && time.Duration(later) >= lasts {
			t.Fatalf("certain %s after the beat", time.Duration(later))
		}
	})
}

// A replica that was paused while it was alone does not trust that it still is.
func TestPausedWhileAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTable()
		l := newLine(m, 1, 0)
		s := newSession(l, member{owner: "a", instance: "a", lease: DefaultLease}, 2*time.Second, 2*time.Second)
		s.beat(t.Context())
		s.setAlone(true)
		_, life, err := s.current()
		must(t, err)
		lease := newLease(life, l, Record{}, s.certain)
		l.setCut(true)
		for range 20 {
			s.beat(t.Context()) // away, for 40 s
			if !lease.Alive() {
				t.Fatal("a lone replica stops while the store is away")
			}
		}
		slept := func() { // as if the host had slept for an hour
			s.mu.Lock()
			defer s.mu.Unlock()
			s.clock.sent.wall = s.clock.sent.wall.Add(-time.Hour)
			if s.clock.left(now(), s.lasts) > 0 {
				t.Error("certain after an hour of sleep")
			}
		}
		slept()
		l.setCut(false)
		s.beat(t.Context())
		if !lease.Alive() {
			t.Errorf("not certain, though nobody came meanwhile: %v", context.Cause(lease.Context()))
		}
		s.setAlone(true)
		slept()
		l.setCut(true)
		s.beat(t.Context())
		wait(s.lasts)
		if lease.Alive() || !errors.Is(context.Cause(lease.Context()), ErrLost) {
			t.Errorf("the store was away after it: %v", context.Cause(lease.Context()))
		}
		l.setCut(false)
		s.beat(t.Context())
		_, life, err = s.current()
		must(t, err)
		lease = newLease(life, l, Record{}, s.certain)
		must(t, m.remove(t.Context(), m.stored(memberID("x", "a"))))
		s.beat(t.Context())
		if lease.Alive() || !errors.Is(context.Cause(lease.Context()), ErrLost) {
			t.Errorf("the others have ended the session: %v", context.Cause(lease.Context()))
		}
		if self, _, _ := s.current(); self.instance == "a" {
			t.Error("the next session has the name of the last")
		}
	})
}
