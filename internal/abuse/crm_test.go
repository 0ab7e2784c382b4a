package abuse

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// emptyMembers is many gzip members without content, 20 bytes each.
func emptyMembers() []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_ = w.Close()
	return bytes.Repeat(b.Bytes(), 1000)
}

// frames is one frame of HTTP/2, many times.
func frames(write func(f *http2.Framer) error) []byte {
	var b bytes.Buffer
	if err := write(http2.NewFramer(&b, nil)); err != nil {
		panic(err)
	}
	return bytes.Repeat(b.Bytes(), 1000)
}

func headers(name, value string) []byte {
	var b bytes.Buffer
	_ = hpack.NewEncoder(&b).WriteField(hpack.HeaderField{Name: name, Value: value}) // to a buffer
	return b.Bytes()
}

var crmAttacks = []attack{
	http1("empty gzip members", []byte("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"), emptyMembers()),
	http1("answers 103 without end", nil, bytes.Repeat([]byte("HTTP/1.1 103 Early Hints\r\n\r\n"), 1000)),
	slow(http1("a byte at a time in chunks", []byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), bytes.Repeat([]byte("1\r\nx\r\n"), 1000))),
	http1("a status line without end", []byte("HTTP/1.1 "), bytes.Repeat([]byte("x"), 4000)),
	h2("SETTINGS", frames(func(f *http2.Framer) error { return f.WriteSettings() })),
	h2("PING", frames(func(f *http2.Framer) error { return f.WritePing(false, [8]byte{}) })),
	h2("unknown frames", frames(func(f *http2.Framer) error { return f.WriteRawFrame(0x42, 0, 0, nil) })),
	h2("empty DATA", frames(func(f *http2.Framer) error { return f.WriteData(1, false, nil) })),
	h2("103", frames(func(f *http2.Framer) error {
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers(":status", "103"), EndHeaders: true})
	})),
}

// http1 is a CRM that answers with a beginning, and then with the same for ever.
func http1(name string, first, part []byte) attack {
	return flood(name, func(s *stage) string {
		return "http://" + serve(s.t, listen(s.t), func(conn net.Conn) error {
			if _, err := conn.Read(make([]byte, 64<<10)); err != nil {
				return err
			}
			return endless(conn, first, part)
		})
	})
}

// h2 is a CRM that speaks HTTP/2 and answers a request by frames without end.
func h2(name string, part []byte) attack {
	return flood("HTTP/2 "+name, func(s *stage) string {
		config := s.tls.TLS.Clone()
		config.NextProtos = []string{"h2"}
		return "https://" + serve(s.t, tls.NewListener(listen(s.t), config), func(conn net.Conn) error {
			if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
				return err
			}
			f := http2.NewFramer(conn, conn)
			if err := f.WriteSettings(); err != nil {
				return err
			}
			for {
				frame, err := f.ReadFrame()
				if err != nil {
					return err
				}
				if frame.Header().Flags.Has(http2.FlagDataEndStream) && frame.Header().StreamID != 0 {
					return endless(conn, nil, part)
				}
			}
		})
	})
}

func flood(name string, start func(s *stage) string) attack {
	return attack{name: name, crm: true, pause: 200 * time.Millisecond, bot: func(s *stage, id string) bson.D {
		rule := bson.D{{Key: "path", Value: "ok"}, {Key: "equals", Value: true}} // the answer has to be read
		return bodyBot(id, start(s), "key-of-the-attacker", bson.E{Key: "success", Value: rule})
	}}
}

// slow is an attack of answers, which no breaker keeps away: 64 KiB in single bytes
// take about 12 ms, five times a second.
func slow(a attack) attack {
	a.cpu = 0.1
	return a
}

func endless(conn net.Conn, first, part []byte) error {
	if _, err := conn.Write(first); err != nil {
		return err
	}
	for {
		if _, err := conn.Write(part); err != nil {
			return err
		}
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	return l
}

// serve gives each connection to a function of its own until the end of the test,
// and returns the address.
func serve(t *testing.T, l net.Listener, each func(net.Conn) error) string {
	t.Helper()
	var mu sync.Mutex
	var open []net.Conn
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
				return
			}
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			serving.Go(func() {
				_ = each(conn) // the watcher hangs up
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		serving.Wait()
	})
	return l.Addr().String()
}
