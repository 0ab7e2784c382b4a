package push

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cxbridge/watcher/pkg/secret"
)

// The example of the Standard Webhooks specification's reference libraries.
func TestSignatureVector(t *testing.T) {
	key, err := SigningKey("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := Signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestSigningKey(t *testing.T) {
	for s, want := range map[secret.Text]string{
		"whsec_aGVsbG8=": "hello", "whsec_aGVsbG8": "hello", "plain text": "plain text", "aGVsbG8=": "aGVsbG8=",
	} {
		if key, err := SigningKey(s); err != nil || string(key) != want {
			t.Errorf("%s: %q, %v", s.Reveal(), key, err)
		}
	}
	for _, s := range []secret.Text{"whsec_", "whsec_*", "whsec_===="} {
		if _, err := SigningKey(s); err == nil || strings.Contains(err.Error(), "*") {
			t.Errorf("%s: %v", s.Reveal(), err)
		}
	}
}

// record is a server that keeps what it was sent.
func record(t testing.TB, answer http.HandlerFunc) (*httptest.Server, func() []*http.Request) {
	t.Helper()
	var mu sync.Mutex
	var all []*http.Request
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		mu.Lock()
		all = append(all, r)
		mu.Unlock()
		if answer != nil {
			answer(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	return srv, func() []*http.Request {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

func TestSendSigns(t *testing.T) {
	srv, seen := record(t, nil)
	c := newTestClient(t, Options{})
	req := postRequest(srv.URL)
	req.SigningSecret, req.DeliveryID = "whsec_aGVsbG8=", "delivery-1"
	c.Send(t.Context(), req)
	req.Header["webhook-ID"] = []string{"the bot's own"}
	c.Send(t.Context(), req)
	first := seen()[0].Header
	seconds, err := strconv.ParseInt(first.Get("webhook-timestamp"), 10, 64)
	if age := time.Since(time.Unix(seconds, 0)); err != nil || age < -time.Second || age > time.Minute {
		t.Errorf("timestamp %q", first.Get("webhook-timestamp"))
	}
	if want := Signature([]byte("hello"), "delivery-1", time.Unix(seconds, 0), req.Body); first.Get("webhook-signature") != want {
		t.Errorf("signature %q, want %q", first.Get("webhook-signature"), want)
	}
	if first.Get("webhook-id") != "delivery-1" {
		t.Errorf("id %q", first.Get("webhook-id"))
	}
	if own := seen()[1].Header.Values("webhook-id"); len(own) != 1 || own[0] != "the bot's own" {
		t.Errorf("own header: %q", own)
	}
	if len(req.Header) != 3 {
		t.Errorf("the request was changed: %v", req.Header)
	}
	req.DeliveryID = ""
	if res := c.Send(t.Context(), req); res.Class != ClassUnusable {
		t.Errorf("without a delivery id: %+v", res)
	}
}

func TestAuthKinds(t *testing.T) {
	srv, seen := record(t, nil)
	c := newTestClient(t, Options{})
	withUser := strings.Replace(srv.URL, "http://", "http://user:pass%20word@", 1)
	for i, tc := range []struct {
		url           string
		auth          *Auth
		authorization string
		query         string
	}{
		{srv.URL, nil, "", ""},
		{srv.URL, &Auth{Kind: AuthNone}, "", ""},
		{srv.URL, &Auth{Kind: AuthBasic, Username: "u", Password: "p:q"}, "Basic " + base64.StdEncoding.EncodeToString([]byte("u:p:q")), ""},
		{srv.URL + "/?a=1", &Auth{Kind: AuthQuery, Params: []Param{{"accessKey", "x&y"}, {"secretKey", "z"}}}, "", "a=1&accessKey=x%26y&secretKey=z"},
		{srv.URL, &Auth{Kind: AuthQuery, Params: []Param{{"key", "x"}}}, "", "key=x"},
		{withUser, nil, "Basic " + base64.StdEncoding.EncodeToString([]byte("user:pass word")), ""},
		{withUser, &Auth{Kind: AuthBasic, Username: "u"}, "Basic " + base64.StdEncoding.EncodeToString([]byte("u:")), ""},
	} {
		req := postRequest(tc.url)
		req.Auth = tc.auth
		if res := c.Send(t.Context(), req); res.Class != ClassOK {
			t.Fatalf("%d: %+v", i, res)
		}
		got := seen()[i]
		if got.Header.Get("Authorization") != tc.authorization || got.URL.RawQuery != tc.query {
			t.Errorf("%d: %q, %q", i, got.Header.Get("Authorization"), got.URL.RawQuery)
		}
	}
}

func TestParseAuth(t *testing.T) {
	a, err := ParseAuth([]byte(`{"type":"query","params":{"secretKey":"zzzzzz","accessKey":"aaaaaa"}}`))
	if err != nil || len(a.Params) != 2 || a.Params[0].Name != "secretKey" {
		t.Errorf("%+v, %v", a, err)
	}
	a, err = ParseAuth([]byte(`{"type":"oauth2","token_url":"https://id.example.com/t","client_id":"i","client_secret":"ssssss","scopes":"a b"}`))
	if err != nil || len(a.Scopes) != 2 || a.ClientSecret.Reveal() != "ssssss" || len(a.Secrets()) != 1 {
		t.Errorf("%+v, %v", a, err)
	}
	if text := fmt.Sprintf("%v %+v %#v", a, a, a); strings.Contains(text, "ssssss") {
		t.Errorf("printed: %s", text)
	}
	for _, text := range []string{
		``, `1`, `{"type":"magic"}`, `{"type":"basic"}`, `{"type":"basic","username":"a:b","password":"LEAKED"}`, `{"type":"query"}`,
		`{"type":"query","params":{}}`, `{"type":"query","params":{"k":""}}`, `{"type":"query","params":["LEAKED"]}`, `{"type":"query","params":{"k":1}}`,
		`{"type":"oauth2","token_url":"ftp://x","client_id":"i","client_secret":"LEAKED"}`, `{"type":"oauth2","token_url":"https://x"}`,
		`{"type":"oauth2","token_url":"https://x","client_id":"i","client_secret":"LEAKED","scheme":"a b"}`, `{"type":"none","LEAKED":1}`,
		`{"type":"basic","username":"u","password":{"LEAKED":1}}`,
	} {
		if a, err := ParseAuth([]byte(text)); err == nil || strings.Contains(err.Error(), "LEAKED") {
			t.Errorf("%s: %+v, %v", text, a, err)
		}
	}
}

// tokenServer gives out tokens t1, t2, ...
func tokenServer(t testing.TB) (*httptest.Server, *atomic.Int64) {
	var n atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if user, password, _ := r.BasicAuth(); user != "client" || password != "client-secret" || r.FormValue("scope") != "a b" {
			w.WriteHeader(http.StatusUnauthorized)
			io.WriteString(w, `{"error":"invalid_client","error_description":"client-secret is wrong"}`)
			return
		}
		fmt.Fprintf(w, `{"access_token":"token-%d","token_type":"bearer","expires_in":3600}`, n.Add(1))
	}))
	t.Cleanup(srv.Close)
	return srv, &n
}

func oauth(url string) *Auth {
	return &Auth{Kind: AuthOAuth2, TokenURL: url, ClientID: "client", ClientSecret: "client-secret", Scopes: []string{"a", "b"}}
}

func TestOAuth(t *testing.T) {
	ids, fetched := tokenServer(t)
	var valid atomic.Value
	valid.Store("Bearer token-1")
	crm, seen := record(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != valid.Load() {
			w.WriteHeader(http.StatusUnauthorized)
		}
		fmt.Fprintf(w, "you sent %s", r.Header.Get("Authorization"))
	})
	c := newTestClient(t, Options{})
	req := postRequest(crm.URL)
	req.Auth = oauth(ids.URL)

	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if res := c.Send(t.Context(), req); res.Class != ClassOK || res.Sends != 1 || res.Body != "you sent Bearer [redacted]" {
				t.Errorf("%+v", res)
			}
		})
	}
	wg.Wait()
	if n := fetched.Load(); n != 1 {
		t.Errorf("%d tokens were fetched for 20 sends, want 1", n)
	}

	// The token is revoked: it is renewed once, and the request sent once more.
	valid.Store("Bearer token-2")
	before := len(seen())
	res := c.Send(t.Context(), req)
	if res.Class != ClassOK || res.Sends != 2 || len(seen())-before != 2 || fetched.Load() != 2 {
		t.Errorf("%+v, %d sends, %d tokens", res, len(seen())-before, fetched.Load())
	}
	if res := c.Send(t.Context(), req); res.Class != ClassOK || res.Sends != 1 {
		t.Errorf("afterwards: %+v", res)
	}

	// No token helps: one renewal for each attempt, and the 401 stands.
	valid.Store("nothing")
	res = c.Send(t.Context(), req)
	if res.Class != ClassRejected || res.HTTPStatus != 401 || res.Sends != 2 || fetched.Load() != 3 {
		t.Errorf("%+v, %d tokens", res, fetched.Load())
	}

	// Another secret is another entry of the cache, and is refused.
	req.Auth = oauth(ids.URL)
	req.Auth.ClientSecret = "another-secret"
	res = c.Send(t.Context(), req)
	if res.Class != ClassUnusable || res.Sends != 0 || res.Err.Error() != "OAuth token: HTTP 401 (invalid_client)" {
		t.Errorf("%+v", res)
	}
}

