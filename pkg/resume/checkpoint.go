package resume

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/pkg/backoff"
)

// Defaults of CheckpointConfig.
const (
	DefaultSaveEvery = time.Second
	idleEvery        = 10 * time.Second
	saveLimit        = 5 * time.Second
	lastSaveLimit    = 2 * time.Second  // at a stop: the process has little time left
	saveBackoff      = 10 * time.Second // the longest pause after failed saves
	windowEvery      = 30 * time.Second
)

// Window is the span of the server's oplog.
type Window struct {
	Oldest, Newest bson.Timestamp
}

// CheckpointConfig is what a Checkpointer needs.
type CheckpointConfig struct {
	Lease   *Lease
	Tracker *Tracker
	Origin  Origin // saved beside each position

	// Every is the shortest time between saves while events come, default 1 s. While
	// only the empty stream moves on it is 10 s, because each save is itself an entry
	// in the oplog that moves it on.
	Every time.Duration

	// Window is asked twice a minute for the headroom metrics; false when the
	// server does not tell. nil: not asked.
	Window func(ctx context.Context) (Window, bool)

	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	Namespace  string                // of the metrics; default none
}

// Checkpointer saves the watermark of a Tracker under a Lease. It never holds
// up reading: while the store is away, it attempts again with growing pauses, and
// what is pending grows up to the limit of whoever reads.
type Checkpointer struct {
	cfg    CheckpointConfig
	metric *checkpointMetrics

	saved    Position // last one that the store acknowledged
	savedAt  time.Time
	events   uint64 // count at that time
	failures int
	retryAt  time.Time
	windowAt time.Time
}

// NewCheckpointer checks the configuration; it starts nothing.
func NewCheckpointer(cfg CheckpointConfig) (*Checkpointer, error) {
	if cfg.Lease == nil || cfg.Tracker == nil {
		return nil, errors.New("a checkpointer needs a lease and a tracker")
	}
	if cfg.Every <= 0 {
		cfg.Every = DefaultSaveEvery
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	metric, err := newCheckpointMetrics(cfg.Registerer, cfg.Namespace, cfg.Lease.Partition().Index)
	if err != nil {
		return nil, err
	}
	metric.headroom.Set(math.NaN())
	metric.window.Set(math.NaN())
	return &Checkpointer{cfg: cfg, metric: metric, saved: cfg.Lease.Record().Position}, nil
}

// Run saves until ctx ends, then once more with a short context of its own, and
// returns nil. It returns early, with an error that wraps ErrFenced, when the
// lease is gone; the lease's context says why.
func (c *Checkpointer) Run(ctx context.Context) error {
	ticker := time.NewTicker(c.cfg.Every)
	defer ticker.Stop()
	defer c.quiet()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), lastSaveLimit, errStoreSlow)
			defer cancel()
			return c.save(last)
		case <-c.cfg.Lease.Context().Done():
			return errors.Join(ErrFenced, context.Cause(c.cfg.Lease.Context()))
		case <-ticker.C:
		}
		now := time.Now()
		c.measure(ctx, now)
		if !c.due(now) {
			continue
		}
		if err := c.save(ctx); errors.Is(err, ErrFenced) {
			return err
		}
	}
}

// due says whether there is something to save now.
func (c *Checkpointer) due(now time.Time) bool {
	if now.Before(c.retryAt) {
		return false
	}
	if c.cfg.Tracker.Events() != c.events || c.failures > 0 || c.savedAt.IsZero() {
		return true
	}
	return now.Sub(c.savedAt) >= max(idleEvery, c.cfg.Every)
}

// save stores the watermark if it moved. Failures are logged when they begin
// and when they end, and returned to Run.
func (c *Checkpointer) save(ctx context.Context) error {
	events := c.cfg.Tracker.Events()
	position, ok := c.cfg.Tracker.Watermark()
	if !ok || samePlace(position, c.saved) {
		return nil
	}
	limited, cancel := context.WithTimeoutCause(ctx, saveLimit, errStoreSlow)
	defer cancel()
	err := c.cfg.Lease.Save(limited, position, c.cfg.Origin)
	now := time.Now()
	switch {
	case err == nil:
		c.metric.saves.WithLabelValues("saved").Inc()
		if c.failures > 0 {
			c.cfg.Logger.InfoContext(ctx, "saving the position again", "failures", c.failures)
		}
		c.saved, c.savedAt, c.failures, c.retryAt = position, now, 0, time.Time{}
		// Events that are pending now will move the watermark later.
		if c.cfg.Tracker.Pending() == 0 {
			c.events = events
		}
	case errors.Is(err, ErrFenced):
		c.metric.saves.WithLabelValues("fenced").Inc()
		c.metric.fenced.Inc()
	default:
		c.metric.saves.WithLabelValues("failed").Inc()
		if c.failures == 0 {
			c.cfg.Logger.WarnContext(ctx, "cannot save the position", "error", err)
		}
		pauses := backoff.Backoff{First: c.cfg.Every, Most: saveBackoff}
		c.retryAt = now.Add(pauses.Pause(c.failures))
		c.failures++
	}
	return err
}

func samePlace(a, b Position) bool {
	return a.ClusterTime == b.ClusterTime && CompareTokens(a.Token, b.Token) == 0
}

// measure sets the gauges, once a second, so that events cost nothing.
func (c *Checkpointer) measure(ctx context.Context, now time.Time) {
	c.metric.pending.Set(float64(c.cfg.Tracker.Pending()))
	c.metric.oldest.Set(c.cfg.Tracker.OldestPending(now).Seconds())
	if p, ok := c.cfg.Tracker.Watermark(); ok {
		c.metric.age.Set(max(0, now.Sub(p.Time()).Seconds()))
	}
	if c.cfg.Window == nil || now.Sub(c.windowAt) < windowEvery {
		return
	}
	c.windowAt = now
	limited, cancel := context.WithTimeoutCause(ctx, saveLimit, errStoreSlow)
	defer cancel()
	window, ok := c.cfg.Window(limited)
	if !ok {
		c.metric.window.Set(math.NaN())
		c.metric.headroom.Set(math.NaN())
		return
	}
	oldest := ClockTime(window.Oldest)
	c.metric.window.Set(ClockTime(window.Newest).Sub(oldest).Seconds())
	if !c.saved.IsZero() {
		c.metric.headroom.Set(c.saved.Time().Sub(oldest).Seconds())
	}
}

// quiet clears what is no longer true once the partition is let go.
func (c *Checkpointer) quiet() {
	c.metric.pending.Set(0)
	c.metric.oldest.Set(0)
	c.metric.age.Set(0)
	c.metric.headroom.Set(math.NaN())
	c.metric.window.Set(math.NaN())
}
