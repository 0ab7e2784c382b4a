package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/pkg/push"
)

type previewCmd struct {
	Call        string `placeholder:"FILE" help:"The call, as MongoDB Extended JSON; - is standard input."`
	Bot         string `placeholder:"FILE" help:"The bot. With --session-id it takes the place of the stored one, to try a mapping on a real call."`
	Settings    string `placeholder:"FILE" help:"The settings document, for signed recording links."`
	SessionID   string `name:"session-id" placeholder:"ID" help:"Read this call, its bot and the settings from the database."`
	Now         string `placeholder:"TIME" help:"Time of system.* and of the webhook signature: ${when}. Default: system.* is when the result was stored, as in the push."`
	Unresolved  string `default:"empty" placeholder:"HOW" help:"A token without a value: empty, as in the push, or literal."`
	ShowSecrets bool   `help:"Show credentials instead of ***."`
	Output      string `placeholder:"HOW" help:"table or json. Default: json, with --diff and --send table."`

	Diff  string `placeholder:"FILE" help:"Another document of the bot: show how its payload differs, key by key."`
	Calls int    `placeholder:"N" help:"With --diff: over the newest N calls of the bot in the database, at most 500. The bot is the one that FILE names by its _id, or --bot, there also an id or a name."`

	Send            bool   `help:"Send it for real, after a question, and show the answer. Nothing is written to the call."`
	To              string `placeholder:"URL" help:"With --send: to this address instead of the bot's; to another host without the credentials of the bot."`
	WithCredentials bool   `help:"With --to: also send the credentials of the bot to another host."`
	Yes             bool   `help:"With --send: do not ask."`

	CAFile               string `name:"ca-file" group:"delivery" placeholder:"FILE" help:"For --send: PEM file of certificate authorities trusted besides the system's."`
	ProxyFromEnvironment bool   `group:"delivery" help:"For --send: use the proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name."`
	config.Mongo
	config.Position
	config.Render
	config.Network
}

// Help says which flags are required for which use.
func (previewCmd) Help() string {
	return "From files: --call and --bot, and --settings for signed recording links; no database is read. " +
		"From the database: --session-id and --mongo-uri; --bot then tries a mapping on a real call. " +
		"Before a bot is saved: --diff FILE with any of these, or with --calls and --mongo-uri."
}

// Run prints what would be sent for a call, without sending it.
func (p *previewCmd) Run(ctx context.Context, std cli.Streams) error {
	o, err := p.options()
	if err != nil {
		return err
	}
	noteZone(std.Err, p.Now)
	if p.Calls > 0 {
		return p.diffStored(ctx, std, o)
	}
	in, err := p.documents(ctx, o, std)
	if err != nil {
		return err
	}
	switch {
	case p.Diff != "":
		return p.diffOne(std, o, in)
	case p.Send:
		return p.send(ctx, std, o, in)
	}
	call := calls.Decode(in.call)
	out := o.preview(&call, o.compile(in.botDoc), in.settings)
	return p.output("json").print(std.Out, out, func(w io.Writer) error { return printPreview(w, out) })
}

// output is how a use of the command prints that has a default of its own.
func (p *previewCmd) output(byDefault string) outputFlag {
	return outputFlag{Output: cmp.Or(p.Output, byDefault)}
}

// previewOptions are the flags of a preview, checked.
type previewOptions struct {
	config      config.Config
	guard       *push.Guard
	now         time.Time // zero without --now
	literal     bool
	showSecrets bool
	fixedLinks  bool // recording links without what is signed anew each time
}

// options checks the flags; every fault is in the error, a line each.
func (p *previewCmd) options() (*previewOptions, error) {
	o := &previewOptions{config: config.Default(), showSecrets: p.ShowSecrets}
	var bad faults
	var err error
	if o.guard, err = p.Guard(); err != nil {
		bad.add("allow-network", err)
	}
	o.config.Mongo, o.config.Position, o.config.Render, o.config.Network = p.Mongo, p.Position, p.Render, p.Network
	bad = append(bad, p.sources()...)
	bad = append(bad, p.uses()...)
	bad = append(bad, p.output("json").check()...)
	if p.SessionID == "" && p.Calls == 0 {
		o.config.MongoURI = unusedURI
	}
	if p.Now != "" {
		now, err := config.ParseStart(p.Now)
		bad.add("now", err)
		o.now = cmp.Or(now.From(time.Now()), time.Now())
	}
	switch p.Unresolved {
	case "empty":
	case "literal":
		o.literal = true
	default:
		bad.add("unresolved", fmt.Errorf("%q is not empty or literal", p.Unresolved))
	}
	return o, checked(&o.config, bad)
}

// useRunning takes what no flag says from what the running watchers use.
func (o *previewOptions) useRunning(ctx context.Context, db *mongo.Database, notes io.Writer) error {
	if err := useRunning(ctx, db, &o.config, notes); err != nil {
		return err
	}
	var err error
	o.guard, err = o.config.Guard()
	return err
}

// unusedURI passes the check of a configuration that reads no database.
const unusedURI = "mongodb://unused"

// sources checks where the documents come from.
func (p *previewCmd) sources() (bad faults) {
	switch {
	case p.Calls < 0 || p.Calls > mostCalls:
		bad.add("calls", fmt.Errorf("%d is not from 1 to %d", p.Calls, mostCalls))
	case p.Calls > 0 && (p.Call != "" || p.SessionID != ""):
		bad.add("calls", errors.New("excludes --call and --session-id"))
	case p.Calls > 0 && p.Diff == "":
		bad.add("calls", errors.New("is for --diff"))
	case p.Calls > 0:
	case p.Call == "" && p.SessionID == "":
		bad.add("call", errors.New("give a file, or --session-id to read from the database"))
	case p.Call != "" && p.SessionID != "":
		bad.add("call", errors.New("and --session-id exclude each other"))
	case p.Call != "" && p.Bot == "":
		bad.add("bot", errors.New("is required with --call"))
	}
	return bad
}

// uses checks what is done with the documents.
func (p *previewCmd) uses() (bad faults) {
	switch {
	case p.Send && p.Diff != "":
		bad.add("send", errors.New("and --diff exclude each other"))
	case p.ShowSecrets && p.Diff != "":
		bad.add("show-secrets", errors.New("and --diff exclude each other"))
	case p.Send && p.Unresolved == "literal":
		bad.add("send", errors.New("never sends a token: leave --unresolved out"))
	case !p.Send && (p.To != "" || p.Yes || p.WithCredentials):
		bad.add("send", errors.New("is what --to, --with-credentials and --yes are for"))
	}
	return bad
}
