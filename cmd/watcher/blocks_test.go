package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// block is a part of a document that stands apart: between fences, or indented.
type block struct {
	document string
	kind     string // of a fence
	text     string // without the indentation
}

func (b *block) first() string {
	line, _, _ := strings.Cut(b.text, "\n")
	return line
}

// guides are the documents whose blocks are checked; the contract and the design show
// no commands.
func guides(t *testing.T) map[string]string {
	t.Helper()
	all := files(t, "", ".md")
	maps.DeleteFunc(all, func(path, _ string) bool {
		return path == "docs/contract.md" || path == "docs/design.md" || strings.HasPrefix(path, ".github/")
	})
	return all
}

// blocksOf lists the blocks of a document.
func blocksOf(document, text string) (all []block) {
	for _, fence := range fences.FindAllString(text, -1) {
		head, body, _ := strings.Cut(strings.TrimLeft(fence, " "), "\n")
		body = body[:strings.LastIndex(body, "```")]
		all = append(all, block{document, strings.TrimPrefix(head, "```"), unindented(body)})
	}
	before := true // a block follows an empty line
	var lines []string
	for line := range strings.Lines(fences.ReplaceAllString(text, "") + "\nend\n") {
		inside := strings.HasPrefix(line, "    ") && (before || len(lines) > 0)
		switch {
		case inside || len(lines) > 0 && line == "\n":
			lines = append(lines, line)
		case len(lines) > 0:
			all = append(all, block{document: document, text: unindented(strings.Join(lines, ""))})
			lines = nil
		}
		before = line == "\n" || strings.HasPrefix(line, "<!--")
	}
	return all
}

// unindented takes away what the first line is indented by.
func unindented(text string) string {
	by := text[:len(text)-len(strings.TrimLeft(text, " "))]
	var out strings.Builder
	for line := range strings.Lines(text) {
		out.WriteString(strings.TrimPrefix(line, by))
	}
	return strings.TrimSpace(out.String()) + "\n"
}

// compared says which test holds a block against what a program prints or takes, by the
// beginning of the block.
var compared = map[string]string{
	"README.md: flowchart":                           "", // a picture
	"README.md: time         call":                   "TestDemoShowsTheWholeRoad",
	"docs/delivery.md: ":                             "TestDocumentedBotsCanPush",
	"docs/mapping.md: $ watcher":                     "TestTheWalkOfAMapping",
	"docs/mapping.md: {":                             "TestTheWalkOfAMapping",
	"docs/mapping.md: bot:":                          "TestTheWalkOfAMapping",
	"docs/variables.md: $ watcher vars":              "TestTheCatalogueOfVariables",
	"docs/observing.md: {":                           "TestDocumentedLogLines",
	"docs/operations.md: level=":                     "TestDocumentedLogLines",
	"docs/operations.md: $ watcher status":           "TestTheGuideShowsTheStatus",
	"docs/operations.md: $ watcher check":            "TestTheDocumentedCheck",
	"docs/operations.md: $ watcher resume":           "TestResumeShowAndReset",
	"docs/operations.md: $ watcher call ":            "TestTheDocumentedCalls",
	"docs/operations.md: $ watcher calls":            "TestCallsOfANight",
	"docs/operations.md: $ watcher hold":             "TestAHoldAndACancelledReplay",
	"docs/operations.md: $ watcher replay":           "TestAHoldAndACancelledReplay",
	"docs/operations.md: db.":                        "", // for mongosh
	"dashboards/README.md: rule_files:":              "", // a part of the configuration of Prometheus
	"dashboards/README.md: watcher_dispatch_taken_t": "", // a sum of metrics
}

// Each block is a command that can be typed, or is compared with what a program says.
func TestEachBlockIsChecked(t *testing.T) {
	tests := files(t, "", "_test.go")
	var all strings.Builder
	for _, text := range tests {
		all.WriteString(text)
	}
	used := map[string]bool{}
	for path, text := range guides(t) {
		for _, b := range blocksOf(path, text) {
			var by string
			for begins := range compared {
				if strings.HasPrefix(path+": "+b.text, begins) && len(begins) > len(by) {
					by = begins
				}
			}
			if by == "" {
				b.checkCommands(t)
				continue
			}
			used[by] = true
			if line, ok := strings.CutPrefix(b.first(), "$ watcher "); ok {
				if _, err := parser(t).Parse(words(line)); err != nil && !strings.Contains(line, ".json") && !strings.Contains(line, ".yaml") {
					t.Errorf("%s: %s: %v", path, b.first(), err)
				}
			}
			if name := compared[by]; name != "" && !regexp.MustCompile(`func `+name+`\(t `).MatchString(all.String()) {
				t.Errorf("%s: there is no test %s of %q", path, name, b.first())
			}
		}
	}
	for begins := range compared {
		if !used[begins] {
			t.Errorf("no block begins with %q", begins)
		}
	}
}

