package push

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"
)

var loopback = []Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}, {Prefix: netip.MustParsePrefix("::1/128")}}

func newTestClient(t testing.TB, o Options) *Client {
	t.Helper()
	if o.Allow == nil {
		o.Allow = loopback
	}
	c, err := NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestSendDelivers(t *testing.T) {
	type seen struct{ method, body, query, agent, key string }
	got := make(chan seen, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- seen{r.Method, string(b), r.URL.RawQuery, r.UserAgent(), r.Header.Get("Idempotency-Key")}
		io.WriteString(w, `{"ok":true}`)
	}))
	defer srv.Close()
	c := newTestClient(t, Options{UserAgent: "watcher/test"})

	res := c.Send(t.Context(), &Request{
		Method: "POST", URL: srv.URL + "/lead?a=1", Timeout: 2 * time.Second, Body: []byte(`{"x":1}`),
		Header: http.Header{"Idempotency-Key": {"d1"}},
	})
	if res.Class != ClassOK || res.HTTPStatus != 200 || res.Err != nil || res.Body != `{"ok":true}` || res.Sends != 1 {
		t.Fatalf("POST: %+v", res)
	}
	if s := <-got; s != (seen{"POST", `{"x":1}`, "a=1", "watcher/test", "d1"}) {
		t.Fatalf("POST arrived as %+v", s)
	}
	res = c.Send(t.Context(), &Request{Method: "GET", URL: srv.URL + "/lead?b=2", Timeout: 2 * time.Second})
	if res.Class != ClassOK || !res.Reused || res.Sends != 1 {
		t.Fatalf("GET: %+v", res)
	}
	if s := <-got; s != (seen{"GET", "", "b=2", "watcher/test", ""}) {
		t.Fatalf("GET arrived as %+v", s)
	}
}
