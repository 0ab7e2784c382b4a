package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
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
	Calls    int     `default:"25" placeholder:"N" help:"How many calls arrive."`
	Rate     float64 `default:"8" placeholder:"R" help:"How many calls arrive in a second."`
	Seed     uint64  `default:"1" placeholder:"S" help:"The same seed gives the same calls."`
	Keep     bool    `help:"Go on until interrupted, for looking at the metrics."`
	Listen   string  `default:"127.0.0.1:0" placeholder:"ADDR" help:"Address of /metrics, /livez and /readyz; port 0 takes a free one."`
	LogLevel string  `default:"error" placeholder:"LEVEL" help:"What the watcher logs to standard error: debug, info, warn or error."`
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
	cfg, err := d.config()
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

	play, err := demo.New(demo.Options{
		DB: client.Database(cfg.Database), Out: std.out, Color: wantsColor(std.out),
		Calls: d.Calls, Rate: d.Rate, Seed: d.Seed, Keep: d.Keep, MongoURI: server.URI(),
	})
	if err != nil {
		return usageError{err}
	}
	if err := play.Prepare(running); err != nil {
		return err
	}
	defer play.Close()

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
	case err != nil && running.Err() != nil:
		return fmt.Errorf("a part of the demo ended: %w", context.Cause(running))
	case err != nil:
		return err
	case !sum.OK():
		return silentError{} // the demo has printed what is wrong
	}
	return nil
}

// config is what the watcher of the demo is told.
func (d *demoCmd) config() (config.Config, error) {
	cfg := config.Default()
	var bad faults
	(&logFlags{LogLevel: d.LogLevel, LogFormat: config.LogText}).apply(&cfg, &bad)
	var err error
	cfg.RetrySchedule, err = parseDelays(demo.RetrySchedule)
	bad.add("retry-schedule", err)
	cfg.AllowNetworks = []netip.Prefix{netip.MustParsePrefix(demo.Network)}
	cfg.PublicBaseURL = demo.PublicBaseURL
	cfg.Listen = d.Listen
	cfg.MongoURI = "mongodb://127.0.0.1" // until the server has its port
	if d.Calls < 1 {
		bad.add("calls", errors.New("is less than 1"))
	}
	if !(d.Rate > 0) {
		bad.add("rate", errors.New("is not more than 0"))
	}
	return cfg, checked(&cfg, bad)
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