// checkCommands fails the test for a line that is no command, or one that cannot be typed.
func (b *block) checkCommands(t *testing.T) {
	t.Helper()
	for line := range strings.Lines(strings.ReplaceAll(b.text, "\\\n", " ")) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
		for part := range strings.SplitSeq(strings.ReplaceAll(strings.Trim(line, "() "), " | ", " && "), " && ") {
			args := words(strings.TrimSpace(part))
			for len(args) > 0 && regexp.MustCompile(`^[A-Z_]+=`).MatchString(args[0]) {
				args = args[1:]
			}
			if len(args) == 0 {
				continue
			}
			check, ok := typed[args[0]]
			if !ok {
				t.Errorf("%s: %q is neither a command that is known here nor compared with anything", b.document, line)
			} else if err := check(t, args); err != nil {
				t.Errorf("%s: %s: %v", b.document, part, err)
			}
		}
	}
}

// shows fails the test unless a document shows what a command prints: the same words in
// the same columns, with other numbers and names.
func shows(t *testing.T, document, command, printed string) {
	t.Helper()
	for _, b := range blocksOf(document, files(t, filepath.Dir(document), ".md")[document]) {
		shown, ok := strings.CutPrefix(b.text, "$ watcher "+command)
		if !ok {
			continue
		}
		_, shown, _ = strings.Cut(shown, "\n")
		shown = regexp.MustCompile(`(?m)^Go on\?.*\n`).ReplaceAllString(shown, "") // --yes
		if want, got := form(shown), form(printed); want != got {
			t.Errorf("%s shows of watcher %s\n%s\nand it prints\n%s", document, command, want, got)
		}
		return
	}
	t.Errorf("%s does not show watcher %s", document, command)
}

// form is a text without what differs from one run to the next.
func form(text string) string {
	for _, f := range [][2]string{
		{`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`, "TIME"}, {`\S+/\S+/\S+`, "OWNER"}, {`(?:\d+[dhms])+`, "SPAN"}, {`\d+`, "N"}, {` +`, " "},
		{`--repush \w+`, "--repush MODE"}, {`(?m) $`, ""}, {`results? from`, "results from"}, {`-\s+SPAN`, "SPAN"},
	} {
		text = regexp.MustCompile(f[0]).ReplaceAllString(text, f[1])
	}
	return strings.TrimSpace(text)
}

// typed says what is wrong with a command, by its first word. Of those of others only
// what they name of this repository is looked at.
var typed = map[string]func(t *testing.T, args []string) error{
	"watcher": func(t *testing.T, args []string) error {
		_, err := parser(t).Parse(args[1:]) // a parser that has parsed knows no default any more
		return err
	},
	"go":      goes,
	"make":    makes,
	".ci/run": isThere,
	"docker":  composes,
	"kubectl": asksKubernetes,
	"curl":    asks,
	"cd":      func(t *testing.T, args []string) error { return isThere(t, args[1:]) },
	"promtool": func(t *testing.T, args []string) error {
		return isThere(t, args[len(args)-1:])
	},
	"grep": harmless, "openssl": harmless, "mongosh": harmless,
	"--allow-network": func(t *testing.T, args []string) error {
		_, err := parser(t).Parse(append([]string{"run", "--mongo-uri", "mongodb://h"}, args...))
		return err
	},
}

func harmless(*testing.T, []string) error { return nil }

func isThere(_ *testing.T, args []string) error {
	_, err := os.Stat(filepath.Join(root, args[0]))
	return err
}

// goes looks for the packages of go run and go test, and for tests by their names.
func goes(t *testing.T, args []string) error {
	t.Helper()
	for i, arg := range args {
		if dir, ok := strings.CutPrefix(arg, "./"); ok {
			if err := isThere(t, []string{strings.TrimSuffix(dir, "...")}); err != nil && dir != "..." {
				return err
			}
		}
		if i > 0 && args[i-1] == "-run" {
			for name := range strings.SplitSeq(arg, "|") {
				found := false
				for _, text := range files(t, "", "_test.go") {
					found = found || strings.Contains(text, "func "+name)
				}
				if !found {
					return fmt.Errorf("no test is called %s", name)
				}
			}
		}
	}
	return nil
}

func makes(t *testing.T, args []string) error {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "Makefile"))
	for _, target := range args[1:] {
		if err == nil && !strings.Contains(string(text), "\n"+target+": ") {
			err = fmt.Errorf("no target %s", target)
		}
	}
	return err
}

