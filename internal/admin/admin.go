// Package admin serves what operators and their machines ask of a running
// watcher: /metrics, /livez and /readyz, on a listener of their own.
//
// It owns the listener and the form of the answers. What ready means is said
// by the parts themselves, through checks.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check is one condition of readiness. Ready returns nil, or why not.
type Check struct {
	Name  string
	Ready func() error
}

// Options are what a Server is made of.
type Options struct {
	Addr     string // "host:port", ":port"; port 0 takes a free one
	Gatherer prometheus.Gatherer
	Checks   []Check
	Logger   *slog.Logger
}

// Server is the listener of a watcher for operators.
type Server struct {
	listener net.Listener
	http     *http.Server
	checks   []Check
	logger   *slog.Logger
}

// The limits of a request: everything served here is small and local.
const (
	readTimeout  = 5 * time.Second
	writeTimeout = 30 * time.Second // a profile or a scrape of a loaded process
	idleTimeout  = 2 * time.Minute
	closeTimeout = 2 * time.Second
)

// New listens on the address, and answers once Run is called.
func New(o Options) (*Server, error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen for metrics and health: %w", err)
	}
	s := &Server{listener: listener, checks: o.Checks, logger: o.Logger}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
		// One metric that cannot be gathered must not hide the others at night.
		ErrorHandling: promhttp.ContinueOnError,
	}))
	mux.HandleFunc("GET /livez", s.live)
	mux.HandleFunc("GET /readyz", s.ready)
	s.http = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: readTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Addr is the address that the server listens on, as HOST:PORT.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close frees the listener of a server that never ran.
func (s *Server) Close() error { return s.listener.Close() }

// Run answers until the context ends.
func (s *Server) Run(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- s.http.Serve(s.listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve metrics and health: %w", err)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), closeTimeout,
		errors.New("admin requests did not end in time"))
	defer cancel()
	if err := s.http.Shutdown(closing); err != nil {
		_ = s.http.Close()
	}
	<-failed
	return nil
}

func (s *Server) live(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"status": "ok"})
}

// readiness is the answer of /readyz.
type readiness struct {
	Status string            `json:"status"`           // "ready" or "not ready"
	Checks map[string]string `json:"checks,omitempty"` // "ok", or why not
}

func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	answer := readiness{Status: "ready", Checks: make(map[string]string, len(s.checks))}
	code := http.StatusOK
	for _, c := range s.checks {
		answer.Checks[c.Name] = "ok"
		if err := c.Ready(); err != nil {
			answer.Checks[c.Name] = err.Error()
			answer.Status, code = "not ready", http.StatusServiceUnavailable
		}
	}
	writeJSON(w, code, answer)
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // the client is gone: nobody to tell
}
