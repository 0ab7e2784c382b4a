package push

import (
	"bytes"
	"fmt"
	"io"
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
	closed := make(chan struct{})
	srv, ca := newH2ServerRaw(t, func(conn io.Writer, g frame) error {
		if !ends(g) {
			return nil
		}
		conn.Write(frame{frameHeaders, 4 | flagEnd, g.stream, []byte{0x88}}.append(nil))
		part := bytes.Repeat(floods["PING ACK"].append(nil), 1000)
		for {
			if _, err := conn.Write(part); err != nil {
				close(closed)
				return err
			}
		}
	})
	c := newTestClient(t, Options{RootCAs: ca.pool})
	if res := c.Send(t.Context(), postRequest(srv.URL)); res.Class != ClassOK && res.Class != ClassUnknown {
		t.Errorf("%+v", res)
	}
	<-closed
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
		if res := c.Send(t.Context(), postRequest(srv.URL)); res.Class != ClassOK || len(res.Body) != MaxSnippet || res.Reused != (i > 0) {
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
	if others := c.end(); others != 1 || c.reads != readBudget {
		t.Errorf("after the first of two: %d others, %d to read", others, c.reads)
	}
	if others := c.end(); others != 0 || c.reads != readBudget/idlePart || c.writes != writeBudget/idlePart {
		t.Errorf("after both: %d others, %d to read, %d writes", others, c.reads, c.writes)
	}
	for range 100 {
		c.begin(0)
	}
	if c.reads > 100*readBudget {
		t.Errorf("100 exchanges may read %d", c.reads)
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
	} {
		if !strings.Contains(string(table), want) {
			t.Errorf("docs/security.md lacks %q", want)
		}
	}
}
