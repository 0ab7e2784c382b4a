package push

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// What one exchange may read and write on its connection, below TLS, whatever it
// is: 1xx answers, frames of HTTP/2 that carry nothing, empty members of gzip.
// Without a bound a receiver could keep a core busy until the timeout.
const (
	// readBudget is the answer's headers, what is read of its body and drained after
	// it, as much again in transit, and the frame headers around it all.
	readBudget = maxHeaderBytes + 2*(maxBody+maxDrain)
	// writeBudget is the number of writes beside those of the request: HTTP/2 answers
	// each PING and each SETTINGS with one.
	writeBudget = 512
	// bytesPerWrite is the least that a write carries of a request. TLS begins with
	// records of little more.
	bytesPerWrite = 1024
	// idlePart is the part of a budget that a kept connection has between exchanges.
	idlePart = 8

	// An answer is wasteful when reading it costs more than it is worth. The cost is the
	// bytes read, and callCost for each read and write, because one of a few bytes costs
	// as much as one of many. The worth is twice the body, the writes of the request,
	// and wasteAllowed for headers and what else there may be. 64 KiB in chunks of a byte
	// cost 384 KiB, and 12 ms of a core.
	callCost     = 256
	wasteAllowed = 96 << 10
)

// errFlood is behind what fails because a receiver sends more than an exchange
// may cost. The connection is closed.
var errFlood = fmt.Errorf("the receiver sent more than %d KiB, or asked for more than %d replies, beside its answer", readBudget>>10, writeBudget)

// wireConn counts what is written to a TCP connection, below TLS, and bounds what
// is read and written on it. net/http reports a request as written when it stands
// in a buffer; whether a byte of it left the process is known here only.
type wireConn struct {
	net.Conn
	raw     syscall.RawConn // of the socket; nil when it has none
	read    atomic.Int64
	written atomic.Int64
	base    atomic.Int64 // of written, before the exchange at hand
	closing atomic.Bool
	reset   atomic.Bool // the peer answered with RST
	cut     atomic.Bool // the peer takes no more; what is written is dropped
	flood   atomic.Bool
	idled   func() // called when it was a flood between exchanges

	mu     sync.Mutex
	active int // exchanges
	reads  int64
	writes int64
	cost   int64 // from the beginning of the connection
	worth  int64 // of the answers so far
}

func newWireConn(conn net.Conn) *wireConn {
	c := &wireConn{Conn: conn, reads: readBudget, writes: writeBudget} // for the handshake
	if socket, ok := conn.(syscall.Conn); ok {
		c.raw, _ = socket.SyscallConn() // fails on a closed connection alone
	}
	return c
}

// begin gives the connection the budget of one more exchange, with a request of
// size bytes.
func (c *wireConn) begin(size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.active++
	c.reads = min(c.reads+readBudget, int64(c.active)*readBudget)
	c.writes = max(c.writes, 0) + writeBudget + int64(size)/bytesPerWrite
	c.worth += int64(size) / bytesPerWrite * callCost
	c.base.Store(c.written.Load())
}

// end takes back what is left of the budget of an exchange whose answer had a body
// of so many bytes. It returns how many others the connection carries, and whether
// the answer was wasteful; as nobody knows which of several at once was, all are.
func (c *wireConn) end(body int) (others int, wasteful bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.active--
	c.worth += 2*int64(body) + wasteAllowed
	inTransit := int64(c.active) * (wasteAllowed + 2*maxBody)
	wasteful = c.flood.Load() || c.cost > c.worth+inTransit
	most := max(int64(c.active)*idlePart, 1)
	c.reads = min(c.reads, most*readBudget/idlePart)
	if c.active == 0 {
		c.writes = min(c.writes, writeBudget/idlePart)
		c.worth = c.cost // what was not used of it is no credit
	}
	return c.active, wasteful
}

// spend reports whether the budget has this left.
func (c *wireConn) spend(bytes, writes int64) error {
	c.mu.Lock()
	c.reads -= bytes
	c.writes -= writes
	c.cost += bytes + callCost
	over, idle := c.reads < 0 || c.writes < 0, c.active == 0
	c.mu.Unlock()
	if !over {
		return nil
	}
	if !c.flood.Swap(true) && idle && c.idled != nil {
		c.idled()
	}
	_ = c.Conn.Close() // errFlood says more
	return errFlood
}

// Read implements net.Conn.
func (c *wireConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Add(int64(n))
	c.note(err)
	if over := c.spend(int64(n), 0); over != nil {
		return 0, over
	}
	return n, err
}

// Write implements net.Conn. It counts before it writes: the answer may be here,
// and the exchange over, before this goroutine runs again.
//
// A receiver may answer before it has read the whole request, and close. net/http
// would look at the failed write and not at the answer, so that what follows is
// dropped here, and the answer or the end of the connection is read.
func (c *wireConn) Write(p []byte) (int, error) {
	if c.cut.Load() {
		return len(p), nil
	}
	if err := c.spend(0, 1); err != nil {
		return 0, err
	}
	counts := !c.closing.Load()
	if counts {
		c.written.Add(int64(len(p)))
	}
	n, err := c.Conn.Write(p)
	if counts && n < len(p) {
		c.written.Add(int64(n - len(p)))
	}
	if begun := c.closing.Load() || c.written.Load() > c.base.Load(); c.note(err) && begun {
		c.cut.Store(true)
		return len(p), nil
	}
	return n, err
}

// SetWriteDeadline implements net.Conn. On HTTP/1 only crypto/tls calls it, right
// before the alert that says goodbye, which is no part of a request. HTTP/2 does so
// before each write; there net/http's trace tells what left.
func (c *wireConn) SetWriteDeadline(t time.Time) error {
	c.closing.Store(true)
	return c.Conn.SetWriteDeadline(t)
}

// note reports whether the peer closed the connection.
func (c *wireConn) note(err error) bool {
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		return false
	}
	c.reset.Store(true)
	return true
}

// floodLog is the addresses whose last connection was flooded when no exchange was
// left to tell it to. The next one tells.
type floodLog struct {
	mu sync.Mutex
	at map[string]bool
}

// maxFloods is how many are kept; with more, all are forgotten.
const maxFloods = 1000

func (f *floodLog) note(addr string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at == nil || len(f.at) >= maxFloods {
		f.at = make(map[string]bool)
	}
	f.at[addr] = true
}

// had reports whether an address was noted, once.
func (f *floodLog) had(addr string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	had := f.at[addr]
	delete(f.at, addr)
	return had
}

func wireDialer(d *net.Dialer) func(context.Context, string, string) (net.Conn, error) {
	var flooded floodLog
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		w, ok := ctx.Value(wireKey{}).(*wire)
		if ok {
			if err := w.mayDial(); err != nil {
				return nil, err
			}
			ctx = httptrace.WithClientTrace(ctx, w.dialTrace())
		}
		conn, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		if ok && flooded.had(addr) {
			w.wasted()
		}
		c := newWireConn(conn)
		c.idled = func() { flooded.note(addr) }
		return c, nil
	}
}
