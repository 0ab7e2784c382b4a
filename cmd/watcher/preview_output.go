package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/pkg/secret"
)

// previewOutput is what watcher preview prints (docs/contract.md, section 8).
type previewOutput struct {
	Decision   string          `json:"decision"` // push or skip
	Reason     dispatch.Reason `json:"reason"`
	DeliveryID string          `json:"delivery_id"`
	Request    *requestOutput  `json:"request"` // null for a skip
	Warnings   []bots.Warning  `json:"warnings"`
}

type requestOutput struct {
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"`
	// Body is null for GET.
	Body json.RawMessage `json:"body"`
	// BodyText is the body to the byte.
	BodyText string `json:"body_text"`
}

// writeJSON prints for people and programs alike.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// jsonOf is a body as JSON. Where a mask broke it, its text is.
func jsonOf(text string) json.RawMessage {
	if json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	quoted, _ := json.Marshal(text) // a string always marshals
	return quoted
}

const masked = "***"

// mask hides credentials.
type mask struct {
	off  bool
	push *bots.Push
}

// text hides what the bot knows as a secret, wherever it stands.
func (m mask) text(s string) string {
	if m.off {
		return s
	}
	return strings.ReplaceAll(m.push.Redact.Redact(s), secret.Redacted, masked)
}

// header hides every value that is not known to be for everyone's eyes.
func (m mask) header(name, value string) string {
	if m.off || secret.IsPlainHeader(name) {
		return m.text(value)
	}
	return masked
}

// url hides the parameters of the bot's own address that look like credentials,
// secrets by value in those of the payload, and the last params in full.
func (m mask) url(u *url.URL, params int) string {
	if m.off || u.RawQuery == "" {
		return u.String()
	}
	own, _ := url.Parse(m.push.URL) // it was parsed when the bot was compiled
	pairs := strings.Split(u.RawQuery, "&")
	added := len(pairs) - params
	named := strings.Count(own.RawQuery, "&") + 1
	if own.RawQuery == "" {
		named = 0
	}
	for i, pair := range pairs {
		switch name, _, _ := strings.Cut(pair, "="); {
		case i >= added:
			pairs[i] = name + "=" + masked
		case i < named:
			pairs[i] = maskParam(pair)
		default:
			pairs[i] = m.text(pair)
		}
	}
	shown := *u
	shown.RawQuery = strings.Join(pairs, "&")
	return shown.String()
}

// maskParam hides the value of a parameter that looks like a credential.
func maskParam(pair string) string {
	name, value, ok := strings.Cut(pair, "=")
	plain, err := url.QueryUnescape(name)
	if ok && value != "" && (err != nil || secret.IsCredential(plain)) {
		return name + "=" + masked
	}
	return pair
}

// maskLink hides what opens a recording: the token, or the signature.
func maskLink(link string) string {
	const tokenPath = "/api/v1/public/recordings/"
	if i := strings.Index(link, tokenPath); i >= 0 && len(link) > i+len(tokenPath) {
		return link[:i+len(tokenPath)] + masked
	}
	head, query, hasQuery := strings.Cut(link, "?")
	if !hasQuery {
		return head
	}
	pairs := strings.Split(query, "&")
	for i := range pairs {
		pairs[i] = maskParam(pairs[i])
	}
	return head + "?" + strings.Join(pairs, "&")
}
