package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/cxbridge/watcher/internal/cli"
)

// crm is a server that remembers the last request, and answers with what it was sent.
type crm struct {
	*httptest.Server
	mu     sync.Mutex
	header http.Header
	body   string
	query  string
	n      int
}

func newCRM(t *testing.T, status int) *crm {
	t.Helper()
	c := &crm{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.n++
		c.header, c.body, c.query = r.Header, string(body), r.URL.RawQuery
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "got "+r.Header.Get("Authorization")+" and "+string(body))
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *crm) seen() (http.Header, string, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.header, c.body, c.n
}

func (c *crm) lastQuery() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.query
}

const allowLocal = "--allow-network=127.0.0.1"

func TestPreviewSend(t *testing.T) {
	server := newCRM(t, http.StatusCreated)
	bot := file(t, "bot.json", previewBot(`"url": "`+server.URL+`/hook", "token": "bearer-secret", "key_mapper": {"name": "{{NAME}}", "r": "{{result.recording_url}}"}`))
	args := []string{"preview", "--call", file(t, "call.json", previewCall), "--bot", bot, "--send", "--public-base-url", "https://api.example.com", allowLocal}
	if _, stderr, code := invoke(t, "", args...); code != cli.ExitUsage || !strings.Contains(stderr, "--yes") {
		t.Errorf("nobody to ask: exit %d, %s", code, stderr)
	}
	if _, _, n := server.seen(); n != 0 {
		t.Fatal("sent without an answer")
	}
	stdout, stderr, code := invoke(t, "", append(args, "--yes")...)
	header, body, n := server.seen()
	if code != 0 || n != 1 || header.Get("Authorization") != "bearer-secret" || !strings.Contains(body, "recordings/open-sesame") || header.Get("Idempotency-Key") == "" {
		t.Errorf("exit %d, %d requests, %v, %s, %s", code, n, header, body, stderr)
	}
	for _, secret := range []string{"bearer-secret", "open-sesame"} {
		if strings.Contains(stdout, secret) {
			t.Errorf("shows %s:\n%s", secret, stdout)
		}
	}
	for _, want := range []string{"Authorization: ***", "for real, once", "answer        ok, HTTP 201", "Nothing is written to the call"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("lacks %q:\n%s", want, stdout)
		}
	}
	// Without leave to dial the address nothing goes out.
	if _, _, code := invoke(t, "", append(args[:len(args)-1:len(args)-1], "--yes")...); code != cli.ExitFailed {
		t.Errorf("exit %d", code)
	}
	if _, _, n := server.seen(); n != 1 {
		t.Errorf("%d requests", n)
	}
	refuses := newCRM(t, http.StatusBadRequest)
	stdout, _, code = invoke(t, "", append(args, "--yes", "--output", "json", "--to", refuses.URL)...)
	var out struct {
		Answer struct {
			Status     string
			HTTPStatus int `json:"http_status"`
		}
	}
	if err := json.Unmarshal([]byte(stdout), &out); err != nil {
		t.Fatal(err)
	}
	if code != cli.ExitFailed || out.Answer.Status != "rejected" || out.Answer.HTTPStatus != http.StatusBadRequest {
		t.Errorf("exit %d, %+v", code, out.Answer)
	}
}

