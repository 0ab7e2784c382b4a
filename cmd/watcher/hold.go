package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/hold"
)

type holdCmd struct {
	Add     holdAddCmd     `cmd:"" help:"Keep the calls of a bot, or of all bots of a host, back."`
	List    holdListCmd    `cmd:"" help:"List the holds."`
	Release holdReleaseCmd `cmd:"" help:"Let the calls go that were held back."`
}

// heldFlags name what is held.
type heldFlags struct {
	Bot  string `placeholder:"ID|NAME" help:"The bot whose calls it is about."`
	Host string `placeholder:"HOST" help:"The host that bots push to; with its port where that is not the usual one."`
}

type holdAddCmd struct {
	heldFlags
	Why    string        `placeholder:"TEXT" help:"Why, for those who come later; it stands on the calls. Required."`
	For    time.Duration `placeholder:"DURATION" help:"How long, as 2h; without it until it is released."`
	DryRun bool          `help:"Print what would be held and end."`
	Yes    bool          `help:"Do not ask."`
	operatorFlags
}

// Help implements kong.HelpProvider.
func (*holdAddCmd) Help() string {
	return "Calls of a bot that is held are kept: they stand on their documents as due and held, count no attempt, " +
		"do not age, and go out, slowly at first, when the hold is released or its time is over. " +
		"Give --bot or --host.\n\n" +
		"This is not what enabled: false of a bot does: that ends its due calls, and skips those that come."
}

// Run adds a hold.
func (a *holdAddCmd) Run(ctx context.Context, std cli.Streams) error {
	ctx, cancel := context.WithTimeoutCause(ctx, commandTimeout, errCommandTimeout)
	defer cancel()
	now := time.Now()
	h, bad := a.check(now)
	s, err := openHolds(ctx, &a.operatorFlags, bad)
	if err != nil {
		return err
	}
	defer s.close()
	if a.Bot != "" {
		if h.Bot, err = s.botID(a.Bot); err != nil {
			return err
		}
	}
	if err := s.printAdd(ctx, std.Out, &h, now); err != nil || a.DryRun {
		return err
	}
	if err := confirm(ctx, std, a.Yes); err != nil {
		return err
	}
	h, err = s.records.Add(ctx, h)
	if errors.Is(err, hold.ErrTooMany) || errors.Is(err, hold.ErrIncomplete) {
		return cli.Usage(err)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(std.Out, "Hold %s acts within 2 seconds.\nTo let the calls go: watcher hold release %[1]s\n", h.ID)
	return nil
}

// mostFor is how long a hold may be asked for. Without a limit it lasts as long as it takes.
const mostFor = 365 * 24 * time.Hour

// check finds what is wrong with the flags without asking the server.
func (a *holdAddCmd) check(now time.Time) (hold.Hold, faults) {
	h := hold.Hold{Why: hold.OneLine(a.Why, 2*hold.MaxWhy), By: asker()}
	var bad faults
	switch {
	case a.Bot == "" && a.Host == "":
		bad.add("bot", errors.New("is required, or --host"))
	case a.Bot != "" && a.Host != "":
		bad.add("host", errors.New("cannot be given beside --bot: add two holds"))
	}
	if a.Host != "" {
		var err error
		h.Host, err = bots.ParseHost(a.Host)
		bad.add("host", err)
	}
	switch {
	case h.Why == "":
		bad.add("why", errors.New("is required"))
	case len(h.Why) > hold.MaxWhy:
		bad.add("why", fmt.Errorf("is longer than %d bytes", hold.MaxWhy))
	}
	switch {
	case a.For < 0 || a.For > mostFor:
		bad.add("for", fmt.Errorf("%s is not from 1s to %s", span(a.For), span(mostFor)))
	case a.For > 0:
		h.Until = now.Add(a.For)
	}
	return h, bad
}

type holdListCmd struct {
	All bool `help:"Also those that are over; they are kept for 30 days."`
	outputFlag
	operatorFlags
}

// Run lists the holds of a name, the oldest first.
func (l *holdListCmd) Run(ctx context.Context, std cli.Streams) error {
	ctx, cancel := context.WithTimeoutCause(ctx, commandTimeout, errCommandTimeout)
	defer cancel()
	s, err := openHolds(ctx, &l.operatorFlags, l.outputFlag.check())
	if err != nil {
		return err
	}
	defer s.close()
	now := time.Now()
	rows := []holdRow{}
	for i := range s.all {
		if l.All || s.all[i].Active(now) {
			row, err := s.row(ctx, s.all[i], now)
			if err != nil {
				return err
			}
			rows = append(rows, row)
		}
	}
	return l.print(std.Out, rows, func(w io.Writer) error { return printHolds(w, rows, now) })
}

type holdReleaseCmd struct {
	ID []string `arg:"" optional:"" help:"Ids of the holds, or --bot or --host for all of those."`
	heldFlags
	DryRun bool `help:"Print what would be released and end."`
	Yes    bool `help:"Do not ask."`
	operatorFlags
}

// Run releases holds.
func (r *holdReleaseCmd) Run(ctx context.Context, std cli.Streams) error {
	ctx, cancel := context.WithTimeoutCause(ctx, commandTimeout, errCommandTimeout)
	defer cancel()
	var bad faults
	if len(r.ID) == 0 && r.Bot == "" && r.Host == "" {
		bad.add("id", errors.New("of a hold is required, or --bot or --host"))
	}
	s, err := openHolds(ctx, &r.operatorFlags, bad)
	if err != nil {
		return err
	}
	defer s.close()
	now := time.Now()
	chosen, err := s.choose(r, now)
	if err != nil {
		return err
	}
	if err := s.printRelease(ctx, std.Out, chosen, now); err != nil || r.DryRun {
		return err
	}
	if err := confirm(ctx, std, r.Yes); err != nil {
		return err
	}
	for i := range chosen {
		// Another may have been quicker, which comes to the same.
		if _, err := s.records.Release(ctx, chosen[i].ID, asker()); err != nil && !errors.Is(err, hold.ErrOver) {
			return fmt.Errorf("hold %s: %w", chosen[i].ID, err)
		}
	}
	fmt.Fprintln(std.Out, "Released; watchers know it within 2 seconds.")
	return nil
}

// choose finds the holds that are to be released.
func (s *holds) choose(r *holdReleaseCmd, now time.Time) ([]hold.Hold, error) {
	var chosen []hold.Hold
	var bad []error
	pick := func(what, text string, match func(*hold.Hold) bool) {
		found := false
		for i := range s.all {
			h := &s.all[i]
			if !match(h) || !h.Active(now) {
				continue
			}
			found = true
			if !slices.Contains(chosen, *h) {
				chosen = append(chosen, *h)
			}
		}
		if !found {
			bad = append(bad, fmt.Errorf("there is no %s %q that is not over", what, hold.OneLine(text, 80)))
		}
	}
	for _, id := range r.ID {
		pick("hold", id, func(h *hold.Hold) bool { return h.ID == id })
	}
	if r.Bot != "" {
		id, err := s.botID(r.Bot)
		if err != nil {
			return nil, err
		}
		pick("hold of bot", r.Bot, func(h *hold.Hold) bool { return h.Bot == id })
	}
	if r.Host != "" {
		host, err := bots.ParseHost(r.Host)
		if err != nil {
			return nil, cli.Usage(config.Fault{Setting: "host", Reason: err.Error()})
		}
		pick("hold of host", r.Host, func(h *hold.Hold) bool { return h.Host == host })
	}
	if len(bad) > 0 {
		return nil, cli.Usage(errors.Join(bad...))
	}
	return chosen, nil
}

// holds is what the commands of a hold work on.
type holds struct {
	db      *mongo.Database
	close   func()
	records *hold.Records
	calls   *calls.Store
	bots    *bots.Set
	all     []hold.Hold // as they stood when the command began
}

func openHolds(ctx context.Context, flags *operatorFlags, bad faults) (_ *holds, err error) {
	db, c, closeDB, err := flags.open(ctx, bad)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			closeDB()
		}
	}()
	s := &holds{
		db: db, close: closeDB, calls: calls.NewStore(db.Collection(c.CallsCollection)),
		records: hold.NewRecords(db.Collection(c.ResumeCollection), c.Name),
	}
	all, err := bots.ReadAll(ctx, db.Collection(c.BotsCollection), bots.Options{})
	if err != nil {
		return nil, err
	}
	s.bots = bots.NewSet(all)
	s.all, err = s.records.List(ctx)
	return s, err
}

