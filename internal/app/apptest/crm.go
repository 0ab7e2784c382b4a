// Package apptest is what the tests of a whole watcher stand on: a CRM that
// remembers every request, and a platform that writes calls as CXB API does.
//
// It does not know the watcher, and it starts no database: it takes a connection
// to one.
package apptest

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"
)

// Request is one request as it came in.
type Request struct {
	Method   string
	Path     string // without the query
	Query    string // raw
	Header   http.Header
	Body     []byte
	Delivery string // Idempotency-Key
	Number   int    // of this delivery, the first is 1
	Epoch    int    // see CRM.Turn
	At       time.Time

	gone <-chan struct{} // closed when the sender hangs up
}

// Answer is what the CRM says. The zero Answer is a 200 without a body.
type Answer struct {
	Status int
	Body   string
	Header map[string]string
	Until  <-chan struct{} // when not nil, the answer waits for it
	Hangup bool            // close the connection instead of answering
}

// CRM is an HTTP server on loopback that remembers every request.
type CRM struct {
	URL string

	mu       sync.Mutex
	answer   func(Request) Answer
	requests []Request
	perID    map[string]int
	epoch    int
	changed  chan struct{} // closed at the next request
	conns    map[net.Conn]struct{}
}

// NewCRM starts a CRM that answers 200 to everything, until the end of the test.
func NewCRM(t testing.TB) *CRM {
	t.Helper()
	c := &CRM{perID: make(map[string]int), changed: make(chan struct{}), conns: make(map[net.Conn]struct{})}
	server := httptest.NewUnstartedServer(c)
	server.Config.ConnState = c.connection
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	c.URL = server.URL
	return c
}

// Answers sets how requests are answered; nil is 200.
func (c *CRM) Answers(f func(Request) Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = f
}

// Turn begins a new epoch, and returns the number of the one before: a test
// counts what came before and after a restart by it.
func (c *CRM) Turn() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	return c.epoch - 1
}

// ServeHTTP implements http.Handler.
func (c *CRM) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 32<<20))
	if err != nil {
		return // the sender was killed while it wrote: nothing was taken
	}
	req := Request{
		Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header.Clone(),
		Body: bytes.Clone(body), Delivery: r.Header.Get("Idempotency-Key"), At: time.Now(),
		gone: r.Context().Done(),
	}
	a := c.take(&req)
	if a.Until != nil {
		select {
		case <-a.Until:
		case <-req.gone:
			return
		}
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

func (c *CRM) take(r *Request) Answer {
	c.mu.Lock()
	c.perID[r.Delivery]++
	r.Number, r.Epoch = c.perID[r.Delivery], c.epoch
	c.requests = append(c.requests, *r)
	close(c.changed)
	c.changed = make(chan struct{})
	answer := c.answer
	c.mu.Unlock()
	if answer == nil {
		return Answer{}
	}
	return answer(*r)
}

func (c *CRM) connection(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.conns[conn] = struct{}{}
	case http.StateClosed, http.StateHijacked:
		delete(c.conns, conn)
	default: // active and idle ones are open as before
	}
}

// Connections is how many connections are open. After the death of the sender
// it falls to 0 once all that it had sent is read.
func (c *CRM) Connections() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.conns)
}

// Requests returns what came so far, in order.
func (c *CRM) Requests() []Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.requests)
}

// At returns what came so far to one path.
func (c *CRM) At(path string) []Request {
	all := c.Requests()
	return slices.DeleteFunc(all, func(r Request) bool { return r.Path != path })
}

// Wait waits until what came is enough, or ctx ends; false then.
func (c *CRM) Wait(ctx context.Context, enough func([]Request) bool) bool {
	for {
		c.mu.Lock()
		all, changed := slices.Clone(c.requests), c.changed
		c.mu.Unlock()
		if enough(all) {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
