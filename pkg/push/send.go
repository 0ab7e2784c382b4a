package push

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"time"

	"github.com/cxbridge/watcher/pkg/secret"
)

var (
	errTimeout  = errors.New("the exchange took longer than its timeout")
	errBodyWait = errors.New("the answer's body took longer than it is waited for")
	errEnded    = errors.New("the exchange is over")
	errNoResend = errors.New("the connection ended after the request was sent on it")
)

// Send makes one attempt and classifies it. It returns within the request's
// timeout and always with a Result; it never sends a request again that may
// have reached the receiver, whatever net/http would do by itself. A kept
// connection that turns out to be dead before anything was written on it is
// replaced at once and is no failure.
//
// A status line is an answer: with a 200 and a body that never ends the attempt
// is ok with what arrived of the body, unless a rule needs the body to decide;
// then the class is ClassUnknown.
//
// Canceling ctx ends the attempt: with ClassCanceled when the request was not
// written in full, else with ClassUnknown.
func (c *Client) Send(ctx context.Context, r *Request) Result {
	start := time.Now()
	timeout := r.Timeout
	if timeout <= 0 || timeout > DefaultTimeout {
		timeout = DefaultTimeout
	}
	bounded, cancel := context.WithTimeoutCause(ctx, timeout, errTimeout)
	defer cancel()

	res := c.attempt(bounded, ctx, r, timeout)
	res.Duration = time.Since(start)
	c.metrics.attempt(&res)
	return res
}

// attempt is Send within its time. With OAuth a 401 may mean that the token was
// revoked: it is renewed once and the request sent once more, which is safe as
// the receiver refused the first.
func (c *Client) attempt(ctx, parent context.Context, r *Request, timeout time.Duration) Result {
	t, err := c.prepare(r)
	if err != nil {
		return Result{Class: ClassUnusable, Err: err}
	}
	t.parent, t.timeout = parent, timeout
	if r.Auth.kind() != AuthOAuth2 {
		return c.exchange(ctx, t)
	}
	token, err := c.tokens.get(ctx, r.Auth, "")
	if err != nil {
		return t.noToken(ctx, err)
	}
	t.setToken(token)
	res := c.exchange(ctx, t)
	if res.HTTPStatus != http.StatusUnauthorized {
		return res
	}
	fresh, err := c.tokens.get(ctx, r.Auth, token.value)
	if err != nil || fresh == token {
		return res // the receiver's own answer says more than the token endpoint's
	}
	t.setToken(fresh)
	again := c.exchange(ctx, t)
	again.Sends += res.Sends
	return again
}

// try is a request made ready for the wire.
type try struct {
	*Request
	parent   context.Context
	timeout  time.Duration
	url      *url.URL
	header   http.Header
	secrets  []secret.Text    // of this try alone: signing, auth, token
	redactor *secret.Redactor // made when first needed
}

// prepare checks and completes what is made anew for each try. Its errors are
// final and name no value.
func (c *Client) prepare(r *Request) (*try, error) {
	if r.Method != http.MethodPost && r.Method != http.MethodGet {
		return nil, errMethod
	}
	u, err := parseURL(r.URL)
	if err != nil {
		return nil, err
	}
	if err := checkHeader(r.Header); err != nil {
		return nil, err
	}
	t := &try{Request: r, url: u, header: r.Header}
	if !t.has("User-Agent") {
		t.set("User-Agent", c.userAgent)
	}
	// net/http asks for gzip and undoes it, but only when nobody else asks.
	t.drop("Accept-Encoding")
	if err := t.sign(time.Now()); err != nil {
		return nil, err
	}
	if err := t.authorize(); err != nil {
		return nil, err
	}
	return t, nil
}

var (
	errMethod = errors.New("method is neither POST nor GET")
	errURL    = errors.New("URL cannot be parsed")
	errScheme = errors.New("URL scheme is neither http nor https")
	errHost   = errors.New("URL has no host")
)

func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errURL // the error of net/url repeats the URL
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errScheme
	case u.Hostname() == "":
		return nil, errHost
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

// exchange sends once and reads the answer. It goes around dead connections.
func (c *Client) exchange(ctx context.Context, t *try) Result {
	if addr, err := netip.ParseAddr(t.url.Hostname()); err == nil {
		// Known without a dial, and the only look at it when a proxy dials.
		if err := c.guard.check(addr); err != nil {
			return Result{Class: ClassBlocked, Err: err}
		}
	}
	res := Result{}
	for range maxStale {
		var stale bool
		if res, stale = c.roundTrip(ctx, t); !stale {
			break
		}
	}
	return res
}

