package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/internal/inspect"
)

type callsCmd struct {
	Since string `group:"which" placeholder:"WHEN" help:"Results stored from then on: ${when}. Default: 24h; all with --session-id, and with --status due or held alone."`
	whichFlags
	Status  []string `group:"which" placeholder:"STATUS,..." help:"Only results with this status: missing, failed, rejected, held, due, skipped, ok."`
	Limit   int      `default:"50" placeholder:"N" help:"How many calls are printed, at most 10000; all are counted."`
	GroupBy string   `placeholder:"WHAT" help:"Count calls by error, bot or host instead of printing them."`
	outputFlag
	operatorFlags
}

// Run lists calls, or what they have in common.
func (c *callsCmd) Run(ctx context.Context, std cli.Streams) error {
	q, bad := c.check(time.Now(), std.In)
	db, cfg, closeDB, err := c.open(ctx, bad)
	if err != nil {
		return err
	}
	defer closeDB()
	noteZone(std.Err, c.Since, c.Until)
	if len(q.Sessions) > 0 {
		known, err := calls.NewStore(db.Collection(cfg.CallsCollection)).KnownSessions(ctx, q.Sessions)
		if err != nil {
			return err
		}
		if err := unknownSessions(q.Sessions, known); err != nil {
			return err
		}
	}
	i := newInspector(db, cfg)
	if c.GroupBy != "" {
		groups, list, err := i.Groups(ctx, q, inspect.GroupBy(c.GroupBy))
		if err != nil {
			return unknownBots(err)
		}
		return c.print(std.Out, groupsOutput{groups, list.Total, list.States, list.Read, timeOrNil(list.Since), timeOrNil(list.Until), list.Partial},
			func(w io.Writer) error { return c.printGroups(w, groups, &list) })
	}
	list, err := i.List(ctx, q)
	if err != nil {
		return unknownBots(err)
	}
	return c.print(std.Out, list, func(w io.Writer) error { return c.printList(w, &list) })
}

// groupsOutput is what --group-by prints as JSON.
type groupsOutput struct {
	Groups  []inspect.Group       `json:"groups"`
	Total   int                   `json:"total"`
	States  map[inspect.State]int `json:"states"`
	Read    int                   `json:"read"`
	Since   *time.Time            `json:"since,omitempty"`
	Until   *time.Time            `json:"until,omitempty"`
	Partial string                `json:"partial,omitempty"`
}

// check finds what is wrong with the flags without asking the server.
func (c *callsCmd) check(now time.Time, in io.Reader) (inspect.Query, faults) {
	q, bad := c.query(c.Since, now, in)
	var err error
	q.States, err = inspect.ParseStates(c.Status)
	bad.add("status", err)
	if q.Limit = c.Limit; c.Limit < 1 || c.Limit > inspect.MostRows {
		bad.add("limit", fmt.Errorf("%d is not from 1 to %d", c.Limit, inspect.MostRows))
	}
	switch inspect.GroupBy(c.GroupBy) {
	case "", inspect.ByError, inspect.ByBot, inspect.ByHost:
	default:
		bad.add("group-by", fmt.Errorf("%q is not error, bot or host", c.GroupBy))
	}
	return q, append(bad, c.outputFlag.check()...)
}

// newInspector answers questions about the calls of a database.
func newInspector(db *mongo.Database, c *config.Config) *inspect.Inspector {
	return inspect.New(inspect.Options{
		Calls: db.Collection(c.CallsCollection), Bots: db.Collection(c.BotsCollection), Settings: db.Collection(c.SettingsCollection),
		Resume: db.Collection(c.ResumeCollection), Skips: db.Collection(c.SkipCollection), Name: c.Name,
		Holds:   hold.NewRecords(db.Collection(c.ResumeCollection), c.Name).Set,
		Compile: bots.Options{},
	})
}
