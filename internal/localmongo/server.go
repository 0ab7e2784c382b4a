// Package localmongo is a MongoDB-compatible server for one machine, in one process and
// in memory: what tests, the demo and a first hour with the watcher stand on in the place
// of a cluster. It speaks the wire protocol, presents itself as the primary of a replica
// set of one member, and serves the part of MongoDB that this project uses: CRUD,
// indexes, sessions, transactions and, above all, change streams. It can also hurt its
// clients the way a real cluster does: by the failCommand fail point, and by the methods
// of Server in faults.go.
//
// It owns connections, commands, cursors and faults. Data, indexes and the history of
// changes are in store; what queries and updates mean is in query, on lungo's kits.
// Production code does not know that it exists.
//
// What it does not know it refuses, with MongoDB's code and the name of what it was asked
// for: an error is better than a wrong answer.
//
// # What is measured, and what differs
//
// The transcripts in testdata were taken from MongoDB 4.2; replies have their shape. On
// top of them stand the differences that newer servers document, since the server calls
// itself 8.0:
//
//   - History lost is error 286 where 4.2 says 40576 or 136, and a token that is not found
//     is 280 where 4.2 says 40585. NotMaster is called NotWritablePrimary.
//   - NonResumableChangeStreamError is gone; ResumableChangeStreamError alone counts.
//   - Events have wallTime, and updateDescription has truncatedArrays.
//   - An update by pipeline is an update with a delta, not a replace.
//   - A lost resume token is refused; Options.LaxResume accepts it in silence as 4.2 does.
//   - A duplicate key error names the field in keyValue; index listings have no ns.
//
// And what is knowingly unlike any server:
//
//   - A write is at once part of the committed past, so a stream opened right behind it
//     shows it; the recorded server was some milliseconds late.
//   - Conflicts of transactions are found at the commit and not at the write.
//   - Update operators $ (the implicit position), text, geo and hashed indexes,
//     collations, capped collections, $lookup, pre-images, expanded events and split of
//     large events are refused.
//   - A TTL index is kept and shown, and removes nothing.
//   - A regular expression is one of Go (RE2).
//   - No user is asked for a password, and nothing is encrypted: it is for loopback.
package localmongo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/bson/primitive"
	"golang.org/x/sync/errgroup"

	"github.com/cxbridge/watcher/internal/localmongo/store"
	"github.com/cxbridge/watcher/pkg/backoff"
)

// Options configure a Server. The zero value is a server on a free port of the loopback
// interface, in memory.
type Options struct {
	// Addr is where to listen, default 127.0.0.1:0 (any free port).
	Addr string
	// Logger gets one line per connection that broke the protocol; default none.
	Logger *slog.Logger
	// ReplicaSet is the name of the replica set, default rs0.
	ReplicaSet string
	// HistoryEvents and HistoryBytes bound how far back change streams can resume:
	// default 200,000 changes and 256 MiB.
	HistoryEvents int
	HistoryBytes  int64
	// DataDir keeps documents and history in a directory over a restart; "" keeps them in
	// memory. One process at a time can use a directory.
	DataDir string
	// LaxResume accepts a resume token whose time has left the history, as MongoDB 4.2
	// and some releases after it do: the stream opens and silently misses what is gone.
	// The default refuses it with error 286, as newer servers do.
	LaxResume bool
	// NoHello is a server that knows isMaster only, as those before 4.4.2.
	NoHello bool
	// NoopInterval is how often an idle server moves its cluster time on, default 10 s,
	// as a MongoDB primary does. Negative means never.
	NoopInterval time.Duration
}

const (
	defaultReplicaSet   = "rs0"
	defaultNoopInterval = 10 * time.Second
	// acceptPause is the wait after an accept that failed.
	acceptPause = 50 * time.Millisecond
)

// Server is one server. New makes it, Run serves it.
type Server struct {
	opts  Options
	log   *slog.Logger
	ln    net.Listener
	store *store.Store

	cursors  *cursors
	sessions *sessions
	fails    *failPoints
	faults   *faults

	started  time.Time
	process  primitive.ObjectID // tells this server from the one before it at the same address
	nextConn atomic.Int32
	nextID   atomic.Int32

	mu      sync.Mutex
	conns   map[*conn]struct{}
	closing bool
}

