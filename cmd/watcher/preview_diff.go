package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/botfiles"
	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/plain"
	"github.com/cxbridge/watcher/internal/recording"
)

// previewDiff is what watcher preview --diff prints.
type previewDiff struct {
	Bot  string `json:"bot_id"`
	Read string `json:"read"` // which calls, in words
	inspect.Changes
	// Credentials is true when the documents do not hold the same credentials, which
	// no payload shows.
	Credentials bool           `json:"credentials_differ"`
	Warnings    []bots.Warning `json:"warnings"` // of the other document that the present one does not have
}

// differ compares what two documents of a bot make of calls.
type differ struct {
	o          *previewOptions
	now, other *bots.Bot // nil: no document
	links      *recording.Linker
	result     previewDiff
}

func newDiffer(o *previewOptions, now, other *bots.Bot, settings bson.Raw) *differ {
	o.fixedLinks = true // else one that is signed for either side may differ
	d := &differ{o: o, now: now, other: other}
	d.links, _ = o.links(settings) // a preview names what is wrong with the settings
	d.result = previewDiff{Bot: other.ID, Warnings: []bots.Warning{}}
	d.result.Decisions, d.result.Keys = []inspect.DecisionChange{}, []inspect.KeyChange{}
	if now != nil && now.Push != nil && other.Push != nil {
		d.result.Credentials = !slices.Equal(now.Push.Secrets, other.Push.Secrets)
	}
	return d
}

// warn keeps what is wrong with the other document alone, its names being looked for in
// a call.
func (d *differ) warn(call *calls.Call) {
	all := func(bot *bots.Bot) []bots.Warning {
		if bot == nil {
			return nil
		}
		return slices.Concat(bot.Warnings, bot.Lint(dispatch.Variables(call, bot, d.o.env()), d.o.config.AnalysisKeys))
	}
	known := all(d.now)
	for _, w := range all(d.other) {
		if !slices.Contains(known, w) {
			d.result.Warnings = append(d.result.Warnings, w)
		}
	}
}

// add compares one call.
func (d *differ) add(call *calls.Call) {
	if d.result.Calls == 0 {
		d.warn(call)
	}
	side := func(bot *bots.Bot) (inspect.Side, string) {
		reason := dispatch.SkipReason(call, bot)
		if reason != dispatch.NoReason {
			return inspect.Side{}, reason.String()
		}
		_, shown, err := d.o.shown(call, bot, d.links, nil)
		if err != nil {
			return inspect.Side{}, dispatch.ReasonBadConfig.String()
		}
		return inspect.Side{Payload: shown, Push: bot.Push}, "push"
	}
	now, was := side(d.now)
	other, will := side(d.other)
	if now.Payload == nil || other.Payload == nil {
		d.result.AddDecision(was, will)
		return
	}
	d.result.Add(call.Name(), inspect.Compare(now, other))
}

// diffOne compares over the one call that the flags name.
func (p *previewCmd) diffOne(std cli.Streams, o *previewOptions, in *previewInput) error {
	other, err := p.otherBot(o, std.In)
	if err != nil {
		return err
	}
	d := newDiffer(o, o.compile(in.botDoc), other, in.settings)
	call := calls.Decode(in.call)
	d.add(&call)
	d.result.Read = "the call " + plain.Line(call.Name(), 60)
	return p.printDiff(std.Out, &d.result)
}

// otherBot reads the document of --diff.
func (p *previewCmd) otherBot(o *previewOptions, stdin io.Reader) (*bots.Bot, error) {
	doc, err := readDocument(p.Diff, stdin, botfiles.Bot)
	if err != nil {
		return nil, cli.Usage(config.Fault{Setting: "diff", Reason: err.Error()})
	}
	return o.compile(doc), nil
}

