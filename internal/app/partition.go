package app

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/internal/outage"
	"github.com/cxbridge/watcher/pkg/resume"
	"github.com/cxbridge/watcher/pkg/stream"
)

// partitions works on those partitions of the calls that this replica holds.
type partitions struct {
	app        *App
	coll       *mongo.Collection
	replicaSet string
	begun      time.Time     // by this machine's clock
	ahead      time.Duration // of this machine's clock before MongoDB's, as learnCluster saw it
	frozen     time.Duration // of a poll until its cursor is given up; 0 is the default of package stream
	stale      time.Duration // since the last poll, until this replica is not ready

	mu         sync.Mutex
	followers  map[int]*stream.Follower
	trackers   map[int]*resume.Tracker
	oplog      resume.Window // as it was asked last, twice a minute
	oplogKnown bool
}

func newPartitions(a *App, coll *mongo.Collection) *partitions {
	return &partitions{
		app: a, coll: coll, begun: time.Now(), stale: stream.Stale,
		followers: make(map[int]*stream.Follower), trackers: make(map[int]*resume.Tracker),
	}
}

// learnCluster asks for the name of the cluster and for its time, until it is told
// or ctx ends: a token is good only in the cluster that gave it, and what an
// operator asks for is measured by MongoDB's clock.
func (p *partitions) learnCluster(ctx context.Context) error {
	away := outage.New(p.app.logger, "MongoDB does not answer, trying again", "MongoDB answers")
	for attempt := 0; ; attempt++ {
		asking, cancel := context.WithTimeoutCause(ctx, 2*selectionTimeout, errors.New("MongoDB did not answer in time"))
		err := p.askCluster(asking)
		cancel()
		if err == nil {
			away.Worked(ctx)
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		wait := min(500*time.Millisecond<<min(attempt, 5), 10*time.Second)
		wait = wait/2 + rand.N(wait/2) //nolint:gosec // jitter
		away.Failed(ctx, err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

func (p *partitions) askCluster(ctx context.Context) error {
	name, err := stream.ReplicaSet(ctx, p.app.client)
	if err != nil {
		return err
	}
	asked := time.Now()
	clock, _, err := stream.ServerTime(ctx, p.app.client)
	if err != nil {
		return err
	}
	told := time.Now()
	p.replicaSet = name
	if ahead := asked.Add(told.Sub(asked) / 2).Sub(clock); ahead.Abs() > clockNoise {
		p.ahead = ahead
		p.app.logger.WarnContext(ctx, "the clocks of this machine and of MongoDB differ", "ahead", ahead)
	}
	return nil
}

// clockNoise is more than the clocks of synchronised machines differ, and more
// than the way of the question can blur.
const clockNoise = 2 * time.Second

// start is when this process began, by MongoDB's clock.
func (p *partitions) start() time.Time { return p.begun.Add(-p.ahead) }

// hold works on one partition for as long as the lease lasts.
func (p *partitions) hold(ctx context.Context, lease *resume.Lease) error {
	index := lease.Partition().Index
	part := &partition{
		app:    p.app,
		share:  lease.Partition(),
		intake: p.app.dispatcher.Open(lease.Context(), shareOf(lease.Partition())),
		past:   pastOf(lease.Record(), p.first().Position, p.start(), p.ahead),
	}
	defer p.forget(index)
	err := stream.RunPartition(ctx, stream.PartitionConfig{
		Lease: lease,
		Stream: stream.Config{
			Namespace:  "watcher",
			Name:       streamName(lease.Partition()),
			Collection: p.coll,
			Pipeline:   calls.Pipeline(),
			Frozen:     p.frozen,
			Logger:     p.app.logger,
			Registerer: p.app.registry,
		},
		Handler:    part,
		First:      p.first(),
		ReplicaSet: p.replicaSet,
		Window:     p.window,
		Started: func(f *stream.Follower, tracker *resume.Tracker, _ string) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.followers[index], p.trackers[index] = f, tracker
		},
	})
	part.sweeps.Wait()
	return err
}

// streamName is the label of a partition's stream.
func streamName(p resume.Partition) string {
	if p.Of <= 1 {
		return "calls"
	}
	return fmt.Sprintf("calls-%d", p.Index)
}

// shareOf is which due calls belong to a partition. A lone one takes all, also
// those that an earlier version or a hand made due without a slot.
func shareOf(p resume.Partition) dispatch.Share {
	if p.Of <= 1 {
		return dispatch.Share{}
	}
	from, to := p.Range()
	return dispatch.Share{From: from, To: to}
}

func (p *partitions) forget(index int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.followers, index)
	delete(p.trackers, index)
}

// first is where a stream without a saved position begins.
func (p *partitions) first() stream.Start {
	from := p.app.cfg.Start.From(p.start())
	if from.IsZero() {
		return stream.Start{}
	}
	return stream.Start{Position: resume.At(from)}
}

// partition hands the events of one partition to the dispatcher.
type partition struct {
	app    *App
	share  resume.Partition
	intake *dispatch.Intake
	past   past
	sweeps sync.WaitGroup
}

// Event implements stream.Handler.
func (p *partition) Event(ctx context.Context, e stream.Event, done func()) error {
	if e.Key.Type == 0 || !p.share.Owns(e.Key) {
		done() // the collection was dropped or renamed, or another share's call
		return nil
	}
	return p.intake.SubmitAgain(ctx, e.Key, p.past.again(resume.ClockTime(e.Position.ClusterTime)), done)
}

// Drain implements stream.Handler: what only waits is let go, what is being
// sent may end within the grace period.
func (p *partition) Drain(ctx context.Context, why error) {
	p.intake.Stop()
	held := p.intake.Held()
	timer := time.NewTimer(p.app.cfg.ShutdownGrace)
	defer timer.Stop()
	select {
	case <-p.intake.Idle():
		return
	case <-ctx.Done():
	case <-timer.C:
		p.app.logger.Warn("attempts did not end within the grace period; they are made again after the next start",
			"calls", p.intake.Held(), "of", held, "grace", p.app.cfg.ShutdownGrace, "why", why)
	}
	p.intake.Abort()
	select {
	case <-p.intake.Idle():
	case <-time.After(disconnectTimeout): // MongoDB is away too
	}
}
