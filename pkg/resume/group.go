package resume

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
)

// Defaults of GroupConfig.
const (
	// DefaultLease with DefaultBeat lets a standby take over at most
	// 1 + 11 + 1 = 13 s after a crash, and outlasts a short election.
	DefaultLease = 11 * time.Second
	DefaultBeat  = time.Second

	// beatsEach is how many looks there are to a sign of life: one in two seconds
	// leaves five chances within a lease, and costs MongoDB half as many writes.
	beatsEach = 2

	atOnce = 16 // writes of one replica
)

// HoldFunc works on one partition. ctx ends when it should stop reading; its
// cause is ErrLost, ErrReset, ErrMoved or that of the Group's own context. Work
// in flight may go on until lease.Context ends. The lease is given up when the
// function returns. An error that it returns while neither context has ended
// ends the Group.
type HoldFunc func(ctx context.Context, lease *Lease) error

// GroupConfig is what a Group needs.
type GroupConfig struct {
	Store      Ledger // a *Store, or a *Memory in tests
	Partitions int    // shares into which the documents are split; default 1

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

	// Version is what this replica runs; others see it, and make nothing of it.
	Version string

	Lease time.Duration // life of a replica that shows no sign of it; default DefaultLease
	Beat  time.Duration // between looks at the others; every second one shows life; default DefaultBeat; at most Lease/6

	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	Namespace  string                // of the metrics; default none
}

// Group shares the partitions of one name among the replicas that run a Group
// for it, and holds this replica's share.
type Group struct {
	ledger  Ledger
	parts   int
	owner   string
	gone    func(owner string) bool
	beat    time.Duration
	limit   time.Duration // of one question to the store
	log     *slog.Logger
	metric  *groupMetrics
	session *session

	// Only Run's goroutine touches these.
	held   map[int]*holding
	watch  watch
	first  bool // until the first look at the records succeeded
	warned time.Time

	ended chan ended

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
	cfg.Partitions = max(1, cfg.Partitions)
	if cfg.Lease <= 0 {
		cfg.Lease = DefaultLease
	}
	slowest := cfg.Lease / (3 * beatsEach)
	if cfg.Beat <= 0 {
		cfg.Beat = min(DefaultBeat, slowest)
	}
	if cfg.Beat > slowest {
		return nil, fmt.Errorf("beat of %s is too slow for a lease of %s: at most a sixth", cfg.Beat, cfg.Lease)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	self := member{owner: cfg.Owner, instance: newInstance(), lease: cfg.Lease, partitions: cfg.Partitions, version: cfg.Version}
	if self.owner == "" {
		self.owner = self.instance
	}
	metric, err := newGroupMetrics(cfg.Registerer, cfg.Namespace, cfg.Partitions)
	if err != nil {
		return nil, err
	}
	limit := cfg.Lease / 5
	return &Group{
		ledger:  cfg.Store,
		parts:   cfg.Partitions,
		owner:   self.owner,
		gone:    cfg.Gone,
		beat:    cfg.Beat,
		limit:   limit,
		log:     cfg.Logger,
		metric:  metric,
		session: newSession(cfg.Store, self, beatsEach*cfg.Beat, limit),
		held:    make(map[int]*holding),
		watch:   watch{lease: cfg.Lease, most: cfg.Beat + limit},
		first:   true,
		ended:   make(chan ended, cfg.Partitions),
	}, nil
}

// Run keeps this replica a member and calls hold, each in its own goroutine,
// for every partition it gets. When ctx ends it stops the readers, stays a member
// until every hold has returned, gives each lease up as its hold returns, and leaves.
// It returns nil then, or the error with which a hold ended.
func (g *Group) Run(ctx context.Context, hold HoldFunc) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	work, stopWork := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopWork(nil)
	var beats sync.WaitGroup
	g.session.beat(work)
	beats.Go(func() { g.session.run(work) })
	ticker := time.NewTicker(g.beat)
	defer ticker.Stop()
	var failure error
	stopping := ctx.Done()
	for ctx.Err() == nil || len(g.held) > 0 {
		g.report(g.round(ctx, hold))
		select {
		case <-ticker.C:
		case <-stopping:
			stopping = nil
			g.session.leave()
		case e := <-g.ended:
			g.drop(e)
			if e.err != nil && failure == nil {
				failure = fmt.Errorf("partition %d-of-%d: %w", e.partition, g.parts, e.err)
				stop(failure)
			}
		}
	}
	stopWork(nil)
	beats.Wait()
	g.leave(context.WithoutCancel(ctx))
	return failure
}

