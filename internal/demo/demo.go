// Package demo is the world around the watcher in a demonstration: calls that
// arrive the way CXB API writes them, bots, and a CRM that answers.
//
// It owns what is written to the database before the watcher sees it, what the
// CRM answers, what every call has to come to, and the printing for people. It
// runs no watcher and no database: the command does that, and hands over the
// database. Nothing here is imported by production code.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"golang.org/x/sync/errgroup"

	"github.com/cxbridge/watcher/internal/demo/world"
)

// What the watcher has to be told for a demo; without these the calls do not
// end as they should.
const (
	// PublicBaseURL is the setting of the same name: recording links by token start with it.
	PublicBaseURL = "https://api.cxbridge.example"
	// Network holds the address of the CRM, which is not a public one.
	Network = "127.0.0.0/8"
)

// What the demo is made for. It remembers about 4 KB for each call, and one
// process on a laptop keeps up with this rate.
const (
	MaxCalls = 100_000
	MaxRate  = 1000 // calls in a second
)

// Options are what a Demo is made from. DB, Out, Calls and Rate are required.
type Options struct {
	DB  *mongo.Database // where calls, bots and settings are written
	Out io.Writer       // what people read

	CRMAddr string        // where the CRM listens; default 127.0.0.1 and any port
	CRMURL  string        // where the watcher reaches it, without a final slash; default http:// and that address
	Calls   int           // how many calls arrive, 1 to MaxCalls
	Rate    float64       // how many in a second, above 0 and up to MaxRate
	Seed    uint64        // the same seed gives the same calls
	Keep    bool          // stay until the context ends after the last call was checked
	Color   bool          // Out shows ANSI colours
	Wait    time.Duration // how long nothing may happen before the demo gives up; default 30 s

	MongoURI string // shown to people, nothing else
}

// Demo is one run of calls. Prepare it, start the watcher, then Run.
type Demo struct {
	o        Options
	bots     []*bot
	platform *world.Platform
	crm      *crm
	print    *printer
}

// Validate names what cannot be played.
func (o *Options) Validate() error {
	var faults []error
	if o.Calls < 1 || o.Calls > MaxCalls {
		faults = append(faults, fmt.Errorf("--calls: %d is not from 1 to %d", o.Calls, MaxCalls))
	}
	if !(o.Rate > 0 && o.Rate <= MaxRate) { // no number is not above 0 either
		faults = append(faults, fmt.Errorf("--rate: %g is not above 0 and up to %d", o.Rate, MaxRate))
	}
	return errors.Join(faults...)
}

// New checks the options and fills in their defaults. It opens nothing.
func New(o Options) (*Demo, error) {
	if o.DB == nil || o.Out == nil {
		return nil, errors.New("demo: a database and a writer are needed")
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Wait == 0 {
		o.Wait = 30 * time.Second
	}
	if o.CRMAddr == "" {
		o.CRMAddr = "127.0.0.1:0"
	}
	bots := allBots()
	return &Demo{
		o:        o,
		bots:     bots,
		platform: world.NewPlatform(o.DB),
		crm:      newCRM(bots),
		print:    &printer{out: o.Out, color: o.Color},
	}, nil
}

// Empty says whether the database has calls already: a demo writes beside nobody's,
// and it compares all of them in the end.
func (d *Demo) Empty(ctx context.Context) error {
	switch n, err := d.platform.Calls.EstimatedDocumentCount(ctx); {
	case err != nil:
		return fmt.Errorf("count the calls in the database: %w", err)
	case n > 0:
		return fmt.Errorf("the database %s has %d calls already; a demo needs one without", d.o.DB.Name(), n)
	}
	return nil
}

// Prepare opens the CRM's listener and writes bots, settings and the indexes
// that the platform has. Run serves the CRM; without a Run, Close the Demo.
func (d *Demo) Prepare(ctx context.Context) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", d.o.CRMAddr)
	if err != nil {
		return fmt.Errorf("listen for the demo's CRM: %w", err)
	}
	d.crm.listener = ln
	if err := d.platform.CreateIndexes(ctx); err != nil {
		return err
	}
	for _, b := range d.bots {
		if err := d.platform.PutBot(ctx, b.document(d.CRMURL())); err != nil {
			return fmt.Errorf("write bot %s: %w", b.name, err)
		}
	}
	if err := d.platform.PutSettings(ctx, settings()); err != nil {
		return fmt.Errorf("write the demo's settings: %w", err)
	}
	return nil
}

// CRMURL is where the CRM is reached, without a final slash; "" before Prepare.
func (d *Demo) CRMURL() string {
	if d.crm.listener == nil {
		return ""
	}
	if d.o.CRMURL != "" {
		return d.o.CRMURL
	}
	return "http://" + d.crm.listener.Addr().String()
}

// Close gives up the CRM's listener. Only needed when Run is never called.
func (d *Demo) Close() error {
	if d.crm.listener == nil {
		return nil
	}
	return d.crm.listener.Close()
}

// errOver ends the CRM's service when there is nothing left to serve.
var errOver = errors.New("the demo is over")

// Run lets the calls arrive, prints a line for each as it ends, compares all of
// them with what should have become of them and prints the summary. The watcher
// has to follow the calls already. With Keep it returns when the context ends,
// and that is no error; the Summary says whether every call was right. Metrics
// is where the watcher serves its own, for people; "" leaves it out.
func (d *Demo) Run(ctx context.Context, metrics string) (Summary, error) {
	if d.crm.listener == nil {
		return Summary{}, errors.New("demo: Run before Prepare")
	}
	d.print.opening(d.o, d.CRMURL(), metrics)
	script := newScript(d.o.Seed, d.bots)
	plan := make([]*call, d.o.Calls)
	for i := range plan {
		plan[i] = script.next(i + 1)
	}

	g, ctx := errgroup.WithContext(ctx)
	crmCtx, stopCRM := context.WithCancelCause(ctx)
	g.Go(func() error { return d.crm.run(crmCtx) })
	var sum Summary
	g.Go(func() error {
		defer stopCRM(errOver)
		var err error
		sum, err = d.play(ctx, plan, metrics)
		if err == nil && d.o.Keep {
			d.print.keeping(metrics)
			<-ctx.Done()
		}
		return err
	})
	err := g.Wait()
	return sum, err
}

// play is the demo without the CRM's service.
func (d *Demo) play(ctx context.Context, plan []*call, metrics string) (Summary, error) {
	started := time.Now()
	observer := newObserver(d.platform.Calls, d.crm, d.print, plan, d.o.Wait)

	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return play(gctx, d.platform, d.o.Rate, plan, observer.stored) })
	g.Go(func() error { return observer.watch(gctx) })
	if err := g.Wait(); err != nil {
		return Summary{}, err
	}
	sum, example, err := check(ctx, d.platform.Calls, d.crm, plan)
	if err != nil {
		return sum, err
	}
	sum.Elapsed = time.Since(started)
	d.print.closing(sum, d.bots, example, metrics)
	return sum, nil
}
