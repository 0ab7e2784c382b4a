package calls

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/outage"
)

// Recorder writes outcomes onto the calls, many calls in one bulk write. It
// waits for nothing: what arrives while one write is under way makes the next.
type Recorder struct {
	coll    *mongo.Collection
	logger  *slog.Logger
	outage  *outage.Log
	metrics *recordMetrics

	mu     sync.Mutex
	wake   *sync.Cond
	queue  []entry
	closed bool
}

// entry is an outcome on its way into its document.
type entry struct {
	outcome Outcome
	done    func()
}

// The limits of a bulk write: many small updates cost one round trip, but one
// reply must not hold up a thousand calls.
const (
	maxBulk      = 256
	bulkWriters  = 4
	writeTimeout = 30 * time.Second
	minWriteWait = 100 * time.Millisecond
	maxWriteWait = 15 * time.Second
)

var errWriteTimeout = errors.New("MongoDB did not acknowledge a write in time")

// NewRecorder returns a recorder on a calls collection.
func NewRecorder(coll *mongo.Collection, logger *slog.Logger, reg prometheus.Registerer) *Recorder {
	r := &Recorder{
		coll: coll, logger: logger, metrics: newRecordMetrics(reg),
		outage: outage.New(logger, "outcomes cannot be written, trying again", "outcomes can be written again"),
	}
	r.wake = sync.NewCond(&r.mu)
	return r
}

// Record takes an outcome; done is called once, after its write was
// acknowledged or nothing of it could be written. The queue is as long as the
// caller's own limit of pending calls.
func (r *Recorder) Record(o Outcome, done func()) {
	r.mu.Lock()
	r.queue = append(r.queue, entry{o, done})
	r.mu.Unlock()
	r.wake.Signal()
}

// Close lets Run return once the queue is empty. Nothing is recorded after it.
func (r *Recorder) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.wake.Broadcast()
}

// Run writes until Close was called and all is written. When ctx ends before
// that, what is not acknowledged stays undone.
func (r *Recorder) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, r.Close)
	defer stop()
	var writers sync.WaitGroup
	for range bulkWriters {
		writers.Go(func() {
			for batch := r.next(); batch != nil && ctx.Err() == nil; batch = r.next() {
				r.write(ctx, batch)
			}
		})
	}
	writers.Wait()
	return nil
}

// next waits for outcomes; nil means that there will be no more.
func (r *Recorder) next() []entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.queue) == 0 {
		if r.closed {
			return nil
		}
		r.wake.Wait()
	}
	n := min(len(r.queue), maxBulk)
	batch := make([]entry, n)
	copy(batch, r.queue)
	clear(r.queue[:n]) // the array outlives the entries
	r.queue = r.queue[n:]
	if len(r.queue) == 0 {
		r.queue = nil
	}
	return batch
}

// write repeats a batch until each of its outcomes is written, has a document
// that takes none of it, or ctx ends.
func (r *Recorder) write(ctx context.Context, batch []entry) {
	for attempt := 0; len(batch) > 0; attempt++ {
		refused, err := r.bulk(ctx, batch, attempt > 0)
		if err == nil {
			r.outage.Worked(ctx)
			for _, e := range refused {
				r.writeLess(ctx, e)
			}
			return
		}
		if ctx.Err() != nil {
			return
		}
		wait := writeWait(attempt)
		r.metrics.retries.Inc()
		r.outage.Failed(ctx, err, slog.Int("calls", len(batch)))
		if !sleep(ctx, wait) {
			return
		}
	}
}

// bulk writes a batch and settles what was written. It returns the entries
// that their documents refused, or an error when nothing is known of any.
func (r *Recorder) bulk(ctx context.Context, batch []entry, again bool) ([]entry, error) {
	models := make([]mongo.WriteModel, len(batch))
	for i := range batch {
		models[i] = mongo.NewUpdateOneModel().
			SetFilter(batch[i].outcome.filter(again)).
			SetUpdate(batch[i].outcome.update(detailAll))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, writeTimeout, errWriteTimeout)
	defer cancel()
	begun := time.Now()
	result, err := r.coll.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
	r.metrics.size.Observe(float64(len(batch)))
	r.metrics.seconds.Observe(time.Since(begun).Seconds())

	refused := make(map[int]bool)
	if failed, ok := errors.AsType[mongo.BulkWriteException](err); ok && failed.WriteConcernError == nil {
		for _, we := range failed.WriteErrors {
			refused[we.Index] = true
		}
	} else if err != nil {
		return nil, fmt.Errorf("write %d outcomes: %w", len(batch), err)
	}
	if result != nil && int(result.MatchedCount)+len(refused) < len(batch) {
		r.writeLate(ctx, batch)
	}
	var left []entry
	for i, e := range batch {
		if refused[i] {
			left = append(left, e)
			continue
		}
		r.metrics.written[detailAll].Inc()
		e.done()
	}
	return left, nil
}

