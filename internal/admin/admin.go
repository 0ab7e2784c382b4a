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

// Server is the listener of a watcher for operators.
type Server struct {
	listener net.Listener
	http     *http.Server
	profiles *profiles // nil: not served
	checks   []Check
	standby  func() string
	pages    *pages // nil: not served
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
	s.http = newHTTP(mux, o.Logger)
	if o.PprofAddr != "" {
		var err error
		if s.profiles, err = newProfiles(o.PprofAddr, o.Logger); err != nil {
			return nil, err
		}
	}
	var err error
	if s.listener, err = listen(o.Addr); err != nil {
		_ = s.closeProfiles()
		return nil, fmt.Errorf("listen for metrics and health: %w", err)
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
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close frees the listeners of a server that never ran.
func (s *Server) Close() error { return errors.Join(s.listener.Close(), s.closeProfiles()) }

func (s *Server) closeProfiles() error {
	if s.profiles == nil {
		return nil
	}
	return s.profiles.listener.Close()
}

// Run answers until the context ends.
func (s *Server) Run(ctx context.Context) error {
	if s.profiles == nil {
		return serve(ctx, s.http, s.listener)
	}
	both, ctx := errgroup.WithContext(ctx)
	both.Go(func() error { return serve(ctx, s.http, s.listener) })
	both.Go(func() error { return serve(ctx, s.profiles.http, s.profiles.listener) })
	return both.Wait()
}

func serve(ctx context.Context, server *http.Server, listener net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), closeTimeout,
		errors.New("admin requests did not end in time"))
	defer cancel()
	if err := server.Shutdown(closing); err != nil {
		_ = server.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", listener.Addr(), err)
	}
	return nil
}
