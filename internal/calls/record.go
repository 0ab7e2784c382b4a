package calls

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/cxbridge/watcher/internal/outage"
	"github.com/cxbridge/watcher/pkg/backoff"
)

// Recorder writes outcomes onto the calls, many calls in one bulk write; when one
// begins is said at writeQueue.
//
// An error that passes (outage.Passing) puts an outcome back into the queue. Any
// other error concerns its one document: it is written with less and less of the
// outcome, and ends as a line in the log. Neither holds up a writer.
type Recorder struct {
	coll    *mongo.Collection
	logger  *slog.Logger
	outage  *outage.Log
	metrics *recordMetrics
	queue   *writeQueue
}

// maxUnknown is how often a write is made again that the server refuses as a
// whole for a reason that nobody knows: for about a minute. It may be the server;
// and if it is the document, it holds up nobody meanwhile.
const maxUnknown = 10

// ofItsDocument reports whether an error is about the one document of a write:
// the server names the document, or the driver cannot send it.
func ofItsDocument(err error) bool {
	if refused, ok := errors.AsType[mongo.WriteException](err); ok {
		return len(refused.WriteErrors) > 0
	}
	_, fromServer := errors.AsType[mongo.ServerError](err)
	return !fromServer
}

// The limits of a bulk write: many small updates cost one round trip, but one
// reply must not hold up a thousand calls.
const (
	maxBulk      = 256
	bulkWriters  = 4
	writeTimeout = 30 * time.Second
	// gatherTime is how long after the begin of a write the next one begins. Nobody waits
	// for an outcome but the saved position. A kill repeats what was sent within it.
	gatherTime = 50 * time.Millisecond
)

var (
	errWriteTimeout = errors.New("MongoDB did not acknowledge a write in time")
	writePause      = backoff.Backoff{First: 100 * time.Millisecond, Most: 15 * time.Second}
)

// NewRecorder returns a recorder on a calls collection.
func NewRecorder(coll *mongo.Collection, logger *slog.Logger, reg prometheus.Registerer) *Recorder {
	return &Recorder{
		coll: coll, logger: logger, metrics: newRecordMetrics(reg), queue: newWriteQueue(),
		outage: outage.New(logger, "outcomes cannot be written, trying again", "outcomes can be written again"),
	}
}

// Record takes an outcome. done is called once: with true after its write was
// acknowledged, with false when its document takes nothing of it. The queue is
// as long as the caller's own limit of pending calls.
func (r *Recorder) Record(o Outcome, done func(written bool)) {
	r.queue.add(entry{outcome: &o, done: done})
}

// Close lets Run return once all is written. Nothing is recorded after it.
func (r *Recorder) Close() { r.queue.close() }

// Run writes until Close was called and all is written. When ctx ends before
// that, what is not acknowledged stays undone.
func (r *Recorder) Run(ctx context.Context) error {
	forget := context.AfterFunc(ctx, r.queue.stop)
	defer forget()
	var writers sync.WaitGroup
	for range bulkWriters {
		writers.Go(func() {
			for batch := r.queue.next(); batch != nil; batch = r.queue.next() {
				r.write(ctx, batch)
			}
		})
	}
	writers.Wait()
	return nil
}

// write writes a batch. Each of its entries is done then, or in the queue again.
func (r *Recorder) write(ctx context.Context, batch []entry) {
	failed, err := r.bulk(ctx, batch)
	switch {
	case err == nil:
		r.outage.Worked(ctx)
	case outage.Passing(err):
		r.later(ctx, batch, err)
		return
	case len(batch) > 1: // one of them is the reason
		r.write(ctx, batch[:len(batch)/2])
		r.write(ctx, batch[len(batch)/2:])
		return
	case !ofItsDocument(err) && batch[0].unknown < maxUnknown:
		batch[0].unknown++
		r.later(ctx, batch, err)
		return
	default:
		failed = map[int]error{0: err}
	}
	for i, e := range batch {
		switch err := failed[i]; {
		case err == nil:
			r.end(e)
		case outage.Passing(err):
			r.later(ctx, batch[i:i+1], err)
		default:
			r.writeLess(ctx, e, err)
		}
	}
}

// byID is the index on _id, as a hint.
var byID any = bsoncore.BuildDocumentValue(bsoncore.AppendInt32Element(nil, "_id", 1))

// updateByID is an update whose filter names the _id and more. Without the hint a
// server plans each of them anew, which costs as much as the write itself.
func updateByID() *mongo.UpdateOneModel { return mongo.NewUpdateOneModel().SetHint(byID) }

