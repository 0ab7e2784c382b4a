package bench

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/cxbridge/watcher/pkg/backoff"
)

// crm is all CRMs: it answers 200 after a while and notes when each call came.
type crm struct {
	listener net.Listener
	server   *http.Server
	latency  time.Duration

	storedAt, sentAt []atomic.Int64 // unix nanoseconds by call; 0 is not yet
	count, repeated  atomic.Int64
}

func newCRM(calls int, latency time.Duration) (*crm, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // binding takes no time
	if err != nil {
		return nil, fmt.Errorf("listen as CRM: %w", err)
	}
	c := &crm{listener: listener, latency: latency, storedAt: make([]atomic.Int64, calls), sentAt: make([]atomic.Int64, calls)}
	c.server = &http.Server{Handler: c, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = c.server.Serve(listener) }() // ends with close
	return c, nil
}

func (c *crm) close() { _ = c.server.Close() }

// url is where bot n pushes to.
func (c *crm) url(n int) string { return fmt.Sprintf("http://%s/crm/%d", c.listener.Addr(), n) }

// stored notes when the result of call n was stored.
func (c *crm) stored(n int, at time.Time) { c.storedAt[n].Store(at.UnixNano()) }

// sent is how many calls have come, each counted once.
func (c *crm) sent() int { return int(c.count.Load()) }

const (
	payloadStart = `{"call_id":"`
	mostPayload  = 1 << 20
)

// ServeHTTP implements http.Handler.
func (c *crm) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var start [len(payloadStart) + 9]byte
	_, err := io.ReadFull(r.Body, start[:])
	at := time.Now()
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, mostPayload))
	n, bad := strconv.Atoi(string(start[len(payloadStart):]))
	if err != nil || bad != nil || n < 0 || n >= len(c.sentAt) {
		http.Error(w, "not a payload of this bench", http.StatusBadRequest)
		return
	}
	if c.sentAt[n].CompareAndSwap(0, at.UnixNano()) {
		c.count.Add(1)
	} else {
		c.repeated.Add(1)
	}
	if c.latency > 0 && backoff.Sleep(r.Context(), c.latency) != nil {
		return
	}
	_, _ = io.WriteString(w, `{"ok":true}`) // the sender may be gone
}

// delays are the times from stored to sent, of the calls that were stored one by one.
func (c *crm) delays() []time.Duration {
	var all []time.Duration
	for n := range c.sentAt {
		stored, sent := c.storedAt[n].Load(), c.sentAt[n].Load()
		if stored > 0 && sent > 0 { // the CRM may have it before the storing is acknowledged
			all = append(all, max(0, time.Duration(sent-stored)))
		}
	}
	return all
}
