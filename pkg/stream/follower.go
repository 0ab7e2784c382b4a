package stream

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

	"github.com/cxbridge/watcher/pkg/resume"
)

// Defaults of Config.
const (
	DefaultMaxAwait    = time.Second
	DefaultFrozen      = time.Minute
	DefaultReopenEvery = 12 * time.Second

	openLimit   = 30 * time.Second
	probeLimit  = 30 * time.Second
	closeLimit  = 2 * time.Second
	stopGrace   = 2 * time.Second // past MaxAwait, for the poll that runs when the context ends
	maxFreezing = 4               // doublings of Frozen
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

	Start    Start
	MaxAwait time.Duration // how long the server waits in an empty poll; default 1 s

	// Frozen is how long one poll may take before the cursor is given up and
	// opened again. It doubles each time that this does not help, up to 16
	// times, so that a long way through foreign entries is not walked for ever.
	// Default 1 minute.
	Frozen time.Duration

	// ReopenEvery is the rate of opens in the long run, after a burst of 4.
	// Default 12 s, which is five a minute.
	ReopenEvery time.Duration

	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	Namespace  string                // first part of each metric's name; may be empty
}

// way is how a cursor is opened; also a metric label.
type way string

const (
	wayToken way = "token"
	wayTime  way = "time"
	wayNow   way = "now"
)

// Follower follows one change stream through every failure that can be mended.
type Follower struct {
	cfg    Config
	source Source
	sink   Sink
	log    *slog.Logger
	metric *metrics
	pace   pace

	// Only Run's goroutine touches these.
	at       resume.Position // everything up to here was handed over
	way      way
	gap      *Gap // to be told once the stream is open again
	careful  bool // one event at a time, to find one that is too large
	freezing int
	trouble  trouble

	mu     sync.Mutex
	status Status
}

// Errors of one cursor's life that no server sent.
var (
	errFrozen      = errors.New("the poll did not come back")
	errInvalidated = errors.New("the collection was dropped or renamed")
	errClosed      = errors.New("the server closed the cursor without a word")
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
		cfg.Source = FromCollection(cfg.Collection, cfg.Pipeline)
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
	if cfg.ReopenEvery <= 0 {
		cfg.ReopenEvery = DefaultReopenEvery
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	metric, err := newMetrics(cfg.Registerer, cfg.Name)
	if err != nil {
		return nil, err
	}
	f := &Follower{
		cfg: cfg, source: cfg.Source, sink: sink, metric: metric,
		log:  cfg.Logger.With("stream", cfg.Name),
		pace: pace{every: cfg.ReopenEvery},
		at:   cfg.Start.Position,
		way:  wayOf(cfg.Start.Position),
	}
	if cfg.Start.Lost != "" {
		f.lose(cfg.Start.Lost)
	}
	return f, nil
}

// wayOf is the most exact way to open at a place.
func wayOf(p resume.Position) way {
	switch {
	case len(p.Token) > 0:
		return wayToken
	case !p.ClusterTime.IsZero():
		return wayTime
	}
	return wayNow
}

// Run follows the stream until ctx ends, and returns nil then, or until the
// sink returns an error, and returns that. Everything else is tried again. It
// takes up to MaxAwait to return, so that the cursor can be closed properly.
func (f *Follower) Run(ctx context.Context) error {
	defer f.metric.quiet()
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
		f.decide(ctx, err)
	}
	return nil
}

// follow is the life of one cursor. It returns why that ended.
//
// The next poll waits until a batch is handed over. One machine reads and hands
// over 350,000 events a second and sends 12,000 requests, so that reading ahead
// would win three hundredths, for a second batch in memory.
func (f *Follower) follow(ctx context.Context) (end error) {
	opened := f.way
	cursor, first, err := f.open(ctx)
	if err != nil {
		f.metric.open(opened, err)
		return err
	}
	defer func() {
		f.closed(end) // at once: a server that is silent lets close wait for its limit
		f.close(ctx, cursor)
	}()
	if err := f.begin(ctx, first); err != nil {
		return err
	}
	// A token may be accepted though its history is gone, by our open and by
	// the driver's own. The time is not: it is asked before anything is believed.
	verify := opened == wayToken
	id := first.CursorID
	for polled := false; ctx.Err() == nil; polled = true {
		batch, err := f.poll(ctx, cursor)
		if !polled {
			f.metric.open(opened, err)
		}
		if err != nil && len(batch.Events) == 0 {
			return err
		}
		if polled && batch.CursorID != id && err == nil {
			f.metric.reopens["driver"].Inc()
			verify = true
		}
		id = batch.CursorID
		if verify {
			if err := f.verify(ctx); err != nil {
				return err
			}
			verify = false
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := f.deliver(ctx, batch); err != nil {
			return err
		}
		if err != nil {
			return err
		}
		if batch.CursorID == 0 {
			return endOf(batch)
		}
	}
	return nil
}

// endOf tells a cursor that ended with an invalidate from one that just ended.
func endOf(b Batch) error {
	if n := len(b.Events); n > 0 && operation(b.Events[n-1]) == "invalidate" {
		return errInvalidated
	}
	return errClosed
}

func (f *Follower) open(ctx context.Context) (Cursor, Batch, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, openLimit, errSlowOpen)
	defer cancel()
	return f.source.Open(ctx, f.opening())
}

