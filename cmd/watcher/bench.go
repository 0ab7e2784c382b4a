package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/app"
	"github.com/cxbridge/watcher/internal/bench"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/pkg/secret"
)

type benchCmd struct {
	MongoURI secret.Text `name:"mongo-uri" group:"mongo" placeholder:"URI" help:"Connection string of the replica set or cluster that is put under load. Required."`
	Scratch  string      `default:"watcher_bench" placeholder:"NAME" help:"What the names of the scratch databases begin with, one for each road; they must not exist, and are dropped at the end."`
	bench.Load
	Yes bool `short:"y" help:"Do not ask."`
	outputFlag
}

// Help says what it does.
func (benchCmd) Help() string {
	return "Stores calls in scratch databases of its own, pushes them to CRMs of its own and drops the databases. " +
		"It takes what the server gives: not for a server that others need. docs/performance.md explains the table."
}

// Run measures the roads.
func (b *benchCmd) Run(ctx context.Context, std cli.Streams) error {
	cfg := config.Default()
	cfg.MongoURI = b.MongoURI
	bad := b.check()
	if strings.Trim(b.Scratch, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" || b.Scratch == "" || len(b.Scratch) > 50 {
		bad.add("scratch", errors.New("is not up to 50 of a-z, 0-9 and _"))
	}
	if err := b.Check(); err != nil {
		bad = append(bad, err)
	}
	if err := checked(&cfg, bad); err != nil {
		return err
	}
	fmt.Fprintf(std.Err, "This puts the server under load, with databases %s_* that are dropped at the end.\n", b.Scratch)
	if err := confirm(ctx, std, b.Yes); err != nil {
		return err
	}
	report, err := bench.Run(ctx, bench.Options{
		Load: b.Load, URI: b.MongoURI, Scratch: b.Scratch,
		Progress: func(text string) { fmt.Fprintln(std.Err, text) },
		NewWatcher: func(cfg config.Config, client func(*options.ClientOptions)) (bench.Runner, error) {
			logger := cli.NewLogger(std.Err, cli.LogText, slog.LevelWarn)
			watcher, err := app.New(cfg, app.Deps{Logger: logger, Version: version, Client: client})
			return paced{watcher}, err
		},
	})
	if err != nil {
		return config.RedactURI(err, b.MongoURI)
	}
	return b.print(std.Out, report, func(w io.Writer) error { return report.Print(w) })
}