// bulk writes a batch. It returns the errors of single entries by their place,
// or the one of all.
func (r *Recorder) bulk(ctx context.Context, batch []entry) (map[int]error, error) {
	models := make([]mongo.WriteModel, len(batch))
	for i, e := range batch {
		models[i] = updateByID().SetFilter(e.outcome.filter()).SetUpdate(e.outcome.update(e.level))
	}
	writing, cancel := context.WithTimeoutCause(ctx, writeTimeout, errWriteTimeout)
	defer cancel()
	begun := time.Now()
	result, err := r.coll.BulkWrite(writing, models, options.BulkWrite().SetOrdered(false))
	r.metrics.size.Observe(float64(len(batch)))
	r.metrics.seconds.Observe(time.Since(begun).Seconds())

	var failed map[int]error
	if each, ok := errors.AsType[mongo.BulkWriteException](err); ok && each.WriteConcernError == nil {
		failed = make(map[int]error, len(each.WriteErrors))
		for _, we := range each.WriteErrors {
			failed[we.Index] = mongo.WriteException{WriteErrors: mongo.WriteErrors{we.WriteError}, Labels: each.Labels}
		}
	} else if err != nil {
		return nil, fmt.Errorf("write %d outcomes: %w", len(batch), err)
	}
	if result != nil && int(result.MatchedCount)+len(failed) < len(batch) {
		return failed, r.writeLate(writing, batch, failed)
	}
	return failed, nil
}

// end notes an entry that is written.
func (r *Recorder) end(e entry) {
	if e.level != detailAll {
		r.logger.Warn("call takes only a part of its outcome",
			"call_id", idText(e.outcome.ID), "delivery_id", e.outcome.DeliveryID, "written", e.level.String())
	}
	r.metrics.written[e.level].Inc()
	e.done(e.level < detailRemoved)
}

// later puts entries back into the queue after a pause.
func (r *Recorder) later(ctx context.Context, batch []entry, err error) {
	if ctx.Err() != nil {
		return
	}
	r.metrics.retries.Inc()
	r.outage.Failed(ctx, err, slog.Int("calls", len(batch)))
	failures := 0
	retries := make([]entry, len(batch))
	for i, e := range batch {
		failures = max(failures, e.failures)
		e.failures++
		retries[i] = e
	}
	r.queue.addLater(writePause.Pause(failures), retries)
}

// writeLess writes as much of an outcome as its document takes, after it
// refused all of it.
func (r *Recorder) writeLess(ctx context.Context, e entry, refused error) {
	for e.level++; e.level < detailNone; e.level++ {
		if e.level == detailRemoved && e.outcome.Seen.NextAttemptAt.IsZero() {
			continue // nothing is due on it
		}
		failed, err := r.bulk(ctx, []entry{e})
		if err == nil {
			err = failed[0]
		}
		switch {
		case err == nil:
			r.outage.Worked(ctx)
			r.end(e)
			return
		case outage.Passing(err) || !ofItsDocument(err) && e.unknown < maxUnknown:
			e.unknown++
			r.later(ctx, []entry{e}, err)
			return
		}
		refused = err
	}
	r.logger.Error("outcome cannot be written onto its call",
		"call_id", idText(e.outcome.ID), "delivery_id", e.outcome.DeliveryID,
		"outcome", string(e.outcome.Status), "attempts", e.outcome.Attempts, "error", refused)
	r.metrics.written[detailNone].Inc()
	e.done(false)
}

// writeLate cares for those of a batch whose calls say something else by now, see
// Outcome.Seen: what overrules that is written all the same, the other attempts are
// added to the logs of the calls. Those that were written, now or before, stand in the
// log and are found by that; those that failed are written with less.
func (r *Recorder) writeLate(ctx context.Context, batch []entry, failed map[int]error) error {
	var results, logs []mongo.WriteModel
	for i, e := range batch {
		o := e.outcome
		if failed[i] != nil {
			continue
		}
		missing := bson.E{Key: fieldLog + ".pushed_at", Value: bson.D{{Key: "$ne", Value: bson.NewDateTimeFromTime(o.At)}}}
		if o.Transition != ToWithdrawn && !o.moves() {
			results = append(results, updateByID().SetFilter(append(o.overruled(), missing)).SetUpdate(o.update(e.level)))
		}
		if o.attempted() {
			logs = append(logs, updateByID().SetFilter(bson.D{{Key: "_id", Value: o.ID}, missing}).SetUpdate(o.late()))
		}
	}
	for _, models := range [][]mongo.WriteModel{results, logs} {
		if len(models) == 0 {
			continue
		}
		result, err := r.coll.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
		switch {
		case outage.Passing(err):
			return fmt.Errorf("write %d outcomes that came late: %w", len(models), err)
		case err != nil: // a log that is no array, or a full document: the call is another's
			r.logger.WarnContext(ctx, "attempts that came late are not in the logs of their calls", "error", err)
		case result.MatchedCount > 0:
			r.logger.WarnContext(ctx, "outcomes came late: another replica answers for the calls, or a replay does", "calls", result.MatchedCount)
		}
	}
	return nil
}
