// Package app wires the parts of a watcher together and runs them in the order
// in which they depend on each other.
//
// It owns the lifecycle: what starts first, what a signal stops, what is
// drained and for how long. What the parts do is theirs.
package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/admin"
	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/cluster"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/console"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/internal/follow"
	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/outage"
	"github.com/cxbridge/watcher/internal/recording"
	"github.com/cxbridge/watcher/internal/replay"
	"github.com/cxbridge/watcher/internal/resources"
	"github.com/cxbridge/watcher/internal/retry"
	"github.com/cxbridge/watcher/internal/skips"
	"github.com/cxbridge/watcher/pkg/backoff"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/resume"
	"github.com/cxbridge/watcher/pkg/secret"
)

// Deps is what a watcher takes from the process around it.
type Deps struct {
	Logger  *slog.Logger
	Version string
	// MemoryLimit is that of the process in bytes, 0 without one.
	MemoryLimit int64
	// Owner names this replica in the lease; default that of the process.
	Owner string
	// Frozen and Stale are those of follow.Options; 0 is their default.
	Frozen, Stale time.Duration
	// Client may add to the options of the client of MongoDB; nil adds nothing.
	Client func(*options.ClientOptions)
}

// App is one watcher. Two of them run side by side in one process.
type App struct {
	cfg     config.Config
	version string
	logger  *slog.Logger
	// secrets takes credentials out of everything that is logged: those of the
	// settings, the settings document and the bots, as they come and go.
	secrets *secret.Redactor

	client     *mongo.Client
	registry   *prometheus.Registry
	admin      *admin.Server
	settings   *recording.Settings
	bots       *bots.Cache
	holds      *hold.Holds
	replays    *replays // nil without the operators' pages
	store      *calls.Store
	recorder   *calls.Recorder
	skips      *skips.Log // nil when it is switched off
	sender     *push.Client
	dispatcher *dispatch.Dispatcher
	retrier    *retry.Retrier
	group      *resume.Group
	partitions *follow.Partitions
	positions  *resume.Store
	summary    *cluster.Reader
	cluster    *cluster.Latest
	notice     atomic.Pointer[string] // what an operator should look at, beside what the parts say

	cleanups []func()
}

