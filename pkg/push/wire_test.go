package push

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync/atomic"
	"testing"
	"time"
)

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func postRequest(url string) *Request {
	return &Request{
		Method: "POST", URL: url, Body: []byte(`{"lead":1}`), Timeout: 2 * time.Second,
		Header: http.Header{"Idempotency-Key": {"d1"}, "Content-Type": {"application/json"}},
	}
}

func getRequest(url string) *Request {
	return &Request{Method: "GET", URL: url, Timeout: 2 * time.Second, Header: http.Header{"Idempotency-Key": {"d1"}}}
}

// A server that reads a request on a kept connection and then kills it makes
// net/http send a GET, or a POST with an Idempotency-Key, again. Send does not.
func TestKilledConnectionIsNotSentTwice(t *testing.T) {
	ca := newAuthority(t)
	cert := tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}}
	for name, kill := range map[string]func(net.Conn){"closed": func(c net.Conn) { c.Close() }, "reset": reset} {
		for _, secure := range []bool{false, true} {
			for _, build := range []func(string) *Request{getRequest, postRequest} {
				var seen atomic.Int64
				serve := func(conn net.Conn) {
					r := bufio.NewReader(conn)
					if readRequest(r) == nil {
						return
					}
					seen.Add(1)
					io.WriteString(conn, okAnswer)
					if readRequest(r) != nil {
						seen.Add(1)
						kill(conn)
					}
				}
				srv := newRawServer(t, serve)
				if secure {
					srv = newRawTLSServer(t, cert.Clone(), serve)
				}
				c := newTestClient(t, Options{RootCAs: ca.pool})
				req := build(srv.URL)
				if res := c.Send(t.Context(), req); res.Class != ClassOK || res.Sends != 1 {
					t.Fatalf("%s %s: the first send: %+v", name, req.Method, res)
				}
				res := c.Send(t.Context(), req)
				if res.Class != ClassUnknown || res.Sends != 1 || !res.Reused {
					t.Errorf("%s %s secure=%v: %+v", name, req.Method, secure, res)
				}
				if n := seen.Load(); n != 2 {
					t.Errorf("%s %s secure=%v: the server saw %d requests for 2 sends", name, req.Method, secure, n)
				}
				if n := srv.conns.Load(); n != 1 {
					t.Errorf("%s %s secure=%v: %d connections, want 1", name, req.Method, secure, n)
				}
				if e, ok := errors.AsType[*NoAnswerError](res.Err); !ok || !e.MayHaveArrived {
					t.Errorf("%s %s: error %v does not say that it may have arrived", name, req.Method, res.Err)
				}
			}
		}
	}
}

// A kept connection that the server has closed in the meantime is replaced
// within the same attempt, as nothing was written on it.
func TestStaleConnectionIsReplaced(t *testing.T) {
	ca := newAuthority(t)
	for name, version := range map[string]uint16{"plain": 0, "TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		for _, build := range []func(string) *Request{getRequest, postRequest, postWithoutKey} {
			var seen atomic.Int64
			closed := make(chan struct{}, 100)
			serve := func(conn net.Conn) {
				if readRequest(bufio.NewReader(conn)) != nil {
					seen.Add(1)
					io.WriteString(conn, okAnswer)
				}
				conn.Close()
				closed <- struct{}{}
			}
			srv := newRawServer(t, serve)
			if version != 0 {
				srv = newRawTLSServer(t, &tls.Config{
					Certificates: []tls.Certificate{ca.issue(t, nil)}, MinVersion: version, MaxVersion: version,
				}, serve)
			}
			c := newTestClient(t, Options{RootCAs: ca.pool})
			for i := range 10 {
				if res := c.Send(t.Context(), build(srv.URL)); res.Class != ClassOK || res.Sends != 1 {
					t.Fatalf("%s: send %d: %+v", name, i+1, res)
				}
				<-closed
			}
			if n := seen.Load(); n != 10 {
				t.Errorf("%s: the server saw %d requests for 10 sends", name, n)
			}
		}
	}
}

