package queue

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestThrottledSecondsAreWallTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		y := newYard(8, 4, t.Fatalf)
		defer y.close()
		y.limits["crm"] = Limits{PerSecond: 1}
		begun := time.Now()
		// Each of them looks at the lane again; waiting together is waiting once.
		for range 4 {
			y.offer("crm", Live)
		}
		for y.started["crm"] < 4 {
			for y.running() > 0 {
				y.end(0, fine)
			}
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
		}
		took := time.Since(begun).Seconds()
		if got := testutil.ToFloat64(y.metrics.throttled); got < 2.9 || got > took {
			t.Errorf("throttled for %.2f s in %.2f s, want 3", got, took)
		}
	})
}

func TestLanesByState(t *testing.T) {
	bubble(t, func(t *testing.T) {
		y := newYard(64, 16, t.Fatalf)
		defer y.close()
		for range breakAfter {
			y.offer("down", Live)
			y.end(0, failed)
		}
		for range limitStart + 3 {
			y.offer("slow", Live)
		}
		got := y.tally(time.Now())
		if got.states != [stateCount]int{Closed: 1, Open: 1} || got.used != limitStart || got.queued[Live] != 3 {
			t.Errorf("tally %+v, want 1 closed, 1 open, %d used, 3 queued", got, limitStart)
		}
		time.Sleep(breakFirst * 5 / 4)
		if got := y.tally(time.Now()); got.states[HalfOpen] != 1 {
			t.Errorf("tally %+v, want one lane half open", got)
		}
	})
}

// Destinations that hang may not fill the memory and the room that those which
// answer need for a burst.
func TestUnprovenLanesLeaveTheOthersTheirRoom(t *testing.T) {
	for name, tight := range map[string]func(*Options){
		"memory": func(o *Options) { o.RoomCost = 100 * 300 },
		"room":   func(o *Options) { o.Room = 300 },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				y := newYard(64, 16, t.Fatalf)
				defer y.close()
				tight(&y.o)
				y.offer("good", Live)
				y.end(0, fine)
				for i := range 2000 {
					y.offer(fmt.Sprint("hangs", i%20), Live)
				}
				const burst = 100
				for range burst {
					y.offer("good", Live)
				}
				if n := y.started["good"] - 1 + y.countWaiting("good", Live); n != burst {
					t.Errorf("%d of a burst of %d found room", n, burst)
				}
			})
		})
	}
}
