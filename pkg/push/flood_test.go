package push

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"
)

// floods are frames that a receiver may send without end and that carry nothing.
var floods = map[string]frame{
	"SETTINGS":      {frameSettings, 0, 0, []byte{0, 4, 0, 1, 0, 0}},
	"empty SETTING": {frameSettings, 0, 0, nil},
	"PING":          {framePing, 0, 0, make([]byte, 8)},
	"PING ACK":      {framePing, flagEnd, 0, make([]byte, 8)},
	"unknown":       {0x42, 0, 0, nil},
	"PRIORITY":      {2, 0, 1, []byte{0, 0, 0, 0, 1}},
	"WINDOW_UPDATE": {8, 0, 0, []byte{0, 0, 0, 1}},
	"empty DATA":    {frameData, 0, 1, nil},
	"103":           {frameHeaders, 4, 1, hpackOf(":status", "103")},
}

func hpackOf(name, value string) []byte {
	var b bytes.Buffer
	hpack.NewEncoder(&b).WriteField(hpack.HeaderField{Name: name, Value: value})
	return b.Bytes()
}

// flood is frames of one kind for as long as they are read.
func flood(t *testing.T, f frame) (*rawServer, *authority, *atomic.Int64) {
	var sent atomic.Int64
	part := bytes.Repeat(f.append(nil), 1000)
	srv, ca := newH2ServerRaw(t, func(conn io.Writer, g frame) error {
		if !ends(g) {
			return nil
		}
		for {
			n, err := conn.Write(part)
			sent.Add(int64(n))
			if err != nil {
				return err
			}
		}
	})
	return srv, ca, &sent
}

// What carries nothing has an end, long before the timeout, and is no answer.
func TestFloods(t *testing.T) {
	for name, f := range floods {
		t.Run(name, func(t *testing.T) {
			srv, ca, sent := flood(t, f)
			c := newTestClient(t, Options{RootCAs: ca.pool})
			req := postRequest(srv.URL)
			req.Timeout = 8 * time.Second
			res := c.Send(t.Context(), req)
			if res.Class != ClassUnknown || res.Sends != 1 || res.HTTPStatus != 0 {
				t.Errorf("%+v", res)
			}
			if res.Duration > 4*time.Second {
				t.Errorf("it took %s", res.Duration)
			}
			if n := sent.Load(); n > 16<<20 { // what the sockets hold comes on top
				t.Errorf("%d bytes were taken", n)
			}
		})
	}
}

// A kept connection that is flooded while nobody waits is closed too.
func TestFloodBetweenExchanges(t *testing.T) {
	closed := make(chan struct{}, 2)
	srv, ca := newH2ServerRaw(t, func(conn io.Writer, g frame) error {
		if !ends(g) {
			return nil
		}
		conn.Write(frame{frameHeaders, 4 | flagEnd, g.stream, []byte{0x88}}.append(nil))
		part := bytes.Repeat(floods["PING ACK"].append(nil), 1000)
		for {
			if _, err := conn.Write(part); err != nil {
				closed <- struct{}{}
				return err
			}
		}
	})
	c := newTestClient(t, Options{RootCAs: ca.pool})
	first := c.Send(t.Context(), postRequest(srv.URL))
	if first.Class != ClassOK && first.Class != ClassUnknown {
		t.Errorf("%+v", first)
	}
	<-closed
	second := c.Send(t.Context(), postRequest(srv.URL))
	if first.Class == ClassOK && !first.Wasteful && second.Class == ClassOK && !second.Wasteful {
		t.Errorf("nobody hears of the flood after an answer: %+v", second)
	}
}

