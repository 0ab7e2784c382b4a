package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/replay"
)

type replayCmd struct {
	Start    replayStartCmd    `cmd:"" default:"withargs" help:"Push stored results once more (the default)."`
	Continue replayContinueCmd `cmd:"" help:"Go on with a replay that was interrupted."`
	Cancel   replayCancelCmd   `cmd:"" help:"End a replay: calls that were not attempted yet are as before."`
	Status   replayStatusCmd   `cmd:"" help:"Print what became of a replay."`
	List     replayListCmd     `cmd:"" help:"List the replays."`
}

type replayStartCmd struct {
	Since string `group:"which" placeholder:"WHEN" help:"Results stored from then on: ${when}. Required without --session-id."`
	whichFlags
	Status []string `group:"which" default:"failed,rejected,due,missing" placeholder:"STATUS,..." help:"Only results with this status: failed, rejected, due (attempted again later), missing (never pushed), ok, skipped, held."`
	Rate   string   `default:"10" placeholder:"N" help:"Calls in a second."`
	DryRun bool     `help:"Print what would be replayed and end."`
	Yes    bool     `help:"Do not ask."`
	operatorFlags
}

// Run marks the calls that are asked for, at the rate, until all are marked or
// it is interrupted.
func (r *replayStartCmd) Run(ctx context.Context, std cli.Streams) error {
	now := time.Now()
	ask, bad := r.check(now, std.In)
	s, err := openReplays(ctx, &r.operatorFlags, bad)
	if err != nil {
		return err
	}
	defer s.close()
	noteZone(std.Err, r.Since, r.Until)
	if err := s.known(ctx, ask.Sessions); err != nil {
		return err
	}
	plan, err := s.plan(ctx, &ask, "")
	if err != nil {
		return err
	}
	if err := printPlan(std.Out, plan, ask); err != nil || r.DryRun || plan.Calls() == 0 {
		return err
	}
	if err := s.warnWithoutWatcher(ctx, std.Out); err != nil {
		return err
	}
	if err := confirm(ctx, std, r.Yes); err != nil {
		return err
	}
	record := replay.NewRecord(ask, asker(), time.Now())
	record.Skipped = skipped(plan)
	return s.run(ctx, std, record, plan)
}

// check finds what is wrong with the flags without asking the server.
func (r *replayStartCmd) check(now time.Time, in io.Reader) (replay.Ask, faults) {
	query, bad := r.query(r.Since, now, in)
	if r.Since == "" && len(r.SessionID) == 0 {
		bad.add("since", errors.New("is required without --session-id: a duration ago such as 2h, a date, or a time"))
	}
	if query.Until.IsZero() {
		query.Until = now.UTC().Truncate(time.Millisecond)
	}
	var err error
	query.States, err = inspect.ParseStates(r.Status)
	bad.add("status", err)
	ask := replay.Ask{Query: query}
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
	switch record.State {
	case replay.StateMarked:
		return cli.Usage(fmt.Errorf("replay %s has marked all of its calls", record.ID))
	case replay.StateCancelled:
		return cli.Usage(fmt.Errorf("replay %s was cancelled by %s", record.ID, oneLine(record.EndedBy)))
	case replay.StateMarking, replay.StateInterrupted:
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
	ask := record.Ask()
	plan, err := s.plan(ctx, &ask, record.ID)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.Out, "%s of replay %s are left.\n\n", count(plan.Calls(), "call"), record.ID)
	if err := printPlan(std.Out, plan, ask); err != nil {
		return err
	}
	if err := s.warnWithoutWatcher(ctx, std.Out); err != nil {
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

// replays is what the commands of a replay work on.
type replays struct {
	db        *mongo.Database
	close     func()
	calls     *calls.Store
	records   *replay.Records
	inspector *inspect.Inspector
	config    *config.Config
}

func openReplays(ctx context.Context, flags *operatorFlags, bad faults) (*replays, error) {
	db, c, closeDB, err := flags.open(ctx, bad)
	if err != nil {
		return nil, err
	}
	return &replays{
		db: db, close: closeDB, config: c, inspector: newInspector(db, c),
		calls:   calls.NewStore(db.Collection(c.CallsCollection)),
		records: replay.NewRecords(db.Collection(c.ResumeCollection), c.Name),
	}, nil
}

// known says which of some session ids no call has.
func (s *replays) known(ctx context.Context, sessions []string) error {
	if len(sessions) == 0 {
		return nil
	}
	known, err := s.calls.KnownSessions(ctx, sessions)
	if err != nil {
		return err
	}
	return unknownSessions(sessions, known)
}

// plan reads the calls of an ask, but those that the replay of the id has marked;
// without an index on completed_at it reads all of them, and takes its time. The bots
// of a new ask are ids afterwards.
func (s *replays) plan(ctx context.Context, ask *replay.Ask, id string) (*replay.Plan, error) {
	query := &ask.Query
	if id != "" { // a bot may be gone by now, and its calls are skipped
		query = &inspect.Query{}
	}
	selection, err := s.inspector.Selection(ctx, query)
	if err != nil {
		return nil, unknownBots(err)
	}
	plan, err := replay.Find(ctx, selection, *ask, id)
	if errors.Is(err, replay.ErrTooMany) {
		return nil, cli.Usage(config.Fault{Setting: "since", Reason: err.Error()})
	}
	return plan, err
}

// warnWithoutWatcher says when nobody would push what is marked.
func (s *replays) warnWithoutWatcher(ctx context.Context, w io.Writer) error {
	alive, err := s.inspector.Alive(ctx)
	if err != nil {
		return err
	}
	if !alive {
		fmt.Fprintf(w, "\nNo watcher with the name %s is alive: nothing is pushed before one runs.\n", s.config.Name)
	}
	return nil
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
	fmt.Fprintf(std.Out, "Replay %s.\nCtrl-C interrupts it; go on with: watcher replay continue %s\n", record.ID, record.ID)
	record, err := replay.Run(ctx, s.calls, s.records, record, plan, func(r replay.Record) { line.show(r, time.Now()) })
	line.end(record)
	if errors.Is(err, replay.ErrCancelled) {
		return fmt.Errorf("replay %s ends: %w", record.ID, err)
	}
	if errors.Is(err, replay.ErrInterrupted) {
		fmt.Fprintf(std.Out, "Interrupted. Calls that are marked already are pushed.\n"+
			"Go on with: watcher replay continue %s\nOr take them back: watcher replay cancel %s\n", record.ID, record.ID)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(std.Out, "All are marked; a running watcher pushes them, the last at %s.\nLook with: watcher replay status %s\n",
		stamp(record.Due), record.ID)
	return nil
}
