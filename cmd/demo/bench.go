package main

import (
	"context"
	"fmt"
	"log/slog"

	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/app"
	"github.com/cxbridge/watcher/internal/bench"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/pkg/secret"
)

type benchCmd struct {
	bench.Load
}

// Run measures the roads on a MongoDB in this process.
func (b *benchCmd) Run(ctx context.Context, std cli.Streams) error {
	if err := b.Check(); err != nil {
		return cli.Usage(err)
	}
	logger := cli.NewLogger(std.Err, cli.LogText, slog.LevelWarn)
	running, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	server, err := localmongo.New(localmongo.Options{Logger: logger})
	if err != nil {
		return err
	}
	stopServer := inBackground(context.WithoutCancel(ctx), giveUp, server.Run)
	defer stopServer()
	fmt.Fprintln(std.Err, "The MongoDB is in this process: CPU and memory are of both.")
	report, err := bench.Run(running, bench.Options{
		Load: b.Load, URI: secret.Text(server.URI()), Scratch: "bench",
		Progress: func(text string) { fmt.Fprintln(std.Err, text) },
		NewWatcher: func(cfg config.Config, client func(*options.ClientOptions)) (bench.Runner, error) {
			return app.New(cfg, app.Deps{Logger: logger, Version: version, Client: client})
		},
	})
	if err != nil {
		return err
	}
	return report.Print(std.Out)
}
