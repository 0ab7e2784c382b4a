package push

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"

	"github.com/cxbridge/watcher/pkg/secret"
)

var (
	errTimeout  = errors.New("the exchange took longer than its timeout")
	errBodyWait = errors.New("the answer's body took longer than it is waited for")
	errEnded    = errors.New("the exchange is over")
	errNoResend = errors.New("the exchange ended after the request was sent")
	errHeaders  = fmt.Errorf("the receiver answered with headers that are malformed or larger than %d KiB, so that its status is not known", maxHeaderBytes>>10)
	errDials    = errors.New("the receiver ends each new connection before a request")
)

// Send makes one attempt and classifies it. It returns within the request's
// timeout and always with a Result. It is one exchange on every protocol: a
// request of which a byte was written is never sent again, whatever net/http
// would do by itself. A kept connection that turns out to be dead before anything
// was written on it is replaced at once and is no failure.
//
// A status line is an answer: with a 200 and a body that never ends the attempt
// is ok with what arrived of the body, unless a rule needs the body to decide;
// then the class is ClassUnknown.
//
// The end of ctx ends the attempt with ClassCanceled, unless the status line is
// here and decides; whether the request may have arrived says the error.
func (c *Client) Send(ctx context.Context, r *Request) Result {
	start := time.Now()
	timeout := r.Timeout
	if timeout <= 0 || timeout > DefaultTimeout {
		timeout = DefaultTimeout
	}
	res := c.send(ctx, r, start.Add(timeout), timeout)
	res.Duration = time.Since(start)
	c.metrics.attempt(&res)
	return res
}

// send is Send until ends. With OAuth a 401 may mean that the token was
// revoked: it is renewed once and the request sent once more, which is safe as
// the receiver refused the first.
func (c *Client) send(ctx context.Context, r *Request, ends time.Time, timeout time.Duration) Result {
	t, err := c.prepare(r)
	if err != nil {
		return Result{Class: ClassUnusable, Err: err}
	}
	t.parent, t.ends, t.timeout = ctx, ends, timeout
	if r.Auth.kind() != AuthOAuth2 {
		return c.exchange(ctx, t) // which ends in time by itself
	}
	ctx, cancel := context.WithDeadlineCause(ctx, ends, errTimeout)
	defer cancel()
	account := c.tokens.account(r.Auth)
	token, fault := c.token(ctx, account, t, "")
	if fault != nil {
		return *fault
	}
	t.setToken(token)
	res := c.exchange(ctx, t)
	if res.HTTPStatus != http.StatusUnauthorized {
		return res
	}
	fresh, ok := c.renewed(ctx, account, t, token)
	if !ok {
		return res // the receiver's own answer says more than the token endpoint's
	}
	t.setToken(fresh)
	second := c.exchange(ctx, t)
	second.Sends += res.Sends
	account.heard(t.place(), second.HTTPStatus == http.StatusUnauthorized)
	return second
}

// attempt is a request made ready for the wire.
type attempt struct {
	*Request
	parent   context.Context
	timeout  time.Duration
	ends     time.Time
	url      *url.URL
	header   http.Header
	secrets  []secret.Named   // of this attempt alone: signing, auth, token
	redactor *secret.Redactor // made when first needed
}

// place is the receiver without what differs between deliveries.
func (t *attempt) place() string { return t.url.Scheme + "://" + t.url.Host + t.url.EscapedPath() }

// prepare checks and completes what is made anew for each attempt. Its errors are
// final and name no value.
func (c *Client) prepare(r *Request) (*attempt, error) {
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
	t := &attempt{Request: r, url: u, header: maps.Clone(r.Header)} // a value is replaced, never changed
	if t.header == nil {
		t.header = http.Header{}
	}
	if !t.has("User-Agent") {
		t.set("User-Agent", c.userAgent)
	}
	t.setValues("Accept-Encoding", acceptEncoding)
	if err := t.sign(time.Now()); err != nil {
		return nil, err
	}
	if err := t.authorize(); err != nil {
		return nil, err
	}
	return t, nil
}

// acceptEncoding is the only one that is unpacked. It is in every request and never changed.
var acceptEncoding = []string{"gzip"}

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

// exchange sends once, reads the answer and classifies it.
func (c *Client) exchange(ctx context.Context, t *attempt) Result {
	a, res := c.answer(ctx, t)
	if a == nil {
		return res
	}
	classified := t.classify(a)
	classified.Sends, classified.Reused, classified.Wasteful = res.Sends, res.Reused, res.Wasteful
	return classified
}

// answer sends once and returns the answer, with how it was sent; without an
// answer it is nil, and the Result says why. It goes around dead connections.
func (c *Client) answer(ctx context.Context, t *attempt) (*answer, Result) {
	if err := c.guard.CheckURL(t.url); err != nil {
		return nil, Result{Class: ClassBlocked, Err: err}
	}
	for n := 1; ; n++ {
		a, res, stale := c.roundTrip(ctx, t)
		if !stale || n == maxStale {
			return a, res
		}
	}
}

// maxStale is how many dead kept connections one attempt may meet. Each is gone
// afterwards, so only a receiver that ends them all the time gets there.
const maxStale = 64

