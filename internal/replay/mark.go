package replay

import (
	"context"
	"errors"
	"time"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/backoff"
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

// ErrInterrupted says that the marking stopped before its end, and can be
// continued.
var ErrInterrupted = errors.New("interrupted: what is not marked yet can be continued")

// Marker makes calls due and takes that back; *calls.Store is the real one.
type Marker interface {
	MarkDue(ctx context.Context, marks []calls.Mark) (marked, refused int, err error)
	Unmark(ctx context.Context, replayID string) (int, error)
}

// Saver saves the record of a replay; *Records is the real one.
type Saver interface {
	Save(ctx context.Context, r Record) error // ErrCancelled when it was cancelled
}

// Cancel ends a replay and takes back its marks on the calls that were not attempted
// yet; it returns how many. It may be repeated.
func Cancel(ctx context.Context, store Marker, records *Records, id, by string) (int, error) {
	if err := records.Cancel(ctx, id, by, time.Now()); err != nil {
		return 0, err
	}
	n, err := store.Unmark(ctx, id)
	if n > 0 {
		err = errors.Join(err, records.TookBack(ctx, id, n))
	}
	return n, err
}

// Run makes the calls of a plan due, at the rate of the record and no more than
// a few seconds ahead. It reports progress after each batch, and saves the record
// as it goes. It returns ErrInterrupted with the record as saved when ctx ends, and
// ErrCancelled when the replay was cancelled meanwhile: then what it marked since is
// taken back.
func Run(ctx context.Context, store Marker, saver Saver, r Record, p *Plan, progress func(Record)) (Record, error) {
	now := time.Now()
	begin := now
	if r.Due.After(begin) {
		begin = r.Due.Add(r.after(1)) // continued: after what is marked already
	}
	left := r.Marked + r.Passed + r.Refused + len(p.calls)
	r.Found = max(r.Found, left)
	r.Passed += r.Found - left // continued: what is not found any more changed meanwhile
	r.State = StateMarking
	if err := saver.Save(ctx, r.updated(now)); err != nil {
		return r, err
	}
	size := min(max(1, int(r.Rate*batchSpan.Seconds())), mostBatch)
	for done := 0; done < len(p.calls); {
		batch := p.calls[done:min(done+size, len(p.calls))]
		marks := make([]calls.Mark, len(batch))
		for i := range batch {
			marks[i] = calls.Mark{Snapshot: batch[i], ReplayID: r.ID, At: begin.Add(r.after(done + i)), Slot: resume.Slot(batch[i].ID)}
		}
		if ctx.Err() != nil || backoff.Sleep(ctx, time.Until(marks[0].At.Add(-lead))) != nil {
			return interrupted(ctx, saver, r, nil)
		}
		// A batch that is begun is ended, so that its count is right.
		marked, refused, err := store.MarkDue(context.WithoutCancel(ctx), marks)
		r.Marked += marked
		if err != nil {
			return interrupted(ctx, saver, r, err)
		}
		r.Refused += refused
		r.Passed += len(batch) - marked - refused
		r.Due = marks[len(marks)-1].At
		done += len(batch)
		switch err := saver.Save(context.WithoutCancel(ctx), r.updated(time.Now())); {
		case errors.Is(err, ErrCancelled):
			_, failed := store.Unmark(context.WithoutCancel(ctx), r.ID)
			return r, errors.Join(err, failed)
		case err != nil:
			return r, err
		}
		progress(r)
	}
	r.State = StateMarked
	return r, saver.Save(context.WithoutCancel(ctx), r.updated(time.Now()))
}

// after is when the call number n, counted from 0, is due after the first.
func (r *Record) after(n int) time.Duration {
	return time.Duration(float64(n) / r.Rate * float64(time.Second))
}

func (r *Record) updated(now time.Time) Record {
	r.UpdatedAt = now.UTC()
	return *r
}

func interrupted(ctx context.Context, saver Saver, r Record, why error) (Record, error) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), saveTime, errSlowSave)
	defer cancel()
	r.State = StateInterrupted
	err := saver.Save(ctx, r.updated(time.Now()))
	return r, errors.Join(ErrInterrupted, why, err)
}