func (f *Follower) opening() Opening {
	o := Opening{MaxAwait: f.cfg.MaxAwait}
	if f.careful {
		o.BatchSize = 1
	}
	switch f.way {
	case wayToken:
		o.After = f.at.Token
	case wayTime:
		o.At = f.at.ClusterTime
	case wayNow:
	}
	return o
}

// begin takes what the open itself told: where "now" is, and that a gap ends.
func (f *Follower) begin(ctx context.Context, first Batch) error {
	opened := f.at
	if f.way == wayNow {
		opened = openedAt(first)
	}
	f.log.InfoContext(ctx, "the stream is open", "way", string(f.way), "position", opened.String())
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
	} else if f.way == wayNow && !opened.IsZero() {
		f.sink.Idle(opened)
	}
	if f.way == wayNow {
		f.at, f.way = opened, wayOf(opened)
	}
	return nil
}

// openedAt is the position of a stream that was just opened at now.
func openedAt(first Batch) resume.Position {
	p := position(first.Token)
	if p.ClusterTime.IsZero() {
		p.ClusterTime = first.ServerTime
	}
	return p
}

func position(token bson.Raw) resume.Position {
	at, _ := resume.TokenTime(token)
	return resume.Position{Token: token, ClusterTime: at, WallTime: time.Now()}
}

// poll asks once. When ctx ends it lets the poll come back by itself, so that
// the cursor can be closed; a poll that hangs is cut off.
func (f *Follower) poll(ctx context.Context, cursor Cursor) (Batch, error) {
	polling, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	frozen := time.AfterFunc(f.cfg.Frozen<<f.freezing, func() { cancel(errFrozen) })
	defer frozen.Stop()
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(f.cfg.MaxAwait+stopGrace, func() { cancel(errStopping) })
	})
	defer stop()
	asked := time.Now()
	batch, err := cursor.Poll(polling)
	if cause := context.Cause(polling); err != nil && cause != nil {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	if err == nil {
		f.polled(batch, time.Since(asked))
	}
	return batch, err
}

// verify asks by time whether the history after the position is still there.
// The cursor that was opened by token is already in place, so what is there
// now cannot be lost to it later without an error.
func (f *Follower) verify(ctx context.Context) error {
	if f.at.ClusterTime.IsZero() {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, probeLimit, errUnverified)
	defer cancel()
	probe := Opening{At: f.at.ClusterTime, BatchSize: 1, MaxAwait: time.Millisecond, Bare: true}
	cursor, _, err := f.source.Open(ctx, probe)
	if err == nil {
		defer f.close(ctx, cursor)
		_, err = cursor.Poll(ctx)
	}
	switch {
	case err == nil:
		return nil
	case classify(err) == classLost:
		return errRefused
	case errors.Is(context.Cause(ctx), errUnverified):
		return errUnverified
	}
	return fmt.Errorf("probe the position: %w", err)
}

// deliver hands a batch over, and then the place behind it.
func (f *Follower) deliver(ctx context.Context, b Batch) error {
	now := time.Now()
	for _, body := range b.Events {
		e := decode(body, now)
		f.metric.event(e.Operation)
		if err := f.sink.Event(ctx, e); err != nil {
			return &sinkError{err}
		}
		f.at, f.way = e.Position, wayOf(e.Position)
	}
	if len(b.Token) == 0 {
		return nil
	}
	idle := position(b.Token)
	idle.WallTime = now
	if idle.ClusterTime.IsZero() || idle.ClusterTime.Before(f.at.ClusterTime) {
		return nil
	}
	f.at, f.way = idle, wayToken
	f.sink.Idle(idle)
	return nil
}

func (f *Follower) close(ctx context.Context, cursor Cursor) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), closeLimit, errStopping)
	defer cancel()
	if err := cursor.Close(ctx); err != nil {
		f.log.DebugContext(ctx, "cannot close the cursor", "error", err)
	}
}
