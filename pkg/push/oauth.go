package push

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/cxbridge/watcher/pkg/backoff"
	"github.com/cxbridge/watcher/pkg/secret"
)

const (
	// maxAccounts bounds the cache. It is far above the number of CRM accounts of
	// one deployment; beyond it the cache starts anew.
	maxAccounts = 4096
	// maxRefusals bounds how many receivers that refuse an account's tokens are remembered.
	maxRefusals = 1024
	// expiryMargin is how long before its end a token is not used any more.
	expiryMargin = 10 * time.Second
	// maxExpiry bounds what a token endpoint may say of a token's life.
	maxExpiry = 365 * 24 * time.Hour
)

var (
	// fetchPause is for how long a failed fetch is the answer to everybody, so that
	// a thousand waiting pushes do not each ask a token endpoint that has a fault.
	fetchPause = backoff.Backoff{First: time.Second, Most: time.Minute}
	// renewPause is for how long a receiver that refused a new token as well is not
	// given another: it wants another right, not another token, and token endpoints
	// count (Zoho gives 10 in 10 minutes).
	renewPause = backoff.Backoff{First: time.Minute, Most: time.Hour}
)

// token is what goes into the Authorization header.
type token struct {
	scheme  string
	value   secret.Text
	expires time.Time // zero when the token endpoint does not say
}

func (t token) valid() bool {
	return t.value.IsSet() && (t.expires.IsZero() || time.Until(t.expires) > expiryMargin)
}

// tokenCache keeps one account per token URL, client and scopes, so that bots
// that share an account share its token.
type tokenCache struct {
	mu       sync.Mutex
	accounts map[[sha256.Size]byte]*account
}

// account is asked for by one attempt at a time; the others wait, each within
// its own time.
type account struct {
	turn   chan struct{} // holds one value while nobody fetches
	token  token
	inForm bool // the client's credentials go into the form; else into a header

	fault      Result // of the last fetch
	faults     int    // fetches that failed in a row
	faultUntil time.Time

	mu       sync.Mutex
	refusals map[string]refusal // by the place that refused
	// renewed is the place for which the token was renewed and that has not answered to
	// it yet; "" when it has.
	renewed string
}

// refusal is a receiver that answered 401 to a token that was just renewed.
type refusal struct {
	times int // in a row
	until time.Time
}

