package console

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/pkg/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bare is a Console that has nobody to ask: enough for who may come in.
func bare(t testing.TB, token func() (secret.Text, error), out *bytes.Buffer) *Console {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	if out != nil {
		logger = slog.New(slog.NewTextHandler(out, nil))
	}
	c, err := New(Options{Name: "default", Token: token, Redact: func(s string) string { return s }, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func always(token secret.Text) func() (secret.Text, error) {
	return func() (secret.Text, error) { return token, nil }
}

// login logs in and keeps the cookie.
func (a *asker) login(name, token string) *http.Response {
	a.t.Helper()
	resp, _ := a.do(http.MethodPost, "/login", url.Values{"name": {name}, "token": {token}, "next": {"/bots"}}.Encode())
	for _, c := range resp.Cookies() {
		a.cookie = c
	}
	return resp
}

func TestLogin(t *testing.T) {
	var out bytes.Buffer
	a := &asker{t: t, c: bare(t, always(testToken), &out)}
	if resp, _ := a.do(http.MethodGet, "/calls?by=host", ""); resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/login?next=%2Fcalls%3Fby%3Dhost" {
		t.Fatalf("nobody is sent to %q with %d", resp.Header.Get("Location"), resp.StatusCode)
	}
	if resp, body := a.do(http.MethodGet, "/login", ""); resp.StatusCode != http.StatusOK || !strings.Contains(body, `type="password"`) {
		t.Fatalf("the form: %d", resp.StatusCode)
	}
	resp := a.login("Asha \u202eRao\n", testToken)
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "/bots" {
		t.Fatalf("the login leads to %q with %d", resp.Header.Get("Location"), resp.StatusCode)
	}
	c := a.cookie
	if c == nil || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Secure || c.Path != "/" || c.MaxAge != 12*60*60 {
		t.Errorf("the cookie is %+v", c)
	}
	if resp, body := a.do(http.MethodPost, "/login", "token=wrong&name=x"); resp.StatusCode != http.StatusUnauthorized || !strings.Contains(body, "not the token") || len(resp.Cookies()) > 0 {
		t.Errorf("a wrong token: %d", resp.StatusCode)
	}
	if log := out.String(); !strings.Contains(log, `by="Asha Rao"`) || !strings.Contains(log, "a wrong token") || strings.Contains(log, testToken) {
		t.Errorf("the log says %s", log)
	}
}

// Behind a proxy that speaks https the browser is told to keep the cookie to that.
func TestTheCookieStaysOnHTTPS(t *testing.T) {
	a := &asker{t: t, c: bare(t, always(testToken), nil), header: http.Header{"X-Forwarded-Proto": {"https"}}}
	a.header.Set("Origin", "https://example.com")
	a.login("", testToken)
	if a.cookie == nil || !a.cookie.Secure {
		t.Errorf("the cookie is %+v", a.cookie)
	}
}

func TestATokenTypedAsANameIsNotShown(t *testing.T) {
	var out bytes.Buffer
	a := &asker{t: t, c: bare(t, always(testToken), &out)}
	a.login(testToken, testToken)
	raw, err := base64.RawURLEncoding.DecodeString(strings.Split(a.cookie.Value, ".")[0])
	if err != nil || strings.Contains(string(raw), testToken) || strings.Contains(out.String(), testToken) {
		t.Errorf("the cookie holds %s, the log %s", raw, out.String())
	}
}

func TestWithoutASession(t *testing.T) {
	c := bare(t, always(testToken), nil)
	for name, r := range map[string]struct {
		method, path, accept, bearer string
		want                         int
	}{
		"a program":     {http.MethodGet, "/calls", "application/json", "", http.StatusUnauthorized},
		"wrong bearer":  {http.MethodGet, "/calls", "text/html", "Bearer wrong", http.StatusUnauthorized},
		"empty bearer":  {http.MethodGet, "/calls", "text/html", "Bearer ", http.StatusUnauthorized},
		"an act":        {http.MethodPost, "/acts", "text/html", "", http.StatusUnauthorized},
		"a comparison":  {http.MethodPost, "/calls/1/compare", "text/html", "", http.StatusUnauthorized},
		"a logout":      {http.MethodPost, "/logout", "text/html", "", http.StatusUnauthorized},
		"no such page":  {http.MethodGet, "/secret", "text/html", "", http.StatusNotFound},
		"not by method": {http.MethodDelete, "/acts", "text/html", "", http.StatusMethodNotAllowed},
	} {
		a := &asker{t: t, c: c, header: http.Header{"Accept": {r.accept}}}
		if r.bearer != "" {
			a.header.Set("Authorization", r.bearer)
		}
		if resp, _ := a.do(r.method, r.path, ""); resp.StatusCode != r.want {
			t.Errorf("%s: %d, want %d", name, resp.StatusCode, r.want)
		}
	}
}

// A session ends after 12 hours, with another token, and with any bit of it changed;
// another replica with the same token takes it.
func TestSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token := secret.Text(testToken)
		read := func() (secret.Text, error) { return token, nil }
		a := &asker{t: t, c: bare(t, read, nil)}
		a.login("Asha", testToken)
		in := func() bool {
			resp, _ := a.do(http.MethodPost, "/logout", "") // without its form: 403 for a session, 401 for nobody
			return resp.StatusCode == http.StatusForbidden
		}
		if !in() {
			t.Fatal("the session does not count")
		}
		first := a.c
		a.c = bare(t, read, nil)
		if !in() {
			t.Error("another replica does not take the session")
		}
		a.c = first
		good := a.cookie.Value
		for i := range good {
			a.cookie.Value = good[:i] + string(good[i]^1) + good[i+1:]
			if a.cookie.Valid() == nil && in() {
				t.Fatalf("byte %d may be changed", i)
			}
		}
		for _, value := range []string{"", ".", "a.b", good + "x", strings.Repeat("a", 5000)} {
			if a.cookie.Value = value; in() {
				t.Errorf("%.20q is a session", value)
			}
		}
		a.cookie.Value = good
		time.Sleep(sessionTime - time.Second)
		if !in() {
			t.Error("the session ended early")
		}
		token = "another-token-of-some-length"
		time.Sleep(2 * tokenAge)
		if in() {
			t.Error("the session outlived its token")
		}
		token = testToken
		time.Sleep(2 * tokenAge)
		if in() {
			t.Error("the session did not end")
		}
	})
}

