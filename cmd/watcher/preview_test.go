package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cxbridge/watcher/internal/botfiles"
	"github.com/cxbridge/watcher/internal/cli"
)

// invoke runs the program with arguments and standard input.
func invoke(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs strings.Builder
	std := cli.Streams{In: strings.NewReader(stdin), Out: &out, Err: &errs}
	noEnv := func(string) (string, bool) { return "", false }
	code = cli.ExitStatus("watcher", run(t.Context(), args, noEnv, std), &errs)
	return out.String(), errs.String(), code
}

// file writes a file for one test and returns its name.
func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

type previewed struct {
	Decision   string `json:"decision"`
	Reason     string `json:"reason"`
	DeliveryID string `json:"delivery_id"`
	Request    *struct {
		Method   string            `json:"method"`
		URL      string            `json:"url"`
		Headers  map[string]string `json:"headers"`
		Body     any               `json:"body"`
		BodyText string            `json:"body_text"`
	} `json:"request"`
	Warnings []map[string]string `json:"warnings"`
}

const previewCall = `{"_id": {"$oid": "65f0c0ffee00000000000001"}, "session_id": "s-1", "bot_id": "b",
  "completed_at": {"$date": "2026-06-05T10:17:05Z"}, "recording_url": "http://localhost:9000/recordings/calls/1.wav",
  "recording_key": "calls/1.wav", "recording_access_token": "open-sesame", "connected_event": {"NAME": "R & <b>", "n": {"$numberLong": "7"}}}`

func previewBot(push string) string {
	return `{"_id": "b", "timezone": "UTC", "post_call_push": {` + push + `}}`
}

func preview(t *testing.T, call, bot string, flags ...string) previewed {
	t.Helper()
	args := append([]string{"preview", "--call", file(t, "call.json", call), "--bot", file(t, "bot.json", bot)}, flags...)
	stdout, stderr, code := invoke(t, "", args...)
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d, %s", code, stderr)
	}
	var p previewed
	if err := json.Unmarshal([]byte(stdout), &p); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	if p.Warnings == nil {
		t.Error("warnings is not a list")
	}
	return p
}

func TestPreviewOfAPush(t *testing.T) {
	p := preview(t, previewCall, previewBot(`"url": "https://crm.example.com/hook", "token": "tok-123", "key_mapper": {"z": "{{NAME}}", "a": {"$numberDouble": "1.50"}, "n": "{{call.n}}", "t": "{{system.current_time}}", "u": "x{{nope}}"}`))
	if p.Decision != "push" || p.Reason != "" || p.DeliveryID != "40f2a9c8a7236a0a427dc6240beb7933" {
		t.Errorf("%+v", p)
	}
	r := p.Request
	if r.Method != http.MethodPost || r.URL != "https://crm.example.com/hook" {
		t.Errorf("%s %s", r.Method, r.URL)
	}
	if want := `{"z":"R & <b>","a":1.5,"n":"7","t":"10:17 AM UTC","u":"x"}`; r.BodyText != want {
		t.Errorf("body_text %s, want %s", r.BodyText, want)
	}
	if body, _ := r.Body.(map[string]any); body["z"] != "R & <b>" || body["a"] != 1.5 {
		t.Errorf("body %v", r.Body)
	}
	for name, want := range map[string]string{"Authorization": "***", "Content-Type": "application/json", "Idempotency-Key": p.DeliveryID, "User-Agent": "watcher/dev"} {
		if r.Headers[name] != want {
			t.Errorf("%s: %q, want %q", name, r.Headers[name], want)
		}
	}
	if len(p.Warnings) != 1 || p.Warnings[0]["token"] != "{{nope}}" || p.Warnings[0]["key"] != "u" || p.Warnings[0]["code"] == "" || p.Warnings[0]["message"] == "" {
		t.Errorf("%v", p.Warnings)
	}
}

