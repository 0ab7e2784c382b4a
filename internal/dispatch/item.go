package dispatch

import (
	"runtime"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/queue"
)

// Event says that a call is to be looked at.
type Event struct {
	ID bson.RawValue
	// CompletedAt is the result that the event is about: what is loaded must not be
	// older. Zero is not checked.
	CompletedAt time.Time
	// At is the cluster time of the event, for a read that must see it.
	At     bson.Timestamp
	Policy Policy
}

// item is a call on its way along the road.
type item struct {
	d      *Dispatcher
	intake *Intake
	event  Event
	key    string // the id as a map key
	source source
	held   int64 // of the count limit
	bytes  int64 // of the byte limit
	done   []func()
	next   *item // the same call once more, for afterwards

	rereads  int       // reads that were older than the event
	reloads  int       // reads after which the bot was another
	refusals int       // reads that MongoDB refused for this call alone
	queued   time.Time // since when it waits for its turn
	kept     time.Time // since when it is kept in memory because its call takes no outcome

	call *calls.Call
	bot  *bots.Bot
	job  queue.Job
}

// Start implements queue.Owner.
func (it *item) Start() {
	it.d.metrics.sendingNow.Add(1)
	it.d.work.Go(func() {
		defer it.d.metrics.sendingNow.Add(-1)
		growStack()
		it.d.send(it)
	})
}

// growStack gives a new goroutine the stack that an attempt needs. By itself it would
// grow in the midst of one, with a dozen frames to move, which takes as long as the
// rendering.
//
//go:noinline
func growStack() {
	var room [8 << 10]byte
	runtime.KeepAlive(&room)
}

// Defer implements queue.Owner.
func (it *item) Defer(until time.Time) {
	it.d.settle(it, Decision{Action: Defer, Reason: ReasonBlocked, Until: until}, nil)
}

// class is the place of the call in its lane.
func (it *item) class() queue.Class {
	switch {
	case it.source == fromDue && it.call.Pushed.ReplayID != "":
		return queue.Replay
	case it.source == fromDue, it.event.Policy.Backlog:
		return queue.Due
	}
	return queue.Live
}

// claim makes an item the only one of its call. When there is one already,
// this one goes after it, together with others that came meanwhile.
func (d *Dispatcher) claim(it *item) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flow.take(it)
	first, busy := d.inFlight[it.key]
	if !busy {
		d.inFlight[it.key] = it
		return true
	}
	last := first
	for ; last.next != nil; last = last.next {
		if n := last.next; n.intake == it.intake {
			n.join(it)
			return false
		}
	}
	last.next = it
	return false
}

// join adds what another item of the same call wants.
func (it *item) join(other *item) {
	it.done = append(it.done, other.done...)
	it.held += other.held
	it.event.Policy = it.event.Policy.and(other.event.Policy)
	if other.event.CompletedAt.After(it.event.CompletedAt) {
		it.event.CompletedAt, it.event.At = other.event.CompletedAt, other.event.At
	}
}

// claimDue claims a due call unless it is on its way already.
func (d *Dispatcher) claimDue(it *item) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, busy := d.inFlight[it.key]; busy || !it.intake.hold(it.held) {
		return false
	}
	d.flow.take(it)
	d.inFlight[it.key] = it
	return true
}

// release lets go of an item that is not settled: its event stays open, or its
// document says that it is due.
func (d *Dispatcher) release(it *item) { d.leave(it, endReleased) }

func (d *Dispatcher) releaseAll(batch []*item) {
	for _, it := range batch {
		d.release(it)
	}
}

// leave takes an item off the road; the next one of the same call takes its
// place.
func (d *Dispatcher) leave(it *item, as ending) {
	d.mu.Lock()
	d.flow.end(it, as)
	next := it.next
	if next != nil {
		d.inFlight[it.key] = next
	} else {
		delete(d.inFlight, it.key)
	}
	d.mu.Unlock()
	d.unload(it)
	d.pending.Release(it.held)
	it.intake.release(it.held)
	if next != nil {
		d.work.Go(func() { d.enqueue(next) })
	}
}

// unload gives back the memory of a call.
func (d *Dispatcher) unload(it *item) {
	if it.bytes > 0 {
		d.bytes.Release(it.bytes)
	}
	it.bytes, it.call, it.bot = 0, nil, nil
}

// enqueue hands an item to the loaders.
func (d *Dispatcher) enqueue(it *item) {
	select {
	case d.incoming <- it:
	case <-it.intake.stopped:
		d.release(it)
	}
}

// loadLater hands an item to the loaders once more, after a pause.
func (d *Dispatcher) loadLater(it *item, pause time.Duration) {
	d.unload(it)
	d.work.Go(func() {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-it.intake.stopped:
		}
		d.enqueue(it)
	})
}

// idKey makes a map key of an id; the type keeps "x" and ObjectId apart.
func idKey(id bson.RawValue) string {
	return string([]byte{byte(id.Type)}) + string(id.Value)
}
