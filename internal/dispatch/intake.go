package dispatch

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cxbridge/watcher/internal/queue"
)

// Intake is where the calls of one partition come in. It ends by itself: what
// it still holds is let go, what is being sent may end.
type Intake struct {
	d     *Dispatcher
	share Share
	alive func() bool

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
// attempts that are under way are cut off. alive is asked at the moment of each
// send whether the right still holds; nil is always.
func (d *Dispatcher) Open(ctx context.Context, share Share, alive func() bool) *Intake {
	in := &Intake{d: d, share: share, alive: alive, stopped: make(chan struct{}), idle: make(chan struct{})}
	in.sends, in.abort = context.WithCancelCause(ctx)
	d.mu.Lock()
	d.intakes[in] = struct{}{}
	d.mu.Unlock()
	d.onDue(time.Now()) // what was due all the while
	return in
}

// Share is the part of the due calls that belongs to this intake.
func (in *Intake) Share() Share { return in.share }

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

// maySend reports whether an attempt may begin now.
func (in *Intake) maySend() bool {
	return in.sends.Err() == nil && (in.alive == nil || in.alive())
}

// drop lets go of the calls of an intake that wait in the lanes.
func (d *Dispatcher) drop(in *Intake) {
	for _, owner := range d.queue.Remove(func(o queue.Owner) bool { return o.(*item).intake == in }) {
		d.release(owner.(*item))
	}
}

// Intakes are those that take calls.
func (d *Dispatcher) Intakes() []*Intake {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.intakes))
}
