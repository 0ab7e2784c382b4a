package queue

import (
	"testing"
	"testing/synctest"
	"time"
)

// serve offers more than a lane can run for a while, and answers quickly. It
// returns how many started.
func (y *yard) serve(key string, d time.Duration) int {
	before, begun := y.started[key], time.Now()
	for time.Since(begun) < d {
		for range 20 {
			y.offer(key, Due)
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		for y.running() > 0 {
			y.end(0, Report{Took: 10 * time.Millisecond})
		}
	}
	return y.started[key] - before
}

func TestALaneThatIdledBeginsSlowlyWhenMuchComesBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		y := newYard(64, 8, t.Fatalf)
		defer y.close()
		usual := y.serve("crm", 10*time.Second)
		y.Ramp("crm", "") // it is in use
		if n := y.serve("crm", 5*time.Second); n < usual/3 {
			t.Errorf("a busy lane forgot what it learned: %d, not %d, in half the time", n, usual/2)
		}
		y.tick(time.Now())
		time.Sleep(time.Minute)
		for _, key := range []string{"crm", "new"} {
			y.Ramp(key, "https://crm.example.com")
			if room := y.Rooms(Due)[key].Jobs; room < 1 || room > 4*paceFirst*int(maxWait/time.Second) {
				t.Errorf("%s has room for %d", key, room)
			}
			first := y.serve(key, 4*time.Second)
			if first < 8 || first > 40 {
				t.Errorf("%s: %d in the first 4 s", key, first)
			}
			y.serve(key, 40*time.Second)
			if n := y.serve(key, 10*time.Second); n < usual/2 {
				t.Errorf("%s: %d in 10 s when it has come up, usually %d", key, n, usual)
			}
			y.tick(time.Now())
		}
	})
}