func TestOAuthFaults(t *testing.T) {
	crm, seen := record(t, nil)
	gone := listen(t)
	gone.Close()
	jsonAnswer := func(status, body string) string {
		return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Type: application/json\r\nRetry-After: 5\r\nLocation: %s\r\nContent-Length: %d\r\n\r\n%s",
			status, crm.URL, len(body), body)
	}
	for _, tc := range []struct {
		name  string
		url   string
		class Class
		text  string
	}{
		{"refused", "http://" + gone.Addr().String(), ClassUnreached, "connection refused"},
		{"blocked", "http://10.0.0.1/token", ClassBlocked, "10.0.0.1 is not public"},
		{"busy", newRawServer(t, answering(jsonAnswer("503 Busy", `{}`))).URL, ClassUnreached, "HTTP 503"},
		{"wrong client", newRawServer(t, answering(jsonAnswer("400 Bad", `{"error":"invalid_client<script>"}`))).URL, ClassUnusable, "HTTP 400 (invalid_clientscript)"},
		{"error in a 200", newRawServer(t, answering(jsonAnswer("200 OK", `{"error":"invalid_scope"}`))).URL, ClassUnusable, "invalid_scope"},
		{"redirect", newRawServer(t, answering(jsonAnswer("302 Found", `{}`))).URL, ClassUnusable, "HTTP 302"},
		{"silent", newRawServer(t, thenSilent("")).URL, ClassUnreached, "OAuth token: no answer within 300ms"},
		{"no token", newRawServer(t, answering(jsonAnswer("200 OK", `{}`))).URL, ClassUnreached, "access_token"},
		{"endless", newRawServer(t, answering(jsonAnswer("200 OK", strings.Repeat(" ", 1<<20)))).URL, ClassUnreached, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newTestClient(t, Options{})
			req := postRequest(crm.URL)
			req.Auth, req.Timeout = oauth(tc.url), 2*short
			res := c.Send(t.Context(), req)
			checkFault(t, res, tc.class, 0, "OAuth token: ", tc.text)
			if strings.Contains(res.Err.Error(), "client-secret") {
				t.Errorf("%v", res.Err)
			}
			if tc.name == "busy" && res.RetryAfter != 5*time.Second {
				t.Errorf("Retry-After %s", res.RetryAfter)
			}
		})
	}
	if n := len(seen()); n != 0 {
		t.Errorf("%d requests reached the receiver without a token", n)
	}
}

