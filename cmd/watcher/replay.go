package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/replay"
	"github.com/cxbridge/watcher/pkg/resume"
)

type replayCmd struct {
	Start    replayStartCmd    `cmd:"" default:"withargs" help:"Push stored results once more (the default)."`
	Continue replayContinueCmd `cmd:"" help:"Go on with a replay that was interrupted."`
	Status   replayStatusCmd   `cmd:"" help:"Print what became of a replay."`
	List     replayListCmd     `cmd:"" help:"List the replays."`
}

type replayStartCmd struct {
	Since     string   `group:"which" placeholder:"WHEN" help:"Results stored from then on: a duration ago (2h) or an RFC 3339 time. Required."`
	Until     string   `group:"which" default:"now" placeholder:"WHEN" help:"Results stored until then."`
	Bot       []string `group:"which" placeholder:"ID" help:"Only calls of this bot; repeatable."`
	SessionID []string `name:"session-id" group:"which" placeholder:"ID" help:"Only this call; repeatable."`
	Status    []string `group:"which" default:"failed,rejected,missing" placeholder:"STATUS,..." help:"Only results with this status: failed, rejected, missing (never pushed), ok, skipped."`
	Rate      string   `default:"10" placeholder:"N" help:"Calls in a second."`
	DryRun    bool     `help:"Print what would be replayed and end."`
	Yes       bool     `help:"Do not ask."`
	operatorFlags
}

// Run marks the calls that are asked for, at the rate, until all are marked or
// it is interrupted.
func (r *replayStartCmd) Run(ctx context.Context, std cli.Streams) error {
	ask, bad := r.check(time.Now())
	s, err := openReplays(ctx, &r.operatorFlags, bad)
	if err != nil {
		return err
	}
	defer s.close()
	plan, err := s.plan(ctx, ask, "")
	if err != nil {
		return err
	}
	if err := printPlan(std.Out, plan, ask); err != nil || r.DryRun || plan.Calls() == 0 {
		return err
	}
	if err := confirm(ctx, std, r.Yes); err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	record := replay.Record{
		ID: replay.NewID(now), Since: ask.Since, Until: ask.Until, Bots: ask.Bots, Sessions: ask.Sessions,
		Statuses: ask.Statuses, Rate: ask.Rate, By: asker(), StartedAt: now, Skipped: skipped(plan),
	}
	return s.run(ctx, std, record, plan)
}

// check finds what is wrong with the flags without asking the server.
func (r *replayStartCmd) check(now time.Time) (replay.Ask, faults) {
	ask := replay.Ask{Bots: r.Bot, Sessions: r.SessionID}
	var bad faults
	var err, errUntil error
	ask.Since, err = parseMoment(r.Since, now)
	bad.add("since", err)
	ask.Until, errUntil = parseMoment(r.Until, now)
	bad.add("until", errUntil)
	if err == nil && errUntil == nil && ask.Since.After(ask.Until) {
		bad.add("since", fmt.Errorf("%s is after --until %s", stamp(ask.Since), stamp(ask.Until)))
	}
	ask.Since, ask.Until = ask.Since.UTC().Truncate(time.Millisecond), ask.Until.UTC().Truncate(time.Millisecond)
	ask.Statuses, err = replay.ParseStatuses(r.Status)
	bad.add("status", err)
	if ask.Rate, err = strconv.ParseFloat(r.Rate, 64); err != nil || !(ask.Rate >= minRate && ask.Rate <= maxRate) {
		bad.add("rate", fmt.Errorf("%q is not a number from %v to %v", r.Rate, minRate, maxRate))
	}
	return ask, bad
}

// The bounds of --rate: a call in 100 seconds, and what a replica pushes at best.
const (
	minRate = 0.01
	maxRate = 1000.0
)

func knownBots(set *bots.Set, ids []string) error {
	var bad faults
	for _, id := range ids {
		if set.Named(id) == nil {
			bad.add("bot", fmt.Errorf("there is no bot %q", id))
		}
	}
	if len(bad) > 0 {
		return cli.Usage(errors.Join(bad...))
	}
	return nil
}

func skipped(plan *replay.Plan) int {
	n := 0
	for _, calls := range plan.Skips {
		n += calls
	}
	return n
}

type replayContinueCmd struct {
	ID  string `arg:"" help:"Id of the replay."`
	Yes bool   `help:"Do not ask."`
	operatorFlags
}

// Run goes on with what an interrupted replay has not marked yet.
func (r *replayContinueCmd) Run(ctx context.Context, std cli.Streams) error {
	s, err := openReplays(ctx, &r.operatorFlags, nil)
	if err != nil {
		return err
	}
	defer s.close()
	record, err := s.find(ctx, r.ID)
	if err != nil {
		return err
	}
	if record.State == replay.StateMarked {
		return cli.Usage(fmt.Errorf("replay %s has marked all of its calls", record.ID))
	}
	if age := time.Since(record.UpdatedAt); record.State == replay.StateMarking && age < stillMarking(record.Rate) {
		return cli.Usage(fmt.Errorf("replay %s is at work: it marked calls %s ago", record.ID, span(age)))
	}
	// A process that died did not count its last batch.
	sofar, err := replay.ReportOn(ctx, s.calls, record)
	if err != nil {
		return err
	}
	record.Marked = max(record.Marked, sofar.Marks())
	plan, err := s.plan(ctx, record.Ask(), record.ID)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.Out, "%s of replay %s are left.\n\n", count(plan.Calls(), "call"), record.ID)
	if err := printPlan(std.Out, plan, record.Ask()); err != nil {
		return err
	}
	if err := confirm(ctx, std, r.Yes || plan.Calls() == 0); err != nil {
		return err
	}
	return s.run(ctx, std, record, plan)
}

