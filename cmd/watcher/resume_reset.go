package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/pkg/resume"
	"github.com/cxbridge/watcher/pkg/stream"
)

type resumeResetCmd struct {
	To     string `placeholder:"WHERE" help:"now, ${when}, or a token (the hex text of its _data). Required."`
	Repush string `default:"missing" placeholder:"WHICH" help:"What to do with results from there to now that were pushed already: missing (nothing), failed (push again what failed or was rejected) or all (push again)."`
	DryRun bool   `help:"Print what would be done and end."`
	Yes    bool   `help:"Do not ask."`
	operatorFlags
}

// Run moves the saved position.
func (r *resumeResetCmd) Run(ctx context.Context, std cli.Streams) error {
	c, err := r.check(time.Now())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, resetTimeout, errCommandTimeout)
	defer cancel()
	db, closeDB, err := openDatabase(ctx, &c)
	if err != nil {
		return err
	}
	defer closeDB()
	p, err := readProgress(ctx, db, &c)
	if err != nil {
		return err
	}
	if len(p.records) == 0 {
		return unknownName(ctx, db.Collection(c.ResumeCollection), c.Name)
	}
	to, err := r.position(p)
	if err != nil {
		return cli.Usage(config.Fault{Setting: "to", Reason: err.Error()})
	}
	noteZone(std.Err, r.To)
	plan := resetPlan{progress: p, to: to, reset: resume.Reset{ID: rand.Text(), At: p.clock, Repush: r.Repush, By: asker()}}
	plan.survey(ctx, db, &c)
	if err := plan.print(std.Out); err != nil || r.DryRun {
		return err
	}
	if err := confirm(ctx, std, r.Yes); err != nil {
		return err
	}
	// The answer may have taken minutes: what was stored meanwhile counts as before.
	if plan.reset.At, _, err = stream.ServerTime(ctx, db.Client()); err != nil {
		return err
	}
	return plan.carryOut(ctx, std.Out)
}

// resetTimeout leaves time to read what is printed and to answer.
const resetTimeout = 15 * time.Minute

// check finds what is wrong with the flags without asking the server.
func (r *resumeResetCmd) check(now time.Time) (config.Config, error) {
	var bad faults
	if _, isToken := parseToken(r.To); !isToken {
		_, err := parseMoment(r.To, now.Add(clockSlack))
		if err != nil && strings.HasPrefix(r.To, "82") {
			err = fmt.Errorf("%q is not a token: want the hex text of its _data", r.To)
		}
		bad.add("to", err)
	}
	switch dispatch.Repush(r.Repush) {
	case dispatch.RepushMissing, dispatch.RepushFailed, dispatch.RepushAll:
	default:
		bad.add("repush", fmt.Errorf("%q is not missing, failed or all", r.Repush))
	}
	return r.config(bad)
}

// clockSlack is for this machine's clock; the server's decides afterwards.
const clockSlack = time.Minute

func parseToken(text string) (bson.Raw, bool) {
	token, err := resume.ParseToken(text)
	return token, err == nil
}

// position is where to move, by the server's clock.
func (r *resumeResetCmd) position(p *progress) (resume.Position, error) {
	if token, ok := parseToken(r.To); ok {
		at, _ := resume.TokenTime(token)
		if p.newest.Before(at) {
			return resume.Position{}, fmt.Errorf("the token is of %s, in the future of this cluster", stamp(resume.ClockTime(at)))
		}
		return resume.Position{Token: token, ClusterTime: at}, nil
	}
	if strings.TrimSpace(r.To) == "now" {
		return resume.Position{ClusterTime: p.newest}, nil
	}
	at, err := parseMoment(r.To, p.clock)
	if err != nil {
		return resume.Position{}, err
	}
	if position := resume.At(at); !p.newest.Before(position.ClusterTime) {
		return position, nil
	}
	return resume.Position{ClusterTime: p.newest}, nil // the newest second of a quiet cluster
}

func unknownName(ctx context.Context, coll *mongo.Collection, name string) error {
	known, err := knownNames(ctx, coll)
	if err != nil {
		return err
	}
	reason := fmt.Sprintf("no position is saved as %q; start a watcher with --start instead", name)
	if len(known) > 0 {
		reason = fmt.Sprintf("no position is saved as %q; known: %s", name, strings.Join(known, ", "))
	}
	return cli.Usage(config.Fault{Setting: "name", Reason: reason})
}

// resetPlan is what a reset will do.
type resetPlan struct {
	*progress
	to    resume.Position
	reset resume.Reset

	inWindow, toPush int // calls from there to now
	passedOver       int // calls before there that nobody will look at
	noCount          error
}

// countTime and countMost bound the count that a reset begins with.
const (
	countTime = 20 * time.Second
	countMost = 1_000_000
)