func (c *tokenCache) account(a *Auth) *account {
	h := sha256.New()
	for _, part := range append([]string{a.TokenURL, a.ClientID, a.ClientSecret.Reveal(), a.Scheme}, a.Scopes...) {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	key := [sha256.Size]byte(h.Sum(nil))
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.accounts[key]
	if !ok {
		if c.accounts == nil || len(c.accounts) >= maxAccounts {
			c.accounts = map[[sha256.Size]byte]*account{}
		}
		found = &account{turn: make(chan struct{}, 1), refusals: map[string]refusal{}}
		found.turn <- struct{}{}
		c.accounts[key] = found
	}
	return found
}

// mayRenew reports whether a refused token is renewed for this receiver now: not
// while it is to answer to one that was just renewed, nor soon after it refused that.
func (a *account) mayRenew(place string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.renewed != place && !a.pausedFor(place)
}

// refusedNew reports whether this receiver refused a token that was just renewed, not
// long ago.
func (a *account) refusedNew(place string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pausedFor(place)
}

func (a *account) pausedFor(place string) bool { return time.Now().Before(a.refusals[place].until) }

// renewedFor notes for which receiver the token was renewed, "" for none.
func (a *account) renewedFor(place string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.renewed = place
}

// heard notes what a receiver said to a token that was just renewed.
func (a *account) heard(place string, refused bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.renewed == place {
		a.renewed = ""
	}
	if !refused {
		delete(a.refusals, place)
		return
	}
	r := a.refusals[place]
	if len(a.refusals) >= maxRefusals {
		clear(a.refusals)
	}
	a.refusals[place] = refusal{times: r.times + 1, until: time.Now().Add(renewPause.Pause(r.times))}
}

// renewed returns another token than the one that the receiver refused.
func (c *Client) renewed(ctx context.Context, a *account, t *attempt, refused token) (token, bool) {
	if a.refusedNew(t.place()) {
		return token{}, false
	}
	fresh, fault := c.token(ctx, a, t, refused.value)
	return fresh, fault == nil && fresh.value != refused.value
}

// token returns a valid token other than refused, from the cache or from the token
// endpoint, or the Result of an attempt that got none. refused is "" for none.
func (c *Client) token(ctx context.Context, a *account, t *attempt, refused secret.Text) (token, *Result) {
	select {
	case <-a.turn:
		defer func() { a.turn <- struct{}{} }()
	case <-ctx.Done():
		return token{}, t.noToken(ctx, Result{Class: ClassUnreached}, "no turn to ask for it in time")
	}
	if a.token.valid() && a.token.value != refused {
		return a.token, nil
	}
	place := ""
	if refused != "" && a.token.value == refused {
		if place = t.place(); !a.mayRenew(place) {
			return a.token, nil // no other is to be had now
		}
	}
	if time.Now().Before(a.faultUntil) {
		return token{}, &a.fault
	}
	fetched, fault := c.fetch(ctx, a, t)
	c.metrics.tokens[fault == nil].Inc()
	if fault != nil {
		fault.HTTPStatus = 0  // the receiver itself gave no answer
		if ctx.Err() == nil { // else it says something of this attempt alone
			a.fault, a.faultUntil = *fault, time.Now().Add(fetchPause.Pause(a.faults))
			a.faults++
		}
		return token{}, fault
	}
	a.token, a.faults, a.faultUntil = fetched, 0, time.Time{}
	a.renewedFor(place)
	c.log.LogAttrs(ctx, slog.LevelDebug, "got an OAuth token",
		slog.String("client_id", t.Auth.ClientID), slog.Time("expires_at", fetched.expires))
	return fetched, nil
}

// fetch gets a token. The client's credentials go into a header, as all token
// endpoints should take them; an account whose endpoint refuses that is tried with
// the credentials in the form, and remembered when that serves.
func (c *Client) fetch(ctx context.Context, a *account, t *attempt) (token, *Result) {
	got, fault := c.fetchOnce(ctx, t, a.inForm)
	if fault == nil || a.inForm || fault.HTTPStatus != http.StatusBadRequest && fault.HTTPStatus != http.StatusUnauthorized {
		return got, fault
	}
	got, fault = c.fetchOnce(ctx, t, true)
	a.inForm = fault == nil
	return got, fault
}

// fetchOnce makes one exchange with the token endpoint.
func (c *Client) fetchOnce(ctx context.Context, t *attempt, inForm bool) (token, *Result) {
	req, err := tokenRequest(t, c.userAgent, inForm)
	if err != nil {
		return token{}, &Result{Class: ClassUnusable, Err: err}
	}
	a, res := c.answer(ctx, req)
	if a == nil {
		if blocked, ok := errors.AsType[*BlockedError](res.Err); ok {
			return token{}, &Result{Class: ClassBlocked, Err: fmt.Errorf("OAuth token: %w", blocked)}
		}
		text := res.Err.Error()
		if e, ok := errors.AsType[*NoAnswerError](res.Err); ok {
			text = e.Text // nothing was sent to the receiver itself
		}
		return token{}, t.noToken(ctx, Result{Class: ClassUnreached}, text)
	}
	return readToken(ctx, t, a)
}

// tokenRequest is a request for client credentials (RFC 6749 section 4.4).
func tokenRequest(t *attempt, userAgent string, inForm bool) (*attempt, error) {
	u, err := parseURL(t.Auth.TokenURL)
	if err != nil {
		return nil, errAuthToken
	}
	form := url.Values{"grant_type": {"client_credentials"}}
	if len(t.Auth.Scopes) > 0 {
		form.Set("scope", strings.Join(t.Auth.Scopes, " "))
	}
	header := http.Header{
		"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"}, "User-Agent": {userAgent},
	}
	if inForm {
		form.Set("client_id", t.Auth.ClientID)
		form.Set("client_secret", t.Auth.ClientSecret.Reveal())
	} else {
		header.Set("Authorization", basic(url.QueryEscape(t.Auth.ClientID), url.QueryEscape(t.Auth.ClientSecret.Reveal())))
	}
	if u.User != nil && !inForm {
		u.User = nil // the client's own credentials stand in its place
	}
	return &attempt{
		Request: &Request{Method: http.MethodPost, Body: []byte(form.Encode()), Redact: t.Redact, Success: everyBody},
		parent:  t.parent, timeout: t.timeout, ends: t.ends, url: u, header: header, secrets: t.Auth.named(),
	}, nil
}