// botID is the id of the bot that a person means by an id or a name. A bot that
// does not exist has the id that was typed.
func (s *holds) botID(text string) (string, error) {
	text = strings.TrimSpace(text)
	b, err := s.bots.Find(text)
	if missing, ok := errors.AsType[*bots.FindError](err); ok && len(missing.IDs) == 0 {
		return text, nil
	}
	if err != nil {
		return "", cli.Usage(config.Fault{Setting: "bot", Reason: oneLine(err.Error())})
	}
	return b.ID, nil
}

// covered are the bots that a hold is about, by their ids.
func (s *holds) covered(h *hold.Hold) []*bots.Bot {
	found := slices.DeleteFunc(s.bots.All(), func(b *bots.Bot) bool { return !h.Covers(b) })
	slices.SortFunc(found, func(x, y *bots.Bot) int { return cmp.Compare(x.ID, y.ID) })
	return found
}

// mostDue is how many due calls are counted of each kind.
const mostDue = 100_000

// due counts the calls of bots that are due now.
func (s *holds) due(ctx context.Context, all []*bots.Bot, now time.Time) (int, error) {
	q := calls.DueQuery{Now: now, Limit: mostDue}
	for _, b := range all {
		q.Only = append(q.Only, calls.IDForms(b.RawID)...)
	}
	if len(q.Only) == 0 {
		return 0, nil
	}
	sum := 0
	for _, q.Replay = range []bool{false, true} {
		n, _, err := s.calls.CountDue(ctx, q)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// holdRow is a hold and what it keeps back.
type holdRow struct {
	hold.Hold
	Active bool   `json:"active"`
	Name   string `json:"bot_name,omitempty"`
	Bots   int    `json:"bots"`      // that it is about now
	Due    int    `json:"due_calls"` // of these, 0 when it is over
}

func (s *holds) row(ctx context.Context, h hold.Hold, now time.Time) (row holdRow, err error) {
	covered := s.covered(&h)
	row = holdRow{Hold: h, Active: h.Active(now), Bots: len(covered)}
	if h.Bot != "" && len(covered) > 0 {
		row.Name = covered[0].Name
	}
	if row.Active {
		row.Due, err = s.due(ctx, covered, now)
	}
	return row, err
}
