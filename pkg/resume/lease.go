package resume

import (
	"context"
	"errors"
	"fmt"
	"sync"
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

// holder is who asks for leases.
type holder struct {
	owner    string
	instance string
	lease    time.Duration
}

// ledger is where leases stand; *Store is the real one.
type ledger interface {
	Records(ctx context.Context) ([]Record, error)
	Record(ctx context.Context, p Partition) (Record, bool, error)
	member
	leases
}

// Lease is the right to work on a partition and to save its position, until its
// context ends. It is made by a Group and safe for concurrent use.
type Lease struct {
	store     leases
	look      func(ctx context.Context) (Record, bool, error)
	partition Partition
	record    Record
	lasts     time.Duration
	limit     time.Duration // of one write
	alone     func() bool   // no other replica was seen at the last look

	ctx    context.Context
	cancel context.CancelCauseFunc

	mu     sync.Mutex
	expiry *time.Timer
}

// newLease starts the clock of a lease that was taken at, or after, asked.
func newLease(store ledger, taken Record, lasts, limit time.Duration, asked time.Time, alone func() bool) *Lease {
	l := &Lease{store: store, partition: taken.Partition, record: taken, lasts: lasts, limit: limit, alone: alone}
	l.look = func(ctx context.Context) (Record, bool, error) { return store.Record(ctx, taken.Partition) }
	l.ctx, l.cancel = context.WithCancelCause(context.Background())
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expiry = time.AfterFunc(lasts-time.Since(asked), l.expire)
	return l
}

// expire ends the lease when no beat was acknowledged for too long. Only another
// replica could have taken it meanwhile, so one that is alone goes on: a store
// that is away for a minute does not stop the only one that works. Should
// another have come, the next beat that gets through says so.
func (l *Lease) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.alone() {
		l.expiry.Reset(l.lasts)
		return
	}
	l.cancel(fmt.Errorf("%w: no beat was acknowledged for %s", ErrLost, l.lasts))
}

// Partition is what is held.
func (l *Lease) Partition() Partition { return l.partition }

// Term is the number of this holding; a later holder has a greater one.
func (l *Lease) Term() int64 { return l.record.Term }

// Record is what was stored when the lease was taken.
func (l *Lease) Record() Record { return l.record }

// Context lives for as long as the lease does. Its cause is ErrLost, ErrReset
// or ErrReleased. Work that must not happen twice takes its context from here.
func (l *Lease) Context() context.Context { return l.ctx }

// Save stores a position with its origin. It returns an error that wraps
// ErrFenced when the lease is no longer ours, and ends the lease's context then.
func (l *Lease) Save(ctx context.Context, p Position, o Origin) error {
	if l.ctx.Err() != nil {
		return fmt.Errorf("save the position: %w: %w", ErrFenced, context.Cause(l.ctx))
	}
	err := l.store.save(ctx, l.record.ID, l.record.Term, p, o, time.Now().UTC())
	if errors.Is(err, ErrFenced) {
		l.fenced(ctx)
	}
	return err
}

// renew shows that the holder lives. The lease lasts from the moment at which
// the beat was sent: a standby cannot have seen it earlier.
func (l *Lease) renew(ctx context.Context) error {
	sent := time.Now()
	err := l.store.renew(ctx, l.record.ID, l.record.Term)
	switch {
	case errors.Is(err, ErrFenced):
		l.fenced(ctx)
	case err == nil:
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.ctx.Err() == nil {
			l.expiry.Reset(l.lasts - time.Since(sent))
		}
	}
	return err
}

// fenced ends the lease, and says whether an operator or a replica took it.
func (l *Lease) fenced(ctx context.Context) {
	cause := ErrLost
	now, exists, err := l.look(ctx)
	if err == nil && exists && now.Reset != nil && (l.record.Reset == nil || l.record.Reset.ID != now.Reset.ID) {
		cause = ErrReset
	}
	l.end(cause)
}

// end stops the clock; the first cause counts.
func (l *Lease) end(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expiry.Stop()
	l.cancel(cause)
}

// release gives the lease up if it is still ours.
func (l *Lease) release(ctx context.Context) error {
	if l.ctx.Err() != nil {
		return nil
	}
	l.end(ErrReleased)
	ctx, cancel := context.WithTimeoutCause(ctx, l.limit, errStoreSlow)
	defer cancel()
	err := l.store.release(ctx, l.record.ID, l.record.Term)
	if errors.Is(err, ErrFenced) {
		return nil
	}
	return err
}

var errStoreSlow = errors.New("the store of the saved position did not answer in time")

// leases is the part of the store that a Lease and a Group write to.
type leases interface {
	take(ctx context.Context, p Partition, seen Record, h holder) (Record, error)
	renew(ctx context.Context, id string, term int64) error
	release(ctx context.Context, id string, term int64) error
	save(ctx context.Context, id string, term int64, p Position, o Origin, now time.Time) error
	adopt(ctx context.Context, p Partition, from Record) error
}

// member is the part of the store in which replicas see each other.
type member interface {
	beat(ctx context.Context, h holder) error
	forget(ctx context.Context, seen Record) error
}
