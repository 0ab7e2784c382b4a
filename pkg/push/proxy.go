package push

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpproxy"
)

var errProxy = errors.New("not the address of an http, https or socks5 proxy")

// proxyFromEnvironment is http.ProxyFromEnvironment, but that an address which
// cannot be read is an error: net/http would connect directly.
func proxyFromEnvironment() (func(*http.Request) (*url.URL, error), error) {
	config := httpproxy.FromEnvironment()
	for _, setting := range []struct{ name, value string }{{"HTTP_PROXY", config.HTTPProxy}, {"HTTPS_PROXY", config.HTTPSProxy}} {
		if setting.value != "" && !isProxy(setting.value) {
			return nil, fmt.Errorf("%s: %w", setting.name, errProxy) // its value may hold a password
		}
	}
	choose := config.ProxyFunc()
	return func(r *http.Request) (*url.URL, error) { return choose(r.URL) }, nil
}

// isProxy reports whether httpproxy can read an address. One without a scheme is
// that of an http proxy.
func isProxy(text string) bool {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return false
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
		return u.Hostname() != ""
	}
	return false
}
