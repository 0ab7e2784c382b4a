package push

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestConnect(t *testing.T) {
	refuse := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") })
	plain, secure := httptest.NewServer(refuse), httptest.NewTLSServer(refuse)
	defer plain.Close()
	defer secure.Close()
	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	local := []Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}
	trusting, err := NewClient(Options{Allow: local, RootCAs: secure.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs})
	if err != nil {
		t.Fatal(err)
	}
	doubting, err := NewClient(Options{Allow: local})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		client *Client
		url    string
		limit  time.Duration
		says   string
	}{
		{trusting, plain.URL + "/?key=token-0815", time.Minute, ""},
		{trusting, secure.URL, time.Minute, ""},
		{doubting, secure.URL, time.Minute, "TLS: "},
		{trusting, strings.Replace(plain.URL, "http:", "https:", 1), time.Minute, "TLS: "},
		{trusting, "https://" + silent.Addr().String(), 50 * time.Millisecond, "TLS: not done within 50ms"},
		{trusting, "http://127.0.0.1:1/token-0815", time.Minute, "connection refused"},
		{trusting, "http://10.0.0.1/token-0815", time.Minute, "10.0.0.1 is not public"},
		{trusting, "http://127.0.0.1:25/token-0815", time.Minute, "mail server"},
		{trusting, "ftp://token-0815/", time.Minute, "scheme"},
	} {
		err := tt.client.Connect(t.Context(), tt.url, tt.limit)
		if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "token-0815")) {
			t.Errorf("%s: %v, want %q", tt.url, err, tt.says)
		}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := trusting.Connect(over, plain.URL, time.Minute); err == nil {
		t.Error("connected after the end")
	}
}

func TestConnectDoesNotAskAProxy(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	c, err := NewClient(Options{ProxyFromEnvironment: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Connect(t.Context(), "https://crm.example.com/", time.Minute); !errors.Is(err, ErrProxy) {
		t.Errorf("%v", err)
	}
}
