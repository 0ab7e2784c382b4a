package push

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// short is the timeout of exchanges that are meant to run into it.
const short = 150 * time.Millisecond

func checkFault(t *testing.T, res Result, class Class, sends int, texts ...string) {
	t.Helper()
	if res.Class != class || res.Sends != sends {
		t.Errorf("class %s with %d sends (%v), want %s with %d", res.Class, res.Sends, res.Err, class, sends)
	}
	if class == ClassOK {
		if res.Err != nil {
			t.Errorf("ok with error %v", res.Err)
		}
		return
	}
	if res.Err == nil {
		t.Fatalf("class %s without an error", res.Class)
	}
	for _, text := range texts {
		if !strings.Contains(res.Err.Error(), text) {
			t.Errorf("error %q does not say %q", res.Err, text)
		}
	}
}

func TestNoAnswer(t *testing.T) {
	const maybe = "the receiver may have taken it"
	for _, tc := range []struct {
		name  string
		serve func(net.Conn)
		class Class
		sends int
		texts []string
	}{
		{"headers never come", thenSilent(""), ClassUnknown, 1, []string{"no answer within 150ms", maybe}},
		{"half a status line", thenSilent("HTTP/1.1 20"), ClassUnknown, 1, []string{"no answer within 150ms", maybe}},
		{"headers that never end", thenSilent("HTTP/1.1 200 OK\r\nX: "), ClassUnknown, 1, []string{maybe}},
		{"reset before reading", reset, ClassUnreached, 0, []string{"connection"}},
		{"closed after the request", func(c net.Conn) { readRequest(bufio.NewReader(c)) }, ClassUnknown, 1,
			[]string{"connection closed before an answer", maybe}},
		{"reset after the request", func(c net.Conn) { readRequest(bufio.NewReader(c)); reset(c) }, ClassUnknown, 1,
			[]string{"connection reset", maybe}},
		{"not HTTP", thenSilent("SSH-2.0-OpenSSH_9.6\r\n\r\n"), ClassUnknown, 1, []string{maybe}},
		{"endless headers", func(c net.Conn) {
			readRequest(bufio.NewReader(c))
			io.WriteString(c, "HTTP/1.1 200 OK\r\n")
			for i := 0; ; i++ {
				if _, err := fmt.Fprintf(c, "X-%d: %s\r\n", i, strings.Repeat("a", 1000)); err != nil {
					return
				}
			}
		}, ClassRejected, 1, []string{"header", maybe}},
		{"1xx flood", func(c net.Conn) {
			readRequest(bufio.NewReader(c))
			for {
				if _, err := io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"); err != nil {
					return
				}
			}
		}, ClassUnknown, 1, []string{maybe}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			srv := newRawServer(t, tc.serve)
			c := newTestClient(t, Options{})
			req := postRequest(srv.URL + "/p?accessKey=AKAKAK&x=1")
			req.Timeout = short
			if tc.name == "endless headers" || tc.name == "1xx flood" {
				req.Timeout = 5 * time.Second // ends by the limit on headers, long before
			}
			res := c.Send(t.Context(), req)
			if tc.name == "reset before reading" && res.Class == ClassUnknown {
				tc.class, tc.sends = ClassUnknown, 1 // the request may be out before the reset is in
			}
			checkFault(t, res, tc.class, tc.sends, tc.texts...)
			if res.Duration > 3*time.Second {
				t.Errorf("took %s", res.Duration)
			}
			if strings.Contains(res.Err.Error(), "AKAKAK") || res.HTTPStatus != 0 {
				t.Errorf("result %+v", res)
			}
		})
	}
}

func TestUnreached(t *testing.T) {
	refusing := listen(t)
	refusing.Close()
	c := newTestClient(t, Options{})
	res := c.Send(t.Context(), postRequest("http://"+refusing.Addr().String()))
	checkFault(t, res, ClassUnreached, 0, "connect: connection refused")

	// A listener that never accepts and whose backlog is full is a black hole to
	// whoever comes late; a peer that accepts and never shakes hands is one to TLS.
	silent := newRawServer(t, func(conn net.Conn) { io.Copy(io.Discard, conn) })
	req := postRequest(strings.Replace(silent.URL, "http:", "https:", 1))
	req.Timeout = short
	checkFault(t, c.Send(t.Context(), req), ClassUnreached, 0, "TLS: not done within 150ms")

	res = c.Send(t.Context(), postRequest("http://no-such-host.invalid/"))
	checkFault(t, res, ClassUnreached, 0, "DNS")
}

