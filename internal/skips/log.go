package skips

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/outage"
)

// The pace and the bounds of the log.
const (
	every     = time.Second // between two writes
	batchSize = 500         // entries of one write, and what makes one at once
	room      = 10_000      // entries that wait, about 3 MB

	writeTimeout = 10 * time.Second
	stopTimeout  = 2 * time.Second // for what waits when Run ends
)

var (
	errWriteTimeout = errors.New("MongoDB did not acknowledge the skip log in time")
	errStopTimeout  = errors.New("the rest of the skip log was not written in time")
)

// Options are what a Log is made of.
type Options struct {
	Collection *mongo.Collection
	Keep       time.Duration // after which MongoDB drops an entry; in whole seconds, at least one
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Log writes entries beside the road. It is safe for concurrent use.
type Log struct {
	coll    *mongo.Collection
	keep    time.Duration
	logger  *slog.Logger
	failing *outage.Log
	refused bool // told that a right is missing
	indexed bool // old entries are dropped

	written, dropped prometheus.Counter

	mu      sync.Mutex
	waiting []Entry
	full    chan struct{} // a batch waits
}

// New returns a Log. It writes nothing before Run.
func New(o Options) *Log {
	l := &Log{
		// An entry that a failover takes back is not missed: it is for people.
		coll: o.Collection.Clone(options.Collection().SetWriteConcern(writeconcern.W1())),
		keep: o.Keep, logger: o.Logger, full: make(chan struct{}, 1),
		failing: outage.New(o.Logger, "the skip log cannot be written; entries are dropped", "the skip log can be written again"),
		written: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "watcher_skips_written_total",
			Help: "Entries of the skip log that were written.",
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "watcher_skips_dropped_total",
			Help: "Entries of the skip log that were dropped: too many waited, or MongoDB did not take them.",
		}),
	}
	o.Registerer.MustRegister(l.written, l.dropped)
	return l
}

// Add takes the entry of a call that is not pushed. It never waits.
func (l *Log) Add(call *calls.Call, reason string) {
	e := entryOf(call, reason, time.Now())
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) >= room {
		l.dropped.Inc()
		return
	}
	l.waiting = append(l.waiting, e)
	if len(l.waiting)%batchSize == 0 {
		select {
		case l.full <- struct{}{}:
		default: // it is told already
		}
	}
}

// Run writes until ctx ends, and then for two seconds at most what still waits.
func (l *Log) Run(ctx context.Context) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-l.full:
		case <-ctx.Done():
			last, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), stopTimeout, errStopTimeout)
			defer cancel()
			l.flush(last)
			return nil
		}
		l.flush(ctx)
	}
}

// next takes a batch of what waits; nil when nothing does.
func (l *Log) next() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.waiting), batchSize)
	batch := slices.Clone(l.waiting[:n])
	if l.waiting = l.waiting[n:]; len(l.waiting) == 0 {
		l.waiting = nil // gives the memory of a burst back
	}
	return batch
}

// back puts a batch before what waits; writing it twice does no harm.
func (l *Log) back(batch []Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(batch, l.waiting...)
}

// flush writes all that waits, a batch at a time.
func (l *Log) flush(ctx context.Context) {
	for batch := l.next(); len(batch) > 0; batch = l.next() {
		lost, err := l.write(ctx, batch)
		if err != nil && context.Cause(ctx) != nil && !errors.Is(context.Cause(ctx), errStopTimeout) {
			l.back(batch) // a stop cut it off
			return
		}
		l.written.Add(float64(len(batch) - lost))
		l.dropped.Add(float64(lost))
		l.tell(ctx, err, lost)
	}
}

// tell logs what became of a write. A missing right is told once: it stays until
// somebody gives it.
func (l *Log) tell(ctx context.Context, err error, lost int) {
	switch {
	case err == nil:
		l.failing.Worked(ctx)
		l.refused = false
	case !isRight(err):
		l.failing.Failed(ctx, err, slog.Int("dropped", lost))
	case !l.refused:
		l.refused = true
		l.logger.WarnContext(ctx, "the skip log is not written: a right is missing; --skip-log=0 switches it off",
			"collection", l.coll.Name(), "needs", "insert, update, createIndex, listIndexes", "error", err)
	}
}