func TestPreviewSendToAnotherHost(t *testing.T) {
	server := newCRM(t, http.StatusOK)
	push := `"url": "https://crm.example.com/x?accessKey=query-secret", "headers": {"Authorization": "Bearer bearer-secret", "X-Key": "header-secret", "Accept": "text/plain"},
	  "signing_secret": "signing-secret", "auth": {"type": "query", "params": {"sig": "auth-secret"}},
	  "key_mapper": {"api_token": "mapped-secret", "echo": "query-secret and bearer-secret", "name": "{{NAME}}", "r": "{{result.recording_url}}"}`
	for _, method := range []string{"POST", "GET"} {
		bot := file(t, "bot.json", previewBot(push+`, "method": "`+method+`"`))
		args := []string{"preview", "--call", file(t, "call.json", previewCall), "--bot", bot, "--send", "--yes", "--to", server.URL + "/test", "--public-base-url", "https://api.example.com", allowLocal}
		stdout, stderr, code := invoke(t, "", args...)
		if code != 0 || !strings.Contains(stdout, "That is not the host of the bot") {
			t.Errorf("%s: exit %d, %s%s", method, code, stdout, stderr)
		}
		header, body, _ := server.seen()
		var sent strings.Builder
		_ = header.Write(&sent)
		sent.WriteString(body + server.lastQuery())
		for _, secret := range []string{"query-secret", "bearer-secret", "header-secret", "signing-secret", "mapped-secret", "auth-secret", "open-sesame"} {
			if strings.Contains(sent.String(), secret) {
				t.Errorf("%s sent %s: %s", method, secret, sent.String())
			}
		}
		if header.Get("Accept") != "text/plain" || header.Get("Webhook-Signature") != "" || !strings.Contains(sent.String(), "name") {
			t.Errorf("%s: %s", method, sent.String())
		}
		invoke(t, "", append(args, "--with-credentials")...)
		if header, _, _ := server.seen(); header.Get("X-Key") != "header-secret" || header.Get("Webhook-Signature") == "" {
			t.Errorf("%s with credentials: %v", method, header)
		}
	}
	// A bot without an address can be tried too.
	bot := file(t, "bot.json", previewBot(`"key_mapper": {"name": "{{NAME}}"}`))
	if _, stderr, code := invoke(t, "", "preview", "--call", file(t, "c", previewCall), "--bot", bot, "--send", "--yes", "--to", server.URL, allowLocal); code != 0 {
		t.Errorf("exit %d, %s", code, stderr)
	}
}

func TestSameOrigin(t *testing.T) {
	for _, tt := range []struct {
		x, y string
		same bool
	}{
		{"https://a.example/x", "https://A.example/y?z", true},
		{"https://a.example", "http://a.example", false},
		{"https://a.example", "https://a.example:8443", false},
		{"https://a.example", "https://a.example.evil.example", false},
		{"https://a.example", "https://a.example@evil.example", false},
		{"https://a.example", "%zz", false},
		{"", "", false},
	} {
		if sameOrigin(tt.x, tt.y) != tt.same {
			t.Errorf("%s and %s", tt.x, tt.y)
		}
	}
}

func TestPreviewShowsThePayloadOfAFault(t *testing.T) {
	for reason, push := range map[string]string{
		"bad_config": `"url": "https://x.example", "method": "PUT"`,
		"no_url":     `"method": "POST"`,
		"disabled":   `"url": "https://x.example", "enabled": false`,
	} {
		bot := file(t, "b", previewBot(push+`, "token": "bearer-secret", "key_mapper": {"n": "{{NAME}}", "t": "bearer-secret"}`))
		stdout, stderr, code := invoke(t, "", "preview", "--call", file(t, "c", previewCall), "--bot", bot)
		var head struct {
			Reason  string
			Request *requestOutput
			Payload json.RawMessage
		}
		if err := json.Unmarshal([]byte(stdout), &head); code != 0 || err != nil {
			t.Fatalf("%v, %s%s", err, stdout, stderr)
		}
		if head.Reason != reason || head.Request != nil || strings.Join(strings.Fields(string(head.Payload)), "") != `{"n":"R&<b>","t":"***"}` {
			t.Errorf("%s: %s", reason, stdout)
		}
	}
	bot := file(t, "b", previewBot(`"url": "nowhere", "key_mapper": {"n": "{{NAME}}"}`))
	stdout, _, code := invoke(t, "", "preview", "--output", "table", "--call", file(t, "c", previewCall), "--bot", bot)
	if code != 0 || !strings.Contains(stdout, "Nothing is sent. The mapper makes of the call:") || !strings.Contains(stdout, `"n": "R & <b>"`) {
		t.Errorf("exit %d\n%s", code, stdout)
	}
}
