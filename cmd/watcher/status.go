package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/cluster"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/internal/replay"
)

type statusCmd struct {
	Watch bool `help:"Draw it anew every 2 s until Ctrl-C."`
	outputFlag
	operatorFlags
}

// Help says what the exit statuses mean.
func (statusCmd) Help() string {
	return "What MongoDB says of all replicas, their partitions and the calls that wait; no watcher has to run. Needs --mongo-uri. " +
		"Exit status 0: results are read, though something may need attention. 1: nobody reads some of them, or MongoDB cannot be asked. 2: wrong flags."
}

// The times of the command.
const (
	watchEvery = 2 * time.Second
	knownFor   = 30 * time.Second // bots are read anew after it
)

// sampledBots is for how many bots it is looked up what was said last.
const sampledBots = 20

// errNobodyReads gives the exit status; what it means is printed already.
var errNobodyReads = fmt.Errorf("nobody reads some of the results: %w", cli.ErrSilent)

// Run prints how the cluster does.
func (s *statusCmd) Run(ctx context.Context, std cli.Streams) error {
	bad := s.outputFlag.check()
	if s.Watch && (s.Output == "json" || !cli.IsTerminal(std.Out)) {
		bad.add("watch", errors.New("draws tables on a terminal; there is none, or --output says json"))
	}
	opening, cancel := context.WithTimeoutCause(ctx, commandTimeout, errCommandTimeout)
	defer cancel()
	db, c, closeDB, err := s.open(opening, bad)
	if err != nil {
		return err
	}
	defer closeDB()
	reader, err := clusterReader(db, c)
	if err != nil {
		return err
	}
	draw := func(out io.Writer) error {
		ctx, cancel := context.WithTimeoutCause(ctx, commandTimeout, errCommandTimeout)
		defer cancel()
		summary, err := reader.Read(ctx)
		if err != nil {
			return err
		}
		err = s.print(out, summary, func(w io.Writer) error { return printSummary(w, summary, c.Database) })
		if err == nil && summary.Status == cluster.StatusDown {
			err = errNobodyReads
		}
		return err
	}
	if s.Watch {
		return watch(ctx, std.Out, draw)
	}
	return draw(std.Out)
}

// watch draws on a terminal until ctx ends. What fails meanwhile is shown in its place.
func watch(ctx context.Context, out io.Writer, draw func(io.Writer) error) error {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		var screen strings.Builder
		if err := draw(&screen); err != nil && !errors.Is(err, cli.ErrSilent) && ctx.Err() == nil {
			fmt.Fprintln(&screen, explained(err))
		}
		if ctx.Err() == nil {
			// Home, then each line clears its rest, then all below: no flicker.
			fmt.Fprint(out, "\x1b[H"+strings.ReplaceAll(screen.String(), "\n", "\x1b[K\n")+"\x1b[J")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// clusterReader reads the summary of the deployment that the flags name.
func clusterReader(db *mongo.Database, c *config.Config) (*cluster.Reader, error) {
	known := cachedBots{coll: db.Collection(c.BotsCollection)}
	resumes := db.Collection(c.ResumeCollection)
	return cluster.New(cluster.Options{
		Calls: db.Collection(c.CallsCollection), Bots: known.coll, Resume: resumes, Name: c.Name,
		Known: known.read, Replays: replay.NewRecords(resumes, c.Name).List, Holds: hold.NewRecords(resumes, c.Name).List, Samples: sampledBots,
	})
}

// cachedBots are the bots of a collection, read anew when they are old.
type cachedBots struct {
	coll *mongo.Collection
	set  *bots.Set
	at   time.Time
}

func (c *cachedBots) read(ctx context.Context) (*bots.Set, error) {
	if c.set != nil && time.Since(c.at) < knownFor {
		return c.set, nil
	}
	all, err := bots.ReadAll(ctx, c.coll, bots.Options{})
	if err != nil {
		return nil, err
	}
	c.set, c.at = bots.NewSet(all), time.Now()
	return c.set, nil
}
