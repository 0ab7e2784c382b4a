package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cxbridge/watcher/pkg/resume"
)

// aheadBytes is the largest batch during which the next is read: 13,000 events of
// 300 bytes. So a stream holds what one answer of the server may hold, 16 MB, and
// not more than this beside it.
const aheadBytes = 4 << 20

// reading is what one poll brought. With end the cursor is of no more use; the
// batch came before that.
type reading struct {
	batch Batch
	end   error
}

// reader polls one cursor while Run's goroutine hands over what it read before: one
// batch is handed over, the next is read or waits. On a link with a delay that saves
// the way to the server for each batch.
type reader struct {
	*Follower
	cursor   Cursor
	id       int64           // of the cursor, as the last poll told it
	mode     openMode        // in which the cursor was opened
	position resume.Position // everything up to here was read
	batches  chan reading    // unbuffered: what is taken from it is handed over next
}

// read polls until the cursor ends or ctx does.
func (r *reader) read(ctx context.Context) {
	// A token may be accepted though its history is gone, by our open and by
	// the driver's own. The time is not: it is asked before anything is believed.
	verify := r.mode == modeToken
	for first := true; ctx.Err() == nil; first = false {
		batch, err := r.poll(ctx)
		if first {
			r.metric.open(r.mode, err)
		}
		if !first && err == nil && batch.CursorID != r.id {
			r.metric.reopens["driver"].Inc()
			verify = true
		}
		r.id = batch.CursorID
		next := reading{batch, err}
		if verify && (err == nil || len(batch.Events) > 0) {
			verify = false
			if err := r.verify(ctx, r.position); err != nil {
				next = reading{end: err}
			}
		}
		switch {
		case next.end == nil && batch.CursorID == 0:
			next.end = endOf(batch)
		case err != nil && len(batch.Events) == 0:
			next.batch = Batch{} // its token is nothing that was read
		}
		if !r.pass(ctx, next) || next.end != nil {
			return
		}
		if n := len(batch.Events); n > 0 {
			r.position = decode(batch.Events[n-1], time.Now()).Position
		}
		if idle, ok := batch.after(r.position); ok {
			r.position = idle
		}
		if batch.size() > aheadBytes && !r.pass(ctx, reading{}) { // once that is handed over
			return
		}
	}
}

// pass waits until what was read before is handed over. It returns false if ctx ends.
func (r *reader) pass(ctx context.Context, next reading) bool {
	select {
	case r.batches <- next:
		return true
	case <-ctx.Done():
		return false
	}
}

// endOf tells a cursor that ended with an invalidate from one that just ended.
func endOf(b Batch) error {
	if n := len(b.Events); n > 0 && operation(b.Events[n-1]) == "invalidate" {
		return errInvalidated
	}
	return errClosed
}

// poll asks once. It is cut off when ctx ends, and when it hangs; close then frees the
// cursor on the server.
func (r *reader) poll(ctx context.Context) (Batch, error) {
	polling, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	frozen := time.AfterFunc(r.cfg.Frozen<<r.frozenPolls, func() { cancel(errFrozen) })
	defer frozen.Stop()
	stop := context.AfterFunc(ctx, func() { cancel(errStopping) })
	defer stop()
	asked := time.Now()
	batch, err := r.cursor.Poll(polling)
	if cause := context.Cause(polling); err != nil && cause != nil {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	if err == nil {
		r.polled(batch, r.position, time.Since(asked))
	}
	return batch, err
}

// verify asks by time whether the history after a position is still there.
// The cursor that was opened by token is already in place, so what is there
// now cannot be lost to it later without an error.
func (f *Follower) verify(ctx context.Context, position resume.Position) error {
	if position.ClusterTime.IsZero() {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, probeLimit, errUnverified)
	defer cancel()
	probe := Opening{At: position.ClusterTime, BatchSize: 1, MaxAwait: time.Millisecond, Bare: true}
	if f.cfg.Sharded {
		probe.MaxAwait = f.cfg.MaxAwait // a router that waits for less answers before its shards do
	}
	cursor, _, err := f.source.Open(ctx, probe)
	if err == nil {
		defer f.close(ctx, cursor)
		_, err = cursor.Poll(ctx)
	}
	switch class := classify(err); {
	case err == nil, class == classOversized: // what is too large to be returned is there
		return nil
	case class == classLost:
		return errRefused
	case errors.Is(context.Cause(ctx), errUnverified):
		return errUnverified
	}
	return fmt.Errorf("probe the position: %w", err)
}