// New builds a watcher and listens for operators. It does not ask MongoDB for
// anything; Run does.
func New(cfg config.Config, deps Deps) (_ *App, err error) {
	a := &App{cfg: cfg, version: deps.Version, registry: prometheus.NewRegistry(), secrets: secret.NewRedactor(cfg.Secrets()...)}
	a.logger = slog.New(secret.NewHandler(deps.Logger.Handler(), a.secrets))
	defer func() {
		if err != nil {
			a.cleanup()
		}
	}()
	a.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	a.registry.MustRegister(buildInfo(deps.Version))
	if a.client, err = connect(cfg, deps); err != nil {
		return nil, err
	}
	a.defers(a.disconnect)
	db := a.client.Database(cfg.Database)

	a.settings = recording.NewSettings(recording.SettingsOptions{
		Collection: db.Collection(cfg.SettingsCollection),
		Own:        RecordingOptions(cfg),
		Secrets:    a.secrets,
		Logger:     a.logger,
		Registerer: a.registry,
	})
	format, err := calls.ParseTimeFormat(cfg.TimeFormat)
	if err != nil {
		return nil, fmt.Errorf("time format: %w", err)
	}
	guard, err := cfg.Guard()
	if err != nil {
		return nil, err
	}
	warnOfOpened(a.logger, &cfg.Network)
	a.bots, err = bots.NewCache(bots.CacheOptions{
		Collection: db.Collection(cfg.BotsCollection),
		Compile:    bots.Options{TimeFormat: format, Guard: guard},
		AfterAll:   resources.ReturnMemory,
		Secrets:    a.secrets,
		Logger:     a.logger,
		Registerer: a.registry,
	})
	if err != nil {
		return nil, err
	}
	callsColl := db.Collection(cfg.CallsCollection)
	a.store = calls.NewStore(callsColl)
	a.recorder = calls.NewRecorder(callsColl, a.logger, a.registry)
	held, conns := share(&cfg, deps.MemoryLimit, a.logger)
	a.sender, err = push.NewClient(push.Options{
		Allow: cfg.AllowNetworks,
		Deny:  cfg.DenyNetworks,
		// Destinations may share a host, as the accounts of one CRM do, and one that
		// hangs must not take the connections of the others: net/http would make them
		// wait inside their own time limit. The lanes bound each destination already.
		MaxConnsPerHost:      max(cfg.DestinationConcurrency, cfg.Concurrency),
		MaxIdleConns:         min(conns.Idle, push.DefaultMaxIdleConns),
		UserAgent:            userAgent(deps.Version),
		ProxyFromEnvironment: cfg.ProxyFromEnvironment,
		CAFile:               cfg.CAFile,
		Logger:               a.logger,
		Namespace:            "watcher",
		Registerer:           a.registry,
	})
	if err != nil {
		return nil, err
	}
	a.defers(a.sender.Close)
	var skipLog dispatch.Skips
	if cfg.SkipLog > 0 {
		a.skips = skips.New(skips.Options{
			Collection: db.Collection(cfg.SkipCollection), Keep: cfg.SkipLog, Logger: a.logger, Registerer: a.registry,
		})
		skipLog = a.skips
	}
	a.dispatcher = dispatch.New(dispatch.Options{
		Skips:                  skipLog,
		Loader:                 a.store,
		Recorder:               a.recorder,
		Bots:                   a.bots,
		Sender:                 a.sender,
		Links:                  a.settings,
		TopBots:                cfg.MetricsBots,
		Schedule:               cfg.Schedule(),
		Env:                    dispatch.PrepareEnv{UserAgent: userAgent(deps.Version), AnalysisSeeds: cfg.AnalysisKeys},
		Slot:                   resume.Slot,
		Concurrency:            conns.Slots,
		DestinationConcurrency: cfg.DestinationConcurrency,
		Connections:            conns.Open,
		Memory:                 held,
		Logger:                 a.logger,
		Registerer:             a.registry,
	})
	resumeColl := db.Collection(cfg.ResumeCollection)
	holdRecords := hold.NewRecords(resumeColl, cfg.Name)
	a.holds = hold.New(hold.Options{
		Records: holdRecords, OnChange: a.dispatcher.SetHolds, Logger: a.logger, Registerer: a.registry,
	})
	a.retrier = retry.New(retry.Options{
		Finder: a.store, Bots: a.bots, Road: a.dispatcher, MaxAge: cfg.MaxAge, Logger: a.logger, Registerer: a.registry,
	})
	a.positions, err = resume.NewStore(resumeColl, cfg.Name)
	if err != nil {
		return nil, err
	}
	a.summary, err = cluster.New(cluster.Options{
		Calls: callsColl, Bots: db.Collection(cfg.BotsCollection), Resume: db.Collection(cfg.ResumeCollection), Name: cfg.Name,
		Known: func(context.Context) (*bots.Set, error) { return a.bots.Set(), nil }, Holds: holdRecords.List,
	})
	if err != nil {
		return nil, err
	}
	a.cluster = cluster.NewLatest(a.summary, a.logger)
	tell := func(docs []bson.Raw) { a.holds.Tell(holdRecords.Decode(docs)) }
	a.group, err = resume.NewGroup(resume.GroupConfig{
		Store: a.positions.Beside(hold.Kind, tell), Partitions: cfg.Partitions, Version: deps.Version,
		Owner: cmp.Or(deps.Owner, processName()), Gone: processGone, Logger: a.logger, Registerer: a.registry, Namespace: "watcher",
	})
	if err != nil {
		return nil, err
	}
	a.partitions = follow.New(follow.Options{
		Calls: callsColl, Store: a.store, Road: a.dispatcher, Leases: a.group,
		Start: cfg.Start.From, FailOnLoss: cfg.OnHistoryLost == config.LostFail, Grace: cfg.ShutdownGrace,
		Frozen: deps.Frozen, Stale: deps.Stale,
		Explain: func(ctx context.Context, err error) error { return cluster.Unreachable(ctx, cfg.MongoURI, err) },
		Logger:  a.logger, Registerer: a.registry,
	})
	checks := a.checks()
	registerChecks(a.registry, checks)
	pages := admin.Options{
		Addr: cfg.Listen, Hosts: cfg.ListenHosts, PprofAddr: cfg.Pprof, Gatherer: a.registry, Logger: a.logger,
		Checks: checks, Standby: a.partitions.Standby, Source: a,
	}
	if cfg.AdminTokenFile != "" {
		inspector := inspect.New(inspect.Options{
			Calls: callsColl, Bots: db.Collection(cfg.BotsCollection), Settings: db.Collection(cfg.SettingsCollection),
			Resume: resumeColl, Skips: db.Collection(cfg.SkipCollection), Name: cfg.Name,
			Holds:   holdRecords.Set,
			Compile: bots.Options{TimeFormat: format, Guard: guard}, Schedule: cfg.Schedule(), AnalysisKeys: cfg.AnalysisKeys,
			Recording: RecordingOptions(cfg), UserAgent: userAgent(deps.Version),
		})
		a.replays = newReplays(inspector, a.store, replay.NewRecords(resumeColl, cfg.Name), a.logger)
		pages.Links = console.Links()
		pages.Console, err = console.New(console.Options{
			Name: cfg.Name, Token: func() (secret.Text, error) { return config.AdminToken(cfg.AdminTokenFile) },
			Answers: answers{inspector, a.sender}, Holds: holdRecords, Replays: a.replays, Journal: console.NewJournal(resumeColl, cfg.Name),
			Bots: a.bots.Set, Seeds: cfg.AnalysisKeys, Redact: a.secrets.Redact, Logger: a.logger,
		})
		if err != nil {
			return nil, err
		}
	}
	a.admin, err = admin.New(pages)
	if err != nil {
		return nil, err
	}
	a.defers(func() { _ = a.admin.Close() })
	return a, nil
}

