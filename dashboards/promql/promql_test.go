// Package promql_test parses every expression of the dashboards and rules with
// Prometheus' own parser, and compares names, labels and label values with the
// table of metrics in README.md, which a test of the watcher holds to the truth.
//
// It is a module of its own, so that the parser's requirements stay out of the
// watcher's.
package promql_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"gopkg.in/yaml.v3"
)

// expression is a PromQL text and where it stands.
type expression struct{ at, text string }

// grafana replaces what Grafana replaces.
var grafana = strings.NewReplacer("$__rate_interval", "5m", "$namespace", ".*", "$instance", ".*", "$bot", ".*", "$host", ".*")

var labelValues = regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)

func panels(t *testing.T) []expression {
	t.Helper()
	files, err := filepath.Glob("../*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	var all []expression
	for _, file := range files {
		var d struct {
			Templating struct {
				List []struct{ Name, Type, Query string }
			}
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal(read(t, file), &d); err != nil {
			t.Fatal(err)
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				all = append(all, expression{filepath.Base(file) + ": " + p.Title, grafana.Replace(q.Expr)})
			}
		}
		for _, v := range d.Templating.List {
			if v.Type != "query" {
				continue
			}
			m := labelValues.FindStringSubmatch(v.Query)
			if m == nil {
				t.Errorf("%s: $%s is no label_values: %s", file, v.Name, v.Query)
				continue
			}
			// The label has to exist too: group by it.
			text := "sum by (" + m[2] + ") (" + grafana.Replace(m[1]) + ")"
			all = append(all, expression{filepath.Base(file) + ": $" + v.Name, text})
		}
	}
	return all
}

type ruleFile struct {
	Groups []struct {
		Rules []struct{ Record, Alert, Expr string }
	}
}

func rules(t *testing.T) ruleFile {
	t.Helper()
	var f ruleFile
	if err := yaml.Unmarshal(read(t, "../rules.yaml"), &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// metric is a row of README.md: its type, and its labels with their values;
// no values means that any may come.
type metric struct {
	kind   string
	labels map[string][]string
}

var (
	rowText   = regexp.MustCompile("(?m)^\\| `(watcher_\\w+)` \\| (\\w+) \\| ([^|]*) \\|")
	labelText = regexp.MustCompile("`(\\w+)`(?:: ([^;]+))?")
)

// known are the metrics that exist: the watcher's, those of Go and the process
// that the dashboards use, and what the rules record.
func known(t *testing.T) map[string]metric {
	t.Helper()
	all := map[string]metric{
		"process_cpu_seconds_total":     {kind: "counter"},
		"process_resident_memory_bytes": {kind: "gauge"},
		"go_goroutines":                 {kind: "gauge"},
	}
	for _, row := range rowText.FindAllStringSubmatch(string(read(t, "../README.md")), -1) {
		m := metric{kind: row[2], labels: map[string][]string{}}
		for _, l := range labelText.FindAllStringSubmatch(row[3], -1) {
			m.labels[l[1]] = nil
			if l[2] != "" {
				m.labels[l[1]] = strings.Split(strings.TrimSpace(l[2]), ", ")
			}
		}
		if m.kind == "histogram" {
			all[row[1]+"_bucket"], all[row[1]+"_sum"], all[row[1]+"_count"] = m.with("le"), m, m
			continue
		}
		all[row[1]] = m
	}
	if len(all) < 10 {
		t.Fatal("README.md lists no metrics")
	}
	for _, g := range rules(t).Groups {
		for _, r := range g.Rules {
			if r.Record != "" {
				all[r.Record] = metric{kind: "recorded"}
			}
		}
	}
	return all
}

func (m metric) with(label string) metric {
	labels := map[string][]string{label: nil}
	for k, v := range m.labels {
		labels[k] = v
	}
	return metric{m.kind, labels}
}

// scraped are the labels that Prometheus adds to every metric.
var scraped = []string{"__name__", "namespace", "instance", "job", "pod"}

func TestExpressions(t *testing.T) {
	metrics := known(t)
	all := panels(t)
	for _, g := range rules(t).Groups {
		for _, r := range g.Rules {
			all = append(all, expression{"rule " + r.Record + r.Alert, r.Expr})
		}
	}
	for _, e := range all {
		expr, err := parser.ParseExpr(e.text)
		if err != nil {
			t.Errorf("%s: %v\n%s", e.at, err, e.text)
			continue
		}
		check(t, e.at, expr, metrics)
	}
}

// reporter is what a check tells of faults.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
}

func check(t reporter, at string, expr parser.Expr, metrics map[string]metric) {
	t.Helper()
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			m, ok := metrics[n.Name]
			if !ok {
				t.Errorf("%s: there is no metric %q", at, n.Name)
				return nil
			}
			for _, l := range n.LabelMatchers {
				matcher(t, at+": "+n.Name, l, m)
			}
		case *parser.AggregateExpr:
			grouping(t, at, n, metrics)
		case *parser.Call:
			if n.Func.Name != "rate" && n.Func.Name != "increase" {
				return nil
			}
			for _, s := range selectors(n) {
				if k := metrics[s.Name].kind; k != "counter" && k != "histogram" {
					t.Errorf("%s: %s of the %s %s", at, n.Func.Name, k, s.Name)
				}
			}
		}
		return nil
	})
}

