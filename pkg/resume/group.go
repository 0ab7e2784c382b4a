package resume

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Defaults of GroupConfig.
const (
	// DefaultLease with DefaultBeat lets a standby take over at most
	// 1 + 11 + 1 = 13 s after a crash, and outlasts a short election.
	DefaultLease = 11 * time.Second
	DefaultBeat  = time.Second
)

// HoldFunc works on one partition. ctx ends when it should stop reading; its
// cause is ErrLost, ErrReset, ErrMoved or that of the Group's own context. Work
// in flight may go on until lease.Context ends. The lease is given up when the
// function returns. An error that it returns while neither context has ended
// ends the Group.
type HoldFunc func(ctx context.Context, lease *Lease) error

// GroupConfig is what a Group needs.
type GroupConfig struct {
	Store      *Store
	Partitions int // shares into which the documents are split; default 1

	// Owner is a readable name for this replica that stays the same when it is
	// restarted in place, such as the host name. A lease that the same owner
	// held before a crash is taken over at once at start, without waiting for it
	// to run out, so two replicas must not share one. Default: unique for each
	// process, and so without that shortcut.
	Owner string

	// Gone reports whether a holder is known to have ended, by its Owner: its
	// leases are then taken over at start, without waiting for them to run out.
	// Nil knows of none but a former holder of this very name.
	Gone func(owner string) bool

	Lease time.Duration // life of a lease without a beat; default DefaultLease
	Beat  time.Duration // between beats; default DefaultBeat; at most Lease/3

	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
}

// Group shares the partitions of one name among the replicas that run a Group
// for it, and holds this replica's share.
type Group struct {
	store  ledger
	parts  int
	self   holder
	gone   func(owner string) bool
	beat   time.Duration
	limit  time.Duration // of one write to the store
	log    *slog.Logger
	metric *groupMetrics

	// Only Run's goroutine touches these.
	held   map[int]*holding
	seen   map[string]sighting
	first  bool // until the first look at the records succeeded
	warned time.Time

	ended chan ended

	alone atomic.Bool // no other member lived at the last good look

	mu     sync.Mutex
	status GroupStatus
}

type holding struct {
	lease *Lease
	stop  context.CancelCauseFunc // ends the reading
}

type ended struct {
	partition int
	err       error
}

// NewGroup checks the configuration. It starts nothing and asks no server.
func NewGroup(cfg GroupConfig) (*Group, error) {
	if cfg.Store == nil {
		return nil, errors.New("a group needs a store")
	}
	return newGroup(cfg, cfg.Store)
}

func newGroup(cfg GroupConfig, store ledger) (*Group, error) {
	cfg.Partitions = max(1, cfg.Partitions)
	if cfg.Lease <= 0 {
		cfg.Lease = DefaultLease
	}
	if cfg.Beat <= 0 {
		cfg.Beat = min(DefaultBeat, cfg.Lease/3)
	}
	if cfg.Beat > cfg.Lease/3 {
		return nil, fmt.Errorf("beat of %s is too slow for a lease of %s: at most a third", cfg.Beat, cfg.Lease)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	instance := rand.Text()[:12]
	if cfg.Owner == "" {
		cfg.Owner = instance
	}
	metric, err := newGroupMetrics(cfg.Registerer, cfg.Partitions)
	if err != nil {
		return nil, err
	}
	return &Group{
		store:  store,
		parts:  cfg.Partitions,
		gone:   cfg.Gone,
		self:   holder{owner: cfg.Owner, instance: instance, lease: cfg.Lease},
		beat:   cfg.Beat,
		limit:  cfg.Lease / 5,
		log:    cfg.Logger,
		metric: metric,
		held:   make(map[int]*holding),
		seen:   make(map[string]sighting),
		first:  true,
		ended:  make(chan ended, cfg.Partitions),
	}, nil
}

// Run keeps this replica a member and calls hold, each in its own goroutine,
// for every partition it gets. When ctx ends it stops the readers, goes on
// renewing until every hold has returned, gives the leases up and leaves. It
// returns nil then, or the error with which a hold ended.
func (g *Group) Run(ctx context.Context, hold HoldFunc) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	work := context.WithoutCancel(ctx)
	ticker := time.NewTicker(g.beat)
	defer ticker.Stop()
	var failure error
	stopping := ctx.Done()
	for ctx.Err() == nil || len(g.held) > 0 {
		g.round(ctx, hold)
		select {
		case <-ticker.C:
		case <-stopping:
			stopping = nil
		case e := <-g.ended:
			g.drop(e)
			if e.err != nil && failure == nil {
				failure = fmt.Errorf("partition %d-of-%d: %w", e.partition, g.parts, e.err)
				stop(failure)
			}
		}
	}
	g.leave(work)
	return failure
}