func TestPreviewFlags(t *testing.T) {
	bot := previewBot(`"url": "https://crm.example.com/hook", "key_mapper": {"t": "{{system.current_datetime}}", "u": "{{nope}}", "s": "{{analysis.seed}}", "e": "{{result.call_end_time}}", "r": "{{result.recording_url}}"}`)
	p := preview(t, previewCall, bot, "--now", "2026-01-02T03:04:05+05:30", "--unresolved", "literal", "--analysis-key", "seed", "--time-format", "unix", "--public-base-url", "https://api.example.com/", "--show-secrets")
	want := `{"t":"01 January 2026, 09:34 PM UTC","u":"{{nope}}","s":"","e":"1780654625","r":"https://api.example.com/api/v1/public/recordings/open-sesame"}`
	if p.Request.BodyText != want {
		t.Errorf("got  %s\nwant %s", p.Request.BodyText, want)
	}
	for _, w := range p.Warnings {
		if w["token"] != "{{nope}}" {
			t.Errorf("%v", w)
		}
	}
}

func TestPreviewOfASkip(t *testing.T) {
	good := `"url": "https://x.example", "key_mapper": {"a": "1"}`
	for want, docs := range map[string][2]string{
		"no_config":      {previewCall, `{"_id": "b"}`},
		"disabled":       {previewCall, previewBot(good + `, "enabled": false`)},
		"no_url":         {previewCall, previewBot(`"key_mapper": {"a": "1"}`)},
		"skip_post_push": {strings.Replace(previewCall, "{", `{"skip_post_push": true,`, 1), previewBot(good)},
		"agent_call":     {strings.Replace(previewCall, "{", `{"call_type": "agent",`, 1), previewBot(good)},
		"no_result":      {`{"_id": "c"}`, previewBot(good)},
		"bad_config":     {previewCall, previewBot(`"url": "https://x.example", "key_mapper": "x"`)},
	} {
		p := preview(t, docs[0], docs[1])
		if p.Decision != "skip" || p.Reason != want || p.Request != nil {
			t.Errorf("%s: %+v", want, p)
		}
		if want == "bad_config" && (len(p.Warnings) == 0 || p.Warnings[0]["key"] != "post_call_push.key_mapper" || p.Warnings[0]["level"] != "error") {
			t.Errorf("warnings: %v", p.Warnings)
		}
		if (p.DeliveryID == "") != (want == "no_result") {
			t.Errorf("%s: delivery id %q", want, p.DeliveryID)
		}
	}
}

func TestPreviewHidesSecrets(t *testing.T) {
	settings := file(t, "settings.json", `{"_id": "system", "minio": {"endpoint": "localhost:9000", "access_key": "access-key-1", "secret_key": "sk", "bucket": "recordings"}}`)
	secrets := []string{"url-password", "query-secret", "bearer-secret", "header-secret", "signing-secret", "mapped-secret", "auth-secret", "open-sesame", "access-key-1"}
	push := `"url": "https://user:url-password@crm.example.com/x?accessKey=query-secret&src=seen", "headers": {"Authorization": "Bearer bearer-secret", "X-Key": "header-secret"},
	  "signing_secret": "signing-secret", "auth": {"type": "query", "params": {"sig": "auth-secret"}},
	  "key_mapper": {"api_token": "mapped-secret", "echo": "query-secret and bearer-secret", "r": "{{result.recording_url}}"}`
	for _, method := range []string{"POST", "GET"} {
		bot := previewBot(push + `, "method": "` + method + `"`)
		for _, flags := range [][]string{{"--settings", settings}, {"--public-base-url", "https://api.example.com"}} {
			call := previewCall
			if flags[0] == "--settings" {
				call = strings.Replace(call, `"recording_access_token": "open-sesame",`, "", 1)
			}
			args := append([]string{"preview", "--call", file(t, "c", call), "--bot", file(t, "b", bot)}, flags...)
			stdout, stderr, code := invoke(t, "", args...)
			if code != 0 {
				t.Fatalf("exit %d, %s", code, stderr)
			}
			for _, s := range secrets {
				if strings.Contains(stdout, s) {
					t.Errorf("%s shows %s:\n%s", method, s, stdout)
				}
			}
			for _, s := range []string{"***", "src=seen", "https://crm.example.com/x?accessKey=***"} {
				if !strings.Contains(stdout, s) {
					t.Errorf("%s lacks %s:\n%s", method, s, stdout)
				}
			}
			shown, _, _ := invoke(t, "", append(args, "--show-secrets")...)
			for _, s := range secrets[1:7] {
				if s != "signing-secret" && !strings.Contains(shown, s) {
					t.Errorf("%s --show-secrets lacks %s:\n%s", method, s, shown)
				}
			}
			if strings.Contains(shown, "***") {
				t.Errorf("%s --show-secrets hides:\n%s", method, shown)
			}
		}
	}
}

