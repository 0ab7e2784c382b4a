package dashboards_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cxbridge/watcher/dashboards"
)

var update = flag.Bool("update", false, "write the JSON files of the dashboards")

func keys[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }

func TestGenerated(t *testing.T) {
	for file, d := range dashboards.All() {
		want, err := d.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil { //nolint:gosec // a file of the project
				t.Fatal(err)
			}
		}
		if got := read(t, file); got != string(want) {
			t.Errorf("%s is not what the code makes; run go test ./dashboards -run TestGenerated -update", file)
		}
	}
}

// shape is what every dashboard file has to hold. Unknown fields are allowed:
// Grafana knows more.
type shape struct {
	UID, Title, Description string
	Templating              struct {
		List []struct{ Name, Type, Query string }
	}
	Links  []struct{ Title, URL string }
	Panels []struct {
		ID                       int
		Type, Title, Description string
		GridPos                  *struct{ H, W, X, Y int }
		Datasource               *struct{ Type, UID string }
		FieldConfig              struct{ Defaults struct{ Unit string } }
		Links                    []struct{ Title, URL string }
		Transformations          []transformation
		Targets                  []struct {
			RefID, Expr, LegendFormat string
			Datasource                struct{ UID string }
		}
	}
}

type transformation struct {
	Options struct{ RenameByName map[string]string }
}

// namesColumns reports whether the number and each label that a query groups by has
// a name for people.
func namesColumns(expr string, all []transformation) bool {
	labels := regexp.MustCompile(`sum by \(([^)]+)\)`).FindStringSubmatch(expr)
	if len(all) != 1 || labels == nil {
		return false
	}
	for _, label := range append(strings.Split(labels[1], ", "), "Value") {
		if all[0].Options.RenameByName[label] == "" {
			return false
		}
	}
	return true
}

func decode(t *testing.T, file string) shape {
	t.Helper()
	var s shape
	if err := json.NewDecoder(bytes.NewReader([]byte(read(t, file)))).Decode(&s); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return s
}

var (
	panelTypes = []string{"stat", "timeseries", "table"}
	units      = []string{"short", "s", "ops", "percentunit", "bool", "bytes", "none"}
	variable   = regexp.MustCompile(`\$\{?(\w+)`)
)

