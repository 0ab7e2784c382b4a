package world

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/cxbridge/watcher/pkg/backoff"
)

// maxBody is how much of a payload a CRM reads: more than the watcher sends.
const maxBody = 32 << 20

// Request is one request as it came in.
type Request struct {
	Method   string
	Path     string // without the query
	Query    string // raw
	Header   http.Header
	Body     []byte
	Delivery string // Idempotency-Key
	Number   int    // of this delivery, the first is 1
	At       time.Time
}

// Answer is what a CRM says. The zero Answer is a 200 without a body.
type Answer struct {
	Status int
	Body   string
	Header map[string]string
	After  time.Duration   // how long the CRM thinks
	Until  <-chan struct{} // when not nil, the answer waits for it
	Hangup bool            // close the connection instead of answering
}

// CRM is an http.Handler that answers as it is told. Of the requests it
// remembers nothing but how many came of each delivery, about 100 bytes for one.
type CRM struct {
	answer func(Request) Answer

	mu    sync.Mutex
	count map[string]int // by delivery
}

// NewCRM makes a CRM. The answer to a request is asked for before anything is
// sent back, and for several requests at once.
func NewCRM(answer func(Request) Answer) *CRM {
	return &CRM{answer: answer, count: make(map[string]int)}
}

// ServeHTTP implements http.Handler.
func (c *CRM) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil { // too large, or the sender was killed while it wrote
		http.Error(w, "unreadable body", http.StatusBadRequest)
		return
	}
	a := c.receive(Request{
		Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header.Clone(),
		Body: body, Delivery: r.Header.Get("Idempotency-Key"), At: time.Now(),
	})
	if !a.wait(r.Context()) {
		return
	}
	if a.Hangup {
		panic(http.ErrAbortHandler)
	}
	for k, v := range a.Header {
		w.Header().Set(k, v)
	}
	if a.Status != 0 {
		w.WriteHeader(a.Status)
	}
	_, _ = io.WriteString(w, a.Body) // the sender may be gone
}

func (c *CRM) receive(r Request) Answer {
	c.mu.Lock()
	c.count[r.Delivery]++
	r.Number = c.count[r.Delivery]
	c.mu.Unlock()
	return c.answer(r)
}

// wait returns false when the sender hung up before the answer was due.
func (a *Answer) wait(ctx context.Context) bool {
	if a.After > 0 && backoff.Sleep(ctx, a.After) != nil {
		return false
	}
	if a.Until == nil {
		return true
	}
	select {
	case <-a.Until:
		return true
	case <-ctx.Done():
		return false
	}
}
