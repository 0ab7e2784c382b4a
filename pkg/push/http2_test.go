package push

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
)

// Frames of HTTP/2 (RFC 9113 section 6), written by hand, as a receiver may send
// what no library would.
const (
	frameData     = 0
	frameHeaders  = 1
	frameReset    = 3
	frameSettings = 4
	framePing     = 6
	frameGoAway   = 7
	flagEnd       = 1 // END_STREAM, and ACK of SETTINGS and PING
)

type frame struct {
	kind, flags byte
	stream      uint32
	payload     []byte
}

func (f frame) append(to []byte) []byte {
	to = append(to, byte(len(f.payload)>>16), byte(len(f.payload)>>8), byte(len(f.payload)), f.kind, f.flags)
	return append(binary.BigEndian.AppendUint32(to, f.stream), f.payload...)
}

func resetWith(code byte) func(frame) frame {
	return func(f frame) frame { return frame{frameReset, 0, f.stream, []byte{0, 0, 0, code}} }
}

func goAway(frame) frame { return frame{frameGoAway, 0, 0, make([]byte, 8)} }

// newH2Server speaks HTTP/2 over TLS as a test tells it to: hear is called for
// each frame after the preface and returns the frames to send.
func newH2Server(t testing.TB, hear func(f frame) []frame) (*rawServer, *authority) {
	t.Helper()
	return newH2ServerRaw(t, func(conn io.Writer, f frame) error {
		var out []byte
		for _, g := range hear(f) {
			out = g.append(out)
		}
		_, err := conn.Write(out)
		return err
	})
}

// newH2ServerRaw leaves the writing to hear. At the end of a connection hear gets
// a frame of kind 0xff.
func newH2ServerRaw(t testing.TB, hear func(conn io.Writer, f frame) error) (*rawServer, *authority) {
	t.Helper()
	ca := newAuthority(t)
	config := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}, NextProtos: []string{"h2"}}
	return newRawTLSServer(t, config, func(conn net.Conn) {
		if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		defer hear(conn, frame{kind: 0xff})
		conn.Write(frame{kind: frameSettings}.append(nil))
		for {
			head := make([]byte, 9)
			if _, err := io.ReadFull(conn, head); err != nil {
				return
			}
			f := frame{head[3], head[4], binary.BigEndian.Uint32(head[5:]), make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))}
			if _, err := io.ReadFull(conn, f.payload); err != nil {
				return
			}
			if f.kind == frameSettings && f.flags&flagEnd == 0 {
				conn.Write(frame{kind: frameSettings, flags: flagEnd}.append(nil))
			}
			if hear(conn, f) != nil {
				return
			}
		}
	}), ca
}

func ends(f frame) bool {
	return (f.kind == frameHeaders || f.kind == frameData) && f.flags&flagEnd != 0
}

// However an HTTP/2 receiver refuses a request, it is sent once. net/http would
// send it again by itself after PROTOCOL_ERROR, REFUSED_STREAM and GOAWAY.
func TestHTTP2IsSentOnce(t *testing.T) {
	for name, refuse := range map[string]func(frame) frame{
		"PROTOCOL_ERROR": resetWith(1), "INTERNAL_ERROR": resetWith(2), "REFUSED_STREAM": resetWith(7),
		"CANCEL": resetWith(8), "ENHANCE_YOUR_CALM": resetWith(11), "HTTP_1_1_REQUIRED": resetWith(13), "GOAWAY": goAway,
	} {
		for _, build := range []func(string) *Request{getRequest, postRequest, postWithoutKey} {
			for _, late := range []bool{false, true} { // when the headers are here, or the whole request
				var begun, complete atomic.Int64
				srv, ca := newH2Server(t, func(f frame) []frame {
					if f.kind == frameHeaders {
						begun.Add(1)
					}
					if ends(f) {
						complete.Add(1)
					}
					if late && ends(f) || !late && f.kind == frameHeaders {
						return []frame{refuse(f)}
					}
					return nil
				})
				c := newTestClient(t, Options{RootCAs: ca.pool})
				req := build(srv.URL)
				res := c.Send(t.Context(), req)
				c.Close()
				label := fmt.Sprintf("%s %s, late=%v", req.Method, name, late)
				if res.Class != ClassUnknown && res.Class != ClassUnreached || res.Sends != 1 {
					t.Errorf("%s: class %s, %d sends, %v", label, res.Class, res.Sends, res.Err)
				}
				if late && res.Class != ClassUnknown {
					t.Errorf("%s: class %s, but the request was complete", label, res.Class)
				}
				if b, n := begun.Load(), complete.Load(); b != 1 || n > 1 || late && n != 1 {
					t.Errorf("%s: the receiver saw %d requests begin and %d end", label, b, n)
				}
				if n := srv.conns.Load(); n != 1 {
					t.Errorf("%s: %d connections", label, n)
				}
			}
		}
	}
}

