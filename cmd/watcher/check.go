package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/stream"
)

type checkCmd struct {
	Outage        time.Duration `default:"24h" placeholder:"DURATION" help:"The longest time that the watcher may be down: the oplog should reach back that far."`
	CRMs          bool          `name:"crms" help:"Also connect to the hosts that bots push to, 200 at most; no request is sent."`
	CreateIndexes bool          `help:"Create the indexes of the calls that are missing, after a question."`
	Yes           bool          `help:"With --create-indexes: do not ask."`
	FailOn        string        `default:"fail" placeholder:"VERDICT" help:"The least that makes the exit status 1: fail or warn."`
	outputFlag
	config.Config
}

// Help says which flags are required.
func (checkCmd) Help() string {
	return "Needs --mongo-uri, and otherwise the flags and variables that watcher run is given, where it is run. " +
		"It writes one document and removes it. Each line is ok, warn (works, but worse) or fail (something is missing " +
		"without which no call is pushed), and says what to do. Exit status 1: a fail, or what --fail-on says."
}

// Run checks what a deployment needs. It fails by --fail-on.
func (k *checkCmd) Run(ctx context.Context, std cli.Streams) error {
	d, err := k.deployment()
	if err != nil {
		return err
	}
	defer d.client.Close()
	asking, cancel := context.WithTimeoutCause(ctx, commandTimeout, errCommandTimeout)
	defer cancel()
	db, closeDB, err := openDatabase(asking, d.config)
	if err != nil {
		d.add(verdictFail, "connect", "", "%v", config.RedactURI(explained(err), k.MongoURI))
		return k.report(std.Out, d) // nothing else can be asked
	}
	defer closeDB()
	d.db, d.calls = db, calls.NewStore(db.Collection(k.CallsCollection))
	if k.CreateIndexes {
		if err := d.createIndexes(ctx, k.asked(std), k.Yes); err != nil { // takes as long as it takes
			return err
		}
		asking, cancel = context.WithTimeoutCause(ctx, commandTimeout, errCommandTimeout)
		defer cancel()
	}
	d.check(ctx, asking)
	return k.report(std.Out, d)
}

// asked are the streams of a question: with --output json the object stands alone.
func (k *checkCmd) asked(std cli.Streams) cli.Streams {
	if k.Output == "json" {
		std.Out = std.Err
	}
	return std
}

// deployment is what is to be checked, by the flags.
func (k *checkCmd) deployment() (*deployment, error) {
	bad := append(k.outputFlag.check(), runFaults(&k.Config)...)
	if k.Outage < 0 {
		bad.add("outage", fmt.Errorf("%s is negative", k.Outage))
	}
	if k.FailOn != string(verdictFail) && k.FailOn != string(verdictWarn) {
		bad.add("fail-on", fmt.Errorf("%q is not fail or warn", k.FailOn))
	}
	if k.Yes && !k.CreateIndexes {
		bad.add("create-indexes", errors.New("is what --yes is for"))
	}
	if err := checked(&k.Config, bad); err != nil {
		return nil, err
	}
	guard, err := k.Guard()
	if err != nil {
		return nil, err
	}
	client, err := push.NewClient(push.Options{
		Allow: k.AllowNetworks, Deny: k.DenyNetworks, CAFile: k.CAFile, ProxyFromEnvironment: k.ProxyFromEnvironment,
		UserAgent: "watcher/" + version,
	})
	if err != nil {
		return nil, cli.Usage(err)
	}
	format, _ := calls.ParseTimeFormat(k.TimeFormat) // checked with the flags
	return &deployment{
		config: &k.Config, outage: k.Outage, crms: k.CRMs, client: client, compile: bots.Options{TimeFormat: format, Guard: guard},
	}, nil
}

// deployment is what is checked, and collects the findings.
type deployment struct {
	config  *config.Config
	outage  time.Duration
	crms    bool
	compile bots.Options
	client  *push.Client // keeps to the network settings of a push
	db      *mongo.Database
	calls   *calls.Store

	findings []finding
}

// check asks MongoDB within one context, and others within ctx: each has a limit of
// its own there.
func (d *deployment) check(ctx, asking context.Context) {
	server, err := stream.Hello(asking, d.db.Client())
	if err != nil {
		d.add(verdictFail, "connect", "", "%v", explained(err))
		return // nothing else can be asked
	}
	d.add(verdictOK, "connect", "", "database %s", d.config.Database)
	d.topology(server)
	d.version(asking)
	d.clock(asking)
	d.rights(asking)
	d.oplog(asking)
	d.indexes(asking)
	d.oddities(asking)
	all := d.bots(asking)
	d.memory()
	d.files()
	settings, err := findOne(asking, d.db.Collection(d.config.SettingsCollection), bson.D{{Key: "_id", Value: "system"}}, nil)
	if err != nil {
		d.add(verdictWarn, "settings", "", "%v", explained(err))
	}
	found := d.newestRecording(asking, settings)
	d.publicBase(ctx, settings)
	d.recording(ctx, found)
	if d.crms {
		d.connectAll(ctx, all)
	}
}

// createIndexes creates what is missing, after a question.
func (d *deployment) createIndexes(ctx context.Context, std cli.Streams, yes bool) error {
	type index struct {
		text   string
		create func(context.Context) error
	}
	var missing []index
	due, err := d.calls.HasDueIndex(ctx)
	if err != nil {
		return err
	}
	if !due {
		missing = append(missing, index{"watcher_due, of the calls with a next attempt", d.calls.EnsureIndexes})
	}
	byTime, err := d.calls.HasTimeIndex(ctx)
	if err != nil {
		return err
	}
	if !byTime {
		missing = append(missing, index{calls.TimeIndex, d.calls.EnsureTimeIndex})
	}
	if len(missing) == 0 {
		return nil
	}
	fmt.Fprintf(std.Out, "To be created on %s.%s, which reads all its documents once for each:\n", d.config.Database, d.config.CallsCollection)
	for _, i := range missing {
		fmt.Fprintf(std.Out, "    %s\n", i.text)
	}
	if err := confirm(ctx, std, yes); err != nil {
		return err
	}
	for _, i := range missing {
		if err := i.create(ctx); err != nil {
			return err
		}
	}
	return nil
}

// report prints the findings, and fails by the worst.
func (k *checkCmd) report(w io.Writer, d *deployment) error {
	out := checkOutput{Verdict: d.worst(), Checks: d.findings}
	err := k.print(w, out, func(w io.Writer) error { return printFindings(w, d.findings) })
	if out.Verdict == verdictFail || string(out.Verdict) == k.FailOn {
		err = errors.Join(err, cli.ErrSilent)
	}
	return err
}