// composes looks for the file, the services and the command within.
func composes(t *testing.T, args []string) error {
	t.Helper()
	at := slices.Index(args, "-f")
	if at < 0 {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(root, args[at+1]))
	if err != nil {
		return err
	}
	for i, arg := range args {
		if i > at+2 && !strings.HasPrefix(arg, "-") && slices.Contains([]string{"exec", "kill", "stop", "logs"}, args[at+2]) {
			if !strings.Contains(string(text), "\n  "+arg+":\n") {
				return fmt.Errorf("no service %s", arg)
			}
			break
		}
	}
	return within(t, args)
}

func asksKubernetes(t *testing.T, args []string) error {
	t.Helper()
	if at := slices.Index(args, "-k"); at >= 0 {
		if err := isThere(t, args[at+1:]); err != nil {
			return err
		}
	}
	return within(t, args)
}

// within parses a command that is typed in a container.
func within(t *testing.T, args []string) error {
	t.Helper()
	if at := slices.Index(args, "/watcher"); at >= 0 {
		_, err := parser(t).Parse(args[at+1:])
		return err
	}
	return nil
}

// asks looks for a page among those that are served.
func asks(t *testing.T, args []string) error {
	t.Helper()
	url := regexp.MustCompile(`^http://(?:HOST|127\.0\.0\.1:9090)(/\w*)`)
	for _, arg := range args {
		m := url.FindStringSubmatch(arg)
		if m == nil {
			continue
		}
		served := false
		for path, text := range files(t, "internal", ".go") {
			served = served || !strings.HasSuffix(path, "_test.go") && (strings.Contains(text, `"`+m[1]+`"`) || strings.Contains(text, ` `+m[1]+`"`))
		}
		if !served {
			return fmt.Errorf("nothing serves %s", m[1])
		}
	}
	return nil
}

// The configurations that docs/delivery.md shows can be used as they stand.
func TestDocumentedBotsCanPush(t *testing.T) {
	n := 0
	for _, b := range blocksOf("docs/delivery.md", files(t, "docs", "delivery.md")["docs/delivery.md"]) {
		if b.kind != "json" {
			continue
		}
		whole := `{"url": "https://crm.example.com", "key_mapper": {"a": "b"}, %q: %s}`
		var pushes []string
		switch {
		case strings.HasPrefix(b.text, "["):
			pushes = []string{fmt.Sprintf(whole, "retry_when", b.text)}
		case json.Valid([]byte(b.text)):
			pushes = []string{b.text}
		default: // a rule on each line
			for line := range strings.Lines(b.text) {
				pushes = append(pushes, fmt.Sprintf(whole, "success", line))
			}
		}
		for _, push := range pushes {
			n++
			bot := file(t, "bot.json", `{"_id": "b", "timezone": "UTC", "post_call_push": `+push+`}`)
			if stdout, stderr, code := invoke(t, "", "lint", "--bot", bot); code != 0 {
				t.Errorf("%s: exit %d, %s%s", push, code, stdout, stderr)
			}
		}
	}
	if n < 5 {
		t.Errorf("only %d were found", n)
	}
}

// Log lines in the guides have a message that is written, with keys that are written
// beside it; so has the answer of /readyz.
func TestDocumentedLogLines(t *testing.T) {
	var code strings.Builder
	for path, text := range files(t, "", ".go") {
		if !strings.HasSuffix(path, "_test.go") {
			code.WriteString(text)
		}
	}
	asText := regexp.MustCompile(`^level=\w+ msg="([^"]+)"|\s(\w+)=`)
	n := 0
	for _, path := range []string{"docs/observing.md", "docs/operations.md"} {
		for _, b := range blocksOf(path, files(t, "docs", ".md")[path]) {
			var words []string
			for line := range strings.Lines(b.text) {
				var fields map[string]any
				if err := json.Unmarshal([]byte(line), &fields); err == nil && fields["msg"] != nil {
					words = append(words, fields["msg"].(string))
					words = slices.AppendSeq(words, maps.Keys(fields))
				} else if strings.HasPrefix(line, "level=") {
					for _, m := range asText.FindAllStringSubmatch(line, -1) {
						words = append(words, m[1]+m[2])
					}
				}
			}
			var answer struct{ Checks map[string]string }
			if json.Unmarshal([]byte(b.text), &answer) == nil {
				words = slices.AppendSeq(words, maps.Keys(answer.Checks))
			}
			for _, w := range words {
				if n++; !slices.Contains([]string{"time", "level", "msg"}, w) && !strings.Contains(code.String(), `"`+w+`"`) {
					t.Errorf("%s shows %q, which nothing writes", path, w)
				}
			}
		}
	}
	if n < 30 {
		t.Errorf("only %d words were found", n)
	}
}
