package follow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/internal/outage"
	"github.com/cxbridge/watcher/pkg/backoff"
	"github.com/cxbridge/watcher/pkg/stream"
)

// The margins of a sweep. completed_at is written by the API's clock, the gap
// is measured by MongoDB's, and a result may be stored a while after the time
// that it names: after a slow analysis, or an outage of the API itself.
const (
	sweepBefore = time.Hour
	sweepAfter  = 5 * time.Minute
	// unknownPast is how far a sweep reaches back when nothing is known of where
	// the gap began: longer than a night, and what was pushed is not pushed again.
	unknownPast = 24 * time.Hour
	sweepPause  = 5 * time.Second
	// sweepBatch is how many calls of a sweep are on their way at once: an eighth
	// of the least that may be pending, so that live calls always find room.
	sweepBatch = 128
)

// HistoryLostError ends a watcher that was told not to sweep.
type HistoryLostError struct {
	From   time.Time // of the saved position; zero when unknown
	Reason stream.GapReason
}

func (e *HistoryLostError) Error() string {
	since := "an unknown time"
	if !e.From.IsZero() {
		since = e.From.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("the changes since %s cannot be read (%s) and --on-history-lost is fail; the position is kept: "+
		"start with --on-history-lost=sweep, or move the position with 'watcher resume reset'", since, e.Reason)
}

// Gap implements stream.Handler: the calls whose results were stored in the
// gap are looked up by time and take the same road as all others.
func (p *partition) Gap(ctx context.Context, g stream.Gap, done func()) error {
	w := p.window(g)
	if p.o.FailOnLoss && !w.asked {
		switch g.Reason {
		case stream.GapHistoryLost, stream.GapUnverified, stream.GapUnusable:
			return &HistoryLostError{From: g.From, Reason: g.Reason}
		case stream.GapClosed, stream.GapOversized, stream.GapUnreadable: // the history is there, an event is not
		}
	}
	p.sweeps.Go(func() { p.sweepAll(ctx, w, done) })
	return nil
}

// window is what a sweep looks at.
type window struct {
	from, to time.Time
	reason   stream.GapReason
	asked    bool // by an operator: it begins exactly there
	guessed  bool // the beginning is not known
}

func (p *partition) window(g stream.Gap) window {
	w := window{from: g.From, to: g.To.Add(sweepAfter), reason: g.Reason}
	switch {
	case g.From.IsZero():
		w.guessed = true
		w.from = g.To.Add(-unknownPast)
	case p.past.begins(g.From):
		w.asked = true // also what the platform pushed just before is left alone
	default:
		w.from = g.From.Add(-sweepBefore)
	}
	return w
}

// sweepAll sweeps until it is done or the partition is let go; then the
// position stays before the gap, and the next start sweeps it.
func (p *partition) sweepAll(ctx context.Context, w window, done func()) {
	log := p.o.Logger.With("partition", p.share.String(), "reason", string(w.reason), "from", w.from, "to", w.to)
	log.Warn("sweeping the calls of a gap in the stream", "asked_for", w.asked)
	if w.guessed {
		log.Warn("nothing is known of where the gap began; 'watcher resume reset --to' reaches further back", "guess", unknownPast)
	}
	p.adviseIndex(ctx, log)
	failing := outage.New(log, "the sweep failed, trying again", "the sweep goes on")
	for {
		n, err := p.sweep(ctx, w)
		if err == nil {
			p.metrics.sweeps[sweepDone].Inc()
			log.Info("the gap is swept", "found", n.found(), "pushed", n[sweptPushed], "due", n[sweptDue],
				"already_pushed", n[sweptAlready], "not_pushed", n[sweptIgnored])
			done()
			return
		}
		if ctx.Err() != nil || errors.Is(err, dispatch.ErrStopped) {
			return
		}
		p.metrics.sweeps[sweepFailed].Inc()
		failing.Failed(ctx, err, slog.Int("found", n.found()))
		if backoff.Sleep(ctx, sweepPause) != nil {
			return
		}
	}
}

func (p *partition) adviseIndex(ctx context.Context, log *slog.Logger) {
	if has, err := p.o.Store.HasTimeIndex(ctx); err == nil && !has {
		log.Warn("there is no index on completed_at: the sweep reads every call", "create", calls.TimeIndex,
			"collection", p.o.Calls.Name())
	}
}

// tally is what became of the calls of a sweep, by result.
type tally [sweptCount]int

func (n *tally) found() int {
	sum := 0
	for _, count := range n {
		sum += count
	}
	return sum
}

// sweep submits every call of the gap, a batch at a time, and waits until all
// of them are settled. Live calls go first.
func (p *partition) sweep(ctx context.Context, w window) (*tally, error) {
	n := new(tally)
	batch := make([]dispatch.Event, 0, sweepBatch)
	flush := func() error {
		defer func() { batch = batch[:0] }()
		if err := p.submitAll(ctx, batch); err != nil {
			return err
		}
		return p.count(ctx, batch, n)
	}
	err := p.o.Store.Select(ctx, calls.Stored{From: w.from, To: w.to}, func(call calls.Call) error {
		if !p.share.Owns(call.ID) {
			return nil
		}
		policy := p.past.policy(call.CompletedAt)
		policy.Past, policy.Backlog = true, true
		if policy.Settled(&call) {
			p.became(n, sweptAlready, 1)
			return nil
		}
		batch = append(batch, dispatch.Event{ID: call.ID, Policy: policy})
		if len(batch) < sweepBatch {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	return n, err
}

func (p *partition) became(n *tally, result swept, count int) {
	n[result] += count
	p.metrics.swept[result].Add(float64(count))
}

// submitAll returns when all calls of a batch are settled.
func (p *partition) submitAll(ctx context.Context, batch []dispatch.Event) error {
	settled := make(chan struct{}, len(batch)) // what the partition lets go never comes
	for _, e := range batch {
		if err := p.intake.Submit(ctx, e, func() { settled <- struct{}{} }); err != nil {
			return err
		}
	}
	for range batch {
		select {
		case <-settled:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// count reads what became of the calls of a batch.
func (p *partition) count(ctx context.Context, batch []dispatch.Event, n *tally) error {
	if len(batch) == 0 {
		return nil
	}
	q := calls.Read{Fields: calls.DecisionFields}
	for _, e := range batch {
		q.IDs = append(q.IDs, e.ID)
	}
	pushed, due := 0, 0
	err := p.o.Store.Load(ctx, q, func(call calls.Call) bool {
		switch {
		case !call.Pushed.CompletedAt.Equal(call.CompletedAt):
		case call.Pushed.NextAttemptAt.IsZero():
			pushed++
		default:
			due++
		}
		return true
	})
	p.became(n, sweptPushed, pushed)
	p.became(n, sweptDue, due)
	p.became(n, sweptIgnored, len(batch)-pushed-due)
	return err
}
