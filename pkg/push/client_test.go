package push

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cxbridge/watcher/pkg/secret"
)

func TestCancel(t *testing.T) {
	arrived := make(chan struct{}, 1)
	srv := newRawServer(t, func(conn net.Conn) {
		io.ReadFull(conn, make([]byte, 10))
		arrived <- struct{}{}
		io.Copy(io.Discard, conn)
	})
	c := newTestClient(t, Options{})

	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-arrived
		cancel(errors.New("shutdown"))
	}()
	res := c.Send(ctx, postRequest(srv.URL))
	checkFault(t, res, ClassCanceled, 1, "given up by the sender", "may have taken it")

	res = c.Send(ctx, postRequest(srv.URL))
	checkFault(t, res, ClassCanceled, 0, "given up by the sender")

	ctx, done := context.WithTimeout(t.Context(), short)
	defer done()
	req := postRequest(strings.Replace(srv.URL, "http:", "https:", 1)) // no handshake comes
	go func() { <-arrived }()
	checkFault(t, c.Send(ctx, req), ClassCanceled, 0, "TLS: given up by the sender")
}

// What the sender ends says nothing of the receiver, however far it got; an
// answer that is here counts all the same.
func TestCancelWhileTheBodyComes(t *testing.T) {
	for _, tc := range map[string]struct {
		rule  *Rule
		class Class
	}{
		"no rule":        {nil, ClassOK},
		"a rule is open": {mustRule(t, `{"path":"ok","equals":true}`), ClassCanceled},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		srv := newRawServer(t, func(conn net.Conn) {
			r := bufio.NewReader(conn)
			readRequest(r)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
			cancel(errors.New("the lease is lost"))
			io.Copy(io.Discard, r)
		})
		req := postRequest(srv.URL)
		req.Success = tc.rule
		res := newTestClient(t, Options{}).Send(ctx, req)
		if res.Class == ClassCanceled && res.HTTPStatus == 0 { // the status line was not here yet
			checkFault(t, res, ClassCanceled, 1, "may have taken it")
			continue
		}
		checkFault(t, res, tc.class, 1, "HTTP 200", "may have taken it")
	}
}

// Only an answer that means busy says when to come back.
func TestRetryAfterIsForBusyAnswers(t *testing.T) {
	c := newTestClient(t, Options{})
	limit, err := ParseRetryRules([]byte(`[{"status":403,"path":"code","equals":"LIMIT"},{"status":503,"path":"code","equals":"BAD","then":"final"}]`))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		status int
		body   string
		class  Class
	}{
		{200, "{}", ClassOK}, {202, "{}", ClassOK}, {202, `{"code":"NO"}`, ClassRefused}, {301, "", ClassRejected}, {403, "{}", ClassRejected}, {413, "", ClassRejected},
		{501, "", ClassRejected}, {503, `{"code":"BAD"}`, ClassRejected},
		{403, `{"code":"LIMIT"}`, ClassBusy}, {408, "", ClassBusy}, {425, "", ClassBusy}, {429, "", ClassBusy}, {500, "", ClassBusy}, {503, "", ClassBusy},
	} {
		srv := newRawServer(t, answering(fmt.Sprintf("HTTP/1.1 %d X\r\nRetry-After: 60\r\nContent-Length: %d\r\n\r\n%s", tc.status, len(tc.body), tc.body)))
		req := postRequest(srv.URL)
		req.RetryWhen, req.Success = limit, mustRule(t, `{"path":"code","not_equals":"NO"}`)
		want := time.Duration(0)
		if tc.class == ClassBusy {
			want = time.Minute
		}
		if res := c.Send(t.Context(), req); res.Class != tc.class || res.RetryAfter != want {
			t.Errorf("%d %s: %s, Retry-After %s, want %s and %s", tc.status, tc.body, res.Class, res.RetryAfter, tc.class, want)
		}
	}
}

