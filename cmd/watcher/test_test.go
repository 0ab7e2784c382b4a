package main

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cxbridge/watcher/internal/cli"
)

// suiteDir writes files for one test and returns their directory.
func suiteDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTestsOfMappings(t *testing.T) {
	dir := suiteDir(t, map[string]string{
		"bot.json":  previewBot(`"url": "https://x.example", "token": "bearer-secret", "key_mapper": {"name": "{{NAME}}", "n": 1.50, "r": "{{result.recording_url}}", "t": "bearer-secret"}`),
		"get.json":  previewBot(`"url": "https://x.example", "method": "GET", "key_mapper": {"name": "{{NAME}}"}`),
		"typo.json": previewBot(`"url": "https://x.example", "key_mapper": {"name": "{{NAM}}"}`),
		"call.json": previewCall,
		"good.yaml": `bot: bot.json
call: call.json
tests:
  - name: all
    payload: {name: R & <b>, n: 1.5, r: "https://api.example.com/api/v1/public/recordings/***", t: "***"}
  - keys: {name: R & <b>}
  - bot: get.json
    payload: {name: R & <b>}
  - call: {_id: x, completed_at: {$date: "2026-06-05T10:17:05Z"}, crm_data: {NAME: Asha}}
    bot: get.json
    keys: {name: Asha}
  - call: {_id: x}
    reason: no_result
`,
		"bad.json": `{"call": "call.json", "bot": "typo.json", "tests": [{"name": "a typo \ud83d\ude00", "payload": {"name": "R & <b>"}}]}`,
	})
	good, bad := filepath.Join(dir, "good.yaml"), filepath.Join(dir, "bad.json")
	args := []string{"test", "--public-base-url", "https://api.example.com"}
	stdout, stderr, code := invoke(t, "", append(args, good)...)
	if code != 0 || !strings.Contains(stdout, "5 tests, 0 failed") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	stdout, _, code = invoke(t, "", append(args, good, bad)...)
	for _, want := range []string{"FAILED   ", ": a typo 😀", `name: got "", want "R & <b>"`, "{{NAM}}", "6 tests, 1 failed"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("lacks %q:\n%s", want, stdout)
		}
	}
	if code != cli.ExitFailed {
		t.Errorf("exit %d", code)
	}
	stdout, _, code = invoke(t, "", append(args, "--output", "junit", good, bad)...)
	var junit junitSuites
	if err := xml.Unmarshal([]byte(stdout), &junit); err != nil || code != cli.ExitFailed {
		t.Fatalf("exit %d, %v\n%s", code, err, stdout)
	}
	if junit.Tests != 6 || junit.Failures != 1 || len(junit.Suites) != 2 || junit.Suites[1].Cases[0].Failure == nil || junit.Suites[0].Failures != 0 {
		t.Errorf("%+v", junit)
	}
	before, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	if stdout, stderr, code := invoke(t, "", append(args, "--update", good, bad)...); code != 0 || !strings.Contains(stdout, "0 failed, 1 updated") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	if after, _ := os.ReadFile(good); string(after) != string(before) {
		t.Errorf("a file whose tests hold was written:\n%s", after)
	}
	if stdout, _, code := invoke(t, "", append(args, bad)...); code != 0 {
		t.Errorf("after the update: exit %d\n%s", code, stdout)
	}
}

func TestTestsThatCannotBeRead(t *testing.T) {
	dir := suiteDir(t, map[string]string{
		"call.json": previewCall, "no.json": "{nope",
		"a.yaml": "tests:\n- {bot: missing.json, call: call.json}\n- {bot: no.json, call: call.json}\n- {bot: {_id: b}}\n",
		"b.yaml": "tests: 5",
	})
	a, b := filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.yaml")
	stdout, stderr, code := invoke(t, "", "test", a, b, filepath.Join(dir, "c.yaml"))
	if code != cli.ExitUsage || stdout != "" {
		t.Errorf("exit %d, %s", code, stdout)
	}
	for _, want := range []string{"missing.json", "no.json is not JSON", "test 3: call: is missing", "b.yaml: holds no tests", "c.yaml: no such file"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("lacks %q:\n%s", want, stderr)
		}
	}
}