// matcher wants a label that the metric has, and values that it can have.
func matcher(t reporter, at string, l *labels.Matcher, m metric) {
	t.Helper()
	if slices.Contains(scraped, l.Name) || m.kind == "recorded" {
		return
	}
	values, ok := m.labels[l.Name]
	if !ok {
		t.Errorf("%s has no label %s", at, l.Name)
		return
	}
	if values == nil {
		return
	}
	alternatives := []string{l.Value}
	if l.Type == labels.MatchRegexp || l.Type == labels.MatchNotRegexp {
		alternatives = strings.Split(l.Value, "|")
	}
	for _, a := range alternatives {
		exact := regexp.MustCompile("^(?:" + a + ")$")
		if !slices.ContainsFunc(values, exact.MatchString) {
			t.Errorf("%s: label %s is never %q, only %v", at, l.Name, a, values)
		}
	}
}

// grouping wants labels that something below the aggregation has.
func grouping(t reporter, at string, n *parser.AggregateExpr, metrics map[string]metric) {
	t.Helper()
	for _, label := range n.Grouping {
		has := slices.Contains(scraped, label)
		for _, s := range selectors(n.Expr) {
			m := metrics[s.Name]
			_, ok := m.labels[label]
			has = has || ok || m.kind == "recorded"
		}
		if !has {
			t.Errorf("%s: grouped by %s, which nothing there has", at, label)
		}
	}
}

func selectors(node parser.Node) []*parser.VectorSelector {
	var all []*parser.VectorSelector
	parser.Inspect(node, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			all = append(all, s)
		}
		return nil
	})
	return all
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// faults counts what a check reports.
type faults int

func (f *faults) Helper()               {}
func (f *faults) Errorf(string, ...any) { *f++ }

// TestTheCheckFindsFaults keeps the check itself honest.
func TestTheCheckFindsFaults(t *testing.T) {
	metrics := map[string]metric{
		"a_total": {kind: "counter", labels: map[string][]string{"class": {"ok", "busy"}}},
		"b":       {kind: "gauge"},
	}
	for text, faulty := range map[string]bool{
		`sum by (class) (rate(a_total{class=~"ok|busy", namespace="x"}[5m]))`: false,
		`c`:                        true,
		`a_total{klass="ok"}`:      true,
		`a_total{class="late"}`:    true,
		`a_total{class!~"ok|bzy"}`: true,
		`rate(b[5m])`:              true,
		`sum by (class) (b)`:       true,
	} {
		expr, err := parser.ParseExpr(text)
		if err != nil {
			t.Fatal(err)
		}
		var found faults
		check(&found, text, expr, metrics)
		if (found > 0) != faulty {
			t.Errorf("%s: %d faults found, faulty: %v", text, found, faulty)
		}
	}
}