func TestTimeoutIsCapped(t *testing.T) {
	// No answer is waited for: the deadline that the exchange sees is what counts.
	c := newTestClient(t, Options{})
	var left time.Duration
	c.transport.Proxy = func(r *http.Request) (*url.URL, error) {
		deadline, _ := r.Context().Deadline()
		left = time.Until(deadline)
		return nil, errors.New("seen")
	}
	for _, timeout := range []time.Duration{0, -1, time.Hour, DefaultTimeout} {
		req := postRequest("http://127.0.0.1:1/")
		req.Timeout = timeout
		c.Send(t.Context(), req)
		if left > DefaultTimeout || left < DefaultTimeout-time.Second {
			t.Errorf("timeout %s: %s are left", timeout, left)
		}
	}
}

// A receiver that repeats all it was sent gives no secret away.
func TestSecretsAreTakenOut(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		r.Write(w)
		basic := r.Header.Get("Authorization")
		fmt.Fprintf(w, "%q %s %s", basic, url.QueryEscape(basic), base64.StdEncoding.EncodeToString([]byte(basic)))
	}))
	defer srv.Close()
	c := newTestClient(t, Options{})
	base := func() *Request {
		r := postRequest(srv.URL + "/lead?accessKey=AK-in-the-query&mobile=9876543210")
		r.Header.Set("X-Api-Key", "key-in-a-header")
		return r
	}
	for name, tc := range map[string]struct {
		edit    func(*Request)
		secrets []string
	}{
		"header token": {func(r *Request) { r.Header.Set("Authorization", "Bearer token-of-the-bot") }, []string{"token-of-the-bot"}},
		"raw token":    {func(r *Request) { r.Header.Set("authorization", "token-of-the-bot") }, []string{"token-of-the-bot"}},
		"basic":        {func(r *Request) { r.Auth = &Auth{Kind: AuthBasic, Username: "u", Password: "pass/word+1"} }, []string{"pass/word+1", "dTpwYXNzL3dvcmQrMQ"}},
		"query":        {func(r *Request) { r.Auth = &Auth{Kind: AuthQuery, Params: []Param{{"x", "a secret & more"}}} }, []string{"a secret & more", "a+secret+%26+more"}},
		"userinfo":     {func(r *Request) { r.URL = strings.Replace(r.URL, "//", "//u:pass-in-url@", 1) }, []string{"pass-in-url", "dTpwYXNzLWluLXVyb"}},
		"signing":      {func(r *Request) { r.SigningSecret, r.DeliveryID = "whsec_c2VjcmV0LWtleQ", "d" }, []string{"whsec_c2VjcmV0LWtleQ"}},
		"own redactor": {func(r *Request) {
			r.Redact = secret.NewRedactor("AK-in-the-query", "key-in-a-header", "9876543210")
		}, []string{"9876543210"}},
	} {
		req := base()
		tc.edit(req)
		res := c.Send(t.Context(), req)
		if res.Class != ClassRejected || !strings.Contains(res.Body, secret.Redacted) {
			t.Fatalf("%s: %+v", name, res)
		}
		for _, s := range append(tc.secrets, "AK-in-the-query", "key-in-a-header") {
			if strings.Contains(res.Body, s) || strings.Contains(res.Err.Error(), s) {
				t.Errorf("%s: %q is in %q or %v", name, s, res.Body, res.Err)
			}
		}
		if name != "own redactor" && !strings.Contains(res.Body, "9876543210") {
			t.Errorf("%s: the payload went as well: %q", name, res.Body)
		}
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	c := newTestClient(t, Options{Namespace: "watcher", Registerer: reg})
	count := func(class Class) float64 { return testutil.ToFloat64(c.metrics.attempts[class]) }
	if n, err := testutil.GatherAndCount(reg, "watcher_push_attempts_total"); err != nil || n != int(classes) {
		t.Errorf("%d classes before the first attempt, %v", n, err)
	}
	srv := newRawServer(t, answering(okAnswer))
	for range 3 {
		c.Send(t.Context(), postRequest(srv.URL))
	}
	c.Send(t.Context(), postRequest("http://10.0.0.1/"))
	c.Send(t.Context(), postRequest("nonsense"))
	if count(ClassOK) != 3 || count(ClassBlocked) != 1 || count(ClassUnusable) != 1 || count(ClassBusy) != 0 {
		t.Errorf("attempts: ok %v, blocked %v, unusable %v", count(ClassOK), count(ClassBlocked), count(ClassUnusable))
	}
	if n := testutil.ToFloat64(c.metrics.sends); n != 3 {
		t.Errorf("%v sends", n)
	}
	if fresh, reused := testutil.ToFloat64(c.metrics.conns[false]), testutil.ToFloat64(c.metrics.conns[true]); fresh != 1 || reused != 2 {
		t.Errorf("%v new and %v kept connections", fresh, reused)
	}
	if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	if _, err := NewClient(Options{Namespace: "watcher", Registerer: reg}); err == nil {
		t.Error("a second client took the same names")
	}
}