// roundTrip makes one exchange. stale says that it met a kept connection that
// was dead already; nothing was written, and another exchange can follow at once.
func (c *Client) roundTrip(ctx context.Context, t *attempt) (a *answer, res Result, stale bool) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errEnded)
	w := newWire(cancel, len(t.Body))
	w.Context = ctx
	w.endBy(t.ends, errTimeout)
	req := t.request(httptrace.WithClientTrace(w, w.trace()), w)

	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		f := w.finish(context.Cause(ctx), 0)
		c.metrics.wire(f)
		if blocked, ok := errors.AsType[*BlockedError](err); ok {
			c.log.LogAttrs(ctx, slog.LevelWarn, "blocked an address",
				slog.String("host", t.url.Host), slog.String("address", blocked.Addr.String()))
		}
		return nil, t.failure(ctx, f, err), f.stale && ctx.Err() == nil
	}
	a = readAnswer(resp, t.needsBody(resp.StatusCode), w)
	f := w.finish(context.Cause(ctx), a.read)
	c.metrics.wire(f)
	return a, Result{Sends: f.sends, Reused: f.reused, Wasteful: f.wasteful}, false
}

// request builds the HTTP request. Without a body it is NoBody, with which an
// HTTP/2 stream ends with its HEADERS frame: some receivers refuse an empty DATA
// frame after a GET.
func (t *attempt) request(ctx context.Context, w *wire) *http.Request {
	req := &http.Request{
		Method: t.Method, URL: t.url, Host: t.url.Host, Header: t.header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: http.NoBody, ContentLength: int64(len(t.Body)),
	}
	if len(t.Body) > 0 {
		w.payload = t.Body
		w.body.Reset(t.Body)
		req.Body = io.NopCloser(&w.body)
		req.GetBody = w.resend
	}
	return req.WithContext(ctx)
}

// failure classifies an exchange without an answer.
func (t *attempt) failure(ctx context.Context, f fate, err error) Result {
	res := Result{Sends: f.sends, Reused: f.reused}
	if blocked, ok := errors.AsType[*BlockedError](err); ok {
		named := *blocked
		named.Named = true // else it was blocked before the dial
		res.Class, res.Err = ClassBlocked, &named
		return res
	}
	switch {
	case t.canceled(ctx):
		res.Class = ClassCanceled
	case f.unread && !f.flood && ctx.Err() == nil && !isNetwork(err):
		res.Class = ClassRejected // it would come again
		res.Err = &NoAnswerError{Text: errHeaders.Error(), MayHaveArrived: true}
		return res
	case f.written:
		res.Class = ClassUnknown
	default:
		res.Class = ClassUnreached
	}
	text := describe(err, f, context.Cause(ctx), t.timeout)
	text = t.redact(text)
	res.Err = &NoAnswerError{Text: strings.ToValidUTF8(text[:min(len(text), maxText)], ""), MayHaveArrived: f.written}
	return res
}

// canceled reports whether the sender itself ended the attempt, before its time
// was over.
func (t *attempt) canceled(ctx context.Context) bool {
	return t.parent.Err() != nil && !errors.Is(context.Cause(ctx), errTimeout)
}

// classify makes a Result of an answer. Only a receiver that is busy is asked
// when to come back: a 202 says so of the work that it has accepted.
func (t *attempt) classify(a *answer) Result {
	res := Result{HTTPStatus: a.status, Body: t.snippet(a)}
	res.Class, res.Err = t.class(a)
	if res.Class == ClassBusy {
		res.RetryAfter = retryAfter(a.header, time.Now())
	}
	return res
}

func (t *attempt) class(a *answer) (Class, error) {
	class := statusClass(a.status)
	why := ""
	if class == ClassOK {
		switch t.Success.eval(a) {
		case holds:
			return ClassOK, nil
		case open:
			return t.undecided(a)
		default:
			class, why = ClassRefused, "the success rule refuses the answer: "+t.Success.String()
		}
	}
	for i := range t.RetryWhen {
		rule := &t.RetryWhen[i]
		if time.Now().After(t.ends) {
			why = "there was no time for all of its rules"
			break
		}
		switch v := rule.eval(a); {
		case v == holds:
			class = rule.class()
			why = "decided by the rule: " + rule.String()
		case v == open && t.parent.Err() != nil:
			return t.undecided(a)
		default:
			continue
		}
		break
	}
	return class, &StatusError{Status: a.status, Why: t.redact(why)}
}

// undecided is an answer whose body did not arrive although a rule needs it.
func (t *attempt) undecided(a *answer) (Class, error) {
	class, when := ClassUnknown, fmt.Sprintf("did not arrive within %s", t.timeout)
	if t.parent.Err() != nil {
		class, when = ClassCanceled, "was no longer waited for"
	}
	text := fmt.Sprintf("HTTP %d, but its body %s, so its rules cannot decide", a.status, when)
	return class, &NoAnswerError{Text: text, MayHaveArrived: true}
}

// needsBody reports whether a rule has to see the body of such an answer.
func (t *attempt) needsBody(status int) bool {
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

// statusClass is the class by status alone (docs/contract.md, section 7).
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