// round is one look at the records and what follows from it: dead members are removed,
// the partitions that the plan gives to this replica are taken if they are free, and
// those that it gives to another are let go.
func (g *Group) round(ctx context.Context, hold HoldFunc) error {
	work := context.WithoutCancel(ctx)
	v, err := g.look(work)
	if err != nil {
		return err
	}
	if len(v.gone) > 0 {
		err := g.each(work, len(v.gone), func(ctx context.Context, i int) error { return g.ledger.remove(ctx, v.gone[i]) })
		if err != nil {
			return err
		}
		if v, err = g.look(work); err != nil { // one that beat at this moment is not gone
			return err
		}
	}
	g.note(v)
	self, life, err := g.session.current()
	if err != nil || ctx.Err() != nil { // a replica that drains takes nothing, but sees a reset
		return err
	}
	if _, seen := v.members[self.instance]; !seen {
		return errNotJoined
	}
	g.first = false
	v, agreed, err := g.agree(work, v, self)
	if err != nil || !agreed {
		return err
	}
	return g.share(work, v, self, func(before, now Record) {
		g.begin(ctx, before, newLease(life, g.ledger, now, g.session.certain), hold)
	})
}

// look reads the records, and ends the leases that are no longer ours by them.
func (g *Group) look(ctx context.Context) (view, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, g.limit, errStoreSlow)
	defer cancel()
	self, _, _ := g.session.current()
	asked := time.Now()
	records, err := g.ledger.look(ctx)
	if err != nil {
		return view{}, err
	}
	v := g.observe(records, self, asked)
	others := len(v.members)
	if _, found := v.members[self.instance]; found {
		others--
	}
	g.session.setAlone(others == 0)
	for i, h := range g.held {
		// A smaller term is news of long ago: a primary that was just elected may
		// tell what was before.
		if r := v.partitions[Partition{i, g.parts}]; r.Term > h.lease.Term() {
			g.metric.fenced.Inc()
			h.lease.fenced(r)
		}
	}
	return v, nil
}

// each writes n things, some at once, each within the limit. It returns one of the
// errors; ErrFenced, when others were quicker, is one.
func (g *Group) each(ctx context.Context, n int, write func(ctx context.Context, i int) error) error {
	var all errgroup.Group
	all.SetLimit(atOnce)
	for i := range n {
		all.Go(func() error {
			ctx, cancel := context.WithTimeoutCause(ctx, g.limit, errStoreSlow)
			defer cancel()
			return write(ctx, i)
		})
	}
	return all.Wait()
}

// share takes what the plan gives to this replica and is free, and lets go of what it
// gives to another.
func (g *Group) share(ctx context.Context, v view, self member, begin func(before, now Record)) error {
	var free, left []Record
	for i, member := range Plan(v.sharers(g.parts), v.owners(g.parts)) {
		h, r := g.held[i], v.partitions[Partition{i, g.parts}]
		owner, ours := v.owner(r), member == self.instance
		switch {
		case h != nil && !ours:
			h.stop(ErrMoved)
		case h == nil && ours && (owner == "" || owner == self.instance):
			free = append(free, r)
		case h == nil && !ours && owner == self.instance:
			left = append(left, r) // taken once, but the answer was lost
		}
	}
	acquired := make(chan Record)
	failed := make(chan error, 1)
	go func() {
		defer close(acquired)
		failed <- g.each(ctx, len(free), func(ctx context.Context, i int) error {
			r, err := g.ledger.acquire(ctx, free[i], self)
			if errors.Is(err, ErrFenced) {
				return nil // another was quicker
			}
			if err == nil {
				acquired <- r
			}
			return err
		})
	}()
	for r := range acquired {
		begin(v.partitions[r.Partition], r)
	}
	for _, r := range left {
		if err := release(ctx, g.ledger, r, g.limit); err != nil {
			return err
		}
	}
	return <-failed
}

// begin works on a partition that was taken.
func (g *Group) begin(ctx context.Context, before Record, lease *Lease, hold HoldFunc) {
	i, change := lease.Partition().Index, "acquired"
	if before.Held() {
		change = "taken_over"
	}
	g.metric.changes.WithLabelValues(change).Inc()
	g.metric.hold(i, 1, lease.Term())
	log := g.log.With("partition", lease.Partition().String(), "term", lease.Term())
	log.InfoContext(ctx, "holding a partition", "change", change, "from", before.Owner)
	reading, stop := context.WithCancelCause(ctx)
	context.AfterFunc(lease.ctx, func() { stop(context.Cause(lease.ctx)) })
	g.held[i] = &holding{lease: lease, stop: stop}
	g.noteHeld(lease.Record())
	go func() {
		err := hold(reading, lease)
		if reading.Err() != nil || lease.ctx.Err() != nil {
			err = nil // it was told to stop; what it says now follows from that
		}
		why := context.Cause(reading)
		released := lease.release(context.WithoutCancel(ctx), g.limit)
		stop(nil)
		log.InfoContext(ctx, "let go of a partition", "why", text(why), "release", text(released))
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
	g.metric.changes.WithLabelValues(change).Inc()
	g.metric.hold(e.partition, 0, 0)
	delete(g.held, e.partition)
}

// leave removes this replica from the members. Where that fails, the others see that
// its beat has stopped.
func (g *Group) leave(ctx context.Context) {
	v, err := g.look(ctx)
	if err != nil {
		return
	}
	self, _, _ := g.session.current()
	if r, found := v.members[self.instance]; found {
		_ = g.each(ctx, 1, func(ctx context.Context, _ int) error { return g.ledger.remove(ctx, r) }) // see above
	}
}
