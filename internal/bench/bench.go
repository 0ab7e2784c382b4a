// Package bench measures what the delivery of a call costs, by three roads one
// after the other: the watcher; the naive road, which somebody writes in an
// afternoon; and the ideal road, the same work by hand without any promise. Each
// has a scratch database of its own, the same calls and the same CRM.
//
// It owns the calls, the CRM, the two other roads, the meter and the report. The
// watcher is handed in, for only a command wires one.
package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/pkg/backoff"
	"github.com/cxbridge/watcher/pkg/secret"
	"github.com/cxbridge/watcher/pkg/stream"
)

// Load is what each road has to do. Its tags are flags.
type Load struct {
	Calls int `json:"calls" default:"4000" placeholder:"N" help:"Calls with a result."`
	Bots  int `json:"bots" default:"20" placeholder:"N" help:"Bots of 25 keys."`
	// Destinations is how many of them there are: bot n pushes to number n modulo this.
	Destinations int           `json:"destinations" default:"0" placeholder:"N" help:"Destinations, which the bots share evenly; 0: each bot has one of its own."`
	Rate         float64       `json:"rate" default:"0" placeholder:"R" help:"Results stored in a second while a road runs; 0: all are stored before it starts."`
	CRMLatency   time.Duration `json:"crm_latency_ns" name:"crm-latency" default:"0" placeholder:"DURATION" help:"How long a CRM takes to answer."`
	Size         int           `json:"size" default:"42000" placeholder:"BYTES" help:"Size of a call with its result."`
	Skipped      float64       `json:"skipped" default:"0" placeholder:"SHARE" help:"Share of the calls that are not pushed (skip_post_push), from 0 to 0.9."`
	Partitions   int           `json:"partitions" group:"progress" default:"1" placeholder:"N" help:"Partitions of the watcher, all read by the one process."`
	Roads        []string      `json:"roads" default:"naive,ideal,watcher" placeholder:"ROAD" help:"What is measured, in this order: naive, ideal, watcher."`
}

// destination is where a bot pushes to.
func (l *Load) destination(bot int) int {
	if l.Destinations == 0 {
		return bot
	}
	return bot % l.Destinations
}

// The names of the roads.
const (
	Naive   = "naive"
	Ideal   = "ideal"
	Watcher = "watcher"
)

// Check returns every config.Fault, joined, or nil.
func (l *Load) Check() error {
	var faults []error
	bad := func(wrong bool, setting, reason string) {
		if wrong {
			faults = append(faults, config.Fault{Setting: setting, Reason: reason})
		}
	}
	bad(l.Calls < 10 || l.Calls > 10_000_000, "calls", "is not from 10 to 10,000,000")
	bad(l.Bots < 1 || l.Bots > 100_000, "bots", "is not from 1 to 100,000")
	bad(l.Destinations < 0 || l.Destinations > l.Bots, "destinations", "is not from 0 to the number of bots")
	bad(l.Partitions < 1 || l.Partitions > 64, "partitions", "is not from 1 to 64")
	bad(!(l.Rate >= 0 && l.Rate <= 100_000), "rate", "is not from 0 to 100,000")
	bad(l.CRMLatency < 0 || l.CRMLatency > 9*time.Second, "crm-latency", "is not from 0 to 9s")
	bad(l.Size < minSize || l.Size > 8<<20, "size", fmt.Sprintf("is not from %d to 8 MiB", minSize))
	bad(!(l.Skipped >= 0 && l.Skipped <= 0.9), "skipped", "is not from 0 to 0.9")
	known := []string{Naive, Ideal, Watcher}
	bad(len(l.Roads) == 0 || slices.ContainsFunc(l.Roads, func(r string) bool { return !slices.Contains(known, r) }),
		"roads", "is not some of naive, ideal and watcher")
	return errors.Join(faults...)
}

// Runner works until its context ends.
type Runner interface {
	Run(ctx context.Context) error
}

// Options are what a bench is made of.
type Options struct {
	Load
	URI secret.Text
	// Scratch is what the names of the scratch databases begin with. They must not
	// exist yet; they are dropped afterwards.
	Scratch string
	// NewWatcher makes a watcher whose client has these options added.
	NewWatcher func(cfg config.Config, client func(*options.ClientOptions)) (Runner, error)
	// Progress is told what is being done.
	Progress func(text string)
}

// Report is what was measured, one Result for each road.
type Report struct {
	Load  Load     `json:"load"`
	Roads []Result `json:"roads"`
}

// The times of a bench that are not settings.
const (
	selectionTimeout = 10 * time.Second
	stuckAfter       = time.Minute // without a call that is sent or settled
	cleanupTimeout   = 30 * time.Second
	stopTimeout      = 30 * time.Second
)

