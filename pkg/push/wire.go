package push

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptrace"
	"net/textproto"
	"sync"
	"time"
)

// stage is how far an exchange got.
type stage uint8

const (
	stageWait stage = iota // for a connection
	stageDNS
	stageConnect
	stageTLS
	stageSend
	stageAnswer
)

// wire watches one exchange through net/http's trace, and ends it when net/http
// is about to send the request once more: it does so by itself for a GET, or a
// POST with an Idempotency-Key, when a kept connection dies, and on HTTP/2 for
// every request after GOAWAY, REFUSED_STREAM and PROTOCOL_ERROR. A dial may go on
// after the exchange, so hooks may fire late.
type wire struct {
	context.Context                         // of the exchange; the wire stands in it for a dial to find
	stop            context.CancelCauseFunc // ends the exchange
	size            int                     // of the request
	payload         []byte                  // its body
	body            bytes.Reader            // reads payload the first time
	hooks           httptrace.ClientTrace   // what trace returns

	mu    sync.Mutex
	timer *time.Timer // ends the exchange at ends, because of cause
	ends  time.Time
	cause error
	over  bool
	dials int
	start time.Time
	at    stage

	dnsFrom, connectFrom, tlsFrom time.Time
	dns, connect, tls, firstByte  time.Duration // 0: did not happen

	conn    *wireConn
	base    int64 // bytes written on conn before this exchange
	read    int64 // bytes read from it before
	h2      bool
	got     bool
	reused  bool
	full    bool // net/http handed the whole request over
	sends   int  // on connections that are done with
	headers int  // header blocks written on the connection at hand
	infos   int  // 1xx answers
	waste   bool // the connection before this one was flooded after its last answer
}

func newWire(stop context.CancelCauseFunc, size int) *wire {
	return &wire{stop: stop, size: size, start: time.Now()}
}

// wireKey is where a dial finds the exchange that it is made for: net/http hands
// it the values of the request's context and nothing else of the request.
type wireKey struct{}

// Value implements context.Context.
func (w *wire) Value(key any) any {
	if key == (wireKey{}) {
		return w
	}
	return w.Context.Value(key)
}

// Deadline implements context.Context.
func (w *wire) Deadline() (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ends, true
}

// endBy has the exchange end at a time because of cause, unless it ends before.
func (w *wire) endBy(ends time.Time, cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	left := time.Until(ends)
	switch {
	case left <= 0:
		w.stop(cause)
	case w.timer == nil:
		w.timer = time.AfterFunc(left, w.end)
	case ends.Before(w.ends):
		w.timer.Reset(left)
	default:
		return
	}
	w.ends, w.cause = ends, cause
}

func (w *wire) end() {
	w.mu.Lock()
	cause := w.cause
	w.mu.Unlock()
	w.stop(cause)
}

func (w *wire) hook(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		f()
	}
}

// trace is what net/http tells of an exchange; what belongs to a dial is in dialTrace.
func (w *wire) trace() *httptrace.ClientTrace {
	w.hooks = httptrace.ClientTrace{
		GetConn: func(string) {
			w.hook(func() {
				if w.left() {
					w.stop(errNoResend)
				}
			})
		},
		TLSHandshakeStart: func() {
			w.hook(func() { w.tlsFrom = time.Now(); w.reach(stageTLS) })
		},
		TLSHandshakeDone: func(tls.ConnectionState, error) {
			w.hook(func() { w.tls = time.Since(w.tlsFrom) })
		},
		GotConn:      w.gotConn,
		WroteHeaders: func() { w.hook(func() { w.headers++ }) },
		WroteRequest: func(i httptrace.WroteRequestInfo) {
			w.hook(func() {
				if i.Err == nil {
					w.full = true
					w.reach(stageAnswer)
				}
			})
		},
		Got1xxResponse: func(int, textproto.MIMEHeader) (err error) {
			w.hook(func() {
				if w.infos++; w.infos > maxInfos {
					err = errFlood
				}
			})
			return err
		},
		GotFirstResponseByte: func() {
			w.hook(func() { w.firstByte = time.Since(w.start) })
		},
	}
	return &w.hooks
}

// dialTrace is what a dial tells. Few exchanges make one, and those that do not are
// spared it.
func (w *wire) dialTrace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) {
			w.hook(func() { w.dnsFrom = time.Now(); w.reach(stageDNS) })
		},
		DNSDone: func(httptrace.DNSDoneInfo) {
			w.hook(func() { w.dns = time.Since(w.dnsFrom); w.reach(stageConnect) })
		},
		ConnectStart: func(string, string) {
			w.hook(func() {
				if w.connectFrom.IsZero() { // several addresses are tried side by side
					w.connectFrom = time.Now()
				}
				w.reach(stageConnect)
			})
		},
		ConnectDone: func(_, _ string, err error) {
			w.hook(func() {
				if err == nil {
					w.connect = time.Since(w.connectFrom)
				}
			})
		},
	}
}

