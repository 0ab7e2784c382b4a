package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
)

// The README's table of flags is made from the flags themselves. Run the test
// with WATCHER_UPDATE=1 to write it anew.
func TestTheReadmeListsTheFlags(t *testing.T) {
	const file, begin, end = "../../README.md", "<!-- flags -->\n", "<!-- /flags -->\n"
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(raw), begin)
	table, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no %q and %q", file, begin, end)
	}
	want := flagTable(t)
	if table == want {
		return
	}
	if os.Getenv("WATCHER_UPDATE") == "" {
		t.Fatalf("the table is not that of the flags; want:\n%s", want)
	}
	if err := os.WriteFile(file, []byte(head+begin+want+end+tail), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The tree in the design has a line for each package.
func TestTheDesignNamesEveryPackage(t *testing.T) {
	design, err := os.ReadFile("../../docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"cmd", "pkg", "internal"} {
		packages, err := os.ReadDir(filepath.Join("../..", dir))
		if err != nil || len(packages) == 0 {
			t.Fatalf("%s holds %d packages, %v", dir, len(packages), err)
		}
		for _, p := range packages {
			if line := "\n    " + dir + "/" + p.Name() + "/ "; !strings.Contains(string(design), line) {
				t.Errorf("docs/design.md has no line of %s/%s", dir, p.Name())
			}
		}
	}
}

func TestTheReadmeLinksToWhatIsThere(t *testing.T) {
	raw, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	links := regexp.MustCompile(`\]\(([^)#]+)`).FindAllStringSubmatch(string(raw), -1)
	if len(links) == 0 {
		t.Fatal("no links were found")
	}
	for _, link := range links {
		if _, err := os.Stat(filepath.Join("../..", link[1])); err != nil && !strings.Contains(link[1], "://") {
			t.Errorf("README.md links to %s: %v", link[1], err)
		}
	}
}

// flagTable is the flags of watcher run as Markdown, grouped as in the help.
func flagTable(t *testing.T) string {
	t.Helper()
	parser, err := kong.New(&commands{}, kong.ExplicitGroups(flagGroups), config.Options())
	if err != nil {
		t.Fatal(err)
	}
	var run *kong.Node
	for _, n := range parser.Model.Children {
		if n.Name == "run" {
			run = n
		}
	}
	var b strings.Builder
	b.WriteString("| flag | variable | default | meaning |\n|---|---|---|---|\n")
	for _, group := range flagGroups {
		for _, f := range run.Flags {
			if f.Group == nil || f.Group.Key != group.Key {
				continue
			}
			def := ""
			if f.Default != "" {
				def = "`" + f.Default + "`"
			}
			fmt.Fprintf(&b, "| `--%s` | `%s` | %s | %s |\n", f.Name, cli.EnvName("watcher", f.Name), def, strings.ReplaceAll(f.Help, "|", `\|`))
		}
	}
	return b.String()
}
