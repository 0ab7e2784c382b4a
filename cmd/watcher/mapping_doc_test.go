package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	runBlock  = regexp.MustCompile("(?ms)^```\n\\$ watcher ([^\n]*)\n.*?^```\n")
	fileBlock = regexp.MustCompile("(?m)^<!-- ([a-z.]+) -->\n(?:\n```[a-z]+\n(?s:.*?)\n```\n)?")
)

// docs/mapping.md shows files and what commands print. Run with -update after a change.
func TestTheWalkOfAMapping(t *testing.T) {
	path, err := filepath.Abs(root + "/docs/mapping.md")
	if err != nil {
		t.Fatal(err)
	}
	stored, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir("testdata/mapping")
	ran := 0
	want := runBlock.ReplaceAllStringFunc(string(stored), func(block string) string {
		line := runBlock.FindStringSubmatch(block)[1]
		stdout, stderr, _ := invoke(t, "", words(line)...)
		if stdout == "" || stderr != "" {
			t.Errorf("watcher %s: %q, %s", line, stdout, stderr)
		}
		for printed := range strings.Lines(stdout) {
			if n := len([]rune(printed)) - 1; n > screenWidth {
				t.Errorf("watcher %s prints a line of %d characters: %s", line, n, printed)
			}
		}
		ran++
		return "```\n$ watcher " + line + "\n" + strings.TrimRight(stdout, "\n") + "\n```\n"
	})
	want = fileBlock.ReplaceAllStringFunc(want, func(block string) string {
		name := fileBlock.FindStringSubmatch(block)[1]
		text, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
		}
		return "<!-- " + name + " -->\n\n```" + strings.TrimPrefix(filepath.Ext(name), ".") + "\n" + strings.TrimRight(string(text), "\n") + "\n```\n"
	})
	if ran < 6 {
		t.Errorf("only %d commands were found", ran)
	}
	// Each of the five mistakes is named before anything is sent.
	for _, mistake := range []string{`"PUT" is neither POST nor GET`, "{call.name} is sent as text", "try {{crm.lead_id}}", "try {{analysis.DISPOSITION}}", "{{result.duration}}"} {
		if !strings.Contains(want, mistake) {
			t.Errorf("nothing names %s", mistake)
		}
	}
	if want == string(stored) {
		return
	}
	if !*updateGolden {
		t.Fatal("docs/mapping.md is not what the commands print; go test ./cmd/watcher -run Walk -update")
	}
	if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
}
