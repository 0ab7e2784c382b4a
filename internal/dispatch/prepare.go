package dispatch

import (
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/recording"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/render"
)

// SkipReason says why a call is not pushed. The set is closed; these are the
// words of the preview, the log and the metric label.
type SkipReason string

// The reasons, in the order in which they are looked for.
const (
	// SkipNone is a call that is pushed.
	SkipNone SkipReason = ""
	// SkipAgentCall is a record of the agent desk, which is no result.
	SkipAgentCall SkipReason = "agent_call"
	// SkipNoResult is a call without completed_at: nothing is stored yet.
	SkipNoResult SkipReason = "no_result"
	// SkipNoConfig is a bot that never pushes, or that does not exist.
	SkipNoConfig SkipReason = "no_config"
	// SkipDisabled is a bot whose push is switched off.
	SkipDisabled SkipReason = "disabled"
	// SkipFlagged is a call with skip_post_push.
	SkipFlagged SkipReason = "skip_post_push"
	// SkipNoURL is a push without an address; it is logged as skipped.
	SkipNoURL SkipReason = "no_url"
	// SkipBadConfig is a push that cannot be made; it is logged as failed.
	SkipBadConfig SkipReason = "bad_config"
)

// SkipReasons lists the closed set without SkipNone, for metric labels.
func SkipReasons() []SkipReason {
	return []SkipReason{SkipAgentCall, SkipNoResult, SkipNoConfig, SkipDisabled, SkipFlagged, SkipNoURL, SkipBadConfig}
}

// Recorded reports whether the reason is written onto the call. The platform
// schedules no push without configuration or with the skip flag, and so logs
// nothing; a push that has no address or cannot be made is one that was due.
func (r SkipReason) Recorded() bool { return r == SkipNoURL || r == SkipBadConfig }

// Skip decides whether a call is pushed. First comes what makes it no result at
// all, then what keeps a push from being scheduled, then what ends one that was.
// A missing address comes before faults: a configuration that is not finished
// is skipped, not failed. A nil bot has no configuration.
func Skip(call *calls.Call, bot *bots.Bot) SkipReason {
	switch {
	case call.CallType == calls.CallTypeAgent:
		return SkipAgentCall
	case call.CompletedAt.IsZero():
		return SkipNoResult
	case bot == nil || bot.Push == nil:
		return SkipNoConfig
	case !bot.Push.Enabled:
		return SkipDisabled
	case call.SkipPostPush:
		return SkipFlagged
	case !bot.Push.HasURL:
		return SkipNoURL
	case !bot.Usable():
		return SkipBadConfig
	}
	return SkipNone
}

// PrepareEnv is the deployment's part of a request. The zero value is usable.
type PrepareEnv struct {
	UserAgent string // "watcher/<version>"; "" sends none here
	// Links makes the recording link; nil sends the stored URL.
	Links *recording.Linker
	// AnalysisSeeds are names under analysis that exist beside the platform's own.
	AnalysisSeeds []string
	// Now is when the request is made. It decides only how far the time of a
	// signed recording link is moved on.
	Now time.Time
	// Clock is the time of system.*. Zero is completed_at, so that every try of
	// a delivery, also after a restart, sends the same bytes.
	Clock time.Time
	// Render changes the rendering, for previews and metrics.
	Render render.Options
	// MaskLink, when not nil, changes the recording link before it is rendered,
	// for previews.
	MaskLink func(link string) string
}

// Variables returns what a mapper may name for this call and bot.
func Variables(call *calls.Call, bot *bots.Bot, env *PrepareEnv) *calls.Variables {
	e := calls.Env{
		Style:         bot.Style,
		Now:           env.Clock,
		AnalysisSeeds: env.AnalysisSeeds,
		Auto:          bot.Auto,
	}
	if e.Now.IsZero() {
		e.Now = call.CompletedAt
	}
	if bot.Push != nil && bot.Push.NeedsRecording {
		e.RecordingURL = link(call, env)
	}
	return call.Variables(e)
}

func link(call *calls.Call, env *PrepareEnv) string {
	url := call.RecordingURL()
	if env.Links != nil {
		url = env.Links.Link(call, env.Now)
	}
	if env.MaskLink != nil {
		url = env.MaskLink(url)
	}
	return url
}

// Prepare renders the request that pushes a call. Skip must have said SkipNone.
// It is pure: the same call, bot and environment give the same bytes.
func Prepare(call *calls.Call, bot *bots.Bot, env *PrepareEnv) *push.Request {
	p := bot.Push
	vars := Variables(call, bot, env)
	r := &push.Request{
		Method:        p.Method,
		URL:           p.URL,
		Timeout:       p.Timeout,
		DeliveryID:    call.DeliveryID(),
		SigningSecret: p.SigningSecret,
		Auth:          p.Auth,
		Success:       p.Success,
		RetryWhen:     p.RetryWhen,
		Redact:        p.Redact,
	}
	if p.Method == http.MethodGet {
		r.URL = string(appendQuery(make([]byte, 0, len(p.URL)+sizeHint(p.Mapper)), p, vars, env.Render))
	} else {
		r.Body = p.Mapper.AppendJSONWith(make([]byte, 0, sizeHint(p.Mapper)), vars, env.Render)
	}
	r.Header = header(p, env.UserAgent, r.DeliveryID)
	return r
}

// sizeHint is the room that most payloads need, so that they grow at most once.
func sizeHint(m *render.Mapper) int { return 128 + 64*m.Len() }

// appendQuery adds the payload to the parameters that the address has.
func appendQuery(dst []byte, p *bots.Push, vars render.Variables, opts render.Options) []byte {
	dst = append(dst, p.URL...)
	if p.Mapper.Len() == 0 {
		return dst
	}
	switch i := strings.IndexByte(p.URL, '?'); {
	case i < 0:
		dst = append(dst, '?')
	case i < len(p.URL)-1 && p.URL[len(p.URL)-1] != '&':
		dst = append(dst, '&')
	}
	return p.Mapper.AppendQueryWith(dst, vars, opts)
}

// header adds what every push carries to the bot's own headers, which win.
func header(p *bots.Push, userAgent, deliveryID string) http.Header {
	h := make(http.Header, len(p.Header)+3)
	maps.Copy(h, p.Header) // the values are shared and never changed
	add := func(name, value string) {
		if _, own := h[name]; !own && value != "" {
			h[name] = []string{value}
		}
	}
	if p.Method == http.MethodPost {
		add("Content-Type", "application/json")
	}
	add("User-Agent", userAgent)
	add("Idempotency-Key", deliveryID)
	return h
}