// maxStale is how many dead kept connections one attempt may meet. Each is gone
// afterwards, so only a receiver that ends them all the time gets there.
const maxStale = 64

// roundTrip makes one exchange. stale says that it met a kept connection that
// was dead already; nothing was written, and another exchange can follow at once.
func (c *Client) roundTrip(ctx context.Context, t *try) (res Result, stale bool) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errEnded)
	w := newWire()
	req := t.request(httptrace.WithClientTrace(ctx, w.trace()), w)

	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		f := w.finish()
		c.metrics.wire(f)
		return t.failure(ctx, f, err), f.stale && ctx.Err() == nil
	}
	a := readAnswer(resp, t.needsBody(resp.StatusCode), cancel)
	f := w.finish()
	c.metrics.wire(f)
	res = t.judge(a)
	res.Sends, res.Reused = f.sends, f.reused
	return res, false
}

// request builds the HTTP request. Its body is never nil and has a GetBody that
// refuses: net/http sends a GET, or a POST with an Idempotency-Key, again by
// itself when a kept connection dies, and asks GetBody first.
func (t *try) request(ctx context.Context, w *wire) *http.Request {
	body := func() io.ReadCloser { return io.NopCloser(bytes.NewReader(t.Body)) }
	req := &http.Request{
		Method: t.Method, URL: t.url, Host: t.url.Host, Header: t.header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: body(), ContentLength: int64(len(t.Body)),
		GetBody: func() (io.ReadCloser, error) {
			if !w.mayResend() {
				return nil, errNoResend
			}
			return body(), nil
		},
	}
	return req.WithContext(ctx)
}

// failure classifies an exchange without an answer.
func (t *try) failure(ctx context.Context, f fate, err error) Result {
	res := Result{Sends: f.sends, Reused: f.reused}
	if blocked, ok := errors.AsType[*BlockedError](err); ok {
		res.Class, res.Err = ClassBlocked, blocked
		return res
	}
	text := describe(err, f, context.Cause(ctx), t.timeout)
	switch {
	case f.written:
		res.Class = ClassUnknown
		text += "; the request was sent in full, so the receiver may have taken it"
	case t.parent.Err() != nil:
		res.Class = ClassCanceled
	default:
		res.Class = ClassUnreached
	}
	res.Err = &NoAnswerError{Text: t.redact(text), MayHaveArrived: f.written}
	return res
}

// judge classifies an answer.
func (t *try) judge(a answer) Result {
	res := Result{
		HTTPStatus: a.status,
		Body:       snippet(a.body, t.redact),
		RetryAfter: retryAfter(a.header, time.Now()),
	}
	res.Class, res.Err = t.classify(a)
	return res
}

func (t *try) classify(a answer) (Class, error) {
	class := statusClass(a.status)
	why := ""
	if class == ClassOK {
		switch t.Success.judge(a.body, a.cut) {
		case holds:
			return ClassOK, nil
		case open:
			text := fmt.Sprintf("HTTP %d, but its body did not arrive within %s, so the success rule cannot decide; the receiver may have taken the request", a.status, t.timeout)
			if t.parent.Err() != nil {
				text = fmt.Sprintf("HTTP %d, but its body was no longer waited for, so the success rule cannot decide; the receiver may have taken the request", a.status)
			}
			return ClassUnknown, &NoAnswerError{Text: text, MayHaveArrived: true}
		default:
			class, why = ClassRefused, "the success rule refuses the answer: "+t.Success.String()
		}
	}
	for i := range t.RetryWhen {
		if rule := &t.RetryWhen[i]; rule.match(a) {
			class = rule.class()
			why = "decided by the rule: " + rule.String()
			break
		}
	}
	return class, &StatusError{Status: a.status, Why: t.redact(why)}
}

// needsBody reports whether a rule has to see the body of such an answer.
func (t *try) needsBody(status int) bool {
	if statusClass(status) == ClassOK {
		return t.Success != nil
	}
	for i := range t.RetryWhen {
		if t.RetryWhen[i].needsBody(status) {
			return true
		}
	}
	return false
}

// statusClass is the class by status alone (contract section 7).
func statusClass(status int) Class {
	switch {
	case status >= 200 && status <= 299:
		return ClassOK
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests,
		status == http.StatusInternalServerError, status == http.StatusBadGateway,
		status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		return ClassBusy
	default:
		return ClassRejected
	}
}