func TestCAFile(t *testing.T) {
	ca := newAuthority(t)
	srv := newRawTLSServer(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, nil)}}, answering(okAnswer))
	file := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if res := newTestClient(t, Options{CAFile: file}).Send(t.Context(), postRequest(srv.URL)); res.Class != ClassOK {
		t.Errorf("%+v", res)
	}
	if err := os.WriteFile(file, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, file + ".missing"} {
		if _, err := NewClient(Options{CAFile: name}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Attempts on one host share a bounded number of connections.
func TestMaxConnsPerHost(t *testing.T) {
	release := make(chan struct{})
	var arrived sync.WaitGroup
	arrived.Add(2)
	srv := newRawServer(t, func(conn net.Conn) {
		arrived.Done()
		<-release
		answering(okAnswer)(conn)
	})
	c := newTestClient(t, Options{MaxConnsPerHost: 2})
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if res := c.Send(t.Context(), postRequest(srv.URL)); res.Class != ClassOK {
				t.Errorf("%+v", res)
			}
		})
	}
	arrived.Wait()
	req := postRequest(srv.URL)
	req.Timeout = short
	checkFault(t, c.Send(t.Context(), req), ClassUnreached, 0, "waiting for a connection: not done within 150ms")
	close(release)
	wg.Wait()
	if n := srv.conns.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// Nothing piles up over many failures.
func TestFailuresLeaveNothingBehind(t *testing.T) {
	refusing := listen(t)
	refusing.Close()
	dying := newRawServer(t, func(conn net.Conn) { conn.Read(make([]byte, 1)); reset(conn) })
	busy := newRawServer(t, answering("HTTP/1.1 503 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
	c := newTestClient(t, Options{})
	cycle := func() {
		for _, u := range []string{"http://" + refusing.Addr().String(), dying.URL, busy.URL, "https" + dying.URL[4:], "http://10.0.0.1"} {
			if res := c.Send(t.Context(), postRequest(u)); res.Class == ClassOK {
				t.Fatalf("%s: %+v", u, res)
			}
		}
	}
	measure := func() (goroutines, descriptors int, heap uint64) {
		c.Close()
		for range 200 { // what is closing needs a moment
			goroutines = runtime.NumGoroutine()
			runtime.Gosched()
		}
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if dir, err := os.ReadDir("/proc/self/fd"); err == nil {
			descriptors = len(dir)
		}
		return goroutines, descriptors, m.HeapAlloc
	}
	for range 20 {
		cycle()
	}
	g0, d0, h0 := measure()
	for range 200 { // 1,000 failures
		cycle()
	}
	g1, d1, h1 := measure()
	if g1 > g0+10 || d1 > d0+10 || h1 > h0+2<<20 {
		t.Errorf("goroutines %d -> %d, descriptors %d -> %d, heap %d -> %d", g0, g1, d0, d1, h0, h1)
	}
}
