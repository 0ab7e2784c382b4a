package inspect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/render"
)

// rendered is what a bot makes of the call, secrets hidden.
type rendered struct {
	reason   dispatch.Reason // why there is nothing; NoReason when there is
	shown    *Payload        // nil without a payload
	parts    []part          // what is compared, and where braces are looked for
	empty    []string        // keys with a token that came to nothing
	warnings []string
}

// part is one key of a payload, or something of the request, which stands in brackets.
type part struct{ key, value string }

// The bounds of what is told of a payload.
const (
	mostKeys  = 20   // named in one line of the checklist
	mostValue = 2000 // characters of a value in a Difference
)

// render makes what would be sent now.
func (c *subject) render() *rendered { return c.renderFor(c.bot) }

func (c *subject) renderFor(bot *bots.Bot) *rendered {
	m := &rendered{reason: dispatch.SkipReason(c.call, bot)}
	if m.reason == dispatch.NoReason {
		c.make(m, bot)
	}
	return m
}

// make renders the request of a bot that has an address and can push.
func (c *subject) make(m *rendered, bot *bots.Bot) {
	env := dispatch.PrepareEnv{UserAgent: c.o.UserAgent, AnalysisSeeds: c.o.AnalysisKeys, Render: render.Options{
		Missed: func(t *render.Token, _ render.Miss) {
			if !slices.Contains(m.empty, t.Key) && len(m.empty) <= mostKeys {
				m.empty = append(m.empty, t.Key)
			}
		},
	}}
	if bot.Push.NeedsRecording {
		env.RecordingURL = MaskLink(c.links.Link(c.call))
	}
	req, err := dispatch.Prepare(c.call, bot, env)
	if err == nil {
		m.shown, err = Show(req, bot.Push, c.now, false)
	}
	if err != nil {
		m.reason = dispatch.ReasonBadConfig
		m.warnings = append(m.warnings, err.Error())
		return
	}
	m.parts = partsOf(m.shown, bot.Push)
}

// payload is what is told of a payload, nil when there is none; with another bot
// document, also how that one's differs.
func (c *subject) payload(made *rendered) *Payload {
	p := made.shown
	if c.ask.Bot == nil {
		return p
	}
	other := c.renderFor(bots.Compile(c.ask.Bot, c.o.Compile))
	if other.reason != dispatch.NoReason {
		made.warnings = append(made.warnings, fmt.Sprintf("with the other bot document nothing would be sent: %s", other.reason.Text()))
	}
	if p == nil {
		p = &Payload{}
	}
	p.Diff = differences(made.parts, other.parts)
	return p
}

// partsOf are the parts of a payload in its order, those of the request first.
func partsOf(p *Payload, b *bots.Push) []part {
	head, query := p.URL, url.Values(nil)
	if u, err := url.Parse(p.URL); err == nil && p.Method == http.MethodGet {
		query = u.Query()
		u.RawQuery = ""
		head = u.String()
	}
	parts := []part{{"(method)", p.Method}, {"(url)", head}}
	for name := range b.Header {
		parts = append(parts, part{"(header) " + name, p.Headers[name]})
	}
	slices.SortFunc(parts[2:], func(x, y part) int { return bytes.Compare([]byte(x.key), []byte(y.key)) })
	for key := range query {
		parts = append(parts, part{key, query.Get(key)})
	}
	slices.SortFunc(parts[len(parts)-len(query):], func(x, y part) int { return bytes.Compare([]byte(x.key), []byte(y.key)) })
	return append(parts, partsOfBody(p.Body)...)
}

// partsOfBody are the keys of a JSON object in its order; a body that a mask broke is
// one part.
func partsOfBody(body string) []part {
	if body == "" {
		return nil
	}
	whole := []part{{"(body)", body}}
	dec := json.NewDecoder(bytes.NewReader([]byte(body)))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return whole
	}
	var parts []part
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return whole
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return whole
		}
		parts = append(parts, part{fmt.Sprint(key), string(value)})
	}
	return parts
}

// differences are the parts that are not the same on both sides, in the order of
// the first, then of the second. It is never nil.
func differences(now, other []part) []Difference {
	values := func(parts []part) map[string]string {
		m := make(map[string]string, len(parts))
		for _, p := range parts {
			m[p.key] = p.value
		}
		return m
	}
	before, after := values(now), values(other)
	diff := []Difference{}
	for _, p := range now {
		if value, ok := after[p.key]; !ok {
			diff = append(diff, Difference{Key: p.key, Now: valueOf(p.value)})
		} else if value != p.value {
			diff = append(diff, Difference{Key: p.key, Now: valueOf(p.value), Other: valueOf(value)})
		}
	}
	for _, p := range other {
		if _, ok := before[p.key]; !ok {
			diff = append(diff, Difference{Key: p.key, Other: valueOf(p.value)})
		}
	}
	return diff
}

// valueOf is a value of a Difference.
func valueOf(text string) *string {
	if runes := []rune(text); len(runes) > mostValue {
		text = string(runes[:mostValue]) + "…"
	}
	return &text
}

var _ LinkChecker = (*push.Client)(nil)
