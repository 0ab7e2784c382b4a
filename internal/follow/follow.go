// Package follow works on those partitions of the calls that this replica holds:
// it turns the events of their change streams into calls on the road, and sweeps
// the gaps that a stream tells of.
//
// It owns what a partition remembers while it is held, and what an operator asked
// for by a reset or a first start. It does not own the stream, the position, the
// leases, or what becomes of a call.
package follow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/internal/outage"
	"github.com/cxbridge/watcher/pkg/backoff"
	"github.com/cxbridge/watcher/pkg/resume"
	"github.com/cxbridge/watcher/pkg/stream"
)

// Options are what Partitions are made of.
type Options struct {
	Calls  *mongo.Collection
	Store  *calls.Store         // of the same collection
	Road   *dispatch.Dispatcher // takes the calls of a partition
	Leases *resume.Group        // says who holds which partition

	// Start is where a stream without a saved position begins, from the time at
	// which this process began; zero is where the stream is now.
	Start func(begun time.Time) time.Time
	// FailOnLoss ends the watcher with a HistoryLostError instead of sweeping.
	FailOnLoss bool
	// Grace is for attempts under way when a partition is let go.
	Grace time.Duration
	// Frozen is the time of a poll until its cursor is given up, 0 the default of
	// package stream.
	Frozen time.Duration
	// Stale is the time since the last poll until the replica is not ready; 0 is
	// stream.Stale.
	Stale time.Duration

	// Explain adds to an error of a server that does not answer what is known of the
	// reason; nil adds nothing.
	Explain func(context.Context, error) error

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Partitions works on the partitions that this replica holds.
type Partitions struct {
	o          Options
	metrics    *metrics
	replicaSet string
	begun      time.Time     // by this machine's clock
	ahead      time.Duration // of this machine's clock before MongoDB's, as LearnCluster saw it

	mu         sync.Mutex
	followers  map[int]*stream.Follower
	trackers   map[int]*resume.Tracker
	oplog      resume.Window // as it was asked last, twice a minute
	oplogKnown bool
}

// New returns Partitions. They do nothing before Hold.
func New(o Options) *Partitions {
	if o.Stale == 0 {
		o.Stale = stream.Stale
	}
	if o.Explain == nil {
		o.Explain = func(_ context.Context, err error) error { return err }
	}
	return &Partitions{
		o: o, metrics: newMetrics(o.Registerer), begun: time.Now(),
		followers: make(map[int]*stream.Follower), trackers: make(map[int]*resume.Tracker),
	}
}

// Begun is when this process began, by this machine's clock.
func (p *Partitions) Begun() time.Time { return p.begun }

// The times of questions to MongoDB.
const (
	askTimeout = 10 * time.Second
	// clockNoise is more than the clocks of synchronised machines differ, and more
	// than the way of the question can blur.
	clockNoise = 2 * time.Second
)

var askPause = backoff.Backoff{First: 500 * time.Millisecond, Most: 10 * time.Second}

// LearnCluster asks for the name of the cluster and for its time, until it is told
// or ctx ends: a token is good only in the cluster that gave it, and what an
// operator asks for is measured by MongoDB's clock.
func (p *Partitions) LearnCluster(ctx context.Context) error {
	away := outage.New(p.o.Logger, "MongoDB does not answer, trying again", "MongoDB answers")
	for failures := 0; ; failures++ {
		asking, cancel := context.WithTimeoutCause(ctx, askTimeout, errors.New("MongoDB did not answer in time"))
		err := p.askCluster(asking)
		cancel()
		if err == nil {
			away.Worked(ctx)
			return nil
		}
		if ctx.Err() == nil {
			away.Failed(ctx, p.o.Explain(ctx, err))
		}
		if err := backoff.Sleep(ctx, askPause.Pause(failures)); err != nil {
			return err
		}
	}
}

func (p *Partitions) askCluster(ctx context.Context) error {
	client := p.o.Calls.Database().Client()
	name, err := stream.ReplicaSet(ctx, client)
	if err != nil {
		return err
	}
	asked := time.Now()
	clock, _, err := stream.ServerTime(ctx, client)
	if err != nil {
		return err
	}
	told := time.Now()
	p.replicaSet = name
	if ahead := asked.Add(told.Sub(asked) / 2).Sub(clock); ahead.Abs() > clockNoise {
		p.ahead = ahead
		p.o.Logger.WarnContext(ctx, "the clocks of this machine and of MongoDB differ", "ahead", ahead)
	}
	return nil
}

// start is when this process began, by MongoDB's clock.
func (p *Partitions) start() time.Time { return p.begun.Add(-p.ahead) }

// first is where a stream without a saved position begins.
func (p *Partitions) first() stream.Start {
	from := p.o.Start(p.start())
	if from.IsZero() {
		return stream.Start{}
	}
	return stream.Start{Position: resume.At(from)}
}

// Hold works on one partition for as long as the lease lasts.
func (p *Partitions) Hold(ctx context.Context, lease *resume.Lease) error {
	share := lease.Partition()
	part := &partition{
		o: p.o, metrics: p.metrics,
		share:  share,
		intake: p.o.Road.Open(lease.Context(), shareOf(share), lease.Alive),
		past:   pastOf(lease.Record(), p.first().Position, p.start(), p.ahead),
	}
	defer p.forget(share.Index)
	err := stream.RunPartition(ctx, stream.PartitionConfig{
		Lease: lease,
		Stream: stream.Config{
			Name:       streamName(share),
			Collection: p.o.Calls,
			Pipeline:   calls.Pipeline(),
			Namespace:  "watcher",
			Passing:    outage.Passing,
			Frozen:     p.o.Frozen,
			MaxAwait:   maxAwait,
			Logger:     p.o.Logger,
			Registerer: p.o.Registerer,
		},
		Handler:    part,
		First:      p.first(),
		ReplicaSet: p.replicaSet,
		Window:     p.window,
		Started: func(f *stream.Follower, tracker *resume.Tracker, _ string) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.followers[share.Index], p.trackers[share.Index] = f, tracker
		},
	})
	part.sweeps.Wait()
	return err
}

