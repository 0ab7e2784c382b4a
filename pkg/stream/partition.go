package stream

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/cxbridge/watcher/pkg/resume"
)

// Handler is what works on the events of one partition: those whose document the
// partition owns, and those that have no document, such as a drop. Event and Gap are
// called from one goroutine, in stream order; the done they are given may be
// called from any, later, and until then no position at or after it is saved.
type Handler interface {
	// Event takes one event. It may block when too much is pending; one more batch
	// is read meanwhile. An error ends the partition.
	Event(ctx context.Context, e Event, done func()) error
	// Gap takes a span in which events may have been missed; done means that it
	// was swept, or that the sweep can be found again after a restart.
	Gap(ctx context.Context, g Gap, done func()) error
	// Drain is called once reading has stopped, because of why: one of the
	// causes of package resume, a cause of the caller's context, or the error
	// with which reading ended. It returns when what was begun has ended, and
	// before ctx does: ctx is the lease's, so after resume.ErrLost and
	// resume.ErrReset it is over already.
	Drain(ctx context.Context, why error)
}

// PartitionConfig is what RunPartition needs.
type PartitionConfig struct {
	Lease   *resume.Lease
	Stream  Config // without Start, which comes from the record and First, Sharded and Filter
	Handler Handler

	First      Start  // without a stored position
	ReplicaSet string // name of the cluster, see ReplicaSet; "" if unknown

	SaveEvery time.Duration                                          // default 1 s
	Window    func(ctx context.Context) (resume.Window, bool)        // see resume.CheckpointConfig
	Started   func(f *Follower, tracker *resume.Tracker, how string) // called before reading; may be nil
}

// RunPartition works on one partition for as long as it is held: it decides
// where to start, reads, tracks, saves, and drains. It returns nil when ctx
// ends, an *OtherClusterError, or what the Handler returned.
func RunPartition(ctx context.Context, cfg PartitionConfig) error {
	if cfg.Stream.Logger == nil {
		cfg.Stream.Logger = slog.New(slog.DiscardHandler)
	}
	log := cfg.Stream.Logger.With("partition", cfg.Lease.Partition().String())
	if p := cfg.Lease.Partition(); !p.Whole() {
		cfg.Stream.Filter = p.Match("documentKey._id")
	}
	// Servers from 6.0 on look for the event of a token behind the filters, and do not
	// find one of another partition: so a token is of this filter too.
	origin := resume.Origin{ReplicaSet: cfg.ReplicaSet, Pipeline: PipelineHash(withFilter(cfg.Stream.Pipeline, cfg.Stream.Filter))}
	record := cfg.Lease.Record()
	start, how, err := Decide(record, origin, cfg.First)
	if err != nil {
		return err
	}
	log.InfoContext(ctx, "starting", "how", how, "position", start.Position.String(), "term", record.Term)
	if record.Damage != nil {
		log.ErrorContext(ctx, "the stored position is damaged", "error", record.Damage)
	}
	tracker := resume.NewTracker()
	cfg.Stream.Start = start
	cfg.Stream.Sharded = strings.HasPrefix(cfg.ReplicaSet, sharded)
	sink := &trackingSink{handler: cfg.Handler, tracker: tracker, partition: cfg.Lease.Partition()}
	if record.Position.IsZero() {
		// A crash before the first checkpoint must not start later than this did.
		sink.first = func(p resume.Position) { saveFirst(ctx, cfg.Lease, p, origin, log) }
		if !start.Position.IsZero() {
			sink.began(start.Position)
		}
	}
	follower, err := New(cfg.Stream, sink)
	if err != nil {
		return err
	}
	sink.skip = follower.metric.skip
	checkpointer, err := resume.NewCheckpointer(resume.CheckpointConfig{
		Lease: cfg.Lease, Tracker: tracker, Origin: origin, Every: cfg.SaveEvery,
		Window: cfg.Window, Logger: log, Registerer: cfg.Stream.Registerer, Namespace: cfg.Stream.Namespace,
	})
	if err != nil {
		return err
	}
	if cfg.Started != nil {
		cfg.Started(follower, tracker, how)
	}
	saving, stopSaving := context.WithCancelCause(context.WithoutCancel(ctx))
	saved := make(chan error, 1)
	go func() { saved <- checkpointer.Run(saving) }()
	err = follower.Run(ctx)
	why := err
	if why == nil {
		why = context.Cause(ctx)
	}
	cfg.Handler.Drain(cfg.Lease.Context(), why)
	stopSaving(errDrained)
	if saveErr := <-saved; saveErr != nil && !errors.Is(saveErr, resume.ErrFenced) {
		log.WarnContext(ctx, "the last position was not saved; some results will be looked at again", "error", saveErr)
	}
	return err
}

// trackingSink joins a Handler and a Tracker.
type trackingSink struct {
	handler   Handler
	tracker   *resume.Tracker
	partition resume.Partition
	first     func(p resume.Position) // called once with where the stream began; then nil
	skip      func(reason string)     // counts an event that is not worked on
}

func (s *trackingSink) began(p resume.Position) {
	if s.first != nil {
		s.first(p)
		s.first = nil
	}
}

// saveFirst saves where a stream began before its first event is handed over.
// If that fails, the next checkpoint is as good, unless the process dies first.
func saveFirst(ctx context.Context, lease *resume.Lease, p resume.Position, o resume.Origin, log *slog.Logger) {
	ctx, cancel := context.WithTimeoutCause(ctx, closeLimit, errSlowSave)
	defer cancel()
	if err := lease.Save(ctx, p, o); err != nil {
		log.WarnContext(ctx, "the first position was not saved; a crash within a second would start later", "error", err)
	}
}

var errDrained = errors.New("the partition is drained")

var errSlowSave = errors.New("the first position was not saved in time")

func (s *trackingSink) Event(ctx context.Context, e Event) error {
	switch {
	case e.Key.Type == 0:
		s.skip(skipNoDocument)
	case !s.partition.Owns(e.Key):
		s.skip(skipPartition)
		s.tracker.Idle(e.Position)
		return nil
	}
	return s.handler.Event(ctx, e, s.tracker.Track(e.Position))
}

func (s *trackingSink) Idle(p resume.Position) {
	s.began(p)
	s.tracker.Idle(p)
}

func (s *trackingSink) Gap(ctx context.Context, g Gap) error {
	return s.handler.Gap(ctx, g, s.tracker.Track(g.Position))
}