func postWithoutKey(url string) *Request {
	r := postRequest(url)
	r.Header.Del("Idempotency-Key")
	return r
}

// The gate itself: net/http may replace a connection on which nothing was
// written, and no other.
func TestMayResend(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	defer there.Close()
	go io.Copy(io.Discard, there)
	conn := newWireConn(here)
	ctx, cancel := context.WithCancelCause(t.Context())
	w := newWire(cancel, 0)
	if w.mayResend() != nil {
		t.Error("without a connection nothing was written")
	}
	conn.Write([]byte("an earlier request"))
	w.gotConn(httptraceConn(conn, true))
	if w.mayResend() != nil {
		t.Error("bytes of an earlier request count")
	}
	conn.SetWriteDeadline(time.Now().Add(time.Minute))
	conn.Write([]byte("close notify"))
	if w.mayResend() != nil {
		t.Error("the goodbye of TLS counts")
	}
	next := newWireConn(here)
	w.gotConn(httptraceConn(next, true))
	next.Write([]byte("G"))
	if w.mayResend() == nil || w.mayDial() == nil {
		t.Error("a byte was written, and it may be sent again")
	}
	if ctx.Err() != nil {
		t.Error("the exchange ended before it was to be sent again")
	}
	third := newWireConn(here)
	w.gotConn(httptraceConn(third, false))
	if n, err := third.Write([]byte("G")); err == nil || !errors.Is(context.Cause(ctx), errNoResend) {
		t.Errorf("%d bytes were written on a second connection, %v", n, context.Cause(ctx))
	}
	if f := w.finish(nil, 0); f.sends != 1 || f.written {
		t.Errorf("fate %+v, want one send that was not complete", f)
	}
}

func TestConnectionsAreReused(t *testing.T) {
	for name, body := range map[string]int{"short": 10, "64 KB": maxBody, "longer than is read": maxBody + 100_000} {
		payload := make([]byte, body)
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Write(payload)
		}))
		var conns atomic.Int64
		srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				conns.Add(1)
			}
		}
		srv.Start()
		c := newTestClient(t, Options{})
		for range 20 {
			if res := c.Send(t.Context(), postRequest(srv.URL)); res.Class != ClassOK {
				t.Fatalf("%s: %+v", name, res)
			}
		}
		if n := conns.Load(); n != 1 {
			t.Errorf("%s: %d connections for 20 sends, want 1", name, n)
		}
		c.Close()
		srv.Close()
	}
}

func TestHTTP2(t *testing.T) {
	var seen atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		b, err := io.ReadAll(r.Body)
		if r.ProtoMajor != 2 || err != nil {
			t.Errorf("HTTP/%d, %v", r.ProtoMajor, err)
		}
		if r.URL.Path == "/kill" {
			panic(http.ErrAbortHandler)
		}
		w.Write(b)
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	c := newTestClient(t, Options{RootCAs: srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
	defer c.Close()
	if res := c.Send(t.Context(), postRequest(srv.URL)); res.Class != ClassOK || res.Sends != 1 || res.Body != `{"lead":1}` {
		t.Errorf("POST: %+v", res)
	}
	if res := c.Send(t.Context(), getRequest(srv.URL)); res.Class != ClassOK || res.Sends != 1 || !res.Reused {
		t.Errorf("GET: %+v", res)
	}
	// The handler gave up after it had read the request.
	if res := c.Send(t.Context(), postRequest(srv.URL+"/kill")); res.Class != ClassUnknown || res.Sends != 1 {
		t.Errorf("aborted: %+v", res)
	}
	if n := seen.Load(); n != 3 {
		t.Errorf("the server saw %d requests for 3 sends", n)
	}
}

func httptraceConn(conn net.Conn, reused bool) httptrace.GotConnInfo {
	return httptrace.GotConnInfo{Conn: conn, Reused: reused}
}