func TestPreviewOfCredentialsMadeForEachTry(t *testing.T) {
	p := preview(t, previewCall, previewBot(`"url": "https://x.example", "auth": {"type": "basic", "username": "u", "password": "p-a-s-s-w-d"}, "signing_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "key_mapper": {}`), "--show-secrets", "--now", "2026-06-05T10:17:06Z")
	h := p.Request.Headers
	if h["Authorization"] != "Basic dTpwLWEtcy1zLXctZA==" || h["Webhook-Id"] != p.DeliveryID || h["Webhook-Timestamp"] != "1780654626" || !strings.HasPrefix(h["Webhook-Signature"], "v1,") {
		t.Errorf("%v", h)
	}
	p = preview(t, previewCall, previewBot(`"url": "https://x.example", "key_mapper": {}, "auth": {"type": "oauth2", "token_url": "https://a.example/t", "client_id": "i", "client_secret": "s-e-c-r-e-t", "scheme": "Zoho-oauthtoken"}`), "--show-secrets")
	if got := p.Request.Headers["Authorization"]; got != "Zoho-oauthtoken ***" {
		t.Errorf("a token that is not fetched: %q", got)
	}
}

func TestPreviewWarnsOfALongAddress(t *testing.T) {
	p := preview(t, previewCall, previewBot(`"url": "https://x.example", "method": "GET", "key_mapper": {"a": "`+strings.Repeat("x", 8000)+`"}`))
	if len(p.Warnings) != 1 || p.Warnings[0]["code"] != "long_url" {
		t.Errorf("%v", p.Warnings)
	}
}

func TestPreviewWarnsOfSettings(t *testing.T) {
	settings := file(t, "settings.json", `{"minio": {"endpoint": "ftp://x", "access_key": "a", "secret_key": "s", "bucket": "b"}}`)
	p := preview(t, previewCall, previewBot(`"url": "https://x.example", "key_mapper": {"r": "{{result.recording_url}}"}`), "--settings", settings)
	if len(p.Warnings) != 1 || p.Warnings[0]["key"] != "minio endpoint" {
		t.Errorf("%v", p.Warnings)
	}
	if !strings.Contains(p.Request.BodyText, "http://localhost:9000/recordings/calls/1.wav") {
		t.Errorf("the stored link is used: %s", p.Request.BodyText)
	}
}

func TestPreviewOfBadInput(t *testing.T) {
	call, bot := file(t, "call.json", previewCall), file(t, "bot.json", previewBot(`"url": "https://x.example"`))
	bad := func(content string) string { return file(t, "bad.json", content) }
	for _, tt := range []struct {
		name string
		args []string
		want []string // each in the message, on one line for each
	}{
		{"nothing", nil, []string{"--call"}},
		{"no bot", []string{"--call", call}, []string{"--bot"}},
		{"two sources", []string{"--call", call, "--bot", bot, "--session-id", "s", "--mongo-uri", "mongodb://h"}, []string{"--call"}},
		{"no such file", []string{"--call", "/does/not/exist", "--bot", bot}, []string{"--call: open /does/not/exist"}},
		{"both files bad", []string{"--call", bad("{nope"), "--bot", bad("[")}, []string{"--call", "--bot"}},
		{"not JSON", []string{"--call", bad("{\"a\":\n  {nope"), "--bot", bot}, []string{"--call", "line 2, column 4"}},
		{"empty", []string{"--call", bad(""), "--bot", bot}, []string{"--call: holds 0 documents"}},
		{"two documents", []string{"--call", bad("{} {}"), "--bot", bot}, []string{"--call: holds 2 documents"}},
		{"no object", []string{"--call", bad(`"x"`), "--bot", bot}, []string{"--call", "want an object"}},
		{"list of no objects", []string{"--call", bad(`[1]`), "--bot", bot}, []string{"--call", "want an object"}},
		{"bad ObjectId", []string{"--call", bad(`{"_id": {"$oid": "zz"}}`), "--bot", bot}, []string{"--call", "Extended JSON"}},
		{"bad date", []string{"--call", bad(`{"d": {"$date": {"x": 1}}}`), "--bot", bot}, []string{"--call", "Extended JSON"}},
		{"settings", []string{"--call", call, "--bot", bot, "--settings", bad("{")}, []string{"--settings"}},
		{"flags", []string{"--call", call, "--bot", bot, "--now", "noon", "--unresolved", "maybe", "--time-format", "%Q", "--public-base-url", "x"},
			[]string{"--now", "--unresolved", "--time-format", "--public-base-url"}},
		{"no bool", []string{"--call", call, "--bot", bot, "--minio-secure=perhaps"}, []string{"--minio-secure"}},
		{"no database named", []string{"--session-id", "s"}, []string{"--mongo-uri"}},
		{"unknown flag", []string{"--nope"}, []string{"--nope"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stdout, stderr, code := invoke(t, "", append([]string{"preview"}, tt.args...)...)
			if code != cli.ExitUsage || stdout != "" {
				t.Errorf("exit %d, printed %q", code, stdout)
			}
			for _, want := range tt.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("%q lacks %q", stderr, want)
				}
			}
			if lines := strings.Count(stderr, "\n"); lines > len(tt.want) {
				t.Errorf("%d lines: %s", lines, stderr)
			}
		})
	}
}

