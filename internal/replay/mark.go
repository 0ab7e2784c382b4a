package replay

import (
	"context"
	"errors"
	"time"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/resume"
)

// The pace of the marking.
const (
	// lead is how long before it is due a call is marked: what is marked goes on
	// after an interruption, so it is kept short.
	lead = 10 * time.Second
	// batchSpan is the time that one bulk write covers, and mostBatch its calls.
	batchSpan = 2 * time.Second
	mostBatch = 500
	// saveTime is for the record of a replay that was interrupted.
	saveTime = 5 * time.Second
)

var errSlowSave = errors.New("the record of the replay was not saved in time")

// Keeper keeps the record of a replay; *Records is the real one.
type Keeper interface {
	Save(ctx context.Context, r Record) error
}

// Run makes the calls of a plan due, at the rate of the record and no more than
// a few seconds ahead. It tells progress after each batch, and saves the record
// as it goes. It returns ErrInterrupted with the record as saved when ctx ends.
func Run(ctx context.Context, store Marker, keep Keeper, r Record, p *Plan, progress func(Record)) (Record, error) {
	now := time.Now()
	begin := now
	if r.Due.After(begin) {
		begin = r.Due.Add(r.gap()) // continued: after what is marked already
	}
	r.Found, r.State = r.Marked+r.Passed+len(p.calls), StateMarking
	if err := keep.Save(ctx, r.touched(now)); err != nil {
		return r, err
	}
	size := min(max(1, int(r.Rate*batchSpan.Seconds())), mostBatch)
	for done := 0; done < len(p.calls); {
		batch := p.calls[done:min(done+size, len(p.calls))]
		due := func(i int) time.Time {
			return begin.Add(time.Duration(float64(done+i) / r.Rate * float64(time.Second)))
		}
		if !waitUntil(ctx, due(0).Add(-lead)) {
			return interrupted(ctx, keep, r, nil)
		}
		marks := make([]calls.Mark, len(batch))
		for i := range batch {
			marks[i] = calls.Mark{Sighting: batch[i], ReplayID: r.ID, At: due(i), Slot: resume.Slot(batch[i].ID)}
		}
		// A batch that is begun is ended, so that its count is right.
		n, err := store.MarkDue(context.WithoutCancel(ctx), marks)
		if err != nil {
			return interrupted(ctx, keep, r, err)
		}
		r.Marked += n
		r.Passed += len(batch) - n
		r.Due = due(len(batch) - 1)
		done += len(batch)
		if err := keep.Save(context.WithoutCancel(ctx), r.touched(time.Now())); err != nil {
			return r, err
		}
		progress(r)
	}
	r.State = StateMarked
	return r, keep.Save(context.WithoutCancel(ctx), r.touched(time.Now()))
}

// gap is the time between two calls.
func (r *Record) gap() time.Duration { return time.Duration(float64(time.Second) / r.Rate) }

func (r *Record) touched(now time.Time) Record {
	r.UpdatedAt = now.UTC()
	return *r
}

func interrupted(ctx context.Context, keep Keeper, r Record, why error) (Record, error) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), saveTime, errSlowSave)
	defer cancel()
	r.State = StateInterrupted
	err := keep.Save(ctx, r.touched(time.Now()))
	return r, errors.Join(ErrInterrupted, why, err)
}

func waitUntil(ctx context.Context, at time.Time) bool {
	if ctx.Err() != nil {
		return false
	}
	wait := time.Until(at)
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
