// Package push makes one delivery attempt over HTTP and says what became of it.
//
// It owns the request on the wire, the limits of the exchange, the guard
// against addresses that are not public, the credential of an attempt, and the class
// of the answer. It knows nothing of bots, calls, or where an outcome is
// written, and it does not wait between attempts: [Schedule] only says how long
// the wait should be.
//
//	client, err := push.NewClient(push.Options{MaxConnsPerHost: 8})
//	result := client.Send(ctx, &push.Request{Method: "POST", URL: u, Body: b, Timeout: 10 * time.Second})
//	delay, why := schedule.Decide(attempts, time.Since(first), result, seed)
package push

import (
	"net/http"
	"time"

	"github.com/cxbridge/watcher/pkg/secret"
)

// Request is one rendered delivery, ready to be sent. The same Request may be
// sent again, also at the same time; Send does not change it.
type Request struct {
	Method string      // "POST" or "GET"
	URL    string      // complete, query included; a fragment is dropped
	Header http.Header // complete but for what is made anew for each attempt (signature, auth)
	Body   []byte      // nil for GET

	// Timeout bounds the whole exchange: waiting for a connection, connect, TLS,
	// request, answer, body, and fetching a token. Zero or less, or more than
	// DefaultTimeout, means DefaultTimeout.
	Timeout time.Duration

	// DeliveryID is the same over every attempt of a delivery.
	DeliveryID string
	// SigningSecret signs each attempt anew when set, per the Standard Webhooks specification.
	SigningSecret secret.Text

	// Auth is the credential that is added to each attempt; nil adds none.
	Auth *Auth

	// Success decides on a 2xx answer; nil accepts every 2xx.
	Success *Rule
	// RetryWhen decides between another attempt and a final answer before the status
	// alone does. The first rule that matches wins. It is asked for every answer
	// that is not a success.
	RetryWhen []RetryRule

	// Redact takes the sender's secrets out of the answer's snippet and of error
	// texts. Nil makes Send find them by itself among the header values and the
	// query parameters whose names look like a credential's. What Auth and
	// SigningSecret hold is always taken out.
	Redact Redactor
}

// Redactor takes secrets out of a text. *secret.Redactor is one.
type Redactor interface {
	Redact(text string) string
	// RedactCut is Redact for the beginning of a text that was cut off, perhaps inside
	// of a secret.
	RedactCut(text string) string
}

// DefaultTimeout is the default and the cap of a whole exchange (docs/contract.md, section 6).
const DefaultTimeout = 10 * time.Second

// Class is what an attempt came to; it decides the status on the call and
// whether there is another attempt. The set is closed.
type Class uint8

// The classes of an attempt.
const (
	// ClassOK is a 2xx answer that the success rule accepts.
	ClassOK Class = iota
	// ClassRefused is a 2xx answer that the success rule refuses. Final.
	ClassRefused
	// ClassRejected is an HTTP answer that will not change: other 4xx, 3xx, 501. Final.
	ClassRejected
	// ClassBusy is 408, 425, 429, 500, 502, 503 or 504. Tried again.
	ClassBusy
	// ClassUnreached is no HTTP answer, and the request was not written in full.
	// Tried again.
	ClassUnreached
	// ClassUnknown is no HTTP answer after the request was written: the receiver
	// may have taken it. Tried again.
	ClassUnknown
	// ClassBlocked is an address that the guard refuses. Final.
	ClassBlocked
	// ClassUnusable is a request that can never be sent (bad URL, bad header). Final.
	ClassUnusable
	// ClassCanceled is an attempt that the sender itself ended before its timeout (a
	// stop, a lost lease), whether or not the request was written. It says nothing
	// about the receiver and does not count as an attempt; whether the request may
	// have arrived says [NoAnswerError].
	ClassCanceled

	classes // how many there are
)

// classNames are the words of log lines and metric labels.
var classNames = [classes]string{
	"ok", "refused", "rejected", "busy", "unreached", "unknown", "blocked", "unusable", "canceled",
}

// Classes returns every class, for metrics that exist from the start.
func Classes() []Class {
	all := make([]Class, classes)
	for i := range all {
		all[i] = Class(i)
	}
	return all
}

// String returns the class as one lower-case word, the same in logs and metrics.
func (c Class) String() string {
	if c < classes {
		return classNames[c]
	}
	return "invalid"
}

// Status returns what stands on the call for this class (docs/contract.md, section 7):
// "ok", "rejected" with an HTTP answer, "failed" without one. "skipped" never
// gets this far.
func (c Class) Status() string {
	switch c {
	case ClassOK:
		return "ok"
	case ClassRefused, ClassRejected, ClassBusy:
		return "rejected"
	default:
		return "failed"
	}
}

// Retryable reports whether another attempt may come to something else.
func (c Class) Retryable() bool {
	switch c {
	case ClassBusy, ClassUnreached, ClassUnknown, ClassCanceled:
		return true
	default:
		return false
	}
}

// Result is the outcome of one attempt.
type Result struct {
	Class      Class
	HTTPStatus int           // 0 without an answer
	Body       string        // first MaxSnippet characters of the answer, valid UTF-8 without NUL, redacted
	RetryAfter time.Duration // with ClassBusy, what the receiver asked for, at most MaxRetryAfter; else 0
	Err        error         // nil with ClassOK; never holds a credential or a query string
	Duration   time.Duration // the whole exchange

	// Sends is how many times the request went out on a wire: 1, but 0 when it
	// never did, and 2 when a refused OAuth token was renewed.
	Sends int
	// Reused reports whether the connection had served a request before.
	Reused bool
	// Wasteful reports an answer that counts and that cost far more to read than it was
	// worth: in tiny pieces, or among frames without content. Whoever sends many
	// requests there should send fewer.
	Wasteful bool
}

// MaxSnippet is how many characters of an answer are kept (docs/contract.md, section 7).
const MaxSnippet = 2000