func TestPreviewReadsStandardInput(t *testing.T) {
	bot := file(t, "bot.json", previewBot(`"url": "https://x.example", "key_mapper": {"a": "{{result.call_id}}"}`))
	for _, stdin := range []string{previewCall, "\ufeff" + previewCall, "[" + previewCall + "]"} {
		stdout, stderr, code := invoke(t, stdin, "preview", "--call", "-", "--bot", bot)
		if code != 0 || !strings.Contains(stdout, `{\"a\":\"s-1\"}`) {
			t.Errorf("exit %d, %s%s", code, stdout, stderr)
		}
	}
}

func TestPreviewOfADatabaseThatIsAway(t *testing.T) {
	const uri = "mongodb://user:mongo-password@127.0.0.1:1/db?serverSelectionTimeoutMS=1000"
	_, stderr, code := invoke(t, "", "preview", "--session-id", "s", "--mongo-uri", uri)
	if code != cli.ExitFailed || !strings.Contains(stderr, "(127.0.0.1:1: connection refused)") || strings.Contains(stderr, "mongo-password") {
		t.Errorf("exit %d, %s", code, stderr)
	}
}

func FuzzDocuments(f *testing.F) {
	for _, s := range []string{previewCall, "[{}]", `{"a":{"$date":{"$numberLong":"1"}}}`, `{"$binary":{"base64":"","subType":"zz"}}`, `{"a":{"$numberDecimal":"x"}}`, `{"a":{"$regularExpression":{}}}`, "{", `{"a\u0000b":1}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		docs, err := readDocuments("-", strings.NewReader(s), botfiles.Bot)
		for _, doc := range docs {
			if err := doc.Validate(); err != nil {
				t.Errorf("%q gives a broken document: %v", s, err)
			}
		}
		if err != nil && docs != nil {
			t.Errorf("%q gives documents and an error", s)
		}
	})
}

func TestPreviewTellsOfAnotherBot(t *testing.T) {
	const push = `"post_call_push": {"url": "https://x.example", "key_mapper": {"a": "1"}}`
	const oid = "65f0c0ffee00000000000002"
	for _, tt := range []struct {
		call, bot string
		other     bool
	}{
		{`"b"`, `"b"`, false},
		{`"` + oid + `"`, `{"$oid": "` + oid + `"}`, false},
		{`{"$oid": "` + oid + `"}`, `"` + oid + `"`, false},
		{`{"$uuid": "aaaaaaaa-e2bb-4255-8caf-4136c566a962"}`, `{"$uuid": "aaaaaaaa-e2bb-4255-8caf-4136c566a962"}`, false},
		{`{"$uuid": "aaaaaaaa-e2bb-4255-8caf-4136c566a962"}`, `{"$uuid": "aaaaaaaa-e2bb-4255-8caf-4136c566a963"}`, true},
		{`"5"`, `5`, true},
		{`""`, `""`, true},
		{`null`, `"b"`, true},
	} {
		p := preview(t, strings.Replace(previewCall, `"bot_id": "b"`, `"bot_id": `+tt.call, 1), `{"_id": `+tt.bot+`, "timezone": "UTC", `+push+`}`)
		if other := len(p.Warnings) == 1 && p.Warnings[0]["code"] == "other_bot"; other != tt.other || p.Decision != "push" {
			t.Errorf("%s and %s: %s, %v", tt.call, tt.bot, p.Decision, p.Warnings)
		}
	}
}
