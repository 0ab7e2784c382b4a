package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cxbridge/watcher/internal/cli"
)

const (
	ownBots = `{"_id": "own", "prompt": "p", "post_call_push": {"url": {"$secret": "own/url", "shown": "https://crm.example/leads"}, "token": {"$secret": "own/token"},
 "auth": {"type": "oauth2", "token_url": "https://login.example"}, "preset": "leadsquared", "key_mapper": {"id": "{{result.call_id}}", "who": "{{crm.NAME}}"}}}
{"_id": "quiet"}`
	ownCalls = `[{"_id": {"$oid": "65f0c0ffee00000000000002"}, "session_id": "mine", "bot_id": "own", "crm_data": {"NAME": "Asha"},
 "completed_at": {"$date": "2020-01-01T00:00:00Z"}, "post_call_push_result": {"status": "failed"}}, {"session_id": "silent", "bot_id": "quiet"}]`
)

func own(t *testing.T, calls string) (args []string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"bots.json": ownBots, "calls.json": calls} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"--bots", filepath.Join(dir, "bots.json"), "--calls", filepath.Join(dir, "calls.json"), "--rate", "50"}
}

func TestDemoOfOwnDocuments(t *testing.T) {
	stdout, stderr, code := invoke(t, own(t, ownCalls)...)
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d, %s\n%s", code, stderr, stdout)
	}
	for _, says := range []string{
		"2 bots, 2 calls", "status page: http://127.0.0.1:", `POST /leads  {"id":"mine-1","who":"Asha"}`,
		"mine-1: ok", "silent-2: not pushed: no_config",
	} {
		if !strings.Contains(stdout, says) {
			t.Errorf("no %q in\n%s", says, stdout)
		}
	}
}

func TestDemoOfOwnDocumentsGoesOnWithKeep(t *testing.T) {
	one, _, _ := strings.Cut(ownCalls, `, {"session_id": "silent"`)
	if text, err := interrupted(t, "mine-5: ok", func(string) {}, append(own(t, one+"]"), "--keep")...); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestDemoRefusesWhatIsNoDocument(t *testing.T) {
	for _, args := range [][]string{
		own(t, `{`), own(t, ``), own(t, `1`), own(t, `{"_id": "b", "post_call_push": {}}`), {"--calls", "calls.json"}, {"--bots", "no-such-file", "--calls", "x"},
		append(own(t, ownCalls), "--mongo-uri", "mongodb://127.0.0.1"),
	} {
		if stdout, stderr, code := invoke(t, args...); code != cli.ExitUsage || stderr == "" {
			t.Errorf("%v: exit %d, %s%s", args, code, stdout, stderr)
		}
	}
}