func TestPanels(t *testing.T) {
	for file := range dashboards.All() {
		s := decode(t, file)
		if s.UID == "" || s.Title == "" || s.Description == "" || len(s.Links) == 0 || len(s.Panels) == 0 {
			t.Errorf("%s lacks a part of its head", file)
		}
		if v := s.Templating.List[0]; v.Name != "datasource" || v.Type != "datasource" || v.Query != "prometheus" {
			t.Errorf("%s: the first variable is %+v, not the data source", file, v)
		}
		known := []string{"__rate_interval"}
		for _, v := range s.Templating.List {
			known = append(known, v.Name)
		}
		ids, taken := map[int]bool{}, map[[2]int]string{}
		for _, p := range s.Panels {
			at := file + ": " + p.Title
			if ids[p.ID] || p.ID == 0 || p.Title == "" {
				t.Errorf("%s: id %d is not unique, or there is no title", at, p.ID)
			}
			ids[p.ID] = true
			if p.GridPos == nil || p.GridPos.W < 1 || p.GridPos.H < 1 || p.GridPos.X < 0 || p.GridPos.X+p.GridPos.W > 24 {
				t.Fatalf("%s: place %+v", at, p.GridPos)
			}
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other := taken[[2]int{x, y}]; other != "" {
						t.Fatalf("%s lies over %s", at, other)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
			if p.Type == "row" {
				continue
			}
			if !slices.Contains(panelTypes, p.Type) || !slices.Contains(units, p.FieldConfig.Defaults.Unit) {
				t.Errorf("%s: type %q, unit %q", at, p.Type, p.FieldConfig.Defaults.Unit)
			}
			if !strings.HasSuffix(p.Description, ".") || len(p.Targets) == 0 {
				t.Errorf("%s: %d queries, description %q", at, len(p.Targets), p.Description)
			}
			if p.Datasource == nil || p.Datasource.UID != "${datasource}" {
				t.Errorf("%s: data source %+v", at, p.Datasource)
			}
			if p.Type == "table" && !namesColumns(p.Targets[0].Expr, p.Transformations) {
				t.Errorf("%s: a column has no name: %s", at, p.Targets[0].Expr)
			}
			refs := map[string]bool{}
			for _, q := range p.Targets {
				if q.RefID == "" || refs[q.RefID] || q.Datasource.UID != "${datasource}" {
					t.Errorf("%s: query %+v", at, q)
				}
				refs[q.RefID] = true
				if len(p.Targets) > 1 && q.LegendFormat == "" {
					t.Errorf("%s: query %s of several has no legend", at, q.RefID)
				}
				for _, v := range variable.FindAllStringSubmatch(q.Expr, -1) {
					if !slices.Contains(known, v[1]) {
						t.Errorf("%s: query %s uses $%s, which there is not", at, q.RefID, v[1])
					}
				}
				if !strings.Contains(q.Expr, "$namespace") || !strings.Contains(q.Expr, "$instance") {
					t.Errorf("%s: query %s does not follow the chosen namespace and instance", at, q.RefID)
				}
			}
		}
	}
}

func TestLinksLeadSomewhere(t *testing.T) {
	sections := headings(t)
	uids := map[string]bool{}
	for _, d := range dashboards.All() {
		uids["/d/"+d.UID] = true
	}
	check := func(at, url string) {
		anchor, isRunbook := strings.CutPrefix(url, dashboards.Runbook)
		switch {
		case !isRunbook && !uids[url]:
			t.Errorf("%s links to %s, which there is not", at, url)
		case isRunbook && anchor != "" && !sections[strings.TrimPrefix(anchor, "#")]:
			t.Errorf("%s links to section %s of the runbook, which there is not", at, anchor)
		}
	}
	for file := range dashboards.All() {
		s := decode(t, file)
		for _, l := range s.Links {
			check(file, l.URL)
		}
		for _, p := range s.Panels {
			for _, l := range p.Links {
				check(file+": "+p.Title, l.URL)
			}
		}
	}
	rules := read(t, "rules.yaml")
	alerts := regexp.MustCompile(`(?m)^ *- alert: (\S+)$`).FindAllStringSubmatch(rules, -1)
	urls := regexp.MustCompile(`(?m)^ *runbook_url: (\S+)$`).FindAllStringSubmatch(rules, -1)
	if len(alerts) == 0 || len(alerts) != len(urls) {
		t.Fatalf("%d alerts with %d links to the runbook", len(alerts), len(urls))
	}
	for i, a := range alerts {
		check("alert "+a[1], urls[i][1])
		if want := dashboards.Runbook + "#" + strings.ToLower(a[1]); urls[i][1] != want {
			t.Errorf("alert %s links to %s, want %s", a[1], urls[i][1], want)
		}
		delete(sections, strings.ToLower(a[1]))
	}
	for s := range sections {
		if strings.HasPrefix(s, "watcher") {
			t.Errorf("the runbook has a section %s, but there is no such alert", s)
		}
	}
}

func headings(t *testing.T) map[string]bool {
	t.Helper()
	sections := map[string]bool{}
	for _, h := range regexp.MustCompile(`(?m)^## (.+)$`).FindAllStringSubmatch(read(t, "RUNBOOK.md"), -1) {
		sections[strings.ReplaceAll(strings.ToLower(h[1]), " ", "-")] = true
	}
	return sections
}

// TestAlertsAreTested wants, for each alert, a case that fires and one that
// does not.
func TestAlertsAreTested(t *testing.T) {
	cases := regexp.MustCompile(`alertname: (\S+)\n *exp_alerts:( \[\])?`).FindAllStringSubmatch(read(t, "rules_test.yaml"), -1)
	fires, rests := map[string]bool{}, map[string]bool{}
	for _, c := range cases {
		if c[2] == "" {
			fires[c[1]] = true
		} else {
			rests[c[1]] = true
		}
	}
	for _, a := range regexp.MustCompile(`(?m)^ *- alert: (\S+)$`).FindAllStringSubmatch(read(t, "rules.yaml"), -1) {
		if !fires[a[1]] || !rests[a[1]] {
			t.Errorf("alert %s: a case that fires: %v, one that must not: %v", a[1], fires[a[1]], rests[a[1]])
		}
	}
}

// TestTheRunbookTypesWhatExists looks for each subcommand that the runbook names
// where it is written, one file each, and for its flags beside it and among the
// settings.
func TestTheRunbookTypesWhatExists(t *testing.T) {
	sources, err := filepath.Glob("../cmd/watcher/*.go")
	if err != nil || len(sources) == 0 {
		t.Fatalf("no sources of the commands: %v", err)
	}
	var all strings.Builder
	for _, file := range append(sources, "../internal/config/config.go") {
		all.WriteString(read(t, file))
	}
	blocks := regexp.MustCompile("(?s)```sh\n.*?\n```").FindAllString(read(t, "RUNBOOK.md"), -1)
	commands := regexp.MustCompile(`(?m)^watcher (\w+)(.*)$`).FindAllStringSubmatch(strings.Join(blocks, "\n"), -1)
	if len(commands) == 0 {
		t.Fatal("the runbook has no command to type")
	}
	for _, c := range commands {
		if !slices.Contains(sources, "../cmd/watcher/"+c[1]+".go") {
			t.Errorf("there is no command watcher %s", c[1])
		}
		for _, flag := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(c[2], -1) {
			field := regexp.MustCompile(`(?im)^\s+` + strings.ReplaceAll(flag[1], "-", "") + "\\s+\\S+\\s+`") // a field with a tag
			if !field.MatchString(all.String()) {
				t.Errorf("no command has the flag --%s", flag[1])
			}
		}
	}
}
