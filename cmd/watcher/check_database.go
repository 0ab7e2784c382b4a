package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/plain"
	"github.com/cxbridge/watcher/pkg/resume"
	"github.com/cxbridge/watcher/pkg/stream"
)

func (d *deployment) topology(server stream.Server) {
	switch {
	case server.SetName != "":
		d.add(verdictOK, "topology", "", "replica set %s", server.SetName)
	case server.Sharded:
		d.add(verdictOK, "topology", "", "sharded cluster")
	default:
		d.add(verdictFail, "topology", "make it a replica set of one member", "a lone server has no change streams")
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
		d.add(verdictWarn, "version", "", "unknown: %v", explained(err))
		return
	}
	major, minor := versionOf(info.Version)
	if major < oldestMajor || major == oldestMajor && minor < oldestMinor {
		d.add(verdictFail, "version", "upgrade MongoDB", "%s is older than %d.%d", info.Version, oldestMajor, oldestMinor)
		return
	}
	d.add(verdictOK, "version", "", "%s", info.Version)
}

func versionOf(text string) (major, minor int) {
	first, rest, _ := strings.Cut(text, ".")
	second, _, _ := strings.Cut(rest, ".")
	major, _ = strconv.Atoi(first) // 0 for what is no number: too old
	minor, _ = strconv.Atoi(second)
	return major, minor
}

// From the second on, results may be missed by a sweep: its margin is 5 minutes.
const (
	clockWarn = 30 * time.Second
	clockFail = 5 * time.Minute
)

// clock compares the server's with this machine's in the middle of the question.
func (d *deployment) clock(ctx context.Context) {
	asked := time.Now()
	there, _, err := stream.ServerTime(ctx, d.db.Client())
	if err != nil || there.IsZero() {
		d.add(verdictWarn, "clock", "", "the server's is unknown: %v", explained(err))
		return
	}
	d.clockDiffers(there.Sub(asked.Add(time.Since(asked) / 2)))
}

func (d *deployment) clockDiffers(by time.Duration) {
	const do = "set the clocks by NTP"
	switch by = by.Abs(); {
	case by >= clockFail:
		d.add(verdictFail, "clock", do, "%s from the server's, so that results may be missed", plain.Duration(by))
	case by >= clockWarn:
		d.add(verdictWarn, "clock", do, "%s from the server's", plain.Duration(by))
	case by >= time.Second:
		d.add(verdictOK, "clock", "", "%s from the server's", plain.Duration(by))
	default:
		d.add(verdictOK, "clock", "", "less than a second from the server's")
	}
}

// rights tries what the watcher does.
func (d *deployment) rights(ctx context.Context) {
	c := d.config
	for _, name := range []string{c.CallsCollection, c.BotsCollection} {
		d.need(verdictFail, "watch "+name, "a change stream opens", canWatch(ctx, d.db.Collection(name)))
	}
	d.need(verdictFail, "write "+c.ResumeCollection, "a document is written and removed", d.canWrite(ctx))
	if c.SkipLog == 0 {
		d.add(verdictOK, "write "+c.SkipCollection, "", "the skip log is switched off")
		return
	}
	d.need(verdictWarn, "write "+c.SkipCollection, "it may be written", d.canWriteSkips(ctx))
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
	id := d.probe()
	if _, err := coll.InsertOne(ctx, id); err != nil {
		return err
	}
	_, err := coll.DeleteOne(ctx, id)
	return err
}

// canWriteSkips updates a document that is not there: the watcher has no right to
// remove one from the skip log.
func (d *deployment) canWriteSkips(ctx context.Context) error {
	_, err := d.db.Collection(d.config.SkipCollection).UpdateOne(ctx, d.probe(), bson.D{{Key: "$set", Value: bson.D{{Key: "reason", Value: "check"}}}})
	return err
}

func (d *deployment) probe() bson.D {
	return bson.D{{Key: "_id", Value: d.config.Name + "/check/" + bson.NewObjectID().Hex()}}
}

func (d *deployment) oplog(ctx context.Context) {
	w, err := stream.OplogWindow(ctx, d.db.Client())
	if err != nil {
		d.add(verdictWarn, "oplog window", "", "unknown, so the headroom is not known: %v", explained(err))
		return
	}
	if w.Oldest.IsZero() {
		d.add(verdictWarn, "oplog window", "", "the oplog is empty")
		return
	}
	window := resume.ClockTime(w.Newest).Sub(resume.ClockTime(w.Oldest))
	if window < d.outage {
		d.add(verdictWarn, "oplog window", "make the oplog larger, unless it is young and grows",
			"%s is less than an outage of %s; after a longer one the calls are swept by completed_at", span(window), span(d.outage))
		return
	}
	d.add(verdictOK, "oplog window", "", "%s", span(window))
}

func (d *deployment) indexes(ctx context.Context) {
	index := func(check string, has func(context.Context) (bool, error), do, missing, ok string) {
		found, err := has(ctx)
		if err == nil && !found {
			d.add(verdictWarn, check, do, "%s", missing)
			return
		}
		d.need(verdictWarn, check, ok, err)
	}
	index("index completed_at", d.calls.HasTimeIndex,
		fmt.Sprintf("create %s on %s, or run this with --create-indexes", calls.TimeIndex, d.config.CallsCollection),
		"sweeps and replays read every call", "sweeps and replays are quick")
	index("index for retries", d.calls.HasDueIndex, "watcher run creates it where it has the right to, or run this with --create-indexes",
		"not there yet", "due calls are found without reading others")
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
		d.add(verdictWarn, "deployment", "", "unknown: %v", explained(err))
	}
	for _, text := range found {
		d.add(verdictWarn, "deployment", "", "%s", text)
	}
}

// bots returns those that can push.
func (d *deployment) bots(ctx context.Context) []*bots.Bot {
	all, err := bots.ReadAll(ctx, d.db.Collection(d.config.BotsCollection), d.compile)
	if err != nil {
		d.add(verdictFail, "bots", "", "%v", explained(err))
		return nil
	}
	var pushing []*bots.Bot
	pushes, unusable := 0, 0
	for _, b := range all {
		r := lint(&lintBot{Bot: b}, nil, nil)
		switch {
		case !r.Usable:
			unusable++
		case r.Pushes:
			pushing = append(pushing, b)
		}
		if r.Pushes {
			pushes++
		}
	}
	text := fmt.Sprintf("%s, %d with a push, %d that cannot push", count(len(all), "bot"), pushes, unusable)
	if unusable > 0 {
		d.add(verdictWarn, "bots", "'watcher lint' says why", "%s", text)
		return pushing
	}
	d.add(verdictOK, "bots", "", "%s", text)
	return pushing
}
