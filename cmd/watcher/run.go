package main

import (
	"context"
	"log/slog"

	"github.com/cxbridge/watcher/internal/app"
	"github.com/cxbridge/watcher/internal/cli"
)

type runCmd struct {
	runFlags
}

// Run follows the calls until the context ends, then drains.
func (r *runCmd) Run(ctx context.Context, std cli.Streams) error {
	cfg, err := r.config()
	if err != nil {
		return err
	}
	logger := cli.NewLogger(std.Err, cfg.LogFormat, cfg.LogLevel)
	watcher, err := app.New(cfg, app.Deps{Logger: logger, Version: version})
	if err != nil {
		return err
	}
	// Libraries that know only package log, net/http among them, write here too.
	slog.SetDefault(watcher.Logger())
	return watcher.Run(ctx)
}