// maxInfos is how many 1xx answers may come before the answer.
const maxInfos = 8

func (w *wire) reach(s stage) { w.at = max(w.at, s) }

func (w *wire) gotConn(i httptrace.GotConnInfo) {
	w.hook(func() {
		if w.left() {
			w.refuse(i.Conn)
			return
		}
		w.leave(nil, 0)
		w.got, w.reused, w.full = true, i.Reused, false
		w.at = stageSend
		conn := i.Conn
		w.h2 = false
		if t, ok := conn.(*tls.Conn); ok {
			w.h2 = t.ConnectionState().NegotiatedProtocol == "h2"
			conn = t.NetConn()
		}
		if w.conn, _ = conn.(*wireConn); w.conn != nil {
			w.base, w.read = w.conn.written.Load(), w.conn.read.Load()
			w.conn.begin(w.size)
			if i.Reused && !w.h2 && w.conn.raw != nil && hungUp(w.conn.raw) {
				// net/http has not noticed yet and would write into the void. With the
				// connection closed it finds that nothing was written, and takes another.
				_ = w.conn.Close()
			}
		}
	})
}

// leave counts the send on a connection that the exchange is leaving. cause is
// what ended it, if anything did, and body the size of the answer's. It reports
// whether the answer was wasteful.
func (w *wire) leave(cause error, body int) (wasteful bool) {
	if w.left() {
		if w.h2 {
			w.sends += w.headers
		} else {
			w.sends++
		}
	}
	if w.conn != nil {
		var others int
		others, wasteful = w.conn.end(body)
		if others == 0 && errors.Is(cause, errTimeout) {
			_ = w.conn.Close() // whatever it is busy with, it serves nobody
		}
	}
	w.headers = 0
	w.conn = nil
	w.got = false
	return wasteful
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

// refuse keeps the request from being written on a second connection. HTTP/2
// looks at the context before it writes; on HTTP/1 the connection is this
// exchange's alone, and closed.
func (w *wire) refuse(conn net.Conn) {
	w.over = true // what is known of the first connection stays
	w.stop(errNoResend)
	if t, ok := conn.(*tls.Conn); ok {
		if t.ConnectionState().NegotiatedProtocol == "h2" {
			return
		}
		conn = t.NetConn()
	}
	_ = conn.Close() // nothing was written on it
}

// mayResend is asked by net/http, through resend, before it sends a body once more.
func (w *wire) mayResend() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.left() {
		return errNoResend
	}
	return nil
}

// resend is Request.GetBody.
func (w *wire) resend() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(w.payload)), w.mayResend()
}

// maxDials is how many connections one exchange may open. net/http replaces a
// connection on which nothing was written at once and without end, as when a
// balancer says GOAWAY to each new one.
const maxDials = 3

// mayDial is asked before a connection is opened for the exchange.
func (w *wire) mayDial() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.left():
		return errNoResend
	case w.dials == maxDials:
		w.stop(errDials)
		return errDials
	}
	w.dials++
	return nil
}

// wasted is told that the connection before the one at hand was flooded.
func (w *wire) wasted() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waste = true
}

// answered reports whether the receiver sent headers, when this much came of an
// answer that could not be read. HTTP/1 tells of any first byte, HTTP/2 of the
// first header block.
func (w *wire) answered(bytes int64) bool {
	return w.firstByte > 0 && w.infos == 0 && (w.h2 || bytes >= maxHeaderBytes/2)
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
	flood     bool // the receiver sent more than an exchange may cost
	unread    bool // headers came that were not read to their end
	wasteful  bool // reading the answer cost more than it was worth

	dns, connect, tls, firstByte time.Duration
}

// finish ends the watch of an exchange that cause ended, if anything did, with an
// answer whose body had so many bytes. Hooks that fire later do nothing.
func (w *wire) finish(cause error, body int) fate {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	if w.timer != nil {
		w.timer.Stop()
	}
	f := fate{
		flood: w.infos > maxInfos,
		at:    w.at, written: w.full && w.left(), connected: w.got, reused: w.reused,
		dns: w.dns, connect: w.connect, tls: w.tls, firstByte: w.firstByte,
	}
	if w.conn != nil {
		f.reset, f.flood = w.conn.reset.Load(), f.flood || w.conn.flood.Load()
		f.unread = w.answered(w.conn.read.Load() - w.read)
		f.written = f.written && !w.conn.cut.Load()
	}
	f.wasteful = w.leave(cause, body) || f.flood || w.waste
	f.sends = w.sends
	f.stale = f.reused && f.sends == 0
	return f
}
