package app

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/console"
	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/replay"
)

// answers is an Inspector as the operators' pages ask it.
type answers struct {
	*inspect.Inspector
	links inspect.LinkChecker
}

// linkTime is how long a page waits for a recording; the rest of its time is MongoDB's.
const linkTime = 5 * time.Second

var errLinkTime = errors.New("no answer in " + linkTime.String())

// Reach implements inspect.LinkChecker.
func (a answers) Reach(ctx context.Context, url string) (int, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, linkTime, errLinkTime)
	defer cancel()
	return a.links.Reach(ctx, url)
}

// Call implements console.Answers.
func (a answers) Call(ctx context.Context, text string, q console.Question) ([]inspect.Report, error) {
	ask := inspect.Ask{Payload: q.Payload, Bot: q.Other}
	if q.Link {
		ask.Link = a
	}
	reports, err := a.Inspector.Call(ctx, text, ask)
	if _, ok := errors.AsType[*inspect.NotFoundError](err); ok {
		return nil, nil
	}
	return reports, err
}

const (
	pageRate    = 20.0 // calls that a replay of the pages makes due in a second
	maxReplays  = 4    // that are marked at a time
	replayQueue = 1    // jobs that wait for the loop, for a moment
)

// replays pushes calls again for the operators' pages. The marking goes on in this
// process after the page is answered; when it stops, it is interrupted and can be
// continued by the command.
type replays struct {
	*replay.Records // List

	inspector *inspect.Inspector
	store     *calls.Store
	logger    *slog.Logger
	slots     chan struct{}
	jobs      chan replayJob
}

type replayJob struct {
	record replay.Record
	plan   *replay.Plan
}

func newReplays(inspector *inspect.Inspector, store *calls.Store, records *replay.Records, logger *slog.Logger) *replays {
	return &replays{
		Records: records, inspector: inspector, store: store, logger: logger,
		slots: make(chan struct{}, maxReplays), jobs: make(chan replayJob, replayQueue),
	}
}

// run marks the calls of what was started, until ctx ends.
func (r *replays) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case job := <-r.jobs:
			running.Go(func() {
				defer func() { <-r.slots }()
				if _, err := replay.Run(ctx, r.store, r.Records, job.record, job.plan, func(replay.Record) {}); err != nil {
					r.logger.Warn("a replay was not marked whole", "replay_id", job.record.ID, "error", err)
				}
			})
		}
	}
}

// Plan implements console.Replays.
func (r *replays) Plan(ctx context.Context, o console.Order) (console.Plan, error) {
	alive, err := r.inspector.Alive(ctx)
	if err != nil {
		return console.Plan{}, err
	}
	if o.Call != "" {
		report, err := r.one(ctx, o.Call)
		if err != nil || report.Refuses() != "" {
			return console.Plan{Skipped: 1}, err
		}
		return console.Plan{Calls: 1, Nobody: !alive}, nil
	}
	plan, _, err := r.plan(ctx, o)
	if err != nil {
		return console.Plan{}, err
	}
	skipped := 0
	for _, n := range plan.Skips {
		skipped += n
	}
	return console.Plan{Calls: plan.Calls(), Skipped: skipped, OnTheWay: plan.OnTheWay, Takes: plan.Duration(pageRate), Nobody: !alive}, nil
}

func (r *replays) one(ctx context.Context, id string) (*inspect.Report, error) {
	reports, err := r.inspector.Call(ctx, id, inspect.Ask{})
	if err != nil {
		return nil, err
	}
	return &reports[0], nil
}

func (r *replays) plan(ctx context.Context, o console.Order) (*replay.Plan, replay.Ask, error) {
	ask := replay.Ask{Query: o.Query, Rate: pageRate}
	selection, err := r.inspector.Selection(ctx, &ask.Query)
	if err != nil {
		return nil, ask, err
	}
	plan, err := replay.Find(ctx, selection, ask, "")
	return plan, ask, err
}

// Start implements console.Replays.
func (r *replays) Start(ctx context.Context, o console.Order, who string) (string, int, error) {
	if o.Call != "" {
		return r.startOne(ctx, o.Call, who)
	}
	plan, ask, err := r.plan(ctx, o)
	if err != nil {
		return "", 0, err
	}
	if plan.Calls() > o.Most {
		return "", 0, console.Refused("%d calls are more than %d: choose a shorter time, or use watcher replay.", plan.Calls(), o.Most)
	}
	record := replay.NewRecord(ask, who, time.Now())
	record.Found = plan.Calls()
	select {
	case r.slots <- struct{}{}:
	default:
		return "", 0, console.Refused("%d replays are being marked: wait for one, or use watcher replay.", maxReplays)
	}
	select {
	case r.jobs <- replayJob{record, plan}:
		return record.ID, plan.Calls(), nil
	case <-ctx.Done():
		<-r.slots
		return "", 0, context.Cause(ctx)
	}
}

func (r *replays) startOne(ctx context.Context, id, who string) (string, int, error) {
	report, err := r.one(ctx, id)
	if err != nil {
		return "", 0, err
	}
	if why := report.Refuses(); why != "" {
		return "", 0, console.Refused("It would not be pushed: %s", why)
	}
	record, err := replay.PushAgain(ctx, r.store, r.Records, report.Call(), who)
	switch {
	case err != nil:
		return "", 0, err
	case record.Refused > 0:
		return "", 0, console.Refused("The document of the call does not accept the mark.")
	case record.Marked == 0:
		return "", 0, console.Refused("It was pushed or stored again meanwhile; look at it again.")
	}
	return record.ID, 1, nil
}

// Cancel implements console.Replays.
func (r *replays) Cancel(ctx context.Context, id, who string) (int, error) {
	return replay.Cancel(ctx, r.store, r.Records, id, who)
}
