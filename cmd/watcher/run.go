package main

import (
	"context"
	"errors"
	"sync"

	"github.com/cxbridge/watcher/internal/admin"
	"github.com/cxbridge/watcher/internal/app"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/resources"
)

type runCmd struct {
	config.Config
	notes []string
}

// Notes implements cli.Noter: the log may be read by a machine.
func (r *runCmd) Notes(notes []string) { r.notes = notes }

// Help says which flags are required.
func (runCmd) Help() string {
	return "Only --mongo-uri is required. A first start begins at now; --start looks back."
}

// Run follows the calls until the context ends, then drains.
func (r *runCmd) Run(ctx context.Context, std cli.Streams) error {
	if err := checked(&r.Config, runFaults(&r.Config)); err != nil {
		return err
	}
	logger := cli.NewLogger(std.Err, r.LogFormat, r.LogLevel)
	limit, err := resources.LimitMemory()
	if err != nil {
		logger.WarnContext(ctx, "the memory limit of the container is not known; set GOMEMLIMIT", "error", err)
	}
	watcher, err := app.New(r.Config, app.Deps{Logger: logger, Version: version, MemoryLimit: limit})
	if err != nil {
		return err
	}
	// Libraries that know only package log, net/http among them, write here too; at
	// debug, for net/http repeats what a receiver sends unasked.
	cli.SetLibraryLog(watcher.Logger())
	for _, note := range r.notes {
		watcher.Logger().WarnContext(ctx, "the environment has a variable that is not known", "what", note)
	}
	return paced{watcher}.Run(ctx)
}

// paced is a watcher that has a process to itself.
type paced struct{ *app.App }

// Run keeps the pace of the garbage collection while the watcher runs.
func (p paced) Run(ctx context.Context) error {
	pacing, stop := context.WithCancelCause(ctx)
	var pace sync.WaitGroup
	pace.Go(func() { resources.PaceGarbage(pacing) })
	defer pace.Wait()
	defer stop(errStopped)
	return p.App.Run(ctx)
}

var errStopped = errors.New("the watcher has stopped")

// runFaults are those of the settings that package admin looks at.
func runFaults(c *config.Config) (bad faults) {
	if c.Pprof != "" {
		bad.add("pprof", admin.CheckLoopback(c.Pprof))
	}
	for _, name := range c.ListenHosts {
		bad.add("listen-host", admin.CheckHost(name))
	}
	return bad
}