// Many answers on one connection, each as large as may be, are no flood.
func TestLargeAnswersAreNoFlood(t *testing.T) {
	srv, ca := newH2ServerRaw(t, func(conn io.Writer, g frame) error {
		if !ends(g) {
			return nil
		}
		_, err := conn.Write(frame{frameHeaders, 4, g.stream, hpackOf(":status", "200")}.append(nil))
		for range 6 { // 60,000 bytes, which need no update of the window
			body := frame{frameData, 0, g.stream, bytes.Repeat([]byte("x"), 10_000)}
			_, err = conn.Write(body.append(nil))
		}
		conn.Write(frame{frameData, flagEnd, g.stream, nil}.append(nil))
		return err
	})
	c := newTestClient(t, Options{RootCAs: ca.pool})
	for i := range 30 {
		if res := c.Send(t.Context(), postRequest(srv.URL)); res.Class != ClassOK || len(res.Body) != MaxSnippet || res.Reused != (i > 0) || res.Wasteful {
			t.Fatalf("send %d: %s %v, reused %v", i, res.Class, res.Err, res.Reused)
		}
	}
	if n := srv.conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// A time-out costs the connection when nobody else is on it.
func TestTimeoutClosesTheConnection(t *testing.T) {
	gone := make(chan struct{})
	srv, ca := newH2ServerRaw(t, func(_ io.Writer, f frame) error {
		if f.kind == 0xff {
			close(gone)
		}
		return nil
	})
	c := newTestClient(t, Options{RootCAs: ca.pool})
	req := postRequest(srv.URL)
	req.Timeout = short
	checkFault(t, c.Send(t.Context(), req), ClassUnknown, 1, "no answer within 150ms")
	<-gone
}

func TestBudget(t *testing.T) {
	c := newWireConn(nil)
	c.begin(0)
	c.begin(8 << 20)
	if c.reads != 2*readBudget || c.writes != 3*writeBudget+8<<20/bytesPerWrite {
		t.Errorf("two exchanges may read %d and write %d times", c.reads, c.writes)
	}
	if others, _ := c.end(0); others != 1 || c.reads != readBudget {
		t.Errorf("after the first of two: %d others, %d to read", others, c.reads)
	}
	if others, _ := c.end(0); others != 0 || c.reads != readBudget/idlePart || c.writes != writeBudget/idlePart {
		t.Errorf("after both: %d others, %d to read, %d writes", others, c.reads, c.writes)
	}
	for range 100 {
		c.begin(0)
	}
	if c.reads > 100*readBudget {
		t.Errorf("100 exchanges may read %d", c.reads)
	}
}

// settled is a flood that has an end, then the end of an answer with status 200.
func settled(t *testing.T, f frame, times int) (*rawServer, *authority) {
	return newH2ServerRaw(t, func(conn io.Writer, g frame) error {
		if !ends(g) {
			return nil
		}
		conn.Write(frame{frameHeaders, 4, g.stream, hpackOf(":status", "200")}.append(nil))
		conn.Write(bytes.Repeat(f.append(nil), times))
		_, err := conn.Write(frame{frameData, flagEnd, g.stream, []byte("{}")}.append(nil))
		return err
	})
}

// What is within the budget is an answer, and one that is noticed.
func TestWastefulAnswers(t *testing.T) {
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	const end = "0\r\n\r\n"
	h1 := func(text string) func(*testing.T) (*rawServer, *x509.CertPool) {
		return func(t *testing.T) (*rawServer, *x509.CertPool) { return newRawServer(t, answering(text)), nil }
	}
	h2 := func(name string, times int) func(*testing.T) (*rawServer, *x509.CertPool) {
		return func(t *testing.T) (*rawServer, *x509.CertPool) {
			srv, ca := settled(t, floods[name], times)
			return srv, ca.pool
		}
	}
	for name, c := range map[string]struct {
		start func(*testing.T) (*rawServer, *x509.CertPool)
		want  bool
	}{
		"chunks of a byte":           {h1(chunked + strings.Repeat("1\r\nx\r\n", 30_000) + end), true},
		"too long, chunks of a byte": {h1(chunked + strings.Repeat("1\r\nx\r\n", 500_000) + end), true},
		"chunks of 50 bytes":         {h1(chunked + strings.Repeat("32\r\n"+strings.Repeat("x", 50)+"\r\n", 1200) + end), false},
		"a page of 1 MB":             {h1("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 1_000_000)), false},
		"no body":                    {h1("HTTP/1.1 204 No Content\r\n\r\n"), false},
		"HTTP/2 SETTINGS":            {h2("SETTINGS", 480), true},
		"HTTP/2 PING":                {h2("PING", 480), true},
		"HTTP/2 PING ACK":            {h2("PING ACK", 12_000), true},
		"HTTP/2 unknown":             {h2("unknown", 12_000), true},
		"HTTP/2 few SETTINGS":        {h2("SETTINGS", 3), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv, roots := c.start(t)
			client := newTestClient(t, Options{RootCAs: roots})
			for range 3 {
				req := postRequest(srv.URL)
				req.Timeout = DefaultTimeout
				res := client.Send(t.Context(), req)
				if res.Class != ClassOK || res.Wasteful != c.want && res.Duration < bodyWait {
					t.Fatalf("%s %v, wasteful %v", res.Class, res.Err, res.Wasteful)
				}
			}
		})
	}
}

// drip is a connection that has so many bytes for each read.
type drip struct {
	net.Conn
	bytes int
}

func (d drip) Read([]byte) (int, error)    { return d.bytes, nil }
func (d drip) Write(p []byte) (int, error) { return len(p), nil }

func TestWaste(t *testing.T) {
	read := func(c *wireConn, times int) {
		for range times {
			c.Read(nil)
		}
	}
	for _, of := range []struct {
		bytes, reads, body int
		wasteful           bool
	}{
		{6, 500, 500, true},     // a chunk of a byte in each packet
		{60, 100, 5_000, false}, // small packets, and not many
		{1400, 140, 192 << 10, false},
		{4096, 60, 200, true}, // what was read was no body
	} {
		c := newWireConn(drip{bytes: of.bytes})
		for range 3 {
			c.begin(100)
			read(c, of.reads)
			if _, wasteful := c.end(of.body); wasteful != of.wasteful {
				t.Errorf("%+v: wasteful %v", of, wasteful)
			}
		}
	}

	c := newWireConn(drip{bytes: 1000})
	for range 16 { // at once, each with an answer of 60,000 bytes
		c.begin(100)
	}
	read(c, 16*60)
	for range 16 {
		if _, wasteful := c.end(60_000); wasteful {
			t.Error("one of many answers on a connection is wasteful")
		}
	}

	large := newWireConn(drip{})
	large.begin(8 << 20)
	for range 8 << 10 {
		large.Write(nil)
	}
	if _, wasteful := large.end(100); wasteful {
		t.Error("the writes of a large request count against its answer")
	}
}

// The table of docs/security.md has the limits as they are.
func TestTheTableOfTheLimits(t *testing.T) {
	table, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("| Headers of an answer | %d KiB |", maxHeaderBytes>>10), fmt.Sprintf("| Body of an answer, unpacked | %d KiB |", maxBody>>10),
		fmt.Sprintf("| Text of an answer on a call | %d,%03d characters |", MaxSnippet/1000, MaxSnippet%1000),
		fmt.Sprintf("| Read from a connection for one answer, whatever it is | %d KiB |", readBudget>>10),
		fmt.Sprintf("| Replies to frames of HTTP/2 in one exchange | %d |", writeBudget),
		fmt.Sprintf("| Cost of an answer: bytes read, and %d for each read and write, beyond twice its body | %d KiB |", callCost, wasteAllowed>>10),
	} {
		if !strings.Contains(string(table), want) {
			t.Errorf("docs/security.md lacks %q", want)
		}
	}
}
