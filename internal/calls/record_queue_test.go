package calls

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// bulk is a write that began.
type bulk struct {
	at      time.Duration // since the start
	size    int
	longest time.Duration // for which one of its outcomes waited
}

// bulks lets outcomes come in for a second, one every so often, and returns the
// writes that begin. Each takes its writer for a while.
func bulks(t *testing.T, every, write time.Duration) (all []bulk) {
	t.Helper()
	q, start := newWriteQueue(), time.Now()
	var mu sync.Mutex
	var writers sync.WaitGroup
	for range bulkWriters {
		writers.Go(func() {
			for batch := q.next(); batch != nil; batch = q.next() {
				mu.Lock()
				all = append(all, bulk{time.Since(start), len(batch), time.Since(batch[0].outcome.At)})
				mu.Unlock()
				time.Sleep(write)
				for _, e := range batch {
					e.done(true)
				}
			}
		})
	}
	came, written := 0, 0
	for ; time.Since(start) < time.Second; time.Sleep(every) {
		came++
		q.add(entry{outcome: &Outcome{Attempt: Attempt{At: time.Now()}}, done: func(bool) {
			mu.Lock()
			defer mu.Unlock()
			written++
		}})
	}
	q.close()
	writers.Wait()
	if written != came {
		t.Errorf("%d of %d outcomes were written", written, came)
	}
	return all
}

// average is the size of the writes but for the first and the last, which are smaller.
func average(all []bulk) int {
	sum := 0
	for _, b := range all[1 : len(all)-1] {
		sum += b.size
	}
	return sum / (len(all) - 2)
}

func TestWhenAWriteBegins(t *testing.T) {
	for name, c := range map[string]struct {
		every, write time.Duration
		size         int
		longest      time.Duration
	}{
		"quiet":                     {every: 60 * time.Millisecond, write: 5 * time.Millisecond, size: 1, longest: 0},
		"20 a second":               {every: 50 * time.Millisecond, write: 5 * time.Millisecond, size: 1, longest: 0},
		"100 a second":              {every: 10 * time.Millisecond, write: 5 * time.Millisecond, size: 4, longest: gatherTime},
		"4,000 a second":            {every: 250 * time.Microsecond, write: 20 * time.Millisecond, size: 198, longest: gatherTime},
		"as much as there is":       {every: 50 * time.Microsecond, write: 20 * time.Millisecond, size: maxBulk, longest: gatherTime},
		"2,000 and a slow server":   {every: 500 * time.Microsecond, write: 300 * time.Millisecond, size: 130, longest: 4 * gatherTime},
		"more than the server does": {every: 100 * time.Microsecond, write: 300 * time.Millisecond, size: maxBulk, longest: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := bulks(t, c.every, c.write)
				if got := average(all); got < c.size || got > c.size+20 {
					t.Errorf("writes of %d, want %d: %v", got, c.size, all)
				}
				for i, b := range all {
					if b.longest > c.longest {
						t.Errorf("an outcome waited for %v, want %v at most", b.longest, c.longest)
					}
					if i > 0 && b.size < maxBulk && b.at < time.Second && b.at-all[i-1].at < gatherTime {
						t.Errorf("a write of %d began %v after the last", b.size, b.at-all[i-1].at)
					}
				}
			})
		})
	}
}

// What comes back after a pause is written, also when nothing else comes any more.
func TestOutcomesThatComeBackToTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newWriteQueue()
		q.add(entry{})
		batch := q.next()
		q.addLater(time.Second, batch)
		q.close()
		if again := q.next(); len(again) != 1 {
			t.Errorf("%d come back", len(again))
		}
		if end := q.next(); end != nil {
			t.Errorf("%d come after the end", len(end))
		}
	})
}

// A queue that is stopped hands out nothing, whatever is left.
func TestAQueueThatIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newWriteQueue()
		q.addLater(time.Hour, []entry{{}})
		time.AfterFunc(time.Second, q.stop)
		if batch := q.next(); batch != nil {
			t.Errorf("%d are handed out", len(batch))
		}
		q.add(entry{})
		if batch := q.next(); batch != nil {
			t.Errorf("%d are handed out later", len(batch))
		}
	})
}
