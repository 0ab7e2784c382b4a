package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/pkg/resume"
	"github.com/cxbridge/watcher/pkg/stream"
)

type checkCmd struct {
	Outage time.Duration `default:"24h" placeholder:"DURATION" help:"The longest time that the watcher may be down: the oplog should reach back that far."`
	operatorFlags
}

// Help says which flags are required.
func (checkCmd) Help() string {
	return "Needs --mongo-uri, and the flags that watcher run is given of MongoDB and of the saved position. " +
		"It writes one document and removes it. Exit status 1: something is missing without which no call is pushed."
}

// Run checks what a deployment needs. It fails when something is missing
// without which no call is pushed.
func (k *checkCmd) Run(ctx context.Context, std cli.Streams) error {
	var bad faults
	if k.Outage < 0 {
		bad.add("outage", fmt.Errorf("%s is negative", k.Outage))
	}
	ctx, cancel := context.WithTimeoutCause(ctx, commandTimeout, errCommandTimeout)
	defer cancel()
	c, err := k.config(bad)
	if err != nil {
		return err
	}
	list := deployment{config: &c, outage: k.Outage}
	db, closeDB, err := openDatabase(ctx, &c)
	if err != nil {
		list.add(verdictFail, "connect", "%v", config.RedactURI(explained(err), c.MongoURI))
		return list.print(std.Out) // nothing else can be asked
	}
	defer closeDB()
	list.db = db
	list.check(ctx)
	return list.print(std.Out)
}

// verdict is what a check came to.
type verdict string

const (
	verdictOK   verdict = "ok"
	verdictWarn verdict = "warn" // works, but worse
	verdictFail verdict = "fail" // no call is pushed
)

type finding struct {
	verdict verdict
	what    string
	says    string
}

// deployment collects the findings.
type deployment struct {
	db       *mongo.Database
	config   *config.Config
	outage   time.Duration
	findings []finding
}

func (d *deployment) add(v verdict, what, format string, args ...any) {
	d.findings = append(d.findings, finding{v, what, oneLine(fmt.Sprintf(format, args...))})
}

// need adds ok, or an error as what it means.
func (d *deployment) need(missing verdict, what, ok string, err error) {
	if err != nil {
		d.add(missing, what, "%v", err)
		return
	}
	d.add(verdictOK, what, "%s", ok)
}

func (d *deployment) check(ctx context.Context) {
	server, err := stream.Hello(ctx, d.db.Client())
	if err != nil {
		d.add(verdictFail, "connect", "%v", explained(err))
		return // nothing else can be asked
	}
	d.add(verdictOK, "connect", "database %s", d.config.Database)
	d.topology(server)
	d.version(ctx)
	for _, name := range []string{d.config.CallsCollection, d.config.BotsCollection} {
		d.need(verdictFail, "watch "+name, "a change stream opens", canWatch(ctx, d.db.Collection(name)))
	}
	d.need(verdictFail, "write "+d.config.ResumeCollection, "a document is written and removed", d.canWrite(ctx))
	d.oplog(ctx)
	d.indexes(ctx)
	d.bots(ctx)
	d.oddities(ctx)
}

// oddities warns of a database that is probably another than was meant, and of a
// watcher that does the same work under another name.
func (d *deployment) oddities(ctx context.Context) {
	reader, err := clusterReader(d.db, d.config)
	var found []string
	if err == nil {
		found, err = reader.Deployment(ctx)
	}
	if err != nil {
		d.add(verdictWarn, "deployment", "unknown: %v", err)
	}
	for _, text := range found {
		d.add(verdictWarn, "deployment", "%s", text)
	}
}

func (d *deployment) topology(server stream.Server) {
	switch {
	case server.SetName != "":
		d.add(verdictOK, "topology", "replica set %s", server.SetName)
	case server.Sharded:
		d.add(verdictOK, "topology", "sharded cluster")
	default:
		d.add(verdictFail, "topology", "a lone server has no change streams; make it a replica set of one member")
	}
}

// oldestMajor and oldestMinor are the oldest server with all that change streams need here.
const oldestMajor, oldestMinor = 4, 4

