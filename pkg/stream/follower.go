package stream

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/pkg/resume"
)

// Defaults of Config.
const (
	DefaultMaxAwait    = time.Second
	DefaultFrozen      = time.Minute
	DefaultReopenEvery = 12 * time.Second

	openLimit      = 30 * time.Second
	probeLimit     = 30 * time.Second
	closeLimit     = 2 * time.Second
	maxFrozenPolls = 4 // doublings of Frozen
)

// Config is what a Follower needs.
type Config struct {
	// Name is the label of this stream in metrics and logs, from a small set.
	Name string

	// Collection and Pipeline say what to follow; see FromCollection. Source, if
	// set, replaces both.
	Collection *mongo.Collection
	Pipeline   mongo.Pipeline
	Source     Source

	// Filter is a condition on events that holds for all that the Sink wants. It
	// only saves the way of the others: they may still come, and when the server
	// refuses it the stream is opened without, for as long as the Follower lives.
	Filter bson.D

	// Sharded says that the router of a sharded cluster answers, see Hello.
	Sharded bool

	Start    Start
	MaxAwait time.Duration // how long the server waits in an empty poll; default 1 s, at most half of Frozen

	// Frozen is how long one poll may take before the cursor is given up and
	// opened again. It doubles each time that this does not help, up to 16
	// times, so that a long way through foreign entries is not walked for ever.
	// Default 1 minute.
	Frozen time.Duration

	// ReopenEvery is the rate of opens in the long run, after a burst of 4.
	// Default 12 s, which is five a minute.
	ReopenEvery time.Duration

	// Passing says of an error from the server that trying the same again is of use.
	// After eight others in a row from one position it is given up: the stream goes
	// by time, and then opens now with a GapUnreadable. Default: every error passes.
	Passing func(err error) bool

	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	Namespace  string                // first part of each metric's name; may be empty
}

// openMode is where a cursor begins; also a metric label.
type openMode string

const (
	modeToken openMode = "token"
	modeTime  openMode = "time"
	modeNow   openMode = "now"
)

// Follower follows one change stream through every failure that can be mended.
type Follower struct {
	cfg    Config
	source Source
	sink   Sink
	log    *slog.Logger
	metric *metrics
	pace   pace

	// Only Run's goroutine touches these, and frozenPolls and pace the reader of a
	// cursor while it lives.
	position    resume.Position // everything up to here was handed over
	mode        openMode        // of the next cursor
	filtered    bool            // it has the filter
	gap         *Gap            // to be handed over once the stream is open again
	frozenPolls int             // in a row
	unknown     int             // errors that are not known to pass, in a row
	repeats     repeats

	mu     sync.Mutex
	status Status
	asked  time.Time // when the first poll of the cursor began; zero when there is none
}

// Errors of one cursor's life that no server sent.
var (
	errFrozen      = errors.New("the poll did not come back")
	errInvalidated = errors.New("the collection was dropped or renamed")
	errClosed      = errors.New("the server closed the cursor without a reason")
	errRefused     = errors.New("the server no longer has the history of the position")
	errUnverified  = errors.New("the server did not say in time whether it has the history of the position")
	errSlowOpen    = errors.New("the server did not open a cursor in time")
	errStopping    = errors.New("the follower stops")
)

// sinkError wraps what a Sink returned, to tell it from what the server did.
type sinkError struct{ err error }

func (e *sinkError) Error() string { return e.err.Error() }
func (e *sinkError) Unwrap() error { return e.err }

