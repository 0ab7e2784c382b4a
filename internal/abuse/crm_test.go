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

	"github.com/cxbridge/watcher/pkg/backoff"
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
	return bytes.Repeat(b.Bytes(), repeats)
}

// repeats is how many times frames has its frame.
const repeats = 1000

func headers(name, value string) []byte {
	var b bytes.Buffer
	_ = hpack.NewEncoder(&b).WriteField(hpack.HeaderField{Name: name, Value: value}) // to a buffer
	return b.Bytes()
}

var crmAttacks = []attack{
	http1("empty gzip members", []byte("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"), emptyMembers()),
	http1("answers 103 without end", nil, bytes.Repeat([]byte("HTTP/1.1 103 Early Hints\r\n\r\n"), 1000)),
	http1("a byte at a time in chunks", []byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), bytes.Repeat([]byte("1\r\nx\r\n"), 1000)),
	trickle(),
	http1("a status line without end", []byte("HTTP/1.1 "), bytes.Repeat([]byte("x"), 4000)),
	h2("SETTINGS", frames(func(f *http2.Framer) error { return f.WriteSettings() })),
	h2("PING", frames(func(f *http2.Framer) error { return f.WritePing(false, [8]byte{}) })),
	h2("unknown frames", frames(func(f *http2.Framer) error { return f.WriteRawFrame(0x42, 0, 0, nil) })),
	h2("empty DATA", frames(func(f *http2.Framer) error { return f.WriteData(1, false, nil) })),
	answered("200 among SETTINGS", 480, false, frames(func(f *http2.Framer) error { return f.WriteSettings() })),
	answered("200 among PING", 480, false, frames(func(f *http2.Framer) error { return f.WritePing(false, [8]byte{}) })),
	answered("200 among unknown frames", 50_000, false, frames(func(f *http2.Framer) error { return f.WriteRawFrame(0x42, 0, 0, nil) })),
	answered("unknown frames after 200", 50_000, true, frames(func(f *http2.Framer) error { return f.WriteRawFrame(0x42, 0, 0, nil) })),
	h2("103", frames(func(f *http2.Framer) error {
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: headers(":status", "103"), EndHeaders: true})
	})),
}

// http1 is a CRM that answers with a beginning, and then with the same for ever.
func http1(name string, first, part []byte) attack {
	return flood(name, mustBeRead, func(s *stage) string {
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
	return h2By(name, func(conn net.Conn, _ uint32) error { return endless(conn, nil, part) })
}

// answered is a CRM that speaks HTTP/2 and sends frames without content around each
// answer with status 200, fewer than an exchange may have: before the end of the
// answer, or after it.
func answered(name string, times int, after bool, part []byte) attack {
	part = bytes.Repeat(part[:len(part)/repeats], times)
	return h2By(name, func(conn net.Conn, stream uint32) error {
		f := http2.NewFramer(conn, nil)
		if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: headers(":status", "200"), EndHeaders: true}); err != nil {
			return err
		}
		if !after {
			if _, err := conn.Write(part); err != nil {
				return err
			}
		}
		if err := f.WriteData(stream, true, []byte(`{"ok":true}`)); err != nil || !after {
			return err
		}
		_, err := conn.Write(part)
		return err
	})
}

func h2By(name string, answer func(conn net.Conn, stream uint32) error) attack {
	return flood("HTTP/2 "+name, mustBeRead, func(s *stage) string {
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
					if err := answer(conn, frame.Header().StreamID); err != nil {
						return err
					}
				}
			}
		})
	})
}

// trickle is a CRM that answers 200, and then with a byte at a time for as long as
// anybody reads.
func trickle() attack {
	return flood("a byte now and then", nil, func(s *stage) string {
		return "http://" + serve(s.t, listen(s.t), func(conn net.Conn) error {
			if _, err := conn.Read(make([]byte, 64<<10)); err != nil {
				return err
			}
			_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for err == nil {
				_, err = io.WriteString(conn, "1\r\nx\r\n")
				_ = backoff.Sleep(s.t.Context(), time.Millisecond) // the test may be over
			}
			return err
		})
	})
}

// mustBeRead are fields of a bot that make the answer's body decide.
var mustBeRead = bson.D{{Key: "success", Value: bson.D{{Key: "path", Value: "ok"}, {Key: "equals", Value: true}}}}

func flood(name string, fields bson.D, start func(s *stage) string) attack {
	return attack{name: name, crm: true, pause: 200 * time.Millisecond, bot: func(s *stage, id string) bson.D {
		// A port may come twice: the path keeps the destinations apart.
		return bodyBot(id, start(s)+"/"+id, "key-of-the-attacker", fields...)
	}}
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
