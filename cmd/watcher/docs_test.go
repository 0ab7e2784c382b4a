package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/dispatch"
)

const root = "../.."

// files are the text files of the repository below a directory that end so, by
// their path from the root.
func files(t *testing.T, below string, endings ...string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(filepath.Join(root, below), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata" || d.Name() == "bin") {
			return fs.SkipDir
		}
		if d.IsDir() || !slices.ContainsFunc(endings, func(e string) bool { return strings.HasSuffix(path, e) }) {
			return nil
		}
		text, err := os.ReadFile(path)
		all[filepath.ToSlash(strings.TrimPrefix(path, root+string(filepath.Separator)))] = string(text)
		return err
	})
	if err != nil || len(all) == 0 {
		t.Fatalf("%d files below %q, %v", len(all), below, err)
	}
	return all
}

// docs/configuration.md is made from the flags. Run with -update to write it anew.
func TestConfigurationListsTheFlags(t *testing.T) {
	const file = root + "/docs/configuration.md"
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := between(t, string(raw), "flags of run", tableOfRun(t))
	text = between(t, text, "flags of the commands", tablesOfCommands(t))
	if *updateGolden {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	} else if text != string(raw) {
		t.Errorf("%s is not made from the flags as they are; run with -update", file)
	}
}

// between puts a text between the two comments of a name.
func between(t *testing.T, document, name, text string) string {
	t.Helper()
	head, rest, ok := strings.Cut(document, "<!-- "+name+" -->\n")
	_, tail, closed := strings.Cut(rest, "<!-- end of "+name+" -->")
	if !ok || !closed {
		t.Fatalf("no place for the %s", name)
	}
	return head + "<!-- " + name + " -->\n" + text + "<!-- end of " + name + " -->" + tail
}

// tableOfRun is the flags of watcher run, grouped as in the help.
func tableOfRun(t *testing.T) string {
	t.Helper()
	run := command(t, "run")
	var b strings.Builder
	for _, group := range flagGroups {
		var rows []*kong.Flag
		for _, f := range run.Flags {
			if f.Group != nil && f.Group.Key == group.Key {
				rows = append(rows, f)
			}
		}
		if len(rows) > 0 {
			fmt.Fprintf(&b, "\n### %s\n\n| flag | variable | default | meaning |\n|---|---|---|---|\n", strings.TrimSuffix(group.Title, ":"))
			for _, f := range rows {
				fmt.Fprintf(&b, "| `--%s` | `%s` | %s | %s |\n", f.Name, cli.EnvName("watcher", f.Name), defaultOf(f), meaning(f))
			}
		}
	}
	return b.String() + "\n"
}

// tablesOfCommands is the flags of the others that run does not have.
func tablesOfCommands(t *testing.T) string {
	t.Helper()
	known := map[string]bool{}
	for _, f := range command(t, "run").Flags {
		known[f.Name] = true
	}
	var b strings.Builder
	for _, leaf := range model(t).Leaves(true) {
		if leaf.Name == "run" {
			continue
		}
		rows := slices.DeleteFunc(slices.Clone(leaf.Flags), func(f *kong.Flag) bool { return f.Hidden || known[f.Name] })
		fmt.Fprintf(&b, "\n### watcher %s\n\n%s\n", leaf.Path(), leaf.Help)
		if len(rows) > 0 {
			b.WriteString("\n| flag | default | meaning |\n|---|---|---|\n")
			for _, f := range rows {
				fmt.Fprintf(&b, "| `--%s` | %s | %s |\n", f.Name, defaultOf(f), meaning(f))
			}
		}
	}
	return b.String() + "\n"
}

func defaultOf(f *kong.Flag) string {
	if f.Default == "" {
		return ""
	}
	return "`" + f.Default + "`"
}

// meaning is the help of a flag in the cell of a table.
func meaning(f *kong.Flag) string { return strings.ReplaceAll(f.Help, "|", `\|`) }

// model is the command line as kong sees it.
func model(t *testing.T) *kong.Application {
	t.Helper()
	return parser(t).Model
}