func (d *deployment) version(ctx context.Context) {
	var info struct {
		Version string `bson:"version"`
	}
	err := d.db.Client().Database("admin").RunCommand(ctx, bson.D{{Key: "buildInfo", Value: 1}}).Decode(&info)
	if err != nil {
		d.add(verdictWarn, "version", "unknown: %v", err)
		return
	}
	major, minor := versionOf(info.Version)
	if major < oldestMajor || major == oldestMajor && minor < oldestMinor {
		d.add(verdictFail, "version", "%s is older than %d.%d", info.Version, oldestMajor, oldestMinor)
		return
	}
	d.add(verdictOK, "version", "%s", info.Version)
}

func versionOf(text string) (major, minor int) {
	first, rest, _ := strings.Cut(text, ".")
	second, _, _ := strings.Cut(rest, ".")
	major, _ = strconv.Atoi(first) // 0 for what is no number: too old
	minor, _ = strconv.Atoi(second)
	return major, minor
}

func canWatch(ctx context.Context, coll *mongo.Collection) error {
	cs, err := coll.Watch(ctx, mongo.Pipeline{}, options.ChangeStream().SetBatchSize(0))
	if err != nil {
		return err
	}
	return cs.Close(ctx)
}

// canWrite leaves nothing behind. The id is none of a position.
func (d *deployment) canWrite(ctx context.Context) error {
	coll := d.db.Collection(d.config.ResumeCollection)
	id := bson.D{{Key: "_id", Value: d.config.Name + "/check/" + bson.NewObjectID().Hex()}}
	if _, err := coll.InsertOne(ctx, id); err != nil {
		return err
	}
	_, err := coll.DeleteOne(ctx, id)
	return err
}

func (d *deployment) oplog(ctx context.Context) {
	w, err := stream.OplogWindow(ctx, d.db.Client())
	if err != nil {
		d.add(verdictWarn, "oplog window", "unknown, so the headroom is not known: %v", err)
		return
	}
	if w.Oldest.IsZero() {
		d.add(verdictWarn, "oplog window", "the oplog is empty")
		return
	}
	window := resume.ClockTime(w.Newest).Sub(resume.ClockTime(w.Oldest))
	if window < d.outage {
		d.add(verdictWarn, "oplog window", "%s is less than an outage of %s; after a longer one the calls are swept by completed_at (a young oplog grows)",
			span(window), span(d.outage))
		return
	}
	d.add(verdictOK, "oplog window", "%s", span(window))
}

func (d *deployment) indexes(ctx context.Context) {
	store := calls.NewStore(d.db.Collection(d.config.CallsCollection))
	index := func(what string, has func(context.Context) (bool, error), missing, ok string) {
		found, err := has(ctx)
		if err == nil && !found {
			err = errors.New(missing)
		}
		d.need(verdictWarn, what, ok, err)
	}
	index("index completed_at", store.HasTimeIndex,
		fmt.Sprintf("sweeps and replays read every call; create %s on %s", calls.TimeIndex, d.config.CallsCollection), "sweeps and replays are quick")
	index("index for retries", store.HasDueIndex,
		"not there yet; watcher run creates it, if it has the right to", "due calls are found without reading others")
}

func (d *deployment) bots(ctx context.Context) {
	all, err := bots.ReadAll(ctx, d.db.Collection(d.config.BotsCollection), bots.Options{})
	if err != nil {
		d.add(verdictFail, "bots", "%v", err)
		return
	}
	pushes, unusable := 0, 0
	for _, b := range all {
		r := lint(&lintBot{Bot: b}, nil, nil)
		if r.Pushes {
			pushes++
		}
		if !r.Usable {
			unusable++
		}
	}
	text := fmt.Sprintf("%s, %d with a push, %d that cannot push", count(len(all), "bot"), pushes, unusable)
	if unusable > 0 {
		d.add(verdictWarn, "bots", "%s; 'watcher lint' says why", text)
		return
	}
	d.add(verdictOK, "bots", "%s", text)
}

func (d *deployment) print(w io.Writer) error {
	var out strings.Builder
	table := tabwriter.NewWriter(&out, 0, 4, 2, ' ', 0)
	failed := false
	for _, f := range d.findings {
		failed = failed || f.verdict == verdictFail
		fmt.Fprintf(table, "%s\t%s\t%s\n", f.verdict, f.what, f.says)
	}
	_ = table.Flush() // into memory
	_, err := io.WriteString(w, out.String())
	if failed {
		err = errors.Join(err, cli.ErrSilent)
	}
	return err
}
