package admin

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// CheckHost returns nil when a name can stand in a request's Host: without
// scheme, port or path.
func CheckHost(name string) error {
	if name == "" || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
		return fmt.Errorf("%.80q %w", name, errHost)
	}
	return nil
}

var errHost = errors.New("is not a host name such as watcher.example.com")

// knownHost refuses requests that ask for another host than an address, localhost
// or one of the names. A web page can let its own name lead here (DNS rebinding) and
// then read what the browser of an operator may reach; it cannot do that with an
// address.
func knownHost(names []string, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		host := hostOf(r)
		_, err := netip.ParseAddr(host)
		if err != nil && host != "localhost" && !slices.ContainsFunc(names, func(n string) bool {
			return strings.EqualFold(strings.TrimSuffix(n, "."), host)
		}) {
			http.Error(w, "not served under this host name; --listen-host permits one", http.StatusForbidden)
			return
		}
		next(w, r)
	}
}

// hostOf is the host that a request asks for, without its port, in lower case.
func hostOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(r.Host, "["), "]")
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
