package push

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/cxbridge/watcher/pkg/secret"
)

const (
	// maxTokenKeys bounds the cache. It is far above the number of CRM accounts
	// of one deployment; beyond it the cache starts anew.
	maxTokenKeys = 4096
	// tokenFaultPause is for how long a failed fetch is the answer to everybody,
	// so that a thousand waiting pushes do not each ask a token endpoint in trouble.
	tokenFaultPause = time.Second
	// maxTokenAnswer bounds a token endpoint's answer.
	maxTokenAnswer = 64 << 10
)

// token is what goes into the Authorization header.
type token struct {
	scheme string
	value  secret.Text
}

// tokenCache keeps one token per token URL, client and scopes, so that bots
// that share an account share its token.
type tokenCache struct {
	client  *http.Client
	metrics *metrics
	log     *slog.Logger

	mu      sync.Mutex
	entries map[[sha256.Size]byte]*tokenEntry
}

// tokenEntry is fetched by one attempt at a time; the others wait, each within
// its own time.
type tokenEntry struct {
	turn   chan struct{} // holds one value while nobody fetches
	config clientcredentials.Config
	scheme string

	token   *oauth2.Token
	err     error
	errTill time.Time
}

func newTokenCache(rt http.RoundTripper, guard *guard, m *metrics, log *slog.Logger) *tokenCache {
	return &tokenCache{
		client: &http.Client{
			Transport:     tokenTransport{rt, guard},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		metrics: m,
		log:     log,
		entries: map[[sha256.Size]byte]*tokenEntry{},
	}
}

// tokenTransport puts the limits of a push on the exchange with a token endpoint.
type tokenTransport struct {
	next  http.RoundTripper
	guard *guard
}

// RoundTrip implements http.RoundTripper.
func (t tokenTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if addr, err := netip.ParseAddr(req.URL.Hostname()); err == nil {
		if err := t.guard.check(addr); err != nil {
			if req.Body != nil {
				_ = req.Body.Close() // an in-memory reader
			}
			return nil, err
		}
	}
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxTokenAnswer), resp.Body}
	return resp, nil
}

func (c *tokenCache) entry(a *Auth) *tokenEntry {
	h := sha256.New()
	for _, part := range append([]string{a.TokenURL, a.ClientID, a.ClientSecret.Reveal(), a.Scheme}, a.Scopes...) {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	key := [sha256.Size]byte(h.Sum(nil))
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok {
		if len(c.entries) >= maxTokenKeys {
			clear(c.entries)
		}
		e = &tokenEntry{
			turn: make(chan struct{}, 1),
			config: clientcredentials.Config{
				ClientID: a.ClientID, ClientSecret: a.ClientSecret.Reveal(),
				TokenURL: a.TokenURL, Scopes: a.Scopes,
			},
			scheme: a.Scheme,
		}
		e.turn <- struct{}{}
		c.entries[key] = e
	}
	return e
}

// get returns a token that is valid and is not the one that the receiver
// refused, from the cache or from the token endpoint.
func (c *tokenCache) get(ctx context.Context, a *Auth, refused secret.Text) (token, error) {
	e := c.entry(a)
	select {
	case <-e.turn:
		defer func() { e.turn <- struct{}{} }()
	case <-ctx.Done():
		return token{}, context.Cause(ctx)
	}
	if e.token.Valid() && secret.Text(e.token.AccessToken) != refused {
		return e.current(), nil
	}
	if e.err != nil && time.Now().Before(e.errTill) {
		return token{}, e.err
	}
	fetched, err := e.config.Token(context.WithValue(ctx, oauth2.HTTPClient, c.client))
	c.metrics.token(err)
	if err != nil {
		if ctx.Err() != nil {
			return token{}, context.Cause(ctx) // says something of this attempt alone
		}
		e.err, e.errTill = err, time.Now().Add(tokenFaultPause)
		return token{}, err
	}
	e.token, e.err = fetched, nil
	c.log.LogAttrs(ctx, slog.LevelDebug, "got an OAuth token",
		slog.String("client_id", a.ClientID), slog.Time("expires_at", fetched.Expiry))
	return e.current(), nil
}

func (e *tokenEntry) current() token {
	return token{scheme: cmp.Or(e.scheme, e.token.Type()), value: secret.Text(e.token.AccessToken)}
}

// noToken classifies an attempt that got no token, so that sent nothing to the
// receiver.
func (t *try) noToken(ctx context.Context, err error) Result {
	if blocked, ok := errors.AsType[*BlockedError](err); ok {
		return Result{Class: ClassBlocked, Err: fmt.Errorf("OAuth token: %w", blocked)}
	}
	res := Result{Class: ClassUnreached}
	var text string
	if refusal, ok := errors.AsType[*oauth2.RetrieveError](err); ok && refusal.Response != nil {
		status := refusal.Response.StatusCode
		text = fmt.Sprintf("HTTP %d", status)
		if refusal.ErrorCode != "" {
			text += " (" + t.redact(plainCode(refusal.ErrorCode)) + ")"
		}
		if statusClass(status) == ClassRejected || statusClass(status) == ClassOK {
			res.Class = ClassUnusable // wrong client, scope or URL: asking again changes nothing
		}
		res.RetryAfter = retryAfter(refusal.Response.Header, time.Now())
	} else {
		text = describe(err, fate{at: stageToken}, context.Cause(ctx), t.timeout)
	}
	if t.parent.Err() != nil {
		res.Class = ClassCanceled
	}
	res.Err = &NoAnswerError{Text: "OAuth token: " + text}
	return res
}

// plainCode keeps the characters that an OAuth error code may have in practice.
func plainCode(s string) string {
	s = s[:min(len(s), 64)]
	return strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return -1
	}, s)
}
