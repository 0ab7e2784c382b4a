package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/cxbridge/watcher/internal/cli"
)

// A file that holds another document than the one that is asked for is named as such.
func TestFilesOfAnotherKind(t *testing.T) {
	const broken = "mongodb://127.0.0.1:1" // files are looked at before a server is
	dir := suiteDir(t, map[string]string{
		"call.json": previewCall, "bot.json": previewBot(`"url": "https://x.example", "key_mapper": {"a": "1"}`),
		"settings.json": `{"_id": "system", "minio": {"endpoint": "x"}}`, "tests.json": `{"tests": [{"bot": "bot.json", "call": "call.json"}]}`,
		"swapped.yaml": "bot: call.json\ncall: bot.json\ntests: [{name: x}]\n", "inline.yaml": "call: call.json\ntests: [{bot: {_id: x, session_id: s}}]\n",
	})
	call, bot, settings, tests := filepath.Join(dir, "call.json"), filepath.Join(dir, "bot.json"), filepath.Join(dir, "settings.json"), filepath.Join(dir, "tests.json")
	imported := suiteDir(t, map[string]string{"b.json": previewCall})
	for _, tt := range []struct {
		args []string
		want []string // on standard error
	}{
		{[]string{"lint", "--bot", call}, []string{"--bot", "call.json holds a call, not a bot"}},
		{[]string{"lint", "--bot", bot, "--bot", tests}, []string{"--bot", "tests.json holds tests, not a bot"}},
		{[]string{"lint", "--bot", call, "--calls", "5", "--mongo-uri", broken}, []string{"call.json holds a call, not a bot"}},
		{[]string{"preview", "--call", bot, "--bot", call}, []string{"--call: ", "bot.json holds a bot, not a call", "--bot: ", "call.json holds a call, not a bot"}},
		{[]string{"preview", "--call", call, "--bot", settings, "--settings", bot}, []string{"settings.json holds the settings, not a bot", "bot.json holds a bot, not the settings"}},
		{[]string{"preview", "--call", call, "--bot", bot, "--diff", call}, []string{"--diff: ", "call.json holds a call, not a bot"}},
		{[]string{"preview", "--calls", "5", "--diff", call, "--mongo-uri", broken}, []string{"--diff: ", "call.json holds a call, not a bot"}},
		{[]string{"call", "s-1", "--bot", call, "--mongo-uri", broken}, []string{"--bot: ", "call.json holds a call, not a bot"}},
		{[]string{"vars", "--bot", bot, "--mongo-uri", broken}, []string{"--bot: ", "is a file", "--call"}},
		{[]string{"vars", "--call", bot}, []string{"--call: ", "bot.json holds a bot, not a call"}},
		{[]string{"test", filepath.Join(dir, "swapped.yaml")}, []string{"bot: ", "call.json holds a call, not a bot"}},
		{[]string{"test", filepath.Join(dir, "inline.yaml")}, []string{"holds a call, not a bot"}},
		{[]string{"test", bot, call}, []string{"bot.json holds a bot, not tests", "call.json holds a call, not tests"}},
		{[]string{"bots", "import", "--dir", imported, "--mongo-uri", broken}, []string{`"b.json": holds a call, not a bot`}},
	} {
		stdout, stderr, code := invoke(t, "", tt.args...)
		if code != cli.ExitUsage || stdout != "" {
			t.Errorf("%v: exit %d, %s%s", tt.args, code, stdout, stderr)
		}
		for _, want := range tt.want {
			if !strings.Contains(stderr, want) {
				t.Errorf("%v: %q is not in %s", tt.args, want, stderr)
			}
		}
	}
	if _, stderr, code := invoke(t, previewCall, "lint", "--bot", "-"); code != cli.ExitUsage || !strings.Contains(stderr, "standard input holds a call, not a bot") {
		t.Errorf("exit %d, %s", code, stderr)
	}
}
