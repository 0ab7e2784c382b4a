// Command demo shows the whole road on this machine: a MongoDB, a CRM, calls
// that arrive and the very watcher of `watcher run`, all in one process.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/alecthomas/kong"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/app"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/demo"
	"github.com/cxbridge/watcher/internal/demo/world"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/secret"
)

// version is set by the linker: -ldflags "-X main.version=1.2.3".
var version = "dev"

// commands is the command line.
type commands struct {
	Show  show     `cmd:"" default:"withargs" help:"Show the whole road: calls that arrive, CRMs, and what became of each call. The default."`
	Bench benchCmd `cmd:"" help:"Measure the watcher beside two roads by hand, on a MongoDB of its own."`
}

// show plays calls.
type show struct {
	Bots     string     `placeholder:"FILE|DIR" help:"Your own bots, as MongoDB Extended JSON or as watcher bots export writes them. They push to the demo's CRM, which takes everything, never to yours."`
	Calls    string     `default:"25" placeholder:"N|FILE" help:"How many calls arrive; with --bots a file of your own calls, which arrive with new ids."`
	Rate     float64    `default:"8" placeholder:"R" help:"How many calls arrive in a second."`
	Seed     uint64     `default:"1" placeholder:"S" help:"The same seed gives the same calls."`
	Keep     bool       `help:"Go on until interrupted, for looking at the status page; your own calls come over and over."`
	Listen   string     `default:"127.0.0.1:0" placeholder:"ADDR" help:"Address of the status page, /metrics, /livez and /readyz; port 0 takes a free one."`
	LogLevel slog.Level `default:"error" placeholder:"LEVEL" help:"What the watcher logs to standard error: debug, info, warn or error."`
	CRM      string     `name:"crm-listen" default:"127.0.0.1:0" placeholder:"ADDR" help:"Address of the CRMs."`

	MongoURI secret.Text `name:"mongo-uri" placeholder:"URI" help:"Write to this MongoDB, beside a watcher that runs already, in the place of one of its own. There must be no calls in it yet."`
	Database string      `default:"cxbridge" placeholder:"NAME" help:"With --mongo-uri: the database that is written to."`
	Watcher  string      `placeholder:"HOST:PORT" help:"With --mongo-uri: where that watcher serves /readyz."`
	CRMURL   string      `name:"crm-url" placeholder:"URL" help:"With --mongo-uri: where that watcher reaches the CRMs; default their address."`
}

func main() { os.Exit(cli.Main("demo", run)) }

// run is the program without the process around it.
func run(ctx context.Context, args []string, env cli.Env, std cli.Streams) error {
	return cli.Run(ctx, "demo", &commands{}, args, env, std,
		kong.Description("Shows the whole road on this machine, with calls, a CRM and a MongoDB of its own. Its exit status is 0 when every call ended as it should."))
}

// The ends of what a demo is made of.
var (
	errOver        = errors.New("the demo is over")
	errInterrupted = errors.New("interrupted before the last call was checked")
)

// Run plays the demo. It fails when a call ended as it should not.
func (s *show) Run(ctx context.Context, std cli.Streams) error {
	cfg, script := s.config(), demo.Options{Calls: s.count(), Rate: s.Rate, Seed: s.Seed, Keep: s.Keep, CRMAddr: s.CRM}
	script.Out, script.Color = std.Out, cli.WantsColor(std.Out)
	if s.MongoURI.IsSet() && s.Bots != "" {
		return cli.Usage(config.Fault{Setting: "bots", Reason: "and --mongo-uri exclude each other"})
	}
	if s.MongoURI.IsSet() {
		return s.beside(ctx, script)
	}
	if s.Bots != "" {
		script.Calls = 1 // the file says how many
	}
	if err := errors.Join(script.Validate(), cfg.Check()); err != nil {
		return cli.Usage(err)
	}
	logger := cli.NewLogger(std.Err, cli.LogText, s.LogLevel)

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
	play, err := s.play(script)
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
	if err := world.WaitReady(running, watcher.Addr()); err != nil {
		return err
	}

	ok, err := play.Run(running, "http://"+watcher.Addr())
	switch {
	case err != nil && ctx.Err() != nil:
		return errInterrupted
	case running.Err() != nil && ctx.Err() == nil:
		return fmt.Errorf("a part of the demo ended: %w", context.Cause(running))
	case err == nil && !ok:
		return cli.ErrSilent // the demo has printed what is wrong
	}
	return err
}

// play is a demo of one kind or the other.
type play interface {
	Prepare(ctx context.Context) error
	Run(ctx context.Context, page string) (ok bool, err error)
	Close() error
}

// play makes the demo that the flags ask for.
func (s *show) play(script demo.Options) (play, error) {
	if s.Bots == "" {
		d, err := demo.New(script)
		return scripted{d}, err
	}
	d, err := demo.NewOwn(script, s.Bots, s.Calls)
	if err != nil {
		return nil, cli.Usage(err)
	}
	return d, nil
}

// scripted is the demo's own script.
type scripted struct{ *demo.Demo }

// Run implements play.
func (s scripted) Run(ctx context.Context, page string) (bool, error) {
	sum, err := s.Demo.Run(ctx, page+"/metrics")
	return sum.OK(), err
}

// count is --calls as a number; 0, which is refused, when it is none.
func (s *show) count() int {
	n, err := strconv.Atoi(s.Calls)
	if err != nil {
		return 0
	}
	return n
}

// beside plays the demo on a MongoDB that others run, as they run the watcher.
func (s *show) beside(ctx context.Context, script demo.Options) error {
	err := script.Validate()
	if s.Watcher == "" {
		err = errors.Join(err, config.Fault{Setting: "watcher", Reason: "is required with --mongo-uri"})
	}
	if err != nil {
		return cli.Usage(err)
	}
	client, err := mongo.Connect(config.ClientOptions(s.MongoURI, connectTimeout))
	if err != nil {
		return fmt.Errorf("connect to MongoDB: %w", config.RedactURI(err, s.MongoURI))
	}
	defer func() { _ = client.Disconnect(context.WithoutCancel(ctx)) }()
	script.DB, script.CRMURL = client.Database(s.Database), s.CRMURL
	play, err := demo.New(script)
	if err != nil {
		return err
	}
	if err := play.Empty(ctx); err != nil {
		return config.RedactURI(err, s.MongoURI)
	}
	if err := play.Prepare(ctx); err != nil {
		return config.RedactURI(err, s.MongoURI)
	}
	defer func() { _ = play.Close() }() // closed by Run already, if it came to that
	if err := world.WaitReady(ctx, s.Watcher); err != nil {
		return err
	}
	sum, err := play.Run(ctx, "http://"+s.Watcher+"/metrics")
	switch {
	case err != nil && ctx.Err() != nil:
		return errInterrupted
	case err == nil && !sum.OK():
		return cli.ErrSilent // the demo has printed what is wrong
	}
	return err
}

// connectTimeout is how long a server of --mongo-uri is looked for.
const connectTimeout = 30 * time.Second

// config is what the watcher of the demo is told. Delays are short, so that a
// person sees the second attempt.
func (s *show) config() config.Config {
	cfg := config.Default()
	cfg.RetrySchedule = []time.Duration{300 * time.Millisecond, time.Second}
	cfg.AllowNetworks = []push.Network{{Prefix: netip.MustParsePrefix(demo.Network)}}
	cfg.PublicBaseURL = demo.PublicBaseURL
	cfg.Listen = s.Listen
	cfg.MongoURI = "mongodb://127.0.0.1" // until the server has its port
	return cfg
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
		cancel(errOver)
		<-ended
	}
}
