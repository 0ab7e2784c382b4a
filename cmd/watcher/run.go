package main

import (
	"context"
	"log/slog"

	"github.com/cxbridge/watcher/internal/admin"
	"github.com/cxbridge/watcher/internal/app"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
)

type runCmd struct {
	config.Config
}

// Run follows the calls until the context ends, then drains.
func (r *runCmd) Run(ctx context.Context, std cli.Streams) error {
	var bad faults
	if r.Pprof != "" {
		bad.add("pprof", admin.CheckLoopback(r.Pprof))
	}
	for _, name := range r.ListenHosts {
		bad.add("listen-host", admin.CheckHost(name))
	}
	if err := checked(&r.Config, bad); err != nil {
		return err
	}
	logger := cli.NewLogger(std.Err, r.LogFormat, r.LogLevel)
	watcher, err := app.New(r.Config, app.Deps{Logger: logger, Version: version})
	if err != nil {
		return err
	}
	// Libraries that know only package log, net/http among them, write here too; at
	// debug, for net/http repeats what a receiver sends unasked.
	slog.SetLogLoggerLevel(slog.LevelDebug)
	slog.SetDefault(watcher.Logger())
	return watcher.Run(ctx)
}