// A file that cannot be read lets nobody in, neither old sessions nor the old token.
func TestATokenThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var err error
		a := &asker{t: t, c: bare(t, func() (secret.Text, error) { return testToken, err }, nil)}
		a.login("", testToken)
		err = errors.New("is empty")
		time.Sleep(tokenAge)
		for _, path := range []string{"/calls", "/bots"} {
			if resp, _ := a.do(http.MethodGet, path, ""); resp.StatusCode != http.StatusServiceUnavailable {
				t.Errorf("%s: %d", path, resp.StatusCode)
			}
		}
		if resp := a.login("", testToken); resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("login: %d", resp.StatusCode)
		}
		err = nil
		time.Sleep(tokenAge)
		if resp := a.login("", testToken); resp.StatusCode != http.StatusSeeOther {
			t.Errorf("login with the file back: %d", resp.StatusCode)
		}
	})
}

// Five wrong tokens in a minute close the door for an address, fifty for all; the
// right one is not even compared then. Sessions go on.
func TestWrongTokensAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := bare(t, always(testToken), nil)
		operator := &asker{t: t, c: c, remote: "192.0.2.200:1"}
		operator.login("Asha", testToken)
		from := func(addr string) *asker { return &asker{t: t, c: c, remote: addr} }
		for i := range maxFailures {
			if resp := from(fmt.Sprintf("192.0.2.1:%d", i+1)).login("", "wrong"); resp.StatusCode != http.StatusUnauthorized {
				t.Fatalf("wrong token %d: %d", i, resp.StatusCode)
			}
		}
		resp := from("192.0.2.1:99").login("", testToken)
		if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" || len(resp.Cookies()) > 0 {
			t.Errorf("the sixth: %d", resp.StatusCode)
		}
		bearer := from("192.0.2.1:99")
		bearer.header = http.Header{"Authorization": {"Bearer " + testToken}}
		if resp, _ := bearer.do(http.MethodPost, "/logout", ""); resp.StatusCode != http.StatusTooManyRequests {
			t.Errorf("a bearer: %d", resp.StatusCode)
		}
		if resp := from("192.0.2.2:1").login("", testToken); resp.StatusCode != http.StatusSeeOther {
			t.Errorf("another address: %d", resp.StatusCode)
		}
		for i := range maxAllFailures - maxFailures {
			from(fmt.Sprintf("[2001:db8:0:%x::1]:1", i)).login("", "wrong")
		}
		if resp := from("198.51.100.7:1").login("", testToken); resp.StatusCode != http.StatusTooManyRequests {
			t.Errorf("after fifty: %d", resp.StatusCode)
		}
		if resp, _ := operator.do(http.MethodPost, "/logout", ""); resp.StatusCode != http.StatusForbidden {
			t.Errorf("a session meanwhile: %d", resp.StatusCode)
		}
		if n := len(c.failures.all); n > maxAllFailures {
			t.Errorf("%d failures are kept", n)
		}
		time.Sleep(failureSpan)
		if resp := from("192.0.2.1:1").login("", testToken); resp.StatusCode != http.StatusSeeOther {
			t.Errorf("a minute later: %d", resp.StatusCode)
		}
	})
}