var (
	errOver    = errors.New("the road is at its end")
	errStuck   = fmt.Errorf("nothing was sent or settled for %v", stuckAfter)
	errStop    = errors.New("the connections to MongoDB did not close in time")
	errCleanup = errors.New("the scratch database was not dropped in time")
)

// Run measures the roads one after the other.
func Run(ctx context.Context, o Options) (*Report, error) {
	client, err := mongo.Connect(config.ClientOptions(o.URI, selectionTimeout))
	if err != nil {
		return nil, fmt.Errorf("connect to MongoDB: %w", config.RedactURI(err, o.URI))
	}
	defer func() {
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), stopTimeout, errStop)
		defer cancel()
		_ = client.Disconnect(ctx) // nothing is left to do when it fails
	}()
	for _, road := range o.Roads {
		if err := refuseUsed(ctx, client.Database(o.database(road))); err != nil {
			return nil, err
		}
	}
	report := &Report{Load: o.Load}
	for _, road := range o.Roads {
		result, err := o.measure(ctx, client, road)
		if err != nil {
			return nil, fmt.Errorf("the %s road: %w", road, err)
		}
		report.Roads = append(report.Roads, *result)
	}
	return report, nil
}

func (o *Options) database(road string) string { return o.Scratch + "_" + road }

// refuseUsed refuses a database that holds anything: it will be dropped.
func refuseUsed(ctx context.Context, db *mongo.Database) error {
	names, err := db.ListCollectionNames(ctx, bson.D{})
	if err != nil {
		return fmt.Errorf("look into database %s: %w", db.Name(), err)
	}
	if len(names) > 0 {
		return fmt.Errorf("database %s holds something already; name another with --scratch, or drop it if it is of an earlier bench", db.Name())
	}
	return nil
}

// measure fills a scratch database, sends a road over it and drops it.
func (o *Options) measure(ctx context.Context, client *mongo.Client, name string) (_ *Result, err error) {
	db := client.Database(o.database(name))
	defer func() {
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), cleanupTimeout, errCleanup)
		defer cancel()
		err = errors.Join(err, db.Drop(ctx))
	}()
	crm, err := newCRM(o.Calls, o.CRMLatency)
	if err != nil {
		return nil, err
	}
	defer crm.close()
	p := &platform{load: &o.Load, db: db, crm: crm}
	o.Progress(fmt.Sprintf("%s: storing the calls", name))
	if err := p.prepare(ctx); err != nil {
		return nil, err
	}
	hello, err := stream.Hello(ctx, client)
	if err != nil {
		return nil, err
	}
	backlog := o.Calls
	if o.Rate > 0 {
		backlog = 1 // shows that the road has begun
	}
	if err := p.store(ctx, 0, backlog); err != nil {
		return nil, err
	}
	runtime.GC()
	debug.FreeOSMemory() // what the storing needed is not the road's
	m := newMeter()
	road, err := o.road(name, m, crm, hello.Newest)
	if err != nil {
		return nil, err
	}
	o.Progress(fmt.Sprintf("%s: %d calls to push", name, p.pushed()))
	return o.run(ctx, name, road, p, m)
}

// run lets a road go until all is settled.
func (o *Options) run(ctx context.Context, name string, road Runner, p *platform, m *meter) (*Result, error) {
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	ended := make(chan error, 1)
	go func() {
		err := road.Run(running)
		ended <- err
		stop(errors.Join(errors.New("the road ended by itself"), err))
	}()
	peak := watchMemory(running)
	err := func() error {
		if err := wait(running, func() (int, bool) { n := p.crm.sent(); return n, n > 0 }); err != nil {
			return err
		}
		m.begin()
		if o.Rate > 0 {
			if err := p.feed(running); err != nil {
				return err
			}
		}
		return wait(running, func() (int, bool) {
			settled := m.settled()
			return p.crm.sent() + settled, settled >= p.pushed()
		})
	}()
	m.end()
	stop(errOver)
	select { // a road that is stuck must not keep the bench
	case failed := <-ended:
		if err == nil {
			err = failed
		}
	case <-time.After(stopTimeout):
		err = errors.Join(err, errors.New("the road does not stop"))
	}
	if err != nil {
		return nil, err
	}
	result := m.result(name, p, <-peak)
	if result.Sent != p.pushed() {
		return nil, fmt.Errorf("%d of %d calls were sent", result.Sent, p.pushed())
	}
	written, err := p.written(ctx)
	if err == nil && written != p.pushed() {
		err = fmt.Errorf("%d of %d calls have an outcome", written, p.pushed())
	}
	return result, err
}

// wait waits until something is complete, as long as its count goes up.
func wait(ctx context.Context, look func() (count int, complete bool)) error {
	last, at := 0, time.Now()
	for {
		count, complete := look()
		switch {
		case complete:
			return nil
		case count != last:
			last, at = count, time.Now()
		case time.Since(at) > stuckAfter:
			return errStuck
		}
		if err := backoff.Sleep(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
}