func TestTLSFaults(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	server := func(cert tls.Certificate) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{cert}} }
	wantsClient := server(ca.issue(t, nil))
	wantsClient.ClientAuth = tls.RequireAndVerifyClientCert
	wantsClient.ClientCAs = ca.pool
	wantsClient12 := wantsClient.Clone()
	wantsClient12.MaxVersion = tls.VersionTLS12
	old := server(ca.issue(t, nil))
	old.MaxVersion = tls.VersionTLS11
	old.MinVersion = tls.VersionTLS10
	for _, tc := range []struct {
		name   string
		config *tls.Config
		class  Class
		text   string
	}{
		{"expired", server(ca.issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })),
			ClassUnreached, "TLS: certificate has expired"},
		{"not yet valid", server(ca.issue(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) })),
			ClassUnreached, "TLS: certificate is not valid yet"},
		{"wrong host", server(ca.issue(t, func(c *x509.Certificate) { c.IPAddresses = nil })),
			ClassUnreached, "TLS: certificate is for another host"},
		{"unknown authority", server(other.issue(t, nil)), ClassUnreached, "TLS: certificate is signed by an unknown authority"},
		{"client certificate wanted", wantsClient12, ClassUnreached, "TLS: refused by the receiver"},
		{"TLS 1.1 only", old, ClassUnreached, "TLS: "},
		{"good", server(ca.issue(t, nil)), ClassOK, ""},
	} {
		srv := newRawTLSServer(t, tc.config, answering(okAnswer))
		c := newTestClient(t, Options{RootCAs: ca.pool})
		res := c.Send(t.Context(), postRequest(srv.URL))
		sends := 0
		if tc.class == ClassOK {
			sends = 1
		}
		t.Run(tc.name, func(t *testing.T) { checkFault(t, res, tc.class, sends, tc.text) })
	}

	// With TLS 1.3 the server looks for the certificate after the client is done
	// with the handshake: the request may be out before the refusal comes.
	srv := newRawTLSServer(t, wantsClient, answering(okAnswer))
	res := newTestClient(t, Options{RootCAs: ca.pool}).Send(t.Context(), postRequest(srv.URL))
	if res.Class != ClassUnknown && res.Class != ClassUnreached {
		t.Errorf("TLS 1.3 without a client certificate: %+v", res)
	}

	plain := newRawServer(t, answering("HTTP/1.0 400 Bad Request\r\n\r\n"))
	res = newTestClient(t, Options{}).Send(t.Context(), postRequest(strings.Replace(plain.URL, "http:", "https:", 1)))
	checkFault(t, res, ClassUnreached, 0, "TLS")
}

func TestStatuses(t *testing.T) {
	busy := map[int]bool{408: true, 425: true, 429: true, 500: true, 502: true, 503: true, 504: true}
	c := newTestClient(t, Options{})
	for _, status := range []int{
		200, 201, 202, 204, 206, 207, 226, 299, 300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409,
		410, 413, 414, 422, 423, 425, 429, 451, 477, 499, 500, 501, 502, 503, 504, 505, 507, 511, 520, 599, 999,
	} {
		srv := newRawServer(t, answering(fmt.Sprintf(
			"HTTP/1.1 %d X\r\nLocation: http://127.0.0.1:1/elsewhere\r\nContent-Length: 0\r\n\r\n", status)))
		want := ClassRejected
		if status < 300 {
			want = ClassOK
		} else if busy[status] {
			want = ClassBusy
		}
		res := c.Send(t.Context(), postRequest(srv.URL))
		if res.Class != want || res.HTTPStatus != status || res.Sends != 1 {
			t.Errorf("%d: %+v, want %s", status, res, want)
		}
		if e, ok := errors.AsType[*StatusError](res.Err); want != ClassOK && (!ok || e.Status != status) {
			t.Errorf("%d: error %v", status, res.Err)
		}
		if n := srv.conns.Load(); n != 1 {
			t.Errorf("%d: %d connections", status, n)
		}
	}
}