// The guard is asked for the token URL's addresses as for any other.
func TestOAuthGuard(t *testing.T) {
	ids, fetched := tokenServer(t)
	c, err := NewClient(Options{Allow: []Network{{Prefix: netip.MustParsePrefix("127.0.0.9/32")}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	req := postRequest("http://127.0.0.9:1/")
	req.Auth = oauth(strings.Replace(ids.URL, "127.0.0.1", "localhost", 1))
	if res := c.Send(t.Context(), req); res.Class != ClassBlocked || fetched.Load() != 0 {
		t.Errorf("%+v", res)
	}
}

// Whatever a token endpoint answers, what stands in the query of its URL is in no error.
func TestOAuthURLIsInNoError(t *testing.T) {
	crm, _ := record(t, nil)
	gone := listen(t)
	gone.Close()
	for name, serve := range map[string]func(net.Conn){
		"not HTTP":       answering("SSH-2.0-OpenSSH_9.6\r\n\r\n"),
		"bad header":     answering("HTTP/1.1 200 OK\r\nbad header\r\n\r\n"),
		"huge headers":   answering("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 70_000) + "\r\n\r\n"),
		"bad encoding":   answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: foo\r\n\r\n"),
		"bad status":     answering("HTTP/1.1 999999 X\r\n\r\n"),
		"body breaks":    thenSilent("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
		"closed":         func(conn net.Conn) { readRequest(bufio.NewReader(conn)) },
		"silent":         thenSilent(""),
		"repeats itself": answering("HTTP/1.1 200 OK\r\nContent-Length: 32\r\n\r\n{\"error\": \"1000-LEAKED-LEAKED\"} "),
	} {
		ids := newRawServer(t, serve)
		for _, base := range []string{ids.URL, "http://user:pass-LEAKED@" + ids.URL[len("http://"):], "http://" + gone.Addr().String()} {
			req := postRequest(crm.URL)
			req.Timeout = short
			req.Auth = oauth(base + "/oauth/v2/token?refresh_token=1000-LEAKED-LEAKED&code=code-LEAKED")
			res := newTestClient(t, Options{}).Send(t.Context(), req)
			if res.Err == nil || strings.Contains(fmt.Sprintf("%+v", res), "LEAKED") {
				t.Errorf("%s: the error that goes onto the call: %+v", name, res)
			}
		}
	}
}

// A receiver that refuses every token is not reason to fetch one for each push,
// and does not keep others of the account from theirs.
func TestOAuthRefusalsFetchNoTokens(t *testing.T) {
	ids, fetched := tokenServer(t)
	var valid atomic.Value
	valid.Store("Bearer token-2")
	refusing, seen := record(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	taking, _ := record(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != valid.Load() {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	c := newTestClient(t, Options{})
	send := func(url string) Result {
		req := postRequest(url)
		req.Auth = oauth(ids.URL)
		return c.Send(t.Context(), req)
	}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for range 10 {
				if res := send(refusing.URL); res.HTTPStatus != 401 || res.Class != ClassRejected {
					t.Errorf("%+v", res)
				}
			}
		})
	}
	wg.Wait()
	if n := fetched.Load(); n != 2 {
		t.Errorf("%d tokens were fetched for 100 refused pushes, want the first and one renewal", n)
	}
	if n := len(seen()); n > 120 {
		t.Errorf("the receiver got %d requests for 100 pushes", n)
	}
	if res := send(taking.URL); res.Class != ClassOK {
		t.Errorf("another receiver of the account: %+v", res)
	}
	valid.Store("Bearer token-3")
	if res := send(taking.URL); res.Class != ClassOK || fetched.Load() != 3 {
		t.Errorf("another receiver when its token was revoked: %+v, %d tokens", res, fetched.Load())
	}
}

// A refused token is renewed again once the pause is over.
func TestOAuthRefusalPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cache tokenCache
		a := cache.account(oauth("https://ids.example.com/t"))
		for i := range 12 {
			if !a.mayRenew("place") {
				t.Fatalf("refusal %d: not renewed although the pause is over", i)
			}
			a.heard("place", true)
			if a.mayRenew("place") || !a.mayRenew("another") {
				t.Fatalf("refusal %d: place %v, another %v", i, a.mayRenew("place"), a.mayRenew("another"))
			}
			begun := time.Now()
			for !a.mayRenew("place") {
				time.Sleep(time.Second)
			}
			if d := time.Since(begun); d < 30*time.Second || d > time.Hour+time.Second || i > 8 && d < 30*time.Minute {
				t.Errorf("refusal %d: a pause of %s", i, d)
			}
		}
		a.renewedFor("place")
		if a.mayRenew("place") || a.refusedNew("another") || !a.mayRenew("another") {
			t.Error("one that has not answered to a new token gets another, or keeps others from theirs")
		}
		a.heard("place", true)
		a.heard("place", false)
		if !a.mayRenew("place") || len(a.refusals) != 0 {
			t.Error("a token that was taken did not end the pause")
		}
		for i := range 3 * maxRefusals {
			a.heard(fmt.Sprint(i), true)
		}
		if n := len(a.refusals); n > maxRefusals {
			t.Errorf("%d receivers are remembered", n)
		}
	})
}

// A token endpoint that takes the client's credentials in the form alone is
// asked twice the first time, and once from then on.
func TestOAuthCredentialsInTheForm(t *testing.T) {
	var asked, given atomic.Int64
	ids := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.FormValue("client_id") != "client" || r.FormValue("client_secret") != "client-secret" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, `{"access_token":"token-%d","token_type":"bearer","expires_in":1}`, given.Add(1))
	}))
	defer ids.Close()
	crm, seen := record(t, nil)
	c := newTestClient(t, Options{})
	for range 3 {
		req := postRequest(crm.URL)
		req.Auth = oauth(ids.URL)
		if res := c.Send(t.Context(), req); res.Class != ClassOK || res.Sends != 1 {
			t.Fatalf("%+v", res)
		}
	}
	if asked.Load() != 4 || len(seen()) != 3 { // a token of 1 s is too old at once
		t.Errorf("the token endpoint was asked %d times", asked.Load())
	}
}

