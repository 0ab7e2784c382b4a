package dispatch

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/render"
)

// PrepareEnv is what a request is made of beside the call and the bot. The zero
// value is usable.
type PrepareEnv struct {
	UserAgent string // "watcher/<version>"; "" adds none
	// AnalysisSeeds are names under analysis that exist beside the platform's own.
	AnalysisSeeds []string
	// Now is the time of system.*. Zero is completed_at, so that every attempt of a
	// delivery, also after a restart, sends the same bytes.
	Now time.Time
	// RecordingURL is the link of result.recording_url. It is only looked at
	// when bots.Push.NeedsRecording says so.
	RecordingURL string
	// Render changes the rendering, for previews and metrics.
	Render render.Options
}

// Variables returns what a mapper may name for this call and bot.
func Variables(call *calls.Call, bot *bots.Bot, env PrepareEnv) *calls.Variables {
	if env.Now.IsZero() {
		env.Now = call.CompletedAt
	}
	return call.Variables(calls.Env{
		Style:         bot.Style,
		Now:           env.Now,
		RecordingURL:  env.RecordingURL,
		AnalysisSeeds: env.AnalysisSeeds,
		Auto:          bot.Auto,
		MaxText:       bots.MaxPayload,
	})
}

// Prepare renders the request that pushes a call; SkipReason must have found
// none. It is pure: the same call, bot and environment give the same bytes. The
// error is a payload of more than bots.MaxPayload; the request is then without it
// and must not be sent.
func Prepare(call *calls.Call, bot *bots.Bot, env PrepareEnv) (*push.Request, error) {
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
	env.Render.MaxBytes = bots.MaxPayload
	var err error
	if p.Method == http.MethodGet {
		var url []byte
		url, err = appendQuery(make([]byte, 0, len(p.URL)+sizeHint(p.Mapper)), p, vars, env.Render)
		r.URL = string(url)
	} else {
		r.Body, err = p.Mapper.AppendJSON(make([]byte, 0, sizeHint(p.Mapper)), vars, env.Render)
	}
	r.Header = header(p, env.UserAgent, r.DeliveryID)
	if err != nil {
		return r, fmt.Errorf("render %d bytes at most: %w", bots.MaxPayload, err)
	}
	return r, nil
}

// sizeHint is the room that most payloads need, so that they grow at most once.
func sizeHint(m *render.Mapper) int { return 128 + 40*m.Len() }

// appendQuery adds the payload to the parameters that the address has.
func appendQuery(dst []byte, p *bots.Push, vars render.Variables, opts render.Options) ([]byte, error) {
	dst = append(dst, p.URL...)
	if p.Mapper.Len() == 0 {
		return dst, nil
	}
	switch i := strings.IndexByte(p.URL, '?'); {
	case i < 0:
		dst = append(dst, '?')
	case i < len(p.URL)-1 && p.URL[len(p.URL)-1] != '&':
		dst = append(dst, '&')
	}
	return p.Mapper.AppendQuery(dst, vars, opts)
}

// header adds what every push carries to the bot's own headers, which win.
func header(p *bots.Push, userAgent, deliveryID string) http.Header {
	const most = 3
	h := maps.Clone(p.Header) // the values are shared and never changed
	if h == nil {
		h = make(http.Header, most)
	}
	values := make([]string, 0, most) // one array for all
	add := func(name, value string) {
		if _, own := h[name]; !own && value != "" {
			values = append(values, value)
			h[name] = values[len(values)-1 : len(values) : len(values)]
		}
	}
	if p.Method == http.MethodPost {
		add("Content-Type", "application/json")
	}
	add("User-Agent", userAgent)
	add("Idempotency-Key", deliveryID)
	return h
}