// New listens and returns a server that does not serve yet. The listener is closed when
// Run ends, or by Close when Run is never called.
func New(opts Options) (*Server, error) {
	if opts.Addr == "" {
		opts.Addr = "127.0.0.1:0"
	}
	if opts.ReplicaSet == "" {
		opts.ReplicaSet = defaultReplicaSet
	}
	if opts.NoopInterval == 0 {
		opts.NoopInterval = defaultNoopInterval
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	data, err := store.New(store.Options{HistoryEvents: opts.HistoryEvents, HistoryBytes: opts.HistoryBytes, Dir: opts.DataDir})
	if err != nil {
		return nil, err
	}
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", opts.Addr)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", opts.Addr, err), data.Close())
	}
	s := &Server{
		opts:     opts,
		log:      opts.Logger,
		ln:       ln,
		store:    data,
		cursors:  newCursors(),
		sessions: newSessions(),
		fails:    newFailPoints(),
		faults:   newFaults(time.Now()),
		started:  time.Now(),
		process:  primitive.NewObjectID(),
		conns:    map[*conn]struct{}{},
	}
	return s, nil
}

// Addr is the address that the server listens on, host and port.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// URI is the connection string of the server.
func (s *Server) URI() string {
	host, port, err := net.SplitHostPort(s.Addr())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "mongodb://" + net.JoinHostPort(host, port) + "/?replicaSet=" + s.opts.ReplicaSet
}

// Examined counts the documents that queries have looked at since the start. A query that
// an index serves looks only at documents it returns, or nearly so.
func (s *Server) Examined() int64 { return s.store.Examined() }

// Close stops listening and closes the data file. It is for a server that was made and will not be run.
func (s *Server) Close() error { return errors.Join(s.ln.Close(), s.store.Close()) }

// Run serves until ctx ends, closes every connection and waits for all that it started.
// It returns nil when ctx was the reason.
func (s *Server) Run(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(errStopped)
	var data errgroup.Group
	dataCtx, release := context.WithCancelCause(context.WithoutCancel(ctx))
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, s.shutdown)
	defer stop()
	g.Go(func() error { s.accept(ctx, g); return nil })
	g.Go(func() error { s.keepTime(ctx); return nil })
	// The data file is closed last, when no command can write any more.
	data.Go(func() error {
		err := s.store.Sync(dataCtx)
		if err != nil {
			fail(err)
		}
		return err
	})
	err := g.Wait()
	release(errStopped)
	return errors.Join(err, data.Wait())
}

// errStopped ends the writing of the data file when the server has stopped.
var errStopped = errors.New("the server has stopped")

// accept takes connections until the listener is closed.
func (s *Server) accept(ctx context.Context, g *errgroup.Group) {
	for {
		nc, err := s.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // too many open files, most likely; some will be closed
			s.log.Warn("localmongo: cannot accept a connection", "error", err)
			_ = backoff.Sleep(ctx, acceptPause)
			continue
		}
		c := s.admit(nc)
		if c == nil {
			continue
		}
		g.Go(func() error {
			defer s.forget(c)
			c.serve(ctx)
			return nil
		})
	}
}

// admit registers a connection, or refuses it.
func (s *Server) admit(nc net.Conn) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || s.faults.refusing() {
		reset(nc)
		return nil
	}
	c := newConn(s, nc)
	s.conns[c] = struct{}{}
	return c
}

func (s *Server) forget(c *conn) {
	c.close()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
}

// shutdown closes the listener and all connections.
func (s *Server) shutdown() {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	_ = s.ln.Close()
	s.DropConnections()
}

// keepTime moves the cluster time on while nothing is written.
func (s *Server) keepTime(ctx context.Context) {
	if s.opts.NoopInterval < 0 {
		return
	}
	t := time.NewTicker(s.opts.NoopInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.store.Tick()
		}
	}
}