// However the attempts come, no address has more than five wrong ones in a minute, all
// together no more than fifty, and who is below both is heard.
func TestFailuresProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type attempt struct{ addr, pause int }
		attempts := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) attempt {
			return attempt{rapid.IntRange(0, 15).Draw(t, "addr"), rapid.IntRange(0, 6).Draw(t, "pause")}
		}), 0, 150).Draw(rt, "attempts")
		synctest.Test(t, func(t *testing.T) {
			var f failures
			var compared []failure
			for _, x := range attempts {
				time.Sleep(time.Duration(x.pause) * time.Second)
				from, now := network(fmt.Sprintf("192.0.2.%d:1", x.addr)), time.Now()
				own, all := 0, 0
				for _, c := range compared {
					if now.Sub(c.at) < failureSpan {
						all++
						if c.from == from {
							own++
						}
					}
				}
				heard := false
				_, wait := f.try(from, func() bool { heard = true; return false })
				if want := own < maxFailures && all < maxAllFailures; heard != want || (wait > 0) == heard || wait > failureSpan {
					t.Fatalf("%d of the address, %d of all: heard %v, wait %v", own, all, heard, wait)
				}
				if heard {
					compared = append(compared, failure{from, now})
				}
			}
		})
	})
}

func TestNetwork(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7:80": "192.0.2.7/32", "[::ffff:192.0.2.7]:80": "192.0.2.7/32", "[2001:db8:1:2:3::4]:80": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1": "fe80::/64", "@": "invalid Prefix", "": "invalid Prefix",
	} {
		if got := network(remote).String(); got != want {
			t.Errorf("%q is %s, want %s", remote, got, want)
		}
	}
}

func TestAfterTheLoginOnlyOwnPages(t *testing.T) {
	for next, want := range map[string]string{
		"/calls?by=bot": "/calls?by=bot", "/bots/a%2Fb": "/bots/a%2Fb", "/acts": "/acts",
		"": "/calls", "/": "/calls", "//evil.example/calls": "/calls", "https://evil.example/calls": "/calls", "/callsx": "/calls",
		`/\evil.example`: "/calls", "javascript:alert(1)": "/calls", "/logout": "/calls", "\x00": "/calls", "/calls\r\nx: y": "/calls",
	} {
		if got := local(next); got != want {
			t.Errorf("%q leads to %q, want %q", next, got, want)
		}
	}
}

func FuzzLocal(f *testing.F) {
	f.Add("/calls?x=1#y")
	f.Add("//e/calls")
	f.Add("/calls?\\")
	f.Fuzz(func(t *testing.T, next string) {
		if got := local(next); !regexp.MustCompile(`^/(calls|bots|acts)($|[/?])`).MatchString(got) || strings.ContainsAny(got, "\r\n\\") {
			t.Errorf("%q leads to %q", next, got)
		}
	})
}

func FuzzSessionOf(f *testing.F) {
	k, err := newKeys(testToken)
	if err != nil {
		f.Fatal(err)
	}
	now := time.Now()
	good, err := newSession(k, "Asha", now)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good.cookie[1:]) // no process of a fuzz run may be given a session of another
	f.Add("e30.")
	f.Fuzz(func(t *testing.T, cookie string) {
		if s := sessionOf(k, cookie, now); s != nil {
			t.Errorf("%q is a session", cookie)
		}
	})
}
