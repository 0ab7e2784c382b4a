package push

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cxbridge/watcher/pkg/secret"
)

// A receiver that repeats a long token, as often and in whatever form it likes,
// and wherever the answer is cut, gives nothing of it away.
func TestLongTokenInAnAnswer(t *testing.T) {
	token := strings.Repeat("k3y-", 1250) // 5,000 bytes
	encoded := base64.StdEncoding.EncodeToString([]byte(token))
	long := strings.Repeat("Bearer "+token+" ", 20) // 100 KB
	for name, answer := range map[string]string{
		"once":          "HTTP/1.1 400 X\r\nContent-Length: 5000\r\n\r\n" + token,
		"four times":    "HTTP/1.1 400 X\r\nContent-Length: 20000\r\n\r\n" + strings.Repeat(token, 4),
		"longer":        fmt.Sprintf("HTTP/1.1 400 X\r\nContent-Length: %d\r\n\r\n%s", len(long), long),
		"breaks off":    "HTTP/1.1 400 X\r\nContent-Length: 5000\r\n\r\n" + token[:1777],
		"base64":        fmt.Sprintf("HTTP/1.1 400 X\r\nContent-Length: %d\r\n\r\n%s", len(encoded), encoded),
		"half a base64": "HTTP/1.1 400 X\r\nContent-Length: 9000\r\n\r\n" + encoded[:3333],
	} {
		srv := newRawServer(t, thenSilent(answer))
		for _, own := range []bool{false, true} {
			req := postRequest(srv.URL)
			req.Timeout = 2 * short
			req.Header.Set("Authorization", "Bearer "+token)
			if own {
				req.Redact = secret.NewRedactor(secret.Text(token))
			}
			res := newTestClient(t, Options{}).Send(t.Context(), req)
			if res.HTTPStatus != 400 || !strings.Contains(res.Body, secret.Redacted) {
				t.Errorf("%s: %+v", name, res)
			}
			for _, part := range []string{token[:9], encoded[:9], encoded[1:10]} {
				if strings.Contains(res.Body, part) {
					t.Errorf("%s, own=%v: %q is in %.200q", name, own, part, res.Body)
				}
			}
		}
	}
}