// write returns how many entries of a batch are not written, and why.
func (l *Log) write(ctx context.Context, batch []Entry) (lost int, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, writeTimeout, errWriteTimeout)
	defer cancel()
	if err := l.index(ctx); err != nil {
		return len(batch), err
	}
	models := make([]mongo.WriteModel, len(batch))
	for i := range batch {
		models[i] = mongo.NewReplaceOneModel().SetUpsert(true).
			SetFilter(bson.D{{Key: "_id", Value: batch[i].ID}}).SetReplacement(batch[i].document())
	}
	_, err = l.coll.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
	failed, ok := errors.AsType[mongo.BulkWriteException](err)
	switch {
	case err == nil:
		return 0, nil
	case !ok || failed.WriteConcernError != nil:
		return len(batch), fmt.Errorf("write the skip log: %w", err)
	}
	for _, e := range failed.WriteErrors {
		if e.Code != duplicateKey { // else another replica wrote the same at the same time
			lost++
		}
	}
	if lost == 0 {
		return 0, nil
	}
	return lost, fmt.Errorf("write the skip log: %w", err)
}

// The codes of MongoDB that are told apart here.
const (
	unauthorized     = 13
	indexOptions     = 85
	indexKeySpecs    = 86
	duplicateKey     = 11000
	ttlIndex         = "watcher_skips_ttl"
	callIndex        = "watcher_skips_call"
	botIndex         = "watcher_skips_bot"
	leastKeepSeconds = 1
)

func isRight(err error) bool { return hasCode(err, unauthorized) }

func hasCode(err error, codes ...int) bool {
	failed, ok := errors.AsType[mongo.ServerError](err)
	return ok && slices.ContainsFunc(codes, failed.HasErrorCode)
}

// index creates the indexes once. Without the one that drops old entries nothing is
// written, as the collection would grow without end.
func (l *Log) index(ctx context.Context) error {
	if l.indexed {
		return nil
	}
	seconds := int32(min(max(l.keep/time.Second, leastKeepSeconds), math.MaxInt32)) //nolint:gosec // bounded
	create := func() error {
		_, err := l.coll.Indexes().CreateMany(ctx, []mongo.IndexModel{
			{Keys: bson.D{{Key: fieldAt, Value: 1}}, Options: options.Index().SetName(ttlIndex).SetExpireAfterSeconds(seconds)},
			{Keys: bson.D{{Key: fieldCall, Value: 1}}, Options: options.Index().SetName(callIndex)},
			{Keys: bson.D{{Key: fieldBot, Value: 1}, {Key: fieldAt, Value: 1}}, Options: options.Index().SetName(botIndex)},
		})
		return err
	}
	err := create()
	if hasCode(err, indexOptions, indexKeySpecs) { // it has another time
		if err = l.coll.Indexes().DropOne(ctx, ttlIndex); err == nil {
			err = create()
		}
	}
	if err != nil && !l.expires(ctx, seconds) {
		return fmt.Errorf("create the indexes of the skip log: %w", err)
	}
	l.indexed = true
	return nil
}

// expires reports whether there is an index that drops old entries, and warns when
// it does so at another time than was asked for.
func (l *Log) expires(ctx context.Context, seconds int32) bool {
	all, err := l.coll.Indexes().ListSpecifications(ctx)
	if err != nil {
		return false
	}
	for _, spec := range all {
		first, err := spec.KeysDocument.IndexErr(0)
		if err != nil || first.Key() != fieldAt || spec.ExpireAfterSeconds == nil {
			continue
		}
		if *spec.ExpireAfterSeconds != seconds {
			l.logger.WarnContext(ctx, "the skip log keeps entries for another time than --skip-log says: its index cannot be changed",
				"index", spec.Name, "keeps", time.Duration(*spec.ExpireAfterSeconds)*time.Second, "asked_for", time.Duration(seconds)*time.Second)
		}
		return true
	}
	return false
}