func (p *Partitions) forget(index int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.followers, index)
	delete(p.trackers, index)
}

// window asks for the span of the oplog, and keeps the answer for the status page.
func (p *Partitions) window(ctx context.Context) (resume.Window, bool) {
	w, ok := stream.WindowOf(p.o.Calls.Database().Client())(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.oplog, p.oplogKnown = w, ok
	return w, ok
}

// maxAwait is how long MongoDB waits for an event before it says that there is none. Each
// such answer costs it a command.
const maxAwait = 3 * time.Second

// streamName is the label of a partition's stream.
func streamName(p resume.Partition) string {
	if p.Whole() {
		return "calls"
	}
	return fmt.Sprintf("calls-%d", p.Index)
}

// shareOf is which due calls belong to a partition. A lone one takes all, also
// those that an earlier version or a hand made due without a slot.
func shareOf(p resume.Partition) dispatch.Share {
	if p.Whole() {
		return dispatch.Share{}
	}
	from, to := p.Range()
	return dispatch.Share{From: from, To: to}
}

// partition hands the events of one partition to the road.
type partition struct {
	o       Options
	metrics *metrics
	share   resume.Partition
	intake  *dispatch.Intake
	past    past
	sweeps  sync.WaitGroup
}

// Event implements stream.Handler.
func (p *partition) Event(ctx context.Context, e stream.Event, done func()) error {
	if e.Key.Type == 0 {
		done() // the collection was dropped or renamed
		return nil
	}
	return p.intake.Submit(ctx, dispatch.Event{
		ID:          e.Key,
		CompletedAt: calls.EventTime(e.Body),
		At:          e.Position.ClusterTime,
		Policy:      p.past.policy(resume.ClockTime(e.Position.ClusterTime)),
	}, done)
}

// lastWrite is the time for what was sent to be written after the grace is over.
const lastWrite = 2 * time.Second

// Drain implements stream.Handler: what only waits is let go, what is being
// sent may end within the grace period.
func (p *partition) Drain(ctx context.Context, why error) {
	p.intake.Stop()
	held := p.intake.Held()
	timer := time.NewTimer(p.o.Grace)
	defer timer.Stop()
	select {
	case <-p.intake.Idle():
		return
	case <-ctx.Done():
	case <-timer.C:
		p.o.Logger.Warn("attempts did not end within the grace period; they are made again after the next start",
			"calls", p.intake.Held(), "of", held, "grace", p.o.Grace, "why", why)
	}
	p.intake.Abort()
	select {
	case <-p.intake.Idle():
	case <-time.After(lastWrite): // MongoDB is away too
	}
}
