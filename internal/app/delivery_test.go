package app

import (
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cxbridge/watcher/internal/demo/apptest"
)

// A CRM with a certificate of a private authority is trusted with --ca-file, and
// only then.
func TestAPrivateAuthorityIsTrustedWhenItIsNamed(t *testing.T) {
	crm := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer crm.Close()
	crm.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo)
	file := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: crm.Certificate().Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRoad(t)
	r.cfg.RetrySchedule = nil
	r.PutBot(apptest.Bot("tls", crm.URL))

	w := r.start()
	r.Call("untrusted", "tls")
	if o := r.final("untrusted", "failed"); !strings.Contains(o.errText(), "unknown authority") {
		t.Errorf("error %q", o.errText())
	}
	w.halt()
	r.cfg.CAFile = file
	r.start()
	r.Call("trusted", "tls")
	r.final("trusted", "ok")
}

func TestACAFileThatCannotBeReadIsSaidAtTheStart(t *testing.T) {
	r := newRoad(t)
	r.cfg.CAFile = filepath.Join(t.TempDir(), "none.pem")
	deps := r.deps
	deps.Logger = slog.New(slog.DiscardHandler)
	if _, err := New(r.cfg, deps); err == nil || !strings.Contains(err.Error(), "none.pem") {
		t.Errorf("error %v", err)
	}
}

// Proxies count only when asked for.
func TestAProxyOfTheEnvironmentCountsOnlyWhenAskedFor(t *testing.T) {
	proxied := make(chan string, 10)
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) { proxied <- q.URL.String() }))
	defer proxy.Close()
	r := newRoad(t, "bot")
	// net/http takes no proxy for loopback: a name that only the proxy knows.
	r.PutBot(apptest.Bot("named", "http://crm.invalid/hook"))
	t.Setenv("HTTP_PROXY", proxy.URL)
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://crm.invalid/hook", nil)
	if u, err := http.ProxyFromEnvironment(req); err != nil || u == nil || u.String() != proxy.URL {
		t.Skip("net/http has read the environment already, which it does once")
	}
	r.cfg.RetrySchedule = nil
	w := r.start()
	r.Call("direct", "named")
	if o := r.final("direct", "failed"); !strings.Contains(o.errText(), "DNS") {
		t.Errorf("error %q", o.errText())
	}
	w.halt()
	r.cfg.ProxyFromEnvironment = true
	r.start()
	r.Call("proxied", "named")
	r.final("proxied", "ok")
	if got := <-proxied; got != "http://crm.invalid/hook" {
		t.Errorf("the proxy was asked for %s", got)
	}
}
