package queue

import (
	"testing"
	"testing/synctest"
	"time"
)

var (
	failed      = Report{Health: Down, Problem: "no answer"}
	interrupted = Report{Health: Interrupted}
	fine        = Report{Took: 20 * time.Millisecond}
)

// opened is a yard with one lane whose breaker has just opened.
func opened(t *testing.T) *yard {
	y := newYard(64, 16, t.Fatalf)
	for range breakAfter {
		y.offer("crm", Live)
		y.end(0, failed)
	}
	if y.state() != Open {
		t.Fatal("the breaker is not open")
	}
	return y
}

func (y *yard) state() State {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.byKey["crm"].state(time.Now())
}

// wait sleeps until the breaker lets a probe through, and returns how long.
func (y *yard) wait() time.Duration {
	until := time.Until(y.byKey["crm"].breaker.until)
	time.Sleep(until)
	synctest.Wait()
	return until
}

func TestABreakerLetsOneProbeThroughAndIsNeverStuck(t *testing.T) {
	bubble(t, func(t *testing.T) {
		y := opened(t)
		defer y.close()
		for range 3 {
			y.offer("crm", Live)
		}
		if y.running() != 0 {
			t.Error("an open breaker lets jobs through")
		}
		first := y.wait()
		if first < breakFirst || first > breakFirst*5/4 {
			t.Errorf("open for %v", first)
		}
		y.offer("crm", Live)
		y.offer("crm", Live)
		if y.running() != 1 || y.state() != HalfOpen {
			t.Fatalf("%d probes, %s", y.running(), y.state())
		}
		y.end(0, interrupted) // it says nothing: the next one probes
		time.Sleep(time.Second / paceFirst)
		synctest.Wait()
		if y.running() != 1 || y.state() != HalfOpen {
			t.Fatalf("%d probes after one that was cut off, %s", y.running(), y.state())
		}
		y.end(0, failed)
		if again := y.wait(); again < 2*breakFirst || again > 2*breakFirst*5/4 {
			t.Errorf("open for %v the second time", again)
		}
		y.offer("crm", Live)
		y.end(0, fine)
		if y.state() != Closed {
			t.Errorf("%s after an answer", y.state())
		}
		for range 30 {
			y.offer("crm", Live)
		}
		if y.running() > 1 {
			t.Errorf("%d at once right after it was down", y.running())
		}
		y.drainAll()
	})
}

func TestABreakerOpensForLongerEachTimeUpToALimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		y := opened(t)
		defer y.close()
		for range 12 {
			open := y.wait()
			if open > breakMost*5/4 {
				t.Fatalf("open for %v", open)
			}
			y.offer("crm", Live)
			if y.running() != 1 {
				t.Fatal("no probe")
			}
			y.end(0, failed)
		}
		if open := y.wait(); open < breakMost {
			t.Errorf("open for %v after many failures", open)
		}
	})
}

// Whatever this side cuts off says nothing about a destination.
func TestJobsThatAreCutOffOpenNoBreaker(t *testing.T) {
	bubble(t, func(t *testing.T) {
		y := newYard(64, 16, t.Fatalf)
		defer y.close()
		for range 5 * breakAfter {
			y.offer("crm", Live)
			y.end(0, interrupted)
		}
		if y.state() != Closed || y.byKey["crm"].problem.Times != 0 {
			t.Errorf("%s, problem %+v", y.state(), y.byKey["crm"].problem)
		}
	})
}

// An answer that went well holds nobody up, whatever it says of later.
func TestOnlyABusyDestinationHoldsItsLane(t *testing.T) {
	bubble(t, func(t *testing.T) {
		y := newYard(64, 16, t.Fatalf)
		defer y.close()
		y.offer("crm", Live)
		y.end(0, Report{Took: time.Millisecond, RetryAfter: time.Minute})
		if y.state() != Closed {
			t.Errorf("%s after a success", y.state())
		}
		y.offer("crm", Live)
		y.end(0, Report{Health: Busy, Took: time.Millisecond, RetryAfter: time.Hour})
		if y.state() != ToldToWait {
			t.Errorf("%s after a destination asked to wait", y.state())
		}
		time.Sleep(maxRetryAfter)
		if y.state() != Closed {
			t.Errorf("%s after the longest hold", y.state())
		}
	})
}

// A destination that failed and has no calls left is not said to be down for ever;
// what was learned of it stays.
func TestAHalfOpenBreakerWithoutJobsExpires(t *testing.T) {
	bubble(t, func(t *testing.T) {
		y := opened(t)
		defer y.close()
		tick := func(after time.Duration) State {
			<-time.After(after)
			y.tick(time.Now())
			return y.state()
		}
		first := y.wait()
		if s := tick(breakIdle - time.Second); s != HalfOpen {
			t.Errorf("%s while deferred jobs may come", s)
		}
		y.offer("crm", Live)
		if s := tick(2 * breakIdle); s != HalfOpen {
			t.Errorf("%s while a job runs", s)
		}
		y.end(0, interrupted)
		if s := tick(breakIdle); s != HalfOpen {
			t.Errorf("%s right after it", s)
		}
		if s := tick(time.Second); s != Closed || y.Down("crm") {
			t.Errorf("%s without a job", s)
		}
		y.offer("crm", Live)
		y.offer("crm", Live)
		if y.running() != 1 {
			t.Errorf("%d at once at a destination that was down", y.running())
		}
		y.end(0, failed)
		if s := y.state(); s != Open {
			t.Errorf("%s after one more failure", s)
		}
		if second := y.wait(); second <= first {
			t.Errorf("open for %v after %v", second, first)
		}
		y.offer("crm", Live)
		y.end(0, fine)
		if s := y.state(); s != Closed {
			t.Errorf("%s after an answer", s)
		}
	})
}