func parser(t *testing.T) *kong.Kong {
	t.Helper()
	p, err := kong.New(&commands{}, kong.ExplicitGroups(flagGroups), config.Options(), kong.Exit(func(int) {}), kong.Writers(&bytes.Buffer{}, &bytes.Buffer{}))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// command is one subcommand.
func command(t *testing.T, name string) *kong.Node {
	t.Helper()
	for _, n := range model(t).Children {
		if n.Name == name {
			return n
		}
	}
	t.Fatalf("no command %s", name)
	return nil
}

// The tree in the design has a line for each package.
func TestTheDesignNamesEveryPackage(t *testing.T) {
	design := files(t, "docs", "design.md")["docs/design.md"]
	for _, dir := range []string{"cmd", "pkg", "internal"} {
		packages, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil || len(packages) == 0 {
			t.Fatalf("%s holds %d packages, %v", dir, len(packages), err)
		}
		for _, p := range packages {
			if line := "\n    " + dir + "/" + p.Name() + "/ "; !strings.Contains(design, line) {
				t.Errorf("docs/design.md has no line of %s/%s", dir, p.Name())
			}
		}
	}
}

var (
	fences   = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	inline   = regexp.MustCompile("`[^`\n]*`")
	links    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headings = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	noAnchor = regexp.MustCompile(`[^\p{L}\p{N}_\- ]`)
)

// Each link in a document leads to a file of the repository, and to a heading of it.
func TestDocumentsLinkToWhatIsThere(t *testing.T) {
	documents := files(t, "", ".md")
	for path, text := range documents {
		for _, link := range links.FindAllStringSubmatch(inline.ReplaceAllString(fences.ReplaceAllString(text, ""), ""), -1) {
			target, anchor, _ := strings.Cut(link[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			to := path
			if target != "" {
				to = filepath.ToSlash(filepath.Join(filepath.Dir(path), target))
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s links to %s: %v", path, link[1], err)
			} else if anchor != "" && !slices.Contains(anchors(documents[to]), anchor) {
				t.Errorf("%s links to %s, which has no such heading", path, link[1])
			}
		}
	}
}

// anchors are those that code hosts give to headings.
func anchors(text string) (all []string) {
	for _, h := range headings.FindAllStringSubmatch(fences.ReplaceAllString(text, ""), -1) {
		a := strings.ReplaceAll(noAnchor.ReplaceAllString(strings.ToLower(strings.TrimSpace(h[1])), ""), " ", "-")
		for n, first := 1, a; slices.Contains(all, a); n++ {
			a = fmt.Sprintf("%s-%d", first, n)
		}
		all = append(all, a)
	}
	return all
}

// written finds the commands with flags in the text.
var written = regexp.MustCompile("`watcher ([a-z]+ [^`]*--[^`]*)`")

// Each command in a text is one that the command line takes; TestEachBlockIsChecked looks
// at those in blocks.
func TestDocumentsNameCommandsThatAreThere(t *testing.T) {
	n := 0
	for path, text := range files(t, "", ".md") {
		for _, m := range written.FindAllStringSubmatch(text, -1) {
			n++
			if _, err := parser(t).Parse(words(m[1])); err != nil { // a parser that has parsed knows no default any more
				t.Errorf("%s: watcher %s: %v", path, m[1], err)
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d commands were found", n)
	}
}

// words splits a line as a shell does, as far as documents go. A file that a flag
// reads is not there, so its flag is left out.
func words(line string) (args []string) {
	line, _, _ = strings.Cut(strings.ReplaceAll(line, "\\\n", " "), " #")
	for _, w := range regexp.MustCompile(`'[^']*'|"[^"]*"|\S+`).FindAllString(line, -1) {
		switch {
		case w == "|" || w == ">" || w == "&&" || w == "2>&1":
			return args
		case strings.HasPrefix(w, "--mongo-uri-file="):
		case len(args) > 0 && args[len(args)-1] == "--mongo-uri-file":
			args = args[:len(args)-1]
		default:
			args = append(args, strings.Trim(w, `'"`))
		}
	}
	return args
}

// What the guides quote of logs, errors and pages is what the code says.
func TestGuidesQuoteWhatIsSaid(t *testing.T) {
	var code strings.Builder
	for path, text := range files(t, "", ".go", ".html") {
		if !strings.HasSuffix(path, "_test.go") {
			code.WriteString(text)
		}
	}
	n := 0
	for _, name := range []string{"troubleshooting.md", "guarantees.md", "upgrade.md", "progress.md"} {
		for _, m := range regexp.MustCompile("`([a-z]+(?: [a-z]+){2,})`").FindAllStringSubmatch(files(t, "docs", name)["docs/"+name], -1) {
			if n++; !strings.HasPrefix(m[1], "watcher ") && !strings.Contains(code.String(), m[1]) {
				t.Errorf("docs/%s quotes %q, which nothing says", name, m[1])
			}
		}
	}
	if n < 5 {
		t.Errorf("only %d quotations were found", n)
	}
}

// Each reason for which nothing is pushed has a line that says what to do.
func TestTroubleshootingKnowsEveryReason(t *testing.T) {
	guide := files(t, "docs", "troubleshooting.md")["docs/troubleshooting.md"]
	for _, reason := range []dispatch.Reason{
		dispatch.ReasonNoConfig, dispatch.ReasonDisabled, dispatch.ReasonSkipFlag, dispatch.ReasonAgentCall, dispatch.ReasonNoResult,
	} {
		if !strings.Contains(guide, "`"+reason.String()+"`") {
			t.Errorf("docs/troubleshooting.md has no line of %s", reason)
		}
	}
}
