package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cxbridge/watcher/internal/app"
	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/recording"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/render"
)

type previewCmd struct {
	Call        string `placeholder:"FILE" help:"The call, as MongoDB Extended JSON; - is standard input."`
	Bot         string `placeholder:"FILE" help:"The bot. With --session-id it takes the place of the stored one, to try a mapping on a real call."`
	Settings    string `placeholder:"FILE" help:"The settings document, for signed recording links."`
	SessionID   string `name:"session-id" placeholder:"ID" help:"Read this call, its bot and the settings from the database."`
	Now         string `placeholder:"TIME" help:"Time of system.* and of the webhook signature: ${when}. Default: system.* is when the result was stored, as in the push."`
	Unresolved  string `default:"empty" placeholder:"HOW" help:"A token without a value: empty, as in the push, or literal."`
	ShowSecrets bool   `help:"Show credentials instead of ***."`
	config.Mongo
	config.Render
	config.Network
}

// Help says which flags are required for which use.
func (previewCmd) Help() string {
	return "From files: --call and --bot, and --settings for signed recording links; no database is read. " +
		"From the database: --session-id and --mongo-uri; --bot then tries a mapping on a real call."
}

// Run prints what would be sent for a call, without sending it.
func (p *previewCmd) Run(ctx context.Context, std cli.Streams) error {
	o, err := p.options()
	if err != nil {
		return err
	}
	noteZone(std.Err, p.Now)
	in, err := p.documents(ctx, &o.config, std.In)
	if err != nil {
		return err
	}
	return writeJSON(std.Out, o.preview(in))
}

// previewOptions are the flags of a preview, checked.
type previewOptions struct {
	config      config.Config
	guard       *push.Guard
	now         time.Time // zero without --now
	literal     bool
	showSecrets bool
}

// options checks the flags; every fault is in the error, a line each.
func (p *previewCmd) options() (*previewOptions, error) {
	o := &previewOptions{config: config.Default(), showSecrets: p.ShowSecrets}
	var bad faults
	var err error
	if o.guard, err = p.Guard(); err != nil {
		bad.add("allow-network", err)
	}
	o.config.Mongo, o.config.Render = p.Mongo, p.Render
	switch {
	case p.Call == "" && p.SessionID == "":
		bad.add("call", errors.New("give a file, or --session-id to read from the database"))
	case p.Call != "" && p.SessionID != "":
		bad.add("call", errors.New("and --session-id exclude each other"))
	case p.Call != "" && p.Bot == "":
		bad.add("bot", errors.New("is required with --call"))
	}
	if p.SessionID == "" {
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

// unusedURI passes the check of a configuration that reads no database.
const unusedURI = "mongodb://unused"

// preview decides and renders as the push does.
func (o *previewOptions) preview(in *previewInput) *previewOutput {
	format, _ := calls.ParseTimeFormat(o.config.TimeFormat) // checked with the flags
	bot := in.bot(bots.Options{TimeFormat: format, Guard: o.guard})
	call := calls.Decode(in.call)

	links, linkErr := recording.New(app.RecordingOptions(o.config).Over(in.settings))

	env := dispatch.PrepareEnv{
		UserAgent:     "watcher/" + version,
		AnalysisSeeds: o.config.AnalysisKeys,
		Now:           o.now,
		Render:        render.Options{KeepUnresolved: o.literal},
	}
	made := o.now // when the request is made
	if made.IsZero() {
		made = time.Now()
	}
	out := &previewOutput{Decision: "push", DeliveryID: call.DeliveryID(), Warnings: []bots.Warning{}}
	out.Reason = dispatch.SkipReason(&call, bot)
	if linkErr != nil {
		out.Warnings = append(out.Warnings, linkWarnings(linkErr)...)
	}
	if bot != nil && bots.NewSet([]*bots.Bot{bot}).Bot(call.Bot) == nil {
		out.Warnings = append(out.Warnings, bots.Warning{
			Level: bots.LevelInfo, Key: "bot_id", Code: bots.CodeOtherBot,
			Message: fmt.Sprintf("the call names the bot %q, and this is %q, which the watcher would not take for it", call.BotID, bot.ID),
		})
	}
	if bot != nil {
		out.Warnings = append(out.Warnings, bot.Warnings...)
		out.Warnings = append(out.Warnings, bot.Lint(dispatch.Variables(&call, bot, env), o.config.AnalysisKeys)...)
	}
	if out.Reason != dispatch.NoReason {
		out.Decision = "skip"
		return out
	}
	if bot.Push.NeedsRecording {
		env.RecordingURL = links.Link(&call)
		if !o.showSecrets {
			env.RecordingURL = inspect.MaskLink(env.RecordingURL)
		}
	}
	env.Render.NotJSON = func(t *render.Token) {
		out.Warnings = append(out.Warnings, bots.Warning{
			Level: bots.LevelWarning, Key: t.Key, Token: t.Text, Code: bots.CodeNotJSON,
			Message:    "with the values of this call the text begins like JSON but is not, so it is sent as text",
			Suggestion: "an object or a list in key_mapper instead of text",
		})
	}
	req, err := dispatch.Prepare(&call, bot, env)
	var shown *inspect.Payload
	if err == nil {
		shown, err = inspect.Show(req, bot.Push, made, o.showSecrets)
	}
	if err != nil {
		out.Decision, out.Reason = "skip", dispatch.ReasonBadConfig
		out.Warnings = append(out.Warnings, bots.Warning{Level: bots.LevelError, Key: "post_call_push", Code: bots.CodeBadValue, Message: err.Error()})
		return out
	}
	out.Request = requestOf(shown)
	if n := len(req.URL); n > longURL {
		out.Warnings = append(out.Warnings, bots.Warning{
			Level: bots.LevelWarning, Key: "post_call_push.method", Code: bots.CodeLongURL,
			Message: fmt.Sprintf("the address is %d bytes long; many servers refuse more than %d", n, longURL), Suggestion: "POST",
		})
	}
	return out
}

// longURL is what Apache httpd and nginx take of a request line by default
// (8,190 and 8,192 bytes), less method and version.
const longURL = 8000

// linkWarnings tells why some kind of recording link is not made.
func linkWarnings(err error) []bots.Warning {
	var all []bots.Warning
	for line := range strings.SplitSeq(err.Error(), "\n") {
		key, message, _ := strings.Cut(line, ": ")
		all = append(all, bots.Warning{Level: bots.LevelWarning, Key: key, Code: bots.CodeBadValue, Message: message})
	}
	return all
}

// requestOf is a request as the preview prints it.
func requestOf(p *inspect.Payload) *requestOutput {
	out := &requestOutput{Method: p.Method, URL: p.URL, Headers: p.Headers, BodyText: p.Body}
	if p.Body != "" {
		out.Body = jsonOf(p.Body)
	}
	return out
}