// stillMarking is how long a replay that is at work may be silent: one batch.
func stillMarking(rate float64) time.Duration {
	return max(30*time.Second, time.Duration(2/rate*float64(time.Second)))
}

type replayStatusCmd struct {
	ID string `arg:"" help:"Id of the replay."`
	outputFlag
	operatorFlags
}

// Run prints what became of the calls of a replay.
func (r *replayStatusCmd) Run(ctx context.Context, std cli.Streams) error {
	s, err := openReplays(ctx, &r.operatorFlags, r.outputFlag.check())
	if err != nil {
		return err
	}
	defer s.close()
	record, err := s.find(ctx, r.ID)
	if err != nil {
		return err
	}
	report, err := replay.ReportOn(ctx, s.calls, record)
	if err != nil {
		return err
	}
	return r.print(std.Out, report, func(w io.Writer) error { return printReport(w, &report) })
}

type replayListCmd struct {
	outputFlag
	operatorFlags
}

// Run lists the replays of a name, the newest first.
func (r *replayListCmd) Run(ctx context.Context, std cli.Streams) error {
	s, err := openReplays(ctx, &r.operatorFlags, r.outputFlag.check())
	if err != nil {
		return err
	}
	defer s.close()
	all, err := s.records.List(ctx)
	if err != nil {
		return err
	}
	return r.print(std.Out, all, func(w io.Writer) error { return printReplays(w, all) })
}

// replays is what the commands of a replay work on.
type replays struct {
	db      *mongo.Database
	close   func()
	calls   *calls.Store
	records *replay.Records
	config  *config.Config
}

func openReplays(ctx context.Context, flags *operatorFlags, bad faults) (*replays, error) {
	db, c, closeDB, err := flags.open(ctx, bad)
	if err != nil {
		return nil, err
	}
	return &replays{
		db: db, close: closeDB, config: c,
		calls:   calls.NewStore(db.Collection(c.CallsCollection)),
		records: replay.NewRecords(db.Collection(c.ResumeCollection), c.Name),
	}, nil
}

// plan reads the calls of an ask, but those that the replay of the id has marked; without an index on completed_at it reads
// all of them, and takes its time.
func (s *replays) plan(ctx context.Context, ask replay.Ask, id string) (*replay.Plan, error) {
	all, err := bots.ReadAll(ctx, s.db.Collection(s.config.BotsCollection), bots.Options{})
	if err != nil {
		return nil, err
	}
	survey := replay.Survey{Store: s.calls, Bots: bots.NewSet(all)}
	if id == "" { // later a bot may be gone, and its calls are skipped
		if err := knownBots(survey.Bots, ask.Bots); err != nil {
			return nil, err
		}
	}
	positions, err := resume.NewStore(s.db.Collection(s.config.ResumeCollection), s.config.Name)
	if err != nil {
		return nil, err
	}
	if survey.Positions, err = positions.Records(ctx); err != nil {
		return nil, err
	}
	plan, err := survey.Plan(ctx, ask, id)
	if errors.Is(err, replay.ErrTooMany) {
		return nil, cli.Usage(config.Fault{Setting: "since", Reason: err.Error()})
	}
	return plan, err
}

func (s *replays) find(ctx context.Context, id string) (replay.Record, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, commandTimeout, errCommandTimeout)
	defer cancel()
	record, found, err := s.records.Find(ctx, id)
	if err != nil {
		return record, err
	}
	if !found {
		return record, cli.Usage(fmt.Errorf("there is no replay %q under the name %q; 'watcher replay list' shows them", id, s.config.Name))
	}
	return record, nil
}

// run marks the calls of a plan and says how to look at them afterwards.
func (s *replays) run(ctx context.Context, std cli.Streams, record replay.Record, plan *replay.Plan) error {
	line := progressLine{w: std.Out, updates: cli.IsTerminal(std.Out), total: record.Marked + record.Passed + record.Refused + plan.Calls()}
	fmt.Fprintf(std.Out, "Replay %s. Interrupt it with Ctrl-C; 'watcher replay continue %s' goes on.\n", record.ID, record.ID)
	record, err := replay.Run(ctx, s.calls, s.records, record, plan, func(r replay.Record) { line.show(r, time.Now()) })
	line.end(record)
	if errors.Is(err, replay.ErrInterrupted) {
		fmt.Fprintf(std.Out, "Interrupted. Calls that are marked already are pushed; go on with: watcher replay continue %s\n", record.ID)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(std.Out, "All are marked; a running watcher pushes them, the last at %s. Look with: watcher replay status %s\n",
		stamp(record.Due), record.ID)
	return nil
}