// everyBody makes an exchange wait for the body as for one that a rule needs.
var everyBody = &Rule{Path: "access_token", Exists: new(bool)}

// readToken reads the answer of a token endpoint (RFC 6749 section 5).
func readToken(ctx context.Context, t *attempt, a *answer) (token, *Result) {
	var form struct {
		Token   secret.Text     `json:"access_token"`
		Type    string          `json:"token_type"`
		Expires json.RawMessage `json:"expires_in"`
		Error   string          `json:"error"`
	}
	body, _ := a.json()
	err := json.Unmarshal(body, &form)
	class := statusClass(a.status)
	switch {
	case class != ClassOK || form.Error != "":
		text := fmt.Sprintf("HTTP %d", a.status)
		if form.Error != "" {
			text += " (" + t.redact(plainCode(form.Error)) + ")"
		}
		res := Result{Class: ClassUnusable, HTTPStatus: a.status} // wrong client, scope or URL: asking again changes nothing
		if class == ClassBusy {
			res.Class, res.RetryAfter = ClassUnreached, retryAfter(a.header, time.Now())
		}
		return token{}, t.noToken(ctx, res, text)
	case a.cut != whole:
		return token{}, t.noToken(ctx, Result{Class: ClassUnreached}, "the answer did not arrive in full")
	case err != nil, !form.Token.IsSet(), !httpguts.ValidHeaderFieldValue(form.Token.Reveal()):
		return token{}, t.noToken(ctx, Result{Class: ClassUnreached}, "no access_token in the answer")
	}
	got := token{scheme: cmp.Or(t.Auth.Scheme, scheme(form.Type)), value: form.Token}
	if life := lifetime(form.Expires); life > 0 {
		got.expires = time.Now().Add(life)
	}
	return got, nil
}

// scheme is what stands before a token of a type: "bearer" is Bearer.
func scheme(tokenType string) string {
	if strings.EqualFold(tokenType, "bearer") || !httpguts.ValidHeaderFieldName(tokenType) {
		return "Bearer"
	}
	return tokenType
}

// lifetime reads expires_in, which some endpoints send as text or with a
// fraction. What is no number of seconds is 0: the token is used until refused.
func lifetime(text json.RawMessage) time.Duration {
	seconds, err := strconv.ParseFloat(strings.TrimSpace(strings.Trim(string(text), `"`)), 64)
	if err != nil || math.IsNaN(seconds) || seconds <= 0 {
		return 0
	}
	return time.Duration(min(seconds, maxExpiry.Seconds()) * float64(time.Second))
}

// noToken is the Result of an attempt that got no token, so that sent nothing to
// the receiver.
func (t *attempt) noToken(ctx context.Context, res Result, text string) *Result {
	if t.canceled(ctx) {
		res.Class = ClassCanceled
	}
	res.Err = &NoAnswerError{Text: "OAuth token: " + text}
	return &res
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