var (
	errCountTime = fmt.Errorf("counting took longer than %s; an index %s makes it quick", countTime, calls.TimeIndex)
	errCountMost = fmt.Errorf("there are more than %d", countMost)
)

// survey counts what the reset concerns, within bounds.
func (p *resetPlan) survey(ctx context.Context, db *mongo.Database, c *config.Config) {
	ctx, cancel := context.WithTimeoutCause(ctx, countTime, errCountTime)
	defer cancel()
	all, err := bots.ReadAll(ctx, db.Collection(c.BotsCollection), bots.Options{})
	if err == nil {
		set := bots.NewSet(all)
		policy := dispatch.Policy{Repush: dispatch.Repush(p.reset.Repush), Asked: p.reset.At, Past: true}
		from := p.to.Time()
		if oldest := p.oldest(); oldest.Before(from) {
			from = oldest
		}
		read := 0
		err = calls.NewStore(db.Collection(c.CallsCollection)).Select(ctx, calls.Stored{From: from}, func(call calls.Call) error {
			if read++; read > countMost {
				return errCountMost
			}
			p.count(&call, set, policy)
			return nil
		})
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	p.noCount = err
}

func (p *resetPlan) count(call *calls.Call, set *bots.Set, policy dispatch.Policy) {
	pushable := dispatch.SkipReason(call, set.Bot(call.Bot)) == dispatch.NoReason
	if call.CompletedAt.Before(p.to.Time()) {
		if pushable && !(dispatch.Policy{Past: true}).Settled(call) {
			p.passedOver++
		}
		return
	}
	p.inWindow++
	if pushable && !policy.Settled(call) {
		p.toPush++
	}
}

// oldest is the oldest position that is saved.
func (p *resetPlan) oldest() time.Time {
	var oldest time.Time
	for i := range p.records {
		if at := p.records[i].Position.Time(); oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
	}
	if oldest.IsZero() {
		return p.to.Time()
	}
	return oldest
}

func (p *resetPlan) print(w io.Writer) error {
	var out strings.Builder
	var rows [][]string
	for i := range p.records {
		r := &p.records[i]
		from, moves, owner := "nowhere", "-", r.Owner
		if at := r.Position.Time(); !at.IsZero() {
			from = stamp(at)
			moves = movement(p.to.Time().Sub(at))
		}
		if !r.Held() {
			owner = "nobody"
		}
		rows = append(rows, []string{r.Partition.String(), from, stamp(p.to.Time()), moves, owner})
	}
	fitTable(&out, []string{"PARTITION", "FROM", "TO", "MOVES", "HELD BY"}, []int{12, 20, 20, 14}, rows)
	fmt.Fprintf(&out, "\nThe new position is %s behind.\n", span(p.clock.Sub(p.to.Time())))
	fmt.Fprintln(&out, p.reach())
	fmt.Fprintln(&out, p.counts())
	_, err := io.WriteString(w, out.String())
	return err
}

func movement(d time.Duration) string {
	switch {
	case d > -time.Second && d < time.Second:
		return "nowhere"
	case d < 0:
		return "back " + span(-d)
	}
	return "ahead " + span(d)
}

// reach says how the calls from there on are found.
func (p *resetPlan) reach() string {
	switch {
	case p.noWindow != nil:
		return fmt.Sprintf("How far the oplog reaches is unknown (%s).\nShould it not reach there, the calls are swept by completed_at.", oneLine(p.noWindow.Error()))
	case p.to.ClusterTime.Before(p.window.Oldest):
		return fmt.Sprintf("The oplog reaches back to %s only:\nthe calls from there on are swept by completed_at.", stamp(resume.ClockTime(p.window.Oldest)))
	}
	return fmt.Sprintf("The oplog reaches back to %s: the events from there on are read again.", stamp(resume.ClockTime(p.window.Oldest)))
}

func (p *resetPlan) counts() string {
	if p.noCount != nil {
		return fmt.Sprintf("The calls were not counted: %s.", oneLine(p.noCount.Error()))
	}
	text := fmt.Sprintf("%s from there to now; %d to be pushed (--repush %s).", count(p.inWindow, "result"), p.toPush, p.reset.Repush)
	if p.passedOver > 0 {
		text += fmt.Sprintf("\nPassed over: %s without an outcome, stored before the new position.\n"+
			"'watcher replay --status missing' pushes them.", count(p.passedOver, "result"))
	}
	return text
}

func (p *resetPlan) carryOut(ctx context.Context, w io.Writer) error {
	var failed []error
	for i := range p.records {
		if err := p.store.Reset(ctx, p.records[i].Partition, p.to, p.reset); err != nil {
			failed = append(failed, fmt.Errorf("partition %s was not reset: %w", p.records[i].Partition, err))
		}
	}
	if err := errors.Join(failed...); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "Reset. A running watcher goes on from there within seconds.")
	return err
}
