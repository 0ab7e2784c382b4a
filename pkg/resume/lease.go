package resume

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Why a partition is no longer held. They are the causes of the contexts that
// HoldFunc and Lease hand out; test with errors.Is on context.Cause.
var (
	// ErrLost: another replica took the lease, or it could not be renewed in
	// time. Nothing may be saved, and nothing more may be sent.
	ErrLost = errors.New("the lease is lost")
	// ErrReset: an operator moved the position. What is only queued must be
	// dropped; the next holder starts at the new place.
	ErrReset = errors.New("the position was reset by an operator")
	// ErrMoved: another replica is to have the partition. What was begun may be
	// finished and saved before the lease is given up.
	ErrMoved = errors.New("the partition moves to another replica")
	// ErrReleased: the lease was given up by its holder.
	ErrReleased = errors.New("the lease was given up")
)

var errStoreSlow = errors.New("the store of the saved position did not answer in time")

// Lease is the right to work on a partition and to save its position, until its
// context ends. It is made by a Group, or in tests by a Memory, and safe for
// concurrent use.
type Lease struct {
	ledger  Ledger
	record  Record      // as it was acquired
	certain func() bool // the session of the holder lives at this moment

	ctx context.Context
	end context.CancelCauseFunc // the first cause counts
}

// newLease returns a lease that lives no longer than life, the session of its holder.
func newLease(life context.Context, ledger Ledger, acquired Record, certain func() bool) *Lease {
	l := &Lease{ledger: ledger, record: acquired, certain: certain}
	l.ctx, l.end = context.WithCancelCause(life)
	return l
}

// Partition is what is held.
func (l *Lease) Partition() Partition { return l.record.Partition }

// Term is the number of this holding; a later holder has a greater one.
func (l *Lease) Term() int64 { return l.record.Term }

// Record is what was stored when the lease was acquired.
func (l *Lease) Record() Record { return l.record }

// Context lives for as long as the lease does. Its cause is ErrLost, ErrReset
// or ErrReleased. Work that must not happen twice takes its context from here.
func (l *Lease) Context() context.Context { return l.ctx }

// Alive says whether the lease is certain to hold at this moment. Context says so
// with the delay of a timer, and the timers of a host that was suspended stood
// still with it; so ask this right before what must not happen twice. It asks no
// server and costs no more than reading the clock.
func (l *Lease) Alive() bool { return l.ctx.Err() == nil && l.certain() }

// Save stores a position with its origin. It returns an error that wraps
// ErrFenced when the lease is no longer ours, and ends the lease's context then.
func (l *Lease) Save(ctx context.Context, p Position, o Origin) error {
	if l.ctx.Err() != nil {
		return fmt.Errorf("save the position: %w: %w", ErrFenced, context.Cause(l.ctx))
	}
	now := &saved{position: p, origin: o, savedAt: time.Now().UTC()}
	err := l.ledger.put(ctx, l.record.ID, l.record, change{what: "save the position", term: l.record.Term, saved: now})
	if errors.Is(err, ErrFenced) {
		r, _, _ := l.ledger.Record(ctx, l.record.Partition) // unread, it counts as that of another
		l.fenced(r)
	}
	return err
}

// fenced ends the lease, and says whether an operator or a replica took it.
func (l *Lease) fenced(now Record) {
	if now.Reset != nil && (l.record.Reset == nil || l.record.Reset.ID != now.Reset.ID) {
		l.end(ErrReset)
		return
	}
	l.end(ErrLost)
}

// release gives the lease up if it is still ours, so that another can take it at once.
func (l *Lease) release(ctx context.Context, limit time.Duration) (err error) {
	if l.ctx.Err() == nil {
		l.end(ErrReleased)
		err = release(ctx, l.ledger, l.record, limit)
	}
	return err
}

// release makes nobody the holder of a record, if it has not moved on.
func release(ctx context.Context, ledger Ledger, seen Record, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errStoreSlow)
	defer cancel()
	err := ledger.put(ctx, seen.ID, seen, change{what: "release the lease", term: seen.Term, holder: &member{}})
	if errors.Is(err, ErrFenced) {
		return nil
	}
	return err
}
