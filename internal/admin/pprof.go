package admin

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"time"
)

// profileTimeout is for a profile that collects as long as it was asked to.
const profileTimeout = 10 * time.Minute

// CheckLoopback returns nil when an address is HOST:PORT and its host is this
// machine alone: localhost, 127.0.0.0/8 or ::1. A heap holds the payloads and
// the credentials, so profiles are for nobody else.
func CheckLoopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT", addr)
	}
	if strings.EqualFold(host, "localhost") {
		return nil
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Unmap().IsLoopback() {
		return nil
	}
	return fmt.Errorf("%q is not an address of this machine alone, such as 127.0.0.1:6060", addr)
}

// errNotLoopback is for a name that looks local and is not.
var errNotLoopback = errors.New("profiles would be served to other machines")

// newProfiles serves net/http/pprof.
func newProfiles(addr string, logger *slog.Logger) (served, error) {
	if err := CheckLoopback(addr); err != nil {
		return served{}, fmt.Errorf("profiles: %w", err)
	}
	listener, err := listen(addr)
	if err != nil {
		return served{}, fmt.Errorf("listen for profiles: %w", err)
	}
	if tcp, ok := listener.Addr().(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		_ = listener.Close()
		return served{}, fmt.Errorf("listen for profiles on %s: %w", listener.Addr(), errNotLoopback)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	server := newHTTP(onlyLocal(mux), logger)
	server.WriteTimeout = profileTimeout
	return served{listener, server}, nil
}

// onlyLocal refuses requests that name another host: a web page that a browser
// on this machine shows could ask under a name of its own that leads here.
func onlyLocal(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if CheckLoopback(net.JoinHostPort(hostOf(r), "80")) != nil {
			http.Error(w, "profiles are for this machine alone", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// PprofAddr is the address of the profiles, as HOST:PORT; "" when there are none.
func (s *Server) PprofAddr() string {
	if len(s.served) == 1 {
		return ""
	}
	return s.served[1].listener.Addr().String()
}
