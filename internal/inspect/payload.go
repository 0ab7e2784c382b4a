package inspect

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/secret"
)

// Masked stands for a secret that is not shown.
const Masked = "***"

// Show is a request as it would go out at a time, with *** for its secrets unless
// they are asked for. The token of an OAuth server is fetched when something is
// sent, so it is never shown. The error is a request that cannot be sent.
func Show(req *push.Request, p *bots.Push, at time.Time, secrets bool) (*Payload, error) {
	url, header, err := push.Compose(req, at)
	if err != nil {
		return nil, fmt.Errorf("the request cannot be sent: %w", err)
	}
	m := mask{off: secrets, push: p}
	out := &Payload{Method: req.Method, Headers: map[string]string{}}
	for name, values := range header {
		out.Headers[name] = m.header(name, strings.Join(values, ", "))
	}
	params := 0
	if a := req.Auth; a != nil {
		params = len(a.Params)
		if a.Kind == push.AuthOAuth2 {
			out.Headers["Authorization"] = cmp.Or(a.Scheme, "Bearer") + " " + Masked
		}
	}
	out.URL = m.url(url, params)
	if req.Body != nil {
		out.Body = m.text(string(req.Body))
	}
	return out, nil
}

// Hide is a text with *** for what the bot knows as a secret.
func Hide(p *bots.Push, text string) string { return mask{push: p}.text(text) }

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
	return strings.ReplaceAll(m.push.Redact.Redact(s), secret.Redacted, Masked)
}

// header hides every value that is not known to be for everyone's eyes.
func (m mask) header(name, value string) string {
	if m.off || secret.IsPlainHeader(name) {
		return m.text(value)
	}
	return Masked
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
			pairs[i] = name + "=" + Masked
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
		return name + "=" + Masked
	}
	return pair
}

// MaskLink hides what opens a recording: the token, or the signature.
func MaskLink(link string) string {
	const tokenPath = "/api/v1/public/recordings/"
	if i := strings.Index(link, tokenPath); i >= 0 && len(link) > i+len(tokenPath) {
		return link[:i+len(tokenPath)] + Masked
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
