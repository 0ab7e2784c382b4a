package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
)

// manifests are the files that a machine reads.
func manifests(t *testing.T) map[string]string {
	t.Helper()
	return files(t, "deploy", ".yaml", ".yml", ".env", ".service")
}

// everywhere is what a person or a machine reads.
func everywhere(t *testing.T) map[string]string {
	t.Helper()
	all := files(t, "", ".md")
	maps.Copy(all, manifests(t))
	maps.Copy(all, files(t, ".github", ".yaml", ".yml"))
	return all
}

// Each command that reads the database takes its name from the connection string, also
// from one in a file.
func TestEachCommandKnowsItsDatabase(t *testing.T) {
	uri := file(t, "uri", "mongodb://h.example/named\n")
	n, parse := 0, parser(t)
	for _, leaf := range parse.Model.Leaves(false) {
		if !slices.ContainsFunc(leaf.Flags, func(f *kong.Flag) bool { return f.Name == "mongo-uri-file" }) {
			continue
		}
		args := append(strings.Fields(leaf.Path()), "--mongo-uri-file", uri)
		for range leaf.Positional {
			args = append(args, "x")
		}
		parsed, err := parse.Parse(args)
		if err != nil {
			t.Errorf("%v: %v", args, err)
			continue
		}
		n++
		for _, f := range parsed.Selected().Flags {
			if f.Name == "database" && f.Target.String() != "named" {
				t.Errorf("%v: the database is %q", args, f.Target.String())
			}
		}
	}
	if n < 10 {
		t.Errorf("only %d commands", n)
	}
}

// Each variable that is named anywhere is that of a flag.
func TestVariablesThatAreNamedAreThere(t *testing.T) {
	known := map[string]bool{}
	for _, leaf := range model(t).Leaves(false) {
		of := "watcher-" + strings.ReplaceAll(leaf.Path(), " ", "-")
		for _, f := range leaf.Flags {
			known[cli.EnvName("watcher", f.Name)] = true
			known[cli.EnvName(of, f.Name)] = true
		}
	}
	ofTests := regexp.MustCompile(`^WATCHER_(TEST|CHAOS|ABUSE)_`)
	ofKubernetes := []string{"WATCHER_SERVICE_HOST", "WATCHER_PORT"}
	for path, text := range everywhere(t) {
		for _, v := range regexp.MustCompile(`WATCHER_[A-Z_]*[A-Z]`).FindAllString(text, -1) {
			if !known[v] && !ofTests.MatchString(v) && !slices.Contains(ofKubernetes, v) {
				t.Errorf("%s names %s, which nothing reads", path, v)
			}
		}
	}
}

// Each metric that is named anywhere is in the table that is made from a watcher at work.
func TestMetricsThatAreNamedAreThere(t *testing.T) {
	documents := everywhere(t)
	table := documents["dashboards/README.md"]
	name := regexp.MustCompile(`\bwatcher_[a-z]+_[a-z0-9_]*[a-z0-9]`)
	series := regexp.MustCompile(`_(bucket|sum|count)$`)
	for path, text := range documents {
		for _, m := range name.FindAllString(text, -1) {
			if !strings.Contains(table, "| `"+series.ReplaceAllString(m, "")+"` |") && !strings.Contains(table, "| `"+m+"` |") {
				t.Errorf("%s names the metric %s, which nothing serves", path, m)
			}
		}
	}
}

// The settings in the manifests can be used, all those of one file together.
func TestSettingsInManifestsCanBeUsed(t *testing.T) {
	setting := regexp.MustCompile(`(?m)^\s*(?:- )?(WATCHER_[A-Z_]+)[=:] *"?([^"\n]*)"?$`)
	argument := regexp.MustCompile(`[[ ](--[a-z-]+=[^],\s]+)`)
	for path, text := range manifests(t) {
		env := map[string]string{"WATCHER_MONGO_URI": "mongodb://h"}
		for _, m := range setting.FindAllStringSubmatch(text, -1) {
			env[m[1]] = m[2]
		}
		var args []string
		for line := range strings.Lines(text) {
			if !strings.Contains(line, "args: [run,") && !strings.HasPrefix(line, "ExecStart=/usr/local/bin/watcher run ") {
				continue
			}
			for _, m := range argument.FindAllStringSubmatch(line, -1) {
				if !strings.HasPrefix(m[1], "--mongo-uri-file=") { // not on this machine
					args = append(args, m[1])
				}
			}
		}
		if _, err := parseRunWith(t, env, args...); err != nil {
			t.Errorf("%s with %v and %v: %v", path, env, args, err)
		}
	}
}

// A stop is given more time than the watcher takes for it, and the port is its own.
func TestManifestsAllowForTheDefaults(t *testing.T) {
	c := config.Default()
	graces := regexp.MustCompile(`(?:terminationGracePeriodSeconds: |TimeoutStopSec=|stop_grace_period: )(\d+)`)
	ports := regexp.MustCompile(`containerPort: (\d+)|"127\.0\.0\.1:9090:(\d+)"|--listen=127\.0\.0\.1:(\d+)`)
	stops, listens := 0, 0
	for path, text := range manifests(t) {
		for _, m := range graces.FindAllStringSubmatch(text, -1) {
			stops++
			if d, err := time.ParseDuration(m[1] + "s"); err != nil || d < c.ShutdownGrace+10*time.Second {
				t.Errorf("%s: a stop is given %s s, --shutdown-grace is %v", path, m[1], c.ShutdownGrace)
			}
		}
		for _, m := range ports.FindAllStringSubmatch(text, -1) {
			listens++
			if port := ":" + m[1] + m[2] + m[3]; port != c.Listen {
				t.Errorf("%s: port %s, --listen is %s", path, port, c.Listen)
			}
		}
	}
	if stops < 4 || listens < 4 {
		t.Errorf("found %d grace periods and %d ports", stops, listens)
	}
}

// Probes and scrapes ask for paths that are served.
func TestPathsInManifestsAreServed(t *testing.T) {
	var paths []string
	for _, text := range manifests(t) {
		for _, m := range regexp.MustCompile(`path: (/[a-z]+)[,}\s]`).FindAllStringSubmatch(text, -1) {
			paths = append(paths, m[1])
		}
	}
	slices.Sort(paths)
	if got := slices.Compact(paths); !slices.Equal(got, []string{"/livez", "/metrics", "/readyz"}) {
		t.Errorf("%v", got)
	}
}

// What a manifest takes from the repository is there.
func TestFilesThatManifestsNameAreThere(t *testing.T) {
	n := 0
	for path, text := range manifests(t) {
		if filepath.Base(path) != "compose.yaml" {
			continue
		}
		for _, m := range regexp.MustCompile(`- (\.\.?/[^:\s]+):`).FindAllStringSubmatch(text, -1) {
			n++
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	if n == 0 {
		t.Error("no files were found")
	}
}