// writeLess writes as much of an outcome as its document takes.
func (r *Recorder) writeLess(ctx context.Context, e entry) {
	level := detailAll // a moving shard or a stepped-down primary refuses single writes too
	for attempt := 0; ; attempt++ {
		err := r.one(ctx, e, level)
		switch {
		case err == nil:
			if level != detailAll {
				r.logger.Warn("call takes only a part of its outcome",
					"call_id", idText(e.outcome.ID), "delivery_id", e.outcome.DeliveryID, "written", level.String())
			}
			r.metrics.written[level].Inc()
			r.outage.Worked(ctx)
			e.done()
			return
		case ctx.Err() != nil:
			return
		case isRefusal(err) && level == detailShort:
			r.logger.Error("outcome cannot be written onto its call",
				"call_id", idText(e.outcome.ID), "delivery_id", e.outcome.DeliveryID,
				"outcome", string(e.outcome.Status), "attempts", e.outcome.Attempts, "error", err)
			r.metrics.written[detailNone].Inc()
			e.done()
			return
		case isRefusal(err):
			level++
			attempt = 0
		default:
			r.outage.Failed(ctx, err, slog.Int("calls", 1))
			if !sleep(ctx, writeWait(attempt)) {
				return
			}
		}
	}
}

func (r *Recorder) one(ctx context.Context, e entry, level detail) error {
	ctx, cancel := context.WithTimeoutCause(ctx, writeTimeout, errWriteTimeout)
	defer cancel()
	if _, err := r.coll.UpdateOne(ctx, e.outcome.filter(true), e.outcome.update(level)); err != nil {
		return fmt.Errorf("write outcome of call %s: %w", idText(e.outcome.ID), err)
	}
	return nil
}

// filter finds the call. A write that may have been applied already is not
// applied again: its time stands on the document, or, where it only withdraws
// the next try, that is gone. Nor is one of a call that meanwhile says something
// else than what it was read with.
func (o *Outcome) filter(again bool) bson.D {
	f := bson.D{{Key: "_id", Value: o.ID}}
	if again && o.Withdrawn {
		f = append(f, bson.E{Key: fieldNextAttempt, Value: bson.D{{Key: "$exists", Value: true}}})
	}
	switch {
	case o.Seen != nil:
		f = append(f, o.Seen.unchanged(o.CompletedAt)...)
	case again && !o.Withdrawn:
		f = append(f, bson.E{Key: fieldResult + ".pushed_at", Value: bson.D{
			{Key: "$ne", Value: bson.NewDateTimeFromTime(o.PushedAt)},
		}})
	}
	return f
}

// writeLate adds to the logs of the calls those of a batch that came too late,
// see Outcome.Seen. Those that were written, now or before, stand in the log.
func (r *Recorder) writeLate(ctx context.Context, batch []entry) {
	var models []mongo.WriteModel
	for i := range batch {
		o := &batch[i].outcome
		if o.Seen == nil || o.Parked || o.Withdrawn {
			continue
		}
		models = append(models, mongo.NewUpdateOneModel().SetUpdate(o.lateUpdate()).SetFilter(bson.D{
			{Key: "_id", Value: o.ID},
			{Key: fieldLog + ".pushed_at", Value: bson.D{{Key: "$ne", Value: bson.NewDateTimeFromTime(o.PushedAt)}}},
		}))
	}
	if len(models) == 0 {
		return
	}
	result, err := r.coll.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
	switch {
	case err != nil:
		r.logger.WarnContext(ctx, "tries that came too late are not in the logs of their calls", "error", err)
	case result.MatchedCount > 0:
		r.logger.WarnContext(ctx, "outcomes came too late: another replica answers for the calls", "calls", result.MatchedCount)
	}
}

// isRefusal reports whether the server found fault with the command itself, so
// that the same again is refused again. Of updates: code 2 BadValue ($push onto what is no
// array), 14 TypeMismatch, 17280 and 10334 (too large), 17419/17420 (larger
// after the update), 28 PathNotViable, 9 FailedToParse, 121 validation. Of
// projections: 15998, 16410, 40352, 40353 (names), 31249 (paths that collide).
func isRefusal(err error) bool {
	failed, ok := errors.AsType[mongo.ServerError](err)
	if !ok {
		return false
	}
	for _, code := range []int{2, 9, 14, 28, 57, 121, 10334, 15998, 16410, 17280, 17419, 17420, 31249, 40352, 40353} {
		if failed.HasErrorCode(code) {
			return true
		}
	}
	return false
}

// writeWait is the delay before try n+1: doubled, bounded, jittered.
func writeWait(n int) time.Duration {
	wait := min(minWriteWait<<min(n, 10), maxWriteWait)
	return wait/2 + rand.N(wait/2+1) //nolint:gosec // jitter
}

// sleep waits, and reports false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