// round is one beat: show life, look at the others, take and give. Without the
// store nothing is taken or given; leases that cannot be renewed run out by
// their own clocks.
func (g *Group) round(ctx context.Context, hold HoldFunc) {
	work := context.WithoutCancel(ctx)
	err := g.renew(work)
	if ctx.Err() != nil {
		return
	}
	asked := time.Now()
	var records []Record
	if err == nil {
		records, err = g.look(work)
	}
	if err != nil {
		// While the store was away nobody could beat: count everyone's silence anew.
		clear(g.seen)
		g.fail(err)
		return
	}
	live := g.observe(records, asked)
	g.note(live)
	if !g.settleLayout(work, live) {
		return
	}
	g.share(ctx, live, hold)
	g.first = false
}

// renew beats for the member and for each held lease, all at the same time.
func (g *Group) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, g.limit, errStoreSlow)
	defer cancel()
	var wg sync.WaitGroup
	for _, h := range g.held {
		wg.Go(func() {
			if err := h.lease.renew(ctx); errors.Is(err, ErrFenced) {
				g.metric.fenced.Inc()
			}
		})
	}
	err := g.store.beat(ctx, g.self)
	wg.Wait()
	return err
}

func (g *Group) look(ctx context.Context) ([]Record, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, g.limit, errStoreSlow)
	defer cancel()
	return g.store.Records(ctx)
}

// share takes what the plan gives to this replica and is free, and stops what
// it gives to another.
func (g *Group) share(ctx context.Context, live view, hold HoldFunc) {
	plan := Plan(live.members, live.owners(g.parts))
	for i, member := range plan {
		h := g.held[i]
		switch {
		case h != nil && member != g.self.instance:
			h.stop(ErrMoved)
		case h == nil && member == g.self.instance && !live.taken(i, g.parts):
			g.take(ctx, i, live.record(i, g.parts), hold)
		}
	}
}

func (g *Group) take(ctx context.Context, i int, seen Record, hold HoldFunc) {
	limited, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), g.limit, errStoreSlow)
	defer cancel()
	p := Partition{Index: i, Of: g.parts}
	asked := time.Now()
	taken, err := g.store.take(limited, p, seen, g.self)
	if err != nil {
		if !errors.Is(err, ErrFenced) { // else another was quicker
			g.fail(err)
		}
		return
	}
	change, from := "acquired", seen.Owner
	if seen.Held() {
		change = "taken_over"
	}
	g.metric.changes[change].Inc()
	g.metric.hold(i, taken.Term)
	g.log.InfoContext(ctx, "holding a partition", "partition", p.String(), "term", taken.Term, "change", change, "from", from)
	// A little less than a standby waits, for clocks that run at other speeds.
	lease := newLease(g.store, taken, g.self.lease-g.self.lease/20, g.limit, asked, g.alone.Load)
	reading, stop := context.WithCancelCause(ctx)
	context.AfterFunc(lease.ctx, func() { stop(context.Cause(lease.ctx)) })
	g.held[i] = &holding{lease: lease, stop: stop}
	go func() {
		err := hold(reading, lease)
		if reading.Err() != nil || lease.ctx.Err() != nil {
			err = nil // it was told to stop; what it says now follows from that
		}
		why := context.Cause(reading)
		released := lease.release(context.WithoutCancel(ctx))
		stop(nil)
		g.log.InfoContext(ctx, "let go of a partition", "partition", p.String(), "term", taken.Term,
			"why", text(why), "release", text(released))
		g.ended <- ended{partition: i, err: err}
	}()
}

func text(err error) string {
	if err == nil {
		return "done"
	}
	return err.Error()
}

// drop forgets a partition whose hold has returned.
func (g *Group) drop(e ended) {
	h := g.held[e.partition]
	change := "released"
	switch cause := context.Cause(h.lease.ctx); {
	case errors.Is(cause, ErrReset):
		change = "reset"
	case errors.Is(cause, ErrLost):
		change = "lost"
	}
	g.metric.changes[change].Inc()
	g.metric.letGo(e.partition)
	delete(g.held, e.partition)
}

// leave removes this replica from the members, so that the others need not wait.
func (g *Group) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(ctx, g.limit, errStoreSlow)
	defer cancel()
	records, err := g.store.Records(ctx)
	if err != nil {
		return // the others see that the beat stopped
	}
	for _, r := range records {
		if r.Member && r.Instance == g.self.instance {
			_ = g.store.forget(ctx, r) // same
		}
	}
}