// Logger is the log of the watcher, which takes every secret out that the
// watcher knows. The process may make it the one of package log too.
func (a *App) Logger() *slog.Logger { return a.logger }

// Gatherer is what /metrics serves.
func (a *App) Gatherer() prometheus.Gatherer { return a.registry }

// Addr is where metrics and health are served.
func (a *App) Addr() string { return a.admin.Addr() }

func (a *App) defers(f func()) { a.cleanups = append(a.cleanups, f) }

func (a *App) cleanup() {
	for _, clean := range slices.Backward(a.cleanups) {
		clean()
	}
	a.cleanups = nil
}

// The times of a start and a stop that are not settings.
const (
	disconnectTimeout = 2 * time.Second
	selectionTimeout  = 5 * time.Second // until a server that is away is an error, to be tried again
)

func connect(cfg config.Config, deps Deps) (*mongo.Client, error) {
	o := config.ClientOptions(cfg.MongoURI, selectionTimeout)
	if deps.Client != nil {
		deps.Client(o)
	}
	client, err := mongo.Connect(o)
	if err != nil {
		return nil, fmt.Errorf("connect to MongoDB: %w", config.RedactURI(err, cfg.MongoURI))
	}
	return client, nil
}

func (a *App) disconnect() {
	ctx, cancel := context.WithTimeoutCause(context.Background(), disconnectTimeout,
		errors.New("connections to MongoDB did not close in time"))
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = a.client.Disconnect(ctx) // the process ends anyway
	}()
	// The driver waits for its heartbeat, up to 10 s, whatever the context says.
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func userAgent(version string) string {
	if version == "" {
		return "watcher"
	}
	return "watcher/" + version
}

