package main

import (
	"encoding/json"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/app"
	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/recording"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/render"
)

// compile reads the document of a bot; nil when there is none.
func (o *previewOptions) compile(doc bson.Raw) *bots.Bot {
	if doc == nil {
		return nil
	}
	format, _ := calls.ParseTimeFormat(o.config.TimeFormat) // checked with the flags
	return bots.Compile(doc, bots.Options{TimeFormat: format, Guard: o.guard})
}

// links makes recording links by the settings document and the flags, which win. The
// error names the kinds of links that are not made.
func (o *previewOptions) links(settings bson.Raw) (*recording.Linker, error) {
	return recording.New(app.RecordingOptions(o.config).Over(settings))
}

// env is what a request is made of beside the call and the bot.
func (o *previewOptions) env() dispatch.PrepareEnv {
	return dispatch.PrepareEnv{
		UserAgent:     "watcher/" + version,
		AnalysisSeeds: o.config.AnalysisKeys,
		Now:           o.now,
		Render:        render.Options{KeepUnresolved: o.literal},
	}
}

// shown renders what would be sent for a call, secrets hidden unless they are asked for.
func (o *previewOptions) shown(call *calls.Call, bot *bots.Bot, links *recording.Linker, notJSON func(*render.Token)) (*push.Request, *inspect.Payload, error) {
	env := o.env()
	env.Render.NotJSON = notJSON
	if bot.Push.NeedsRecording {
		env.RecordingURL = o.link(call, links)
	}
	req, err := dispatch.Prepare(call, bot, env)
	if err != nil {
		return nil, nil, err
	}
	made := o.now // when the request is made
	if made.IsZero() {
		made = time.Now()
	}
	shown, err := inspect.Show(req, bot.Push, made, o.showSecrets)
	return req, shown, err
}

// link is the recording link as it is shown.
func (o *previewOptions) link(call *calls.Call, links *recording.Linker) string {
	link := links.Link(call)
	if o.showSecrets {
		return link
	}
	link = inspect.MaskLink(link)
	if head, _, signed := strings.Cut(link, "?"); signed && o.fixedLinks {
		return head + "?" + inspect.Masked
	}
	return link
}

// preview decides and renders as the push does. The worst warnings come first.
func (o *previewOptions) preview(call *calls.Call, bot *bots.Bot, settings bson.Raw) *previewOutput {
	out := &previewOutput{Decision: "push", DeliveryID: call.DeliveryID(), Warnings: []bots.Warning{}}
	defer func() { bots.WorstFirst(out.Warnings) }()
	out.Reason = dispatch.SkipReason(call, bot)
	links, err := o.links(settings)
	if err != nil {
		out.Warnings = append(out.Warnings, linkWarnings(err)...)
	}
	if bot == nil {
		out.Decision = "skip"
		return out
	}
	if bots.NewSet([]*bots.Bot{bot}).Bot(call.Bot) == nil {
		out.warn(bots.LevelInfo, "bot_id", bots.CodeOtherBot, "the call names the bot %q, and this is %q, which the watcher would not take for it", call.BotID, bot.ID)
	}
	out.Warnings = append(out.Warnings, bot.Warnings...)
	out.Warnings = append(out.Warnings, bot.Lint(dispatch.Variables(call, bot, o.env()), o.config.AnalysisKeys)...)
	if out.Reason != dispatch.NoReason {
		out.Decision, out.Payload = "skip", o.payload(call, bot, links)
		return out
	}
	req, shown, err := o.shown(call, bot, links, func(t *render.Token) {
		out.Warnings = append(out.Warnings, bots.Warning{
			Level: bots.LevelWarning, Key: t.Key, Token: t.Text, Code: bots.CodeNotJSON,
			Message:    "with the values of this call the text begins like JSON but is not, so it is sent as text",
			Suggestion: "an object or a list in key_mapper instead of text",
		})
	})
	if err != nil {
		out.Decision, out.Reason, out.Payload = "skip", dispatch.ReasonBadConfig, o.payload(call, bot, links)
		out.warn(bots.LevelError, "post_call_push", bots.CodeBadValue, "%v", err)
		return out
	}
	out.shown, out.Request = shown, requestOf(shown)
	if n := len(req.URL); n > longURL {
		out.warn(bots.LevelWarning, "post_call_push.method", bots.CodeLongURL, "the address is %d bytes long; many servers refuse more than %d", n, longURL)
		out.Warnings[len(out.Warnings)-1].Suggestion = "POST"
	}
	return out
}

// payload is what the mapper makes of a call for which nothing is sent, so that a
// mapping can be looked at before the rest of the configuration is right; nil when
// there is nothing to see.
func (o *previewOptions) payload(call *calls.Call, bot *bots.Bot, links *recording.Linker) json.RawMessage {
	if bot.Push == nil || bot.Push.Mapper.Len() == 0 || call.CompletedAt.IsZero() {
		return nil
	}
	env := o.env()
	env.RecordingURL = o.link(call, links)
	env.Render.MaxBytes = bots.MaxPayload
	body, err := bot.Push.Mapper.AppendJSON(nil, dispatch.Variables(call, bot, env), env.Render)
	if err != nil {
		return nil // named already
	}
	if o.showSecrets {
		return body
	}
	return jsonOf(inspect.Hide(bot.Push, string(body)))
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
