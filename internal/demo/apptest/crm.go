// Package apptest is what the tests of a whole watcher stand on: a CRM that
// remembers every request, and a platform that writes calls as CXB API does.
//
// It does not know the watcher, and it starts no database: it takes a connection
// to one.
package apptest

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/cxbridge/watcher/internal/demo/world"
)

// Request is one request as it came in.
type Request struct {
	world.Request
	Epoch int // see CRM.Turn
}

// Answer is what the CRM says. The zero Answer is a 200 without a body.
type Answer = world.Answer

// CRM is an HTTP server on loopback that remembers every request.
type CRM struct {
	URL string

	mu       sync.Mutex
	answer   func(Request) Answer
	requests []Request
	epoch    int
	changed  chan struct{} // closed at the next request
	conns    map[net.Conn]struct{}
}

// NewCRM starts a CRM that answers 200 to everything, until the end of the test.
func NewCRM(t testing.TB) *CRM {
	t.Helper()
	c := &CRM{changed: make(chan struct{}), conns: make(map[net.Conn]struct{})}
	server := httptest.NewUnstartedServer(world.NewCRM(c.receive))
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

func (c *CRM) receive(r world.Request) Answer {
	c.mu.Lock()
	req := Request{Request: r, Epoch: c.epoch}
	c.requests = append(c.requests, req)
	close(c.changed)
	c.changed = make(chan struct{})
	answer := c.answer
	c.mu.Unlock()
	if answer == nil {
		return Answer{}
	}
	return answer(req)
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