// Short values and ordinary words go where they stand, not everywhere.
func TestWordsAreTakenOutByPlace(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"x-channel":%q,"pin":"%s","status":"success","n":1234}`, r.Header.Get("X-Channel"), r.URL.Query().Get("pin_key"))
		r.Write(w)
	}))
	defer srv.Close()
	for _, own := range []Redactor{nil, secret.NewRedactor()} {
		req := postRequest(srv.URL + "/?pin_key=1234")
		req.Header.Set("X-Channel", "success")
		req.Redact = own
		res := newTestClient(t, Options{}).Send(t.Context(), req)
		for _, want := range []string{`"x-channel":"[redacted]"`, `"status":"success","n":1234`, "X-Channel: [redacted]", "pin_key=[redacted]"} {
			if !strings.Contains(res.Body, want) {
				t.Errorf("no %s in %s", want, res.Body)
			}
		}
	}
}

// A secret in the path is one wherever it is repeated.
func TestSecretPath(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, "no hook %s", r.URL.Path)
	}))
	defer srv.Close()
	res := newTestClient(t, Options{}).Send(t.Context(), postRequest(srv.URL+"/hook/xkqzvbnwpq77/new?jwt=jwt-in-query"))
	if res.Body != "no hook /hook/[redacted]/new" {
		t.Errorf("%q", res.Body)
	}
}

// What stands as the name of a header is often a whole line with its value.
func TestHeaderNameIsNotRepeated(t *testing.T) {
	for _, name := range []string{"Authorization: Bearer LEAKED", "Bearer LEAKED", "X-Key=LEAKED", "X-Key\tLEAKED", strings.Repeat("x", 300) + " LEAKED"} {
		err := CheckHeader(name, "x")
		if err == nil || strings.Contains(err.Error(), "LEAKED") || len(err.Error()) > 200 {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// The whole of an answer as it comes from the wire.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"ok\":true}"), true)
	f.Add([]byte("HTTP/1.1 503 X\r\nRetry-After: 5\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\n\r\nplain and not packed"), false)
	f.Add([]byte("HTTP/1.1 429 X\r\nRetry-After: Fri, 05 Jun 2026 10:00:00 GMT\r\nTransfer-Encoding: chunked\r\n\r\n5\r\na\x00\xff\xc3b\r\n0\r\n\r\n"), true)
	f.Add(append([]byte("HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\n\r\n"), packed(`{"ok":"a-secret-of-the-bot"}`)...), true)
	f.Add([]byte("HTTP/1.1 103 X\r\n\r\nHTTP/1.1 204 X\r\n\r\n"), false)
	f.Fuzz(func(t *testing.T, raw []byte, rule bool) {
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), nil)
		if err != nil {
			return
		}
		req := postRequest("http://crm.example.com/")
		req.Header.Set("X-Api-Key", "a-secret-of-the-bot")
		if rule {
			req.Success = &Rule{Path: "ok", Exists: new(true)}
			req.RetryWhen = []RetryRule{{Body: &Rule{Path: "a.0.b", Equals: []byte("1")}}, {Statuses: []int{5}, Final: true}}
		}
		u, err := parseURL(req.URL)
		if err != nil {
			t.Fatal(err)
		}
		at := &attempt{Request: req, parent: t.Context(), url: u, header: req.Header, timeout: time.Second, ends: time.Now().Add(time.Minute)}
		res := at.classify(readAnswer(resp, true, newWire(func(error) {}, 0)))
		switch {
		case !utf8.ValidString(res.Body) || strings.ContainsRune(res.Body, 0) || utf8.RuneCountInString(res.Body) > MaxSnippet:
			t.Errorf("body %q", res.Body)
		case strings.Contains(strings.ToLower(res.Body), "a-secret-of-the-bot"):
			t.Errorf("the secret is in %q", res.Body)
		case res.RetryAfter < 0 || res.RetryAfter > MaxRetryAfter || res.RetryAfter > 0 && res.Class != ClassBusy:
			t.Errorf("%s with Retry-After %s", res.Class, res.RetryAfter)
		case (res.Class == ClassOK) != (res.Err == nil) || res.Class == ClassUnusable || res.Class >= classes:
			t.Errorf("%s with error %v", res.Class, res.Err)
		case res.Class == ClassOK && (resp.StatusCode < 200 || resp.StatusCode > 299):
			t.Errorf("%d is ok", resp.StatusCode)
		}
	})
}

// Whatever is written as an address, nothing inside is reached.
func FuzzAddress(f *testing.F) {
	for _, host := range blockedAddrs {
		f.Add("http://" + net.JoinHostPort(host, "80") + "/")
	}
	f.Add("https://user:pw@2130706433:443/?a=b#c")
	f.Add("http://①②⑦.⓪.⓪.①:25/%zz")
	g := &Guard{}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := parseURL(text)
		if err != nil {
			if strings.Contains(text, "pw") && strings.Contains(err.Error(), "pw") {
				t.Errorf("the error repeats the address: %v", err)
			}
			return
		}
		if g.CheckURL(u) != nil {
			return
		}
		if addr, err := netip.ParseAddr(u.Hostname()); err == nil && public.SafeAddr(addr.Unmap().WithZone("")) != nil {
			t.Errorf("%q may be reached at %s", text, addr)
		}
		if last := u.Hostname()[strings.LastIndexByte(u.Hostname(), '.')+1:]; isNumeric(strings.ToLower(last)) {
			if _, err := netip.ParseAddr(u.Hostname()); err != nil {
				t.Errorf("%q may be reached, which ends with a number", text)
			}
		}
		_ = secret.PublicURL(u, false)
	})
}

func FuzzNetwork(f *testing.F) {
	f.Add("10.0.0.0/8:80,8000-8999")
	f.Add("[fd00::/8]:443")
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseNetwork(text)
		if err != nil {
			return
		}
		again, err := ParseNetwork(n.String())
		if err != nil || again.String() != n.String() {
			t.Errorf("%q is written as %s and read as %s, %v", text, n, again, err)
		}
	})
}
