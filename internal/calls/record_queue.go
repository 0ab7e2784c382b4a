package calls

import (
	"sync"
	"time"
)

// entry is an outcome on its way into its document.
type entry struct {
	outcome  *Outcome
	done     func(written bool)
	failures int    // so far
	unknown  int    // of these, such as neither pass nor concern the document for sure
	level    detail // of the next write
}

// writeQueue is the outcomes that wait to be written, and says when the next bulk
// write begins: at once when none began within gatherTime, else after that, or as
// soon as maxBulk outcomes wait. So a lone outcome waits for nothing, and under
// load the writes are large: what one costs the server falls with its size.
type writeQueue struct {
	mu      sync.Mutex
	wake    *sync.Cond
	queue   []entry
	waiting int         // entries that come back to the queue after a pause
	begun   time.Time   // when the last write began
	timer   *time.Timer // ends the time in which outcomes gather; nil when none runs
	closed  bool
	stopped bool
}

func newWriteQueue() *writeQueue {
	q := new(writeQueue)
	q.wake = sync.NewCond(&q.mu)
	return q
}

// add takes an entry.
func (q *writeQueue) add(e entry) {
	q.mu.Lock()
	q.queue = append(q.queue, e)
	q.mu.Unlock()
	q.wake.Signal()
}

// addLater takes entries back after a pause.
func (q *writeQueue) addLater(pause time.Duration, entries []entry) {
	q.mu.Lock()
	q.waiting += len(entries)
	q.mu.Unlock()
	time.AfterFunc(pause, func() {
		q.mu.Lock()
		q.waiting -= len(entries)
		q.queue = append(q.queue, entries...)
		q.mu.Unlock()
		q.wake.Broadcast()
	})
}

// close lets next return nil once all is handed out. Nothing is added after it.
func (q *writeQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.wake.Broadcast()
}

// stop lets next return nil from now on, whatever is left.
func (q *writeQueue) stop() {
	q.mu.Lock()
	q.stopped = true
	q.mu.Unlock()
	q.wake.Broadcast()
}

// next waits for the outcomes of the next write; nil means that there will be no
// more.
func (q *writeQueue) next() []entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.stopped || !q.mayBegin() {
		if q.stopped || q.closed && q.waiting == 0 && len(q.queue) == 0 {
			return nil
		}
		q.wake.Wait()
	}
	n := min(len(q.queue), maxBulk)
	batch, rest := q.queue[:n:n], q.queue[n:]
	// The rest gets an array of its own, or it would keep what is written in memory.
	q.queue, q.begun = append(make([]entry, 0, n+len(rest)), rest...), time.Now()
	q.wake.Broadcast() // there may be enough for another writer, or nothing ever more
	return batch
}

// mayBegin reports whether the next write may begin. While outcomes gather, the
// timer wakes a writer.
func (q *writeQueue) mayBegin() bool {
	gathering := gatherTime - time.Since(q.begun)
	switch {
	case len(q.queue) == 0:
		return false
	case gathering <= 0, len(q.queue) >= maxBulk, q.closed:
		return true
	case q.timer == nil:
		q.timer = time.AfterFunc(gathering, func() {
			q.mu.Lock()
			q.timer = nil
			q.mu.Unlock()
			q.wake.Signal()
		})
	}
	return false
}