// New checks the configuration. It starts nothing and asks no server.
func New(cfg Config, sink Sink) (*Follower, error) {
	if cfg.Source == nil && cfg.Collection == nil {
		return nil, errors.New("a follower needs a collection or a source")
	}
	if cfg.Source == nil {
		cfg.Source = FromCollection(cfg.Collection, cfg.Pipeline, cfg.Filter)
	}
	if sink == nil {
		return nil, errors.New("a follower needs a sink")
	}
	if cfg.MaxAwait <= 0 {
		cfg.MaxAwait = DefaultMaxAwait
	}
	if cfg.Frozen <= 0 {
		cfg.Frozen = DefaultFrozen
	}
	cfg.MaxAwait = min(cfg.MaxAwait, cfg.Frozen/2) // a poll without events is not frozen
	if cfg.ReopenEvery <= 0 {
		cfg.ReopenEvery = DefaultReopenEvery
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	metric, err := newMetrics(cfg.Registerer, cfg.Namespace, cfg.Name)
	if err != nil {
		return nil, err
	}
	f := &Follower{
		cfg: cfg, source: cfg.Source, sink: sink, metric: metric,
		log:      cfg.Logger.With("stream", cfg.Name),
		pace:     pace{every: cfg.ReopenEvery},
		position: cfg.Start.Position,
		mode:     modeOf(cfg.Start.Position),
		filtered: cfg.Filter != nil,
	}
	if cfg.Start.Lost != "" {
		f.declareGap(cfg.Start.Lost)
	}
	return f, nil
}

// modeOf is the most exact way to open at a position.
func modeOf(p resume.Position) openMode {
	switch {
	case len(p.Token) > 0:
		return modeToken
	case !p.ClusterTime.IsZero():
		return modeTime
	}
	return modeNow
}

// Run follows the stream until ctx ends, and returns nil then, or until the
// sink returns an error, and returns that. After everything else it opens the stream again.
// The poll that runs when ctx ends is cut off: what it would bring was not handed over.
func (f *Follower) Run(ctx context.Context) error {
	defer f.metric.stopped()
	defer f.closed(nil)
	for f.pace.wait(ctx) == nil {
		err := f.follow(ctx)
		if failed, ok := errors.AsType[*sinkError](err); ok {
			if ctx.Err() != nil {
				return nil // the sink was told to stop
			}
			return failed.err
		}
		if ctx.Err() != nil {
			return nil
		}
		f.closed(err)
		f.reopen(ctx, err)
	}
	return nil
}

// follow is the life of one cursor. It returns why that ended. While a batch is
// handed over the next is read, see read.
func (f *Follower) follow(ctx context.Context) (end error) {
	cursor, first, err := f.open(ctx)
	if err != nil {
		f.metric.open(f.mode, err)
		return err
	}
	ahead := reader{Follower: f, cursor: cursor, id: first.CursorID, mode: f.mode, batches: make(chan reading)}
	reads, stop := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	defer func() {
		stop(errStopping)
		running.Wait()
		f.closed(end) // at once: a server that is silent lets close wait for its limit
		f.close(ctx, cursor)
	}()
	if err := f.begin(ctx, first); err != nil {
		return err
	}
	ahead.position = f.position
	f.asking(f.position)
	running.Go(func() { ahead.read(reads) })
	for {
		var next reading
		select {
		case next = <-ahead.batches:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := f.handOver(ctx, next.batch); err != nil {
			return err
		}
		if next.end != nil {
			return next.end
		}
	}
}

func (f *Follower) open(ctx context.Context) (Cursor, Batch, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, openLimit, errSlowOpen)
	defer cancel()
	return f.source.Open(ctx, f.opening())
}

func (f *Follower) opening() Opening {
	o := Opening{MaxAwait: f.cfg.MaxAwait, Filtered: f.filtered}
	switch f.mode {
	case modeToken:
		o.After = f.position.Token
	case modeTime:
		o.At = f.position.ClusterTime
	case modeNow:
	}
	return o
}

// begin uses what the open itself showed: where "now" is, and so where a gap ends.
func (f *Follower) begin(ctx context.Context, first Batch) error {
	opened := f.position
	if f.mode == modeNow {
		opened = openedAt(first)
	}
	f.log.InfoContext(ctx, "the stream is open", "way", string(f.mode), "position", opened.String())
	if f.gap != nil {
		gap := *f.gap
		gap.Position = opened
		gap.To = opened.Time().Add(time.Second) // the time is cut to whole seconds
		f.metric.gaps[gap.Reason].Inc()
		f.log.WarnContext(ctx, "events may have been missed", "reason", string(gap.Reason), "from", gap.From, "to", gap.To)
		if err := f.sink.Gap(ctx, gap); err != nil {
			return &sinkError{err}
		}
		f.gap = nil
	} else if f.mode == modeNow && !opened.IsZero() {
		f.sink.Idle(opened)
	}
	if f.mode == modeNow {
		f.position, f.mode = opened, modeOf(opened)
	}
	return nil
}

// openedAt is the position of a stream that was just opened at now.
func openedAt(first Batch) resume.Position {
	p := positionOf(first.Token)
	if p.ClusterTime.IsZero() {
		p.ClusterTime = first.ServerTime
	}
	return p
}

func positionOf(token bson.Raw) resume.Position {
	at, _ := resume.TokenTime(token)
	return resume.Position{Token: token, ClusterTime: at, WallTime: time.Now()}
}

// handOver hands a batch to the sink, and then the position after it.
func (f *Follower) handOver(ctx context.Context, b Batch) error {
	now := time.Now()
	for _, body := range b.Events {
		e := decode(body, now)
		f.metric.event(e.Operation)
		if err := f.sink.Event(ctx, e); err != nil {
			return &sinkError{err}
		}
		f.position, f.mode, f.unknown = e.Position, modeOf(e.Position), 0
	}
	if idle, ok := b.after(f.position); ok {
		idle.WallTime = now
		f.position, f.mode, f.unknown = idle, modeToken, 0
		f.sink.Idle(idle)
	}
	return nil
}

func (f *Follower) close(ctx context.Context, cursor Cursor) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), closeLimit, errStopping)
	defer cancel()
	if err := cursor.Close(ctx); err != nil {
		f.log.DebugContext(ctx, "cannot close the cursor", "error", err)
	}
}
