package dispatch

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Intake is where the calls of one partition come in. It ends by itself: what
// it still holds is let go, what is being sent may end.
type Intake struct {
	d     *Dispatcher
	share Share
	// served are the bots that stand back in the look-ups of due calls, by class.
	// Only the retrier touches them.
	served [classes]map[string]bool
	// behind are the destinations of which more is due than they took.
	behind [classes]map[string]bool

	// sends ends when nothing of this intake may be sent any more.
	sends context.Context //nolint:containedctx // the life of the partition, not of a call
	abort context.CancelCauseFunc

	mu      sync.Mutex
	held    int64
	closed  bool
	stopped chan struct{} // closed when nothing new is begun
	idle    chan struct{} // closed when nothing is held after that
}

// ErrStopped is why calls are not taken any more.
var ErrStopped = errors.New("the partition is not worked on any more")

// errAborted is why attempts end when the drain took too long.
var errAborted = errors.New("stopped before the attempt ended")

// Share is the part of the due calls that belongs to an intake: the slots from
// From to To, the last left out. The zero Share is all of them.
type Share struct {
	From, To int
}

// Open starts taking calls. ctx is the right to send them: when it ends,
// attempts that are under way are cut off.
func (d *Dispatcher) Open(ctx context.Context, share Share) *Intake {
	in := &Intake{d: d, share: share, stopped: make(chan struct{}), idle: make(chan struct{})}
	for c := range in.served {
		in.served[c] = make(map[string]bool)
	}
	in.sends, in.abort = context.WithCancelCause(ctx)
	d.mu.Lock()
	d.intakes[in] = struct{}{}
	d.mu.Unlock()
	select {
	case d.dueWake <- struct{}{}: // what was due all the while
	default:
	}
	return in
}

// Submit takes the call of an event, and waits when too much is pending. done
// is called when nothing about the event has to be remembered any more; never,
// when the intake stops before that.
func (in *Intake) Submit(ctx context.Context, id bson.RawValue, done func()) error {
	return in.SubmitAgain(ctx, id, Again{}, done)
}

// SubmitAgain is Submit for a call that may have to be pushed although its
// result was pushed already.
func (in *Intake) SubmitAgain(ctx context.Context, id bson.RawValue, again Again, done func()) error {
	if err := in.d.pending.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	it := &item{intake: in, id: id, key: idKey(id), class: again.class(), again: again, held: 1, done: []func(){done}}
	if !in.hold(1) {
		in.d.pending.Release(1)
		return ErrStopped
	}
	if in.d.claim(it) {
		select {
		case in.d.incoming <- it:
		case <-ctx.Done():
			in.d.forget(it)
			return context.Cause(ctx)
		case <-in.stopped:
			in.d.forget(it)
			return ErrStopped
		}
	}
	return nil
}

// Stop ends the intake: nothing new is begun. Attempts that are under way go on.
func (in *Intake) Stop() {
	in.d.mu.Lock()
	delete(in.d.intakes, in)
	in.d.mu.Unlock()
	in.mu.Lock()
	if !in.closed {
		in.closed = true
		close(in.stopped)
		if in.held == 0 {
			close(in.idle)
		}
	}
	in.mu.Unlock()
	in.d.drop(in)
}

// Abort cuts off the attempts that are under way.
func (in *Intake) Abort() { in.abort(errAborted) }

// Idle is closed once a stopped intake holds nothing any more.
func (in *Intake) Idle() <-chan struct{} { return in.idle }

// Held is how many calls the intake holds.
func (in *Intake) Held() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return int(in.held)
}

// hold counts a call in, unless the intake has stopped.
func (in *Intake) hold(n int64) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return false
	}
	in.held += n
	return true
}

func (in *Intake) release(n int64) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.held -= n
	if in.closed && in.held == 0 {
		close(in.idle)
	}
}

func (in *Intake) over() bool {
	select {
	case <-in.stopped:
		return true
	default:
		return false
	}
}

// drop lets go of the calls of an intake that wait in the lanes.
func (d *Dispatcher) drop(in *Intake) {
	for _, dl := range d.lanes.take(func(dl *delivery) bool { return dl.intake == in }) {
		d.forget(dl.item)
	}
}

// open returns the intakes that take calls.
func (d *Dispatcher) open() []*Intake {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.intakes))
}
