package push

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func TestReach(t *testing.T) {
	mux := http.NewServeMux()
	status := func(path string, head, get int) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.WriteHeader(head)
				return
			}
			if r.Header.Get("Range") != "bytes=0-0" {
				t.Errorf("%s asks for %q", path, r.Header.Get("Range"))
			}
			w.WriteHeader(get)
			_, _ = w.Write([]byte("x"))
		})
	}
	status("/fine", 200, 500)
	status("/signed", 403, 206) // the signature is that of a GET
	status("/gone", 404, 200)
	status("/refused", 405, 403)
	mux.Handle("/moved", http.RedirectHandler("/fine", http.StatusFound))
	mux.Handle("/round", http.RedirectHandler("/round", http.StatusFound))
	mux.Handle("/inside", http.RedirectHandler("http://10.0.0.1/token-0815", http.StatusFound))
	mux.Handle("/odd", http.RedirectHandler("http://[token-0815", http.StatusFound))
	srv := httptest.NewServer(mux)
	defer srv.Close()
	c, err := NewClient(Options{Allow: []Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for path, want := range map[string]int{"/fine": 200, "/signed": 206, "/gone": 404, "/refused": 403, "/moved": 200} {
		if got, err := c.Reach(t.Context(), srv.URL+path); got != want || err != nil {
			t.Errorf("%s: %d, %v", path, got, err)
		}
	}
	for link, says := range map[string]string{
		srv.URL + "/round?k=token-0815": "redirects", srv.URL + "/inside": "not public", srv.URL + "/odd": "redirect",
		"ftp://x/token-0815": "scheme", "http://10.0.0.1/token-0815": "not public", "http://127.0.0.1:1/token-0815": "refused", ":": "cannot be parsed",
	} {
		status, err := c.Reach(t.Context(), link)
		if status != 0 || err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "token-0815") {
			t.Errorf("%s: %d, %v", link, status, err)
		}
	}
	closed, err := NewClient(Options{}) // of public addresses alone
	if err != nil {
		t.Fatal(err)
	}
	defer closed.Close()
	_, err = closed.Reach(t.Context(), srv.URL+"/fine")
	if _, ok := errors.AsType[*BlockedError](err); !ok {
		t.Errorf("a recording inside: %v", err)
	}
}
