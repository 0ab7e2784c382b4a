package admin

import (
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/cxbridge/watcher/internal/resources"
)

// maxConns is the most connections of a listener. Where the process may open few
// files they have an eighth of those, so that the pushes never lack one.
const maxConns = 256

// conns bounds the connections of a server. A new one always gets in: in its place
// goes the one that has waited longest for a request, else the one whose request
// has taken longest, so that idle clients never lock a probe out.
type conns struct {
	most int

	mu   sync.Mutex
	open map[net.Conn]connState
}

type connState struct {
	busy  bool
	since time.Time
}

func newConns() *conns {
	return &conns{most: min(maxConns, max(resources.Files()/8, 16)), open: make(map[net.Conn]connState)}
}

// track has the form of http.Server.ConnState.
func (c *conns) track(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		if len(c.open) >= c.most {
			c.closeOldest()
		}
		c.open[conn] = connState{since: time.Now()}
	case http.StateActive, http.StateIdle:
		if _, ok := c.open[conn]; ok { // else it was closed here
			c.open[conn] = connState{busy: state == http.StateActive, since: time.Now()}
		}
	default:
		delete(c.open, conn)
	}
}

func (c *conns) closeOldest() {
	var oldest net.Conn
	for conn, s := range c.open {
		o := c.open[oldest]
		if oldest == nil || !s.busy && o.busy || s.busy == o.busy && s.since.Before(o.since) {
			oldest = conn
		}
	}
	delete(c.open, oldest)
	_ = oldest.Close() // its reader or writer sees the end
}

// atMost lets n requests through at a time. The others wait, and cost nothing.
func atMost(n int, next http.Handler) http.Handler {
	slots := make(chan struct{}, n)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-r.Context().Done():
			return
		}
		// A reader that is slow must not keep its slot from the others.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(readTimeout))
		next.ServeHTTP(w, r)
	})
}