// Run works until ctx ends, then stops reading, lets what was begun end within
// the grace period, saves the position and returns.
func (a *App) Run(ctx context.Context) error {
	defer a.cleanup()
	// Reading stops with ctx. What serves those who drain stops after them.
	serving, stopServing := context.WithCancelCause(context.WithoutCancel(ctx))
	sending, stopSending := context.WithCancelCause(context.WithoutCancel(ctx))
	recording, stopRecording := context.WithCancelCause(context.WithoutCancel(ctx))
	reading, stopReading := context.WithCancelCause(ctx)
	defer stopServing(nil)
	defer stopReading(nil)

	var servers, senders, writers sync.WaitGroup
	failed := make(chan error, 1)
	servers.Go(func() {
		if err := a.admin.Run(serving); err != nil {
			failed <- err
		}
	})
	servers.Go(func() { _ = a.bots.Run(reading) }) // those who drain need no newer bots
	servers.Go(func() { _ = a.settings.Run(serving) })
	servers.Go(func() { _ = a.holds.Run(serving) })
	if a.replays != nil {
		servers.Go(func() { a.replays.run(serving) })
	}
	servers.Go(func() { a.ensureIndexes(serving) })
	servers.Go(func() { a.saveSettings(serving) })
	if a.skips != nil {
		servers.Go(func() { _ = a.skips.Run(serving) }) // its end writes what the road left
	}
	servers.Go(func() { _ = a.cluster.Run(serving) })
	senders.Go(func() { _ = a.dispatcher.Run(sending) })
	senders.Go(func() { _ = a.retrier.Run(sending) })
	writers.Go(func() { _ = a.recorder.Run(recording) })
	a.logger.Info("watcher started", "name", a.cfg.Name, "database", a.cfg.Database, "metrics", a.Addr())

	ended := make(chan error, 1)
	go func() { ended <- a.follow(reading) }()

	var err error
	select {
	case err = <-ended:
		stopReading(err) // it may have ended by itself, and the bots are read on
	case err = <-failed:
		stopReading(err)
		err = errors.Join(err, <-ended)
	}
	stopSending(nil)
	senders.Wait()
	a.recorder.Close()
	stop := time.AfterFunc(disconnectTimeout, func() { stopRecording(errors.New("outcomes were not written in time")) })
	writers.Wait()
	stop.Stop()
	stopRecording(nil)
	stopServing(nil)
	servers.Wait()
	a.logger.Info("watcher stopped")
	return err
}

// follow waits for what the road needs, then works on the partitions that this
// replica gets, until ctx ends and they are drained.
func (a *App) follow(ctx context.Context) error {
	if err := a.partitions.LearnCluster(ctx); err != nil {
		return nil // only the end of ctx ends the wait
	}
	if !waitReady(ctx, a.bots.Ready) || !waitReady(ctx, a.settings.Ready) || !waitReady(ctx, a.holds.Ready) {
		return nil
	}
	var counting sync.WaitGroup
	defer counting.Wait()
	if a.startsAtNow(ctx) { // to be known before a position is saved
		counting.Go(func() { a.warnOfUnpushed(ctx) })
	}
	if err := a.group.Run(ctx, a.partitions.Hold); err != nil {
		return fmt.Errorf("follow the calls: %w", err)
	}
	return nil
}

// RecordingOptions are the settings of a deployment that recording links need.
func RecordingOptions(cfg config.Config) recording.Options {
	return recording.Options{PublicBaseURL: cfg.PublicBaseURL, Storage: recording.Storage(cfg.Minio)}
}

// waitReady polls a condition that the start depends on; calls that were
// looked at before would be taken for those of bots without a configuration.
func waitReady(ctx context.Context, ready func() error) bool {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for ready() != nil {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
	return true
}

// ensureIndexes creates the index of the retrier. Without the right to,
// everything works, only slower.
func (a *App) ensureIndexes(ctx context.Context) {
	a.once(ctx, a.store.EnsureIndexes, "an index could not be created; looking for due calls reads more without it")
}

// once does what is done once in MongoDB and is not needed: again while MongoDB is
// away, and else it says without for what it is missed.
func (a *App) once(ctx context.Context, do func(context.Context) error, without string) {
	if !waitReady(ctx, a.bots.Ready) { // MongoDB answers
		return
	}
	for err := do(ctx); err != nil && ctx.Err() == nil; err = do(ctx) {
		if !outage.Passing(err) || isRight(err) {
			a.logger.Warn(without, "error", err) //nolint:sloglint // a constant of the caller
			return
		}
		if backoff.Sleep(ctx, onceAgain) != nil {
			return
		}
	}
}

// onceAgain is the pause of once while MongoDB is away.
const onceAgain = 10 * time.Second

// isRight reports whether an error is a missing right. It may be given later,
// but the next start is soon enough for an index.
func isRight(err error) bool {
	refused, ok := errors.AsType[mongo.ServerError](err)
	return ok && refused.HasErrorCode(13)
}

// warnOfOpened tells what --allow-network opens that hardly anybody means to.
func warnOfOpened(logger *slog.Logger, n *config.Network) {
	everything, clouds := n.Opened()
	if len(everything) > 0 {
		logger.Warn("--allow-network opens every network to every bot", "networks", fmt.Sprint(everything))
	}
	if len(clouds) > 0 {
		logger.Warn("--allow-network opens metadata addresses of clouds, which give credentials away, to every bot; --deny-network closes them", "addresses", fmt.Sprint(clouds))
	}
}
