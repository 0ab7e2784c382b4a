package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/app"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/demo"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/pkg/secret"
)

type demoCmd struct {
	Calls    string `default:"25" placeholder:"N" help:"How many calls arrive."`
	Rate     string `default:"8" placeholder:"R" help:"How many calls arrive in a second."`
	Seed     string `default:"1" placeholder:"S" help:"The same seed gives the same calls."`
	Keep     bool   `help:"Go on until interrupted, for looking at the metrics."`
	Listen   string `default:"127.0.0.1:0" placeholder:"ADDR" help:"Address of the status page, /metrics, /livez and /readyz; port 0 takes a free one."`
	LogLevel string `default:"error" placeholder:"LEVEL" help:"What the watcher logs to standard error: debug, info, warn or error."`
}

// The ends of what a demo is made of.
var (
	errDemoOver    = errors.New("the demo is over")
	errNotReady    = fmt.Errorf("the watcher was not ready within %v", demoReadyTimeout)
	errInterrupted = errors.New("interrupted before the last call was checked")
)

// demoReadyTimeout is long for a laptop under load; it takes about 100 ms.
const demoReadyTimeout = 30 * time.Second

// Run plays the demo: a MongoDB, a CRM and the very watcher of `watcher run`,
// all in this process. Its status is 0 only when every call ended as it should.
func (d *demoCmd) Run(ctx context.Context, std streams) error {
	cfg, script, err := d.config()
	if err != nil {
		return err
	}
	logger := newLogger(std.err, cfg.LogFormat, cfg.LogLevel)

	// What ends unasked ends the demo; a signal ends the demo first, and then
	// what it stands on.
	below := context.WithoutCancel(ctx)
	running, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)

	server, err := localmongo.New(localmongo.Options{Logger: logger})
	if err != nil {
		return err
	}
	stopServer := inBackground(below, giveUp, server.Run)
	defer stopServer()

	cfg.MongoURI = secret.Text(server.URI())
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI()))
	if err != nil {
		return fmt.Errorf("connect to the demo's MongoDB: %w", err)
	}
	defer func() { _ = client.Disconnect(below) }()

	script.DB, script.MongoURI = client.Database(cfg.Database), server.URI()
	script.Out, script.Color = std.out, wantsColor(std.out)
	play, err := demo.New(script)
	if err != nil {
		return err
	}
	if err := play.Prepare(running); err != nil {
		return err
	}
	defer func() { _ = play.Close() }() // closed by Run already, if it came to that

	watcher, err := app.New(cfg, app.Deps{Logger: logger, Version: version})
	if err != nil {
		return err
	}
	stopWatcher := inBackground(below, giveUp, watcher.Run)
	defer stopWatcher()
	if err := waitReady(running, "http://"+watcher.Addr()+"/readyz"); err != nil {
		return err
	}

	sum, err := play.Run(running, "http://"+watcher.Addr()+"/metrics")
	switch {
	case err != nil && ctx.Err() != nil:
		return errInterrupted
	case running.Err() != nil && ctx.Err() == nil:
		return fmt.Errorf("a part of the demo ended: %w", context.Cause(running))
	case err != nil:
		return err
	case !sum.OK():
		return silentError{} // the demo has printed what is wrong
	}
	return nil
}

// config is what the watcher of the demo is told, and what is played to it.
func (d *demoCmd) config() (config.Config, demo.Options, error) {
	cfg, script := config.Default(), demo.Options{Keep: d.Keep}
	var bad faults
	var err error
	if script.Calls, err = strconv.Atoi(d.Calls); err != nil || script.Calls < 1 || script.Calls > demo.MaxCalls {
		bad.add("calls", fmt.Errorf("%q is not a whole number from 1 to %d", d.Calls, demo.MaxCalls))
	}
	if script.Rate, err = strconv.ParseFloat(d.Rate, 64); err != nil || !(script.Rate > 0 && script.Rate <= demo.MaxRate) {
		bad.add("rate", fmt.Errorf("%q is not a number above 0 and up to %d", d.Rate, demo.MaxRate))
	}
	if script.Seed, err = strconv.ParseUint(d.Seed, 10, 64); err != nil {
		bad.add("seed", fmt.Errorf("%q is not a whole number from 0", d.Seed))
	}
	(&logFlags{LogLevel: d.LogLevel, LogFormat: config.LogText}).apply(&cfg, &bad)
	cfg.RetrySchedule, err = parseDelays(demo.RetrySchedule)
	bad.add("retry-schedule", err)
	cfg.AllowNetworks = []netip.Prefix{netip.MustParsePrefix(demo.Network)}
	cfg.PublicBaseURL = demo.PublicBaseURL
	cfg.MetricsBotLabel = 20 // more bots than a demo has
	cfg.Listen = d.Listen
	cfg.MongoURI = "mongodb://127.0.0.1" // until the server has its port
	return cfg, script, checked(&cfg, bad)
}

// inBackground runs a part until stop is called, which waits for its end. A part
// that ends before gives the whole up.
func inBackground(ctx context.Context, giveUp context.CancelCauseFunc, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		giveUp(run(ctx))
	}()
	return func() {
		cancel(errDemoOver)
		<-ended
	}
}

// waitReady asks the watcher until it says that it follows the calls.
func waitReady(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, demoReadyTimeout, errNotReady)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for {
		if isReady(ctx, client, url) {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func isReady(ctx context.Context, client *http.Client, url string) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	resp, err := client.Do(r)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}
