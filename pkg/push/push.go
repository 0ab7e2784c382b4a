// Package push makes one delivery attempt over HTTP and says what became of it.
//
// It owns the request on the wire, the limits of the exchange, the guard
// against addresses that are not public, and the class of the answer. It knows
// nothing of bots, calls, retries over hours or where an outcome is written.
package push

import (
	"net/http"
	"time"

	"github.com/cxbridge/watcher/pkg/secret"
)

// Request is one rendered delivery, ready to be sent. The same Request may be
// sent again; Send does not change it.
type Request struct {
	Method string      // "POST" or "GET"
	URL    string      // complete, query included
	Header http.Header // complete but for what is made anew for each try (signature, auth)
	Body   []byte      // nil for GET

	// Timeout bounds the whole exchange: connect, TLS, request, answer, body.
	Timeout time.Duration

	// DeliveryID is the same over every try of a delivery.
	DeliveryID string
	// SigningSecret signs each try anew when set, per the Standard Webhooks specification.
	SigningSecret secret.Text

	// Success decides on a 2xx answer; nil accepts every 2xx.
	Success *Rule
}

// Class is what an attempt came to; it decides the status on the call and
// whether there is another try. The set is closed.
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
	// ClassUnreached is no HTTP answer, and the request was not written in full. Tried again.
	ClassUnreached
	// ClassUnknown is no HTTP answer after the request was written: the receiver
	// may have taken it. Tried again.
	ClassUnknown
	// ClassBlocked is an address that the guard refuses. Final.
	ClassBlocked
	// ClassUnusable is a request that can never be sent (bad URL, bad header). Final.
	ClassUnusable
	// ClassCanceled is an attempt that the sender itself gave up before its
	// timeout (shutdown). It says nothing about the receiver.
	ClassCanceled
)

// Result is the outcome of one attempt.
type Result struct {
	Class      Class
	HTTPStatus int           // 0 without an answer
	Body       string        // first MaxSnippet characters of the answer, valid UTF-8
	RetryAfter time.Duration // what the receiver asked for; 0 when it did not
	Err        error         // nil with ClassOK; never holds a credential or a query string
	Duration   time.Duration // the whole exchange
}

// MaxSnippet is how many characters of an answer are kept.
const MaxSnippet = 2000
