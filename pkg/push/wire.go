package push

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// wireConn counts what is written to a TCP connection, below TLS. net/http
// reports a request as written when it stands in a buffer; whether a byte of it
// left the process is known here only.
type wireConn struct {
	net.Conn
	written atomic.Int64
	goodbye atomic.Bool
	reset   atomic.Bool // the peer answered with RST
}

// Write implements net.Conn. It counts before it writes: the answer may be here,
// and the exchange over, before this goroutine runs again.
func (c *wireConn) Write(p []byte) (int, error) {
	counts := !c.goodbye.Load()
	if counts {
		c.written.Add(int64(len(p)))
	}
	n, err := c.Conn.Write(p)
	if counts && n < len(p) {
		c.written.Add(int64(n - len(p)))
	}
	c.note(err)
	return n, err
}

// Read implements net.Conn.
func (c *wireConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.note(err)
	return n, err
}

// SetWriteDeadline implements net.Conn. On HTTP/1 only crypto/tls calls it, right
// before the alert that says goodbye, which is no part of a request.
func (c *wireConn) SetWriteDeadline(t time.Time) error {
	c.goodbye.Store(true)
	return c.Conn.SetWriteDeadline(t)
}

func (c *wireConn) note(err error) {
	if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) {
		c.reset.Store(true)
	}
}

func wireDialer(d *net.Dialer) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &wireConn{Conn: conn}, nil
	}
}

// stage is how far an exchange got.
type stage uint8

const (
	stageWait stage = iota // for a connection
	stageDNS
	stageConnect
	stageTLS
	stageSend
	stageAnswer
	stageToken // of another exchange, with the token endpoint
)

// wire watches one exchange through net/http's trace. A dial may go on after
type wire struct {
	mu    sync.Mutex
	over  bool
	start time.Time
	at    stage

	dnsFrom, connectFrom, tlsFrom time.Time
	dns, connect, tls, firstByte  time.Duration // 0: did not happen

	conn    *wireConn
	base    int64 // bytes written on conn before this exchange
	h2      bool
	got     bool
	reused  bool
	full    bool // net/http handed the whole request over
	sends   int  // on connections that are done with
	headers int  // header blocks written on the connection at hand
}

func newWire() *wire { return &wire{start: time.Now()} }

func (w *wire) hook(f func(now time.Time)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		f(time.Now())
	}
}

func (w *wire) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) {
			w.hook(func(now time.Time) { w.dnsFrom = now; w.reach(stageDNS) })
		},
		DNSDone: func(httptrace.DNSDoneInfo) {
			w.hook(func(now time.Time) { w.dns = now.Sub(w.dnsFrom); w.reach(stageConnect) })
		},
		ConnectStart: func(string, string) {
			w.hook(func(now time.Time) {
				if w.connectFrom.IsZero() { // several addresses are tried side by side
					w.connectFrom = now
				}
				w.reach(stageConnect)
			})
		},
		ConnectDone: func(_, _ string, err error) {
			w.hook(func(now time.Time) {
				if err == nil {
					w.connect = now.Sub(w.connectFrom)
				}
			})
		},
		TLSHandshakeStart: func() {
			w.hook(func(now time.Time) { w.tlsFrom = now; w.reach(stageTLS) })
		},
		TLSHandshakeDone: func(tls.ConnectionState, error) {
			w.hook(func(now time.Time) { w.tls = now.Sub(w.tlsFrom) })
		},
		GotConn:      w.gotConn,
		WroteHeaders: func() { w.hook(func(time.Time) { w.headers++ }) },
		WroteRequest: func(i httptrace.WroteRequestInfo) {
			w.hook(func(time.Time) {
				if i.Err == nil {
					w.full = true
					w.reach(stageAnswer)
				}
			})
		},
		GotFirstResponseByte: func() {
			w.hook(func(now time.Time) { w.firstByte = now.Sub(w.start) })
		},
	}
}

func (w *wire) reach(s stage) { w.at = max(w.at, s) }

func (w *wire) gotConn(i httptrace.GotConnInfo) {
	w.hook(func(time.Time) {
		w.settle()
		w.got, w.reused, w.full = true, i.Reused, false
		w.at = stageSend
		conn := i.Conn
		w.h2 = false
		if t, ok := conn.(*tls.Conn); ok {
			w.h2 = t.ConnectionState().NegotiatedProtocol == "h2"
			conn = t.NetConn()
		}
		if w.conn, _ = conn.(*wireConn); w.conn != nil {
			w.base = w.conn.written.Load()
			if i.Reused && !w.h2 && hungUp(w.conn.Conn) {
				// net/http has not noticed yet and would write into the void. With the
				// connection closed it finds that nothing was written, and takes another.
				_ = w.conn.Close()
			}
		}
	})
}

// settle counts the send on a connection that the exchange is leaving.
func (w *wire) settle() {
	if w.left() {
		if w.h2 {
			w.sends += w.headers
		} else {
			w.sends++
		}
	}
	w.headers = 0
	w.conn = nil
	w.got = false
}

// left reports whether any of the request left the process on the connection at hand.
func (w *wire) left() bool {
	switch {
	case !w.got:
		return false
	case w.h2: // the connection carries other requests as well: trust the trace
		return w.headers > 0
	case w.conn == nil:
		return w.full
	default:
		return w.conn.written.Load() > w.base
	}
}

// mayResend is asked by net/http, through Request.GetBody, before it sends a
// request once more by itself. It may when nothing of the request left on
// HTTP/1. On HTTP/2 net/http does so only when the peer said that it did not
// process the request (GOAWAY, REFUSED_STREAM).
func (w *wire) mayResend() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.h2 || !w.left()
}

// fate is what is known of a request once its exchange is over.
type fate struct {
	at        stage
	sends     int
	written   bool // in full: the receiver may have taken it
	connected bool
	reused    bool
	stale     bool // a kept connection on which nothing was written
	reset     bool

	dns, connect, tls, firstByte time.Duration
}

// finish ends the watch. Hooks that fire later do nothing.
func (w *wire) finish() fate {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	f := fate{
		at: w.at, written: w.full && w.left(), connected: w.got, reused: w.reused,
		dns: w.dns, connect: w.connect, tls: w.tls, firstByte: w.firstByte,
	}
	if w.conn != nil {
		f.reset = w.conn.reset.Load()
	}
	w.settle()
	f.sends = w.sends
	f.stale = f.reused && f.sends == 0
	return f
}