func TestBodies(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	for range 40 {
		z.Write(bytes.Repeat([]byte("A"), 1<<18)) // 10 MB in all
	}
	z.Close()
	accent := strings.Repeat("é", 3000)
	head := func(h string) string { return "HTTP/1.1 200 OK\r\n" + h + "\r\n\r\n" }
	full := func(h, body string) string { return head(fmt.Sprintf("%s\r\nContent-Length: %d", h, len(body))) + body }
	okRule := mustRule(t, `{"path":"ok","equals":true}`)
	for _, tc := range []struct {
		name   string
		answer string
		rule   *Rule
		class  Class
		body   string
	}{
		{"endless", head("Transfer-Encoding: chunked") + "<endless>", nil, ClassOK, strings.Repeat("x", MaxSnippet)},
		{"drip after 200", head("Content-Length: 100") + `{"ok":`, nil, ClassOK, `{"ok":`},
		{"drip, the rule needs the rest", head("Content-Length: 100") + `{"a":`, okRule, ClassUnknown, `{"a":`},
		{"drip, the rule has seen enough", head("Content-Length: 100") + `{"ok":true,`, okRule, ClassOK, `{"ok":true,`},
		{"gzip bomb", full("Content-Encoding: gzip", bomb.String()), nil, ClassOK, strings.Repeat("A", MaxSnippet)},
		{"gzip bomb under a rule", full("Content-Encoding: gzip", bomb.String()), okRule, ClassRefused, strings.Repeat("A", MaxSnippet)},
		{"not gzip after all", full("Content-Encoding: gzip", "plain"), nil, ClassOK, "plain"},
		{"not gzip after all, under a rule", full("Content-Encoding: gzip", `{"ok":true}`), okRule, ClassOK, `{"ok":true}`},
		{"not gzip and not ok", full("Content-Encoding: x-gzip", `{"ok":false}`), okRule, ClassRefused, `{"ok":false}`},
		{"gzip", full("Content-Encoding: gzip", packed(`{"ok":true}`)), okRule, ClassOK, `{"ok":true}`},
		{"gzip whose checksum is wrong", full("Content-Encoding: gzip", spoiled(packed(`{"no":true}`))), okRule, ClassRefused, `{"no":true}`},
		{"gzip that is cut off", full("Content-Encoding: gzip", packed(`{"no":true}`)[:15]), okRule, ClassRefused, `{"no`},
		{"gzip that breaks off", head("Content-Encoding: gzip\r\nContent-Length: 100") + packed(`{"no":true}`)[:20], okRule, ClassUnknown, `{"no":tru`},
		{"empty gzip members", head("Content-Encoding: gzip\r\nTransfer-Encoding: chunked") + "<members>", nil, ClassOK, ""},
		{"empty gzip members under a rule", head("Content-Encoding: gzip\r\nTransfer-Encoding: chunked") + "<members>", okRule, ClassUnknown, ""},
		{"invalid UTF-8", full("A: b", "a\xff\xfeb\xc3"), nil, ClassOK, "a\ufffdb\ufffd"},
		{"NUL", full("A: b", "a\x00b"), nil, ClassOK, "a\ufffdb"},
		{"2,000 characters, not bytes", full("A: b", accent), nil, ClassOK, strings.Repeat("é", MaxSnippet)},
		{"empty under a rule", full("A: b", ""), okRule, ClassRefused, ""},
		{"HTML under a rule", full("A: b", "<html>"), okRule, ClassRefused, "<html>"},
		{"error inside a 200", full("A: b", `{"ok":false}`), okRule, ClassRefused, `{"ok":false}`},
		{"accepted", full("A: b", `{"ok":true}`), okRule, ClassOK, `{"ok":true}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			serve := thenSilent(tc.answer)
			if start, endless := strings.CutSuffix(tc.answer, "<endless>"); endless {
				serve = repeating(start, "1000\r\n"+strings.Repeat("x", 0x1000)+"\r\n")
			}
			if start, members := strings.CutSuffix(tc.answer, "<members>"); members {
				serve = repeating(start, fmt.Sprintf("%x\r\n%s\r\n", len(packed("")), packed("")))
			}
			srv := newRawServer(t, serve)
			c := newTestClient(t, Options{})
			req := postRequest(srv.URL)
			req.Success = tc.rule
			req.Timeout = 2 * short
			res := c.Send(t.Context(), req)
			if res.Class != tc.class || res.HTTPStatus != 200 || res.Body != tc.body || !utf8.ValidString(res.Body) {
				t.Errorf("class %s (%v), status %d, body %.40q of %d; want %s, %.40q of %d",
					res.Class, res.Err, res.HTTPStatus, res.Body, len(res.Body), tc.class, tc.body, len(tc.body))
			}
			if res.Duration > time.Second {
				t.Errorf("took %s", res.Duration)
			}
		})
	}
}

func packed(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, text)
	z.Close()
	return b.String()
}

// spoiled changes the checksum at the end of a gzip text.
func spoiled(text string) string { return text[:len(text)-8] + "\x00\x01\x02\x03" + text[len(text)-4:] }

// repeating sends start and then part for as long as it is read.
func repeating(start, part string) func(net.Conn) {
	return func(conn net.Conn) {
		readRequest(bufio.NewReader(conn))
		io.WriteString(conn, start)
		for {
			if _, err := io.WriteString(conn, part); err != nil {
				return
			}
		}
	}
}

// An answer counts that comes before the request was read, although the
// connection breaks.
func TestAnswerBeforeTheRequestIsRead(t *testing.T) {
	ca := newAuthority(t)
	config := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}}
	for name, end := range map[string]func(net.Conn){"closed": func(c net.Conn) { c.Close() }, "kept open": func(c net.Conn) { io.Copy(io.Discard, c) }} {
		for status, class := range map[int]Class{413: ClassRejected, 401: ClassRejected, 503: ClassBusy} {
			serve := func(conn net.Conn) {
				io.ReadFull(conn, make([]byte, 1000))
				fmt.Fprintf(conn, "HTTP/1.1 %d X\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno", status)
				end(conn)
			}
			for _, srv := range []*rawServer{newRawServer(t, serve), newRawTLSServer(t, config.Clone(), serve)} {
				req := postRequest(srv.URL)
				req.Body = bytes.Repeat([]byte("x"), 8<<20)
				res := newTestClient(t, Options{RootCAs: ca.pool}).Send(t.Context(), req)
				if res.Class != class || res.HTTPStatus != status || res.Body != "no" || res.Sends != 1 {
					t.Errorf("%s, %s, %d: %+v", srv.URL, name, status, res)
				}
			}
		}
	}
}

// An answer with large headers is still an answer; one with larger ones is
// final, as it would come again.
func TestLargeHeaders(t *testing.T) {
	ca := newAuthority(t)
	h1 := func(size int) *rawServer {
		return newRawServer(t, answering("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("a", size)+"\r\nContent-Length: 0\r\n\r\n"))
	}
	h2 := func(size int) *rawServer {
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for i := range size / 1000 {
				w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("a", 1000))
			}
		}))
		srv.EnableHTTP2 = true
		srv.TLS = &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}}
		srv.StartTLS()
		t.Cleanup(srv.Close)
		return &rawServer{URL: srv.URL}
	}
	c := newTestClient(t, Options{RootCAs: ca.pool})
	t.Cleanup(c.Close)
	for name, serve := range map[string]func(int) *rawServer{"HTTP/1": h1, "HTTP/2": h2} {
		if res := c.Send(t.Context(), postRequest(serve(200_000).URL)); res.Class != ClassOK || res.HTTPStatus != 200 {
			t.Errorf("%s: 200 KB of headers: %+v", name, res)
		}
	}
	checkFault(t, c.Send(t.Context(), postRequest(h1(300_000).URL)), ClassRejected, 1, "headers", "may have taken it")
}

// A body that a rule does not need is not waited for as long as the exchange may take.
func TestBodyThatNobodyNeeds(t *testing.T) {
	t.Parallel()
	srv := newRawServer(t, thenSilent("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"))
	req := postRequest(srv.URL)
	req.Timeout = 8 * time.Second
	res := newTestClient(t, Options{}).Send(t.Context(), req)
	if res.Class != ClassOK || res.Body != "part" || res.Duration > bodyWait+2*time.Second {
		t.Errorf("%+v", res)
	}
}

// What a server sends after a 204 belongs to no answer. It costs the connection,
// and at worst leaves the next attempt without a readable answer, never with
// this one.
func TestNoContentWithABody(t *testing.T) {
	const surplus = `{"surplus":true}`
	srv := newRawServer(t, answering("HTTP/1.1 204 No Content\r\n\r\n"+surplus))
	c := newTestClient(t, Options{})
	fresh := true
	for range 10 {
		res := c.Send(t.Context(), postRequest(srv.URL))
		switch {
		case res.Class == ClassOK && res.HTTPStatus == 204 && res.Body == "":
			fresh = false
		case res.Class == ClassUnknown && res.HTTPStatus == 0 && res.Reused && !fresh:
			fresh = true
		default:
			t.Fatalf("%+v", res)
		}
	}
}

func TestSwitchingProtocols(t *testing.T) {
	srv := newRawServer(t, thenSilent("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"))
	res := newTestClient(t, Options{}).Send(t.Context(), postRequest(srv.URL))
	if res.Class != ClassRejected || res.HTTPStatus != 101 || res.Duration > time.Second {
		t.Errorf("%+v", res)
	}
}

// A large request that is cut off half-way was not written in full.
func TestCutOffWhileSending(t *testing.T) {
	srv := newRawServer(t, func(conn net.Conn) {
		io.ReadFull(conn, make([]byte, 1000))
		reset(conn)
	})
	req := postRequest(srv.URL)
	req.Body = bytes.Repeat([]byte("x"), 64<<20)
	res := newTestClient(t, Options{}).Send(t.Context(), req)
	checkFault(t, res, ClassUnreached, 1, "connection")
}

func TestUnusable(t *testing.T) {
	c := newTestClient(t, Options{})
	for name, r := range map[string]*Request{
		"method":       {Method: "PUT", URL: "http://127.0.0.1/"},
		"no scheme":    {Method: "GET", URL: "crm.example.com/lead?key=SECRETKEY"},
		"ftp":          {Method: "GET", URL: "ftp://crm.example.com/?key=SECRETKEY"},
		"no host":      {Method: "GET", URL: "http:///x?key=SECRETKEY"},
		"empty":        {Method: "GET"},
		"line break":   {Method: "GET", URL: "http://127.0.0.1/\nx?key=SECRETKEY"},
		"bad port":     {Method: "GET", URL: "http://127.0.0.1:port/?key=SECRETKEY"},
		"bad escape":   {Method: "GET", URL: "http://127.0.0.1%zz/?key=SECRETKEY"},
		"header CR LF": {Method: "GET", URL: "http://127.0.0.1/", Header: http.Header{"A": {"SECRETKEY\r\nB: c"}}},
		"header NUL":   {Method: "GET", URL: "http://127.0.0.1/", Header: http.Header{"A": {"SECRETKEY\x00"}}},
		"header name":  {Method: "GET", URL: "http://127.0.0.1/", Header: http.Header{"A b": {"SECRETKEY"}}},
		"framing":      {Method: "GET", URL: "http://127.0.0.1/", Header: http.Header{"transfer-encoding": {"chunked"}}},
		"signing":      {Method: "GET", URL: "http://127.0.0.1/", SigningSecret: "whsec_*SECRETKEY", DeliveryID: "d"},
		"auth":         {Method: "GET", URL: "http://127.0.0.1/", Auth: &Auth{Kind: "magic"}},
	} {
		res := c.Send(t.Context(), r)
		if res.Class != ClassUnusable || res.Err == nil || res.Sends != 0 {
			t.Errorf("%s: %+v", name, res)
		} else if strings.Contains(res.Err.Error(), "SECRETKEY") {
			t.Errorf("%s: the error gives the value away: %v", name, res.Err)
		}
	}
}