// A balancer that drains says GOAWAY to each new connection, before any request.
func TestHTTP2GoAwayIsNoStormOfConnections(t *testing.T) {
	srv, ca := newH2Server(t, func(f frame) []frame {
		if f.kind == frameSettings {
			return []frame{goAway(f)}
		}
		return nil
	})
	c := newTestClient(t, Options{RootCAs: ca.pool})
	res := c.Send(t.Context(), postRequest(srv.URL))
	if res.Class == ClassOK || res.Class == ClassCanceled || res.Sends > 1 {
		t.Errorf("%+v", res)
	}
	if n := srv.conns.Load(); n > maxDials {
		t.Errorf("one Send opened %d connections", n)
	}
}

// A GET ends its stream with the HEADERS frame.
func TestHTTP2GetSendsNoData(t *testing.T) {
	var mu sync.Mutex
	var kinds []byte
	srv, ca := newH2Server(t, func(f frame) []frame {
		mu.Lock()
		defer mu.Unlock()
		if f.stream == 0 {
			return nil
		}
		kinds = append(kinds, f.kind)
		if ends(f) {
			return []frame{{frameHeaders, 4 | flagEnd, f.stream, []byte{0x88}}} // :status 200
		}
		return nil
	})
	c := newTestClient(t, Options{RootCAs: ca.pool})
	if res := c.Send(t.Context(), getRequest(srv.URL)); res.Class != ClassOK {
		t.Errorf("%+v", res)
	}
	mu.Lock()
	defer mu.Unlock()
	if !slices.Equal(kinds, []byte{frameHeaders}) {
		t.Errorf("a GET was sent as frames %v, want HEADERS alone", kinds)
	}
}

// A receiver that takes one stream at a time refuses those that come before its
// settings are known. What it took is what was reported as taken.
func TestHTTP2OneStreamAtATime(t *testing.T) {
	var seen, ok atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { seen.Add(1) }))
	srv.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 1}
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	c := newTestClient(t, Options{RootCAs: srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				res := c.Send(t.Context(), postRequest(srv.URL))
				switch {
				case res.Sends > 1:
					t.Errorf("%+v", res)
				case res.Class == ClassOK:
					ok.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if seen.Load() != ok.Load() || ok.Load() == 0 {
		t.Errorf("%d requests were taken, %d sends were ok", seen.Load(), ok.Load())
	}
}

// The exchange with a token endpoint is one exchange as well.
func TestHTTP2TokenIsFetchedOnce(t *testing.T) {
	for name, refuse := range map[string]func(frame) frame{"PROTOCOL_ERROR": resetWith(1), "REFUSED_STREAM": resetWith(7), "GOAWAY": goAway} {
		var complete atomic.Int64
		ids, ca := newH2Server(t, func(f frame) []frame {
			if !ends(f) {
				return nil
			}
			complete.Add(1)
			return []frame{refuse(f)}
		})
		c := newTestClient(t, Options{RootCAs: ca.pool})
		req := postRequest("http://127.0.0.1:1/")
		req.Auth = oauth(ids.URL)
		res := c.Send(t.Context(), req)
		if res.Class != ClassUnreached || res.Sends != 0 || !strings.HasPrefix(res.Err.Error(), "OAuth token: ") {
			t.Errorf("%s: %+v", name, res)
		}
		if n := complete.Load(); n != 1 || ids.conns.Load() != 1 {
			t.Errorf("%s: %d requests on %d connections for a token", name, n, ids.conns.Load())
		}
	}
}
