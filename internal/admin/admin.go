// Package admin serves what operators and their machines ask of a running
// watcher, on a listener of their own: the status page, the same as JSON,
// /metrics, /livez and /readyz; and profiles, on another that is never public.
//
// It owns the listeners, the form of the answers, and that a page shows nothing
// of a customer. What ready means is said by the parts themselves, through
// checks, and so is what stands on the page.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
)

// Options are what a Server is made of.
type Options struct {
	Addr     string // "host:port", ":port"; port 0 takes a free one
	Gatherer prometheus.Gatherer
	Checks   []Check
	// Standby says who works while this replica stands by, "" when it works
	// itself; nil: it never stands by. A standby is ready.
	Standby func() string
	// Source is what the status page shows; nil: there is no page.
	Source Source
	// Console serves what only operators may see; nil: there is no such page. It is
	// asked for every path that is not served here, and says itself who may see it.
	Console http.Handler
	// Links are the pages of Console that the status page leads to.
	Links []Link
	// Hosts are the names under which the pages may be asked for, beside localhost
	// and every address; see CheckHost. The rest is served under every name.
	Hosts []string
	// PprofAddr, when not "", serves the profiles of net/http/pprof; see
	// CheckLoopback for what it may be.
	PprofAddr string
	Logger    *slog.Logger
}

// Link leads from the status page to another one.
type Link struct{ Path, Text string }

// Server is the listeners of a watcher for operators.
type Server struct {
	served  []served // the one for operators; then that of the profiles, when they are asked for
	checks  []Check
	standby func() string
	pages   *pages // nil: not served
}

// served is a listener and what answers there.
type served struct {
	listener net.Listener
	http     *http.Server
}

// The limits of a request: everything served here is small and local.
const (
	readTimeout  = 5 * time.Second
	writeTimeout = 30 * time.Second // with the wait for a turn
	idleTimeout  = 2 * time.Minute
	closeTimeout = 2 * time.Second
	maxHeader    = 16 << 10
	maxScrapes   = 4 // each gathers and writes some hundred kilobytes
)

// New listens on the addresses, and answers once Run is called.
func New(o Options) (*Server, error) {
	s := &Server{checks: o.Checks, standby: o.Standby}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", atMost(maxScrapes, promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
		// One metric that cannot be gathered must not hide the others at night.
		ErrorHandling: promhttp.ContinueOnError,
	})))
	mux.HandleFunc("GET /livez", s.live)
	mux.HandleFunc("GET /readyz", s.ready)
	if o.Source != nil {
		var err error
		if s.pages, err = newPages(o.Source, s.health, o.Links); err != nil {
			return nil, err
		}
		mux.HandleFunc("GET /{$}", knownHost(o.Hosts, s.pages.html))
		mux.HandleFunc("GET /status.json", knownHost(o.Hosts, s.pages.json))
	}
	if o.Console != nil {
		mux.HandleFunc("/", knownHost(o.Hosts, o.Console.ServeHTTP))
	}
	listener, err := listen(o.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics and health: %w", err)
	}
	s.served = []served{{listener, newHTTP(mux, o.Logger)}}
	if o.PprofAddr != "" {
		profiles, err := newProfiles(o.PprofAddr, o.Logger)
		if err != nil {
			_ = s.Close()
			return nil, err
		}
		s.served = append(s.served, profiles)
	}
	return s, nil
}

func listen(addr string) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
}

func newHTTP(h http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnState:         newConns().track,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}

// Addr is the address that the server listens on, as HOST:PORT.
func (s *Server) Addr() string { return s.served[0].listener.Addr().String() }

// Close frees the listeners of a server that never ran.
func (s *Server) Close() error {
	var err error
	for _, one := range s.served {
		err = errors.Join(err, one.listener.Close())
	}
	return err
}

// Run answers until the context ends.
func (s *Server) Run(ctx context.Context) error {
	all, ctx := errgroup.WithContext(ctx)
	for _, one := range s.served {
		all.Go(func() error { return one.run(ctx) })
	}
	return all.Wait()
}

func (s served) run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(s.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", s.listener.Addr(), err)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), closeTimeout,
		errors.New("admin requests did not end in time"))
	defer cancel()
	if err := s.http.Shutdown(closing); err != nil {
		_ = s.http.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", s.listener.Addr(), err)
	}
	return nil
}