// What token endpoints send beside the letter of RFC 6749.
func TestOAuthAnswers(t *testing.T) {
	for body, want := range map[string]struct {
		header string
		life   time.Duration
	}{
		`{"access_token":"t-1","token_type":"bearer","expires_in":3600}`:       {"Bearer t-1", time.Hour},
		`{"access_token":"t-1","token_type":"Bearer","expires_in":"3599"}`:     {"Bearer t-1", 3599 * time.Second},
		`{"access_token":"t-1","expires_in":3599.0}`:                           {"Bearer t-1", 3599 * time.Second},
		`{"access_token":"t-1","expires_in":" 60.5 "}`:                         {"Bearer t-1", 60500 * time.Millisecond},
		"\ufeff" + `{"access_token":"t-1","token_type":"MAC","expires_in":60}`: {"MAC t-1", time.Minute},
		`{"access_token":"t-1","token_type":"a b","expires_in":"never"}`:       {"Bearer t-1", 0},
		`{"access_token":"t-1","expires_in":null}`:                             {"Bearer t-1", 0},
		`{"access_token":"t-1","expires_in":-1}`:                               {"Bearer t-1", 0},
		`{"access_token":"t-1","expires_in":{}}`:                               {"Bearer t-1", 0},
		`{"access_token":"t-1","expires_in":1e300}`:                            {"Bearer t-1", maxExpiry},
		`{"access_token":"t-1","expires_in":"NaN"}`:                            {"Bearer t-1", 0},
		`{"access_token":"t-1\r\nX: y"}`:                                       {"", 0},
		`{"access_token":7}`:                                                   {"", 0},
		`[]`:                                                                   {"", 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			tr := &attempt{Request: &Request{Auth: oauth("https://ids.example.com")}, parent: t.Context(), url: &url.URL{}}
			got, fault := readToken(t.Context(), tr, &answer{status: 200, body: []byte(body)})
			if want.header == "" {
				if fault == nil || fault.Class != ClassUnreached {
					t.Errorf("%q: %+v, %+v", body, got, fault)
				}
				return
			}
			if fault != nil || got.scheme+" "+got.value.Reveal() != want.header {
				t.Errorf("%q: %+v, %+v", body, got, fault)
			}
			if want.life == 0 != got.expires.IsZero() || want.life > 0 && !got.expires.Equal(time.Now().Add(want.life)) {
				t.Errorf("%q: expires at %s", body, got.expires)
			}
		})
	}
}
