package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/pkg/push"
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
	if m.off || bots.IsPlainHeader(name) {
		return m.text(value)
	}
	return masked
}

// url hides the password, the parameters of the bot's own address that look like
// credentials, and secrets by value in the rest.
func (m mask) url(s string) string {
	if m.off {
		return s
	}
	own, added := s, ""
	if rest, ok := strings.CutPrefix(s, m.push.URL); ok {
		own, added = m.push.URL, rest
	}
	return maskURL(own) + m.text(added)
}

// maskURL hides the password and the credentials in the query of a URL, and
// leaves the rest as it is written.
func maskURL(s string) string {
	head, query, hasQuery := strings.Cut(s, "?")
	if scheme, rest, ok := strings.Cut(head, "://"); ok {
		authority, path, _ := cutBefore(rest, "/")
		if at := strings.LastIndexByte(authority, '@'); at >= 0 {
			user, _, hasPassword := strings.Cut(authority[:at], ":")
			if hasPassword {
				user += ":" + masked
			} else {
				user = masked // a lone user name is a key, as with some payment APIs
			}
			authority = user + authority[at:]
		}
		head = scheme + "://" + authority + path
	}
	if !hasQuery {
		return head
	}
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		plain, err := url.QueryUnescape(name)
		if ok && value != "" && (err != nil || bots.IsCredentialParam(plain)) {
			pairs[i] = name + "=" + masked
		}
	}
	return head + "?" + strings.Join(pairs, "&")
}

// cutBefore is strings.Cut that leaves sep with what comes after it.
func cutBefore(s, sep string) (before, after string, found bool) {
	if i := strings.Index(s, sep); i >= 0 {
		return s[:i], s[i:], true
	}
	return s, "", false
}

// maskLink hides what opens a recording: the token, or the signature.
func maskLink(link string) string {
	const tokenPath = "/api/v1/public/recordings/"
	if i := strings.Index(link, tokenPath); i >= 0 && len(link) > i+len(tokenPath) {
		return link[:i+len(tokenPath)] + masked
	}
	return maskURL(link)
}

// addSignature adds the Standard Webhooks headers as of a time.
func addSignature(out *requestOutput, req *push.Request, at time.Time, m mask) {
	if !req.SigningSecret.IsSet() {
		return
	}
	key, err := push.SigningKey(req.SigningSecret)
	if err != nil {
		return // such a bot is unusable
	}
	for name, value := range map[string]string{
		push.HeaderWebhookID:        req.DeliveryID,
		push.HeaderWebhookTimestamp: strconv.FormatInt(at.Unix(), 10),
		push.HeaderWebhookSignature: push.Signature(key, req.DeliveryID, at, req.Body),
	} {
		if _, own := out.Headers[name]; !own {
			out.Headers[name] = m.header(name, value)
		}
	}
}

// addAuth adds the credential of each try and returns the address with it. An
// OAuth token is only fetched when something is sent.
func addAuth(out *requestOutput, req *push.Request, m mask) (address string) {
	a := req.Auth
	if a == nil {
		return req.URL
	}
	switch a.Kind {
	case push.AuthNone:
	case push.AuthBasic:
		pair := a.Username + ":" + a.Password.Reveal()
		out.Headers["Authorization"] = m.header("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)))
	case push.AuthOAuth2:
		scheme := a.Scheme
		if scheme == "" {
			scheme = "Bearer"
		}
		out.Headers["Authorization"] = scheme + " " + masked
	case push.AuthQuery:
		address = req.URL
		for _, p := range a.Params {
			sep := "&"
			if !strings.Contains(address, "?") {
				sep = "?"
			}
			value := masked
			if m.off {
				value = url.QueryEscape(p.Value.Reveal())
			}
			address += sep + url.QueryEscape(p.Name) + "=" + value
		}
		return address
	}
	return req.URL
}
