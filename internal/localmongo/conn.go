package localmongo

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/cxbridge/watcher/internal/localmongo/wire"
)

// errDropped ends what a connection was doing when the connection goes away.
var errDropped = errors.New("connection closed")

// conn is one connection of a client. Requests of one connection are served one after the
// other, as MongoDB does. A second goroutine reads ahead, so that a client that goes away
// ends what it was waiting for.
type conn struct {
	srv *Server
	id  int32
	nc  net.Conn
	out *bufio.Writer
	buf []byte

	// appName is what the client called itself in its handshake; fail points may ask.
	appName string

	once sync.Once
	gone chan struct{}
}

func newConn(s *Server, nc net.Conn) *conn {
	return &conn{
		srv:  s,
		id:   s.nextConn.Add(1),
		nc:   nc,
		out:  bufio.NewWriterSize(nc, 1<<15),
		gone: make(chan struct{}),
	}
}

// close closes the connection; it may be called more than once and by anybody.
func (c *conn) close() {
	c.once.Do(func() {
		close(c.gone)
		_ = c.nc.Close()
	})
}

// reset closes a connection so that the peer sees it refused and not ended.
func reset(nc net.Conn) {
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = nc.Close()
}

// frame is one message as it was read, or the reason that no more will come.
type frame struct {
	header wire.Header
	body   []byte
	err    error
}

// serve answers requests until the connection ends.
func (c *conn) serve(ctx context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	frames := make(chan frame)
	var reader sync.WaitGroup
	reader.Go(func() { c.read(frames, cancel) })
	defer reader.Wait()
	defer c.close()
	defer cancel(errDropped)
	for {
		select {
		case <-c.gone:
			return
		case f := <-frames:
			if f.err != nil {
				c.report(f.err)
				return
			}
			if err := c.answer(ctx, f); err != nil {
				c.report(err)
				return
			}
		}
	}
}

// read hands over frames until the connection ends, and then cancels what is running.
func (c *conn) read(frames chan<- frame, cancel context.CancelCauseFunc) {
	in := bufio.NewReaderSize(c.nc, 1<<15)
	for {
		var f frame
		f.header, f.body, f.err = wire.ReadFrame(in)
		if f.err != nil {
			cancel(errDropped)
		}
		select {
		case frames <- f:
		case <-c.gone:
			return
		}
		if f.err != nil {
			return
		}
	}
}

// report logs why a connection ended, if the client did something wrong.
func (c *conn) report(err error) {
	if errors.Is(err, wire.ErrFrame) {
		c.srv.log.Warn("localmongo: connection broke the protocol", "client", c.nc.RemoteAddr().String(), "error", err)
		return
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		c.srv.log.Debug("localmongo: connection ended", "client", c.nc.RemoteAddr().String(), "error", err)
	}
}

// answer serves one request. An error ends the connection.
func (c *conn) answer(ctx context.Context, f frame) error {
	if err := c.srv.faults.thawed(ctx); err != nil {
		return err
	}
	req, err := wire.Decode(f.header, f.body)
	if err != nil {
		return err
	}
	reply, err := c.srv.handle(ctx, c, req)
	if err != nil || req.NoReply {
		return err
	}
	if err := c.srv.faults.thawed(ctx); err != nil {
		return err
	}
	return c.write(req, wire.Reply{ID: c.srv.nextID.Add(1), Doc: reply})
}

func (c *conn) write(req *wire.Request, r wire.Reply) error {
	buf, err := wire.AppendReply(c.buf[:0], req, r)
	if err != nil {
		return err
	}
	if cap(buf) <= 1<<20 { // a larger one is rare, and not worth keeping
		c.buf = buf
	}
	if _, err := c.out.Write(buf); err != nil {
		return err
	}
	return c.out.Flush()
}