// diffStored compares over the newest calls of the bot.
func (p *previewCmd) diffStored(ctx context.Context, std cli.Streams, o *previewOptions) error {
	other, err := p.otherBot(o, std.In)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, commandTimeout, errCommandTimeout)
	defer cancel()
	db, closeDB, err := openDatabase(ctx, &o.config)
	if err != nil {
		return err
	}
	defer closeDB()
	if err := o.useRunning(ctx, db, std.Err); err != nil {
		return err
	}
	now, err := p.presentBot(ctx, db, o, other, std.In)
	if err != nil {
		return err
	}
	settings, err := findOne(ctx, db.Collection(o.config.SettingsCollection), bson.D{{Key: "_id", Value: "system"}}, nil)
	if err != nil {
		return err
	}
	d := newDiffer(o, now, other, settings)
	store := calls.NewStore(db.Collection(o.config.CallsCollection))
	if err := inspect.EachOf(ctx, store, inspect.NewestOf(now), p.Calls, inspect.FieldsOf(now, other), func(call calls.Call) { d.add(&call) }); err != nil {
		return err
	}
	d.result.Read = fmt.Sprintf("the newest %s of the last %d days", count(d.result.Calls, "call"), inspect.FillSpan/(24*time.Hour))
	return p.printDiff(std.Out, &d.result)
}

// presentBot is the bot as it is: that of --bot, a file or one of the database, or the
// stored one with the _id of the other document.
func (p *previewCmd) presentBot(ctx context.Context, db *mongo.Database, o *previewOptions, other *bots.Bot, stdin io.Reader) (*bots.Bot, error) {
	if p.Bot != "" {
		if _, err := os.Stat(p.Bot); p.Bot == "-" || !errors.Is(err, fs.ErrNotExist) {
			doc, err := readDocument(p.Bot, stdin, botfiles.Bot)
			if err != nil {
				return nil, cli.Usage(config.Fault{Setting: "bot", Reason: err.Error()})
			}
			return o.compile(doc), nil
		}
	}
	format, _ := calls.ParseTimeFormat(o.config.TimeFormat) // checked with the flags
	stored, err := bots.ReadAll(ctx, db.Collection(o.config.BotsCollection), bots.Options{TimeFormat: format, Guard: o.guard})
	if err != nil {
		return nil, err
	}
	set := bots.NewSet(stored)
	if p.Bot != "" {
		bot, err := set.Find(p.Bot)
		if err != nil {
			return nil, cli.Usage(config.Fault{Setting: "bot", Reason: err.Error() + ", nor such a file"})
		}
		return bot, nil
	}
	bot := set.Bot(other.RawID)
	if bot == nil {
		return nil, cli.Usage(config.Fault{Setting: "diff", Reason: fmt.Sprintf("no bot of the database has its _id %q; name the bot with --bot", other.ID)})
	}
	return bot, nil
}

func (p *previewCmd) printDiff(w io.Writer, d *previewDiff) error {
	return p.output("table").print(w, d, func(w io.Writer) error { return printDiff(w, d) })
}

// printDiff prints a block for each key that changes.
func printDiff(w io.Writer, d *previewDiff) error {
	p := &callPrinter{}
	p.field("bot", "%s", d.Bot)
	p.field("read", "%s", d.Read)
	p.field("changed", "%d of %s", d.Changed, count(d.Calls, "payload"))
	for _, c := range d.Decisions {
		p.field("", "%s: %s before, %s after", count(c.Calls, "call"), c.Now, c.Other)
	}
	if d.Credentials {
		p.field("credentials", "are not the same")
	}
	for i := range d.Keys {
		k := &d.Keys[i]
		fmt.Fprintln(p)
		fmt.Fprintln(p, plain.Line(k.Key, 60)+"  "+howChanged(k))
		for _, e := range k.Examples {
			for _, side := range []struct {
				sign string
				text *string
			}{{"-", e.Now}, {"+", e.Other}} {
				if side.text != nil {
					fmt.Fprintln(p, plain.Line("  "+side.sign+" "+*side.text, screenWidth))
				}
			}
		}
	}
	if len(d.Warnings) > 0 {
		fmt.Fprintln(p, "\nNew with the other document:")
	}
	for i := range d.Warnings {
		printFinding(&p.Builder, &d.Warnings[i])
	}
	_, err := io.WriteString(w, p.String())
	return err
}

// howChanged says in how many calls a key changes, and how.
func howChanged(k *inspect.KeyChange) string {
	text := "in " + count(k.Changed, "call")
	var how []string
	for _, part := range []struct {
		n    int
		what string
	}{{k.Added, "new"}, {k.Removed, "gone"}, {k.Filled, "no longer empty"}, {k.Emptied, "empty now"}} {
		if part.n > 0 {
			how = append(how, fmt.Sprintf("%s in %d", part.what, part.n))
		}
	}
	if len(how) > 0 {
		text += ": " + strings.Join(how, ", ")
	}
	return text
}
