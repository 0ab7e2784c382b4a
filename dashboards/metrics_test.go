package dashboards_test

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/cxbridge/watcher/dashboards"
)

// gather returns all that a watcher at work exposes itself.
func gather(t *testing.T, g prometheus.Gatherer) []*dto.MetricFamily {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(families, func(f *dto.MetricFamily) bool {
		return !strings.HasPrefix(f.GetName(), "watcher_") // Go's runtime and the process
	})
}

// open are the labels whose values depend on what runs where.
var open = []string{"bot_id", "goversion", "host", "partition", "revision", "version"}

// row is a family in the table of README.md, with the values of its labels.
func row(f *dto.MetricFamily) string {
	values := make(map[string][]string)
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			values[l.GetName()] = append(values[l.GetName()], l.GetValue())
		}
	}
	var labels []string
	for _, name := range slices.Sorted(keys(values)) {
		text := "`" + name + "`"
		if !slices.Contains(open, name) {
			slices.Sort(values[name])
			text += ": " + strings.Join(slices.Compact(values[name]), ", ")
		}
		labels = append(labels, text)
	}
	return fmt.Sprintf("| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()),
		strings.Join(labels, "; "), f.GetHelp())
}

const (
	tableBegin = "<!-- metrics -->\n"
	tableEnd   = "<!-- end of metrics -->\n"
)

// TestReadmeListsEveryMetric compares the table with a watcher at work.
func TestReadmeListsEveryMetric(t *testing.T) {
	s := startSite(t)
	var table strings.Builder
	table.WriteString("\n| Metric | Type | Labels | Meaning |\n| --- | --- | --- | --- |\n")
	for _, f := range gather(t, s.Gatherer()) {
		table.WriteString(row(f))
	}
	table.WriteString("\n")
	text := read(t, "README.md")
	head, rest, ok := strings.Cut(text, tableBegin)
	got, tail, ended := strings.Cut(rest, tableEnd)
	if !ok || !ended {
		t.Fatal("README.md has no table of metrics between its marks")
	}
	if *update {
		text = head + tableBegin + table.String() + tableEnd + tail
		if err := os.WriteFile("README.md", []byte(text), 0o644); err != nil { //nolint:gosec // a file of the project
			t.Fatal(err)
		}
		return
	}
	want := strings.Split(table.String(), "\n")
	have := strings.Split(got, "\n")
	for _, line := range want {
		if !slices.Contains(have, line) {
			t.Errorf("README.md lacks\n%s", line)
		}
	}
	for _, line := range have {
		if !slices.Contains(want, line) {
			t.Errorf("README.md says, and it is not so\n%s", line)
		}
	}
	if t.Failed() {
		t.Log("go test ./dashboards -run TestReadme -update writes the table")
	}
}

// listed are the names of the metrics in README.md.
func listed(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(watcher_\\w+)` \\|").FindAllStringSubmatch(read(t, "README.md"), -1) {
		names = append(names, m[1])
	}
	if len(names) == 0 {
		t.Fatal("README.md lists no metric")
	}
	return names
}

func TestMetricsAreWellMade(t *testing.T) {
	s := startSite(t)
	s.settle(t, 1)
	problems, err := testutil.GatherAndLint(s.Gatherer())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

var (
	metricName = regexp.MustCompile(`\bwatcher[_:][a-zA-Z0-9_:]+`)
	recordName = regexp.MustCompile(`(?m)^ *- record: (\S+)$`)
	suffix     = regexp.MustCompile(`_(bucket|count|sum)$`)
)

// TestNamesExist is the cheap half of the check of all expressions; the module
// in promql parses them and looks at labels too.
func TestNamesExist(t *testing.T) {
	known := make(map[string]bool)
	for _, name := range listed(t) {
		known[name] = true
	}
	rules := read(t, "rules.yaml")
	for _, r := range recordName.FindAllStringSubmatch(rules, -1) {
		known[r[1]] = true
	}
	texts := map[string]string{"rules.yaml": rules}
	for file := range dashboards.All() {
		texts[file] = read(t, file)
	}
	for file, text := range texts {
		for _, name := range metricName.FindAllString(text, -1) {
			if !known[name] && !known[suffix.ReplaceAllString(name, "")] {
				t.Errorf("%s names %s, which does not exist", file, name)
			}
		}
	}
	used := texts["rules.yaml"] + texts["overview.json"] + texts["delivery.json"]
	for _, name := range slices.SortedFunc(keys(known), cmp.Compare) {
		if !strings.Contains(used, name) {
			t.Errorf("%s is on no dashboard and in no rule", name)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
