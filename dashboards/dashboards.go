// Package dashboards is the Grafana dashboards of the watcher as code, beside
// its Prometheus rules and the runbook.
//
// It owns what an operator looks at; the JSON files are made from it by
// `go test ./dashboards -run TestGenerated -update`. It does not own the
// metrics: each package has its own, and README.md lists them. Nothing of it is
// part of the program.
package dashboards

import (
	"encoding/json"
	"fmt"
)

// Dashboard is one dashboard in Grafana's JSON model, as far as it is used here.
type Dashboard struct {
	UID           string     `json:"uid"`
	Title         string     `json:"title"`
	Description   string     `json:"description"`
	Tags          []string   `json:"tags"`
	SchemaVersion int        `json:"schemaVersion"`
	Editable      bool       `json:"editable"`
	Refresh       string     `json:"refresh"`
	Time          timeRange  `json:"time"`
	Timezone      string     `json:"timezone"`
	GraphTooltip  int        `json:"graphTooltip"`
	Annotations   listed     `json:"annotations"`
	Links         []Link     `json:"links"`
	Templating    templating `json:"templating"`
	Panels        []Panel    `json:"panels"`
}

type timeRange struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// listed is a list that stays empty here, and that Grafana wants to be there.
type listed struct {
	List []any `json:"list"`
}

// Link leads from a dashboard or a panel to a page. Grafana wants each of its fields.
type Link struct {
	Title       string   `json:"title"`
	Type        string   `json:"type"` // always link
	Icon        string   `json:"icon"`
	Tooltip     string   `json:"tooltip"`
	URL         string   `json:"url"`
	Tags        []string `json:"tags"`
	AsDropdown  bool     `json:"asDropdown"`
	KeepTime    bool     `json:"keepTime"`
	IncludeVars bool     `json:"includeVars"`
	TargetBlank bool     `json:"targetBlank"`
}

func link(title, url string) Link {
	return Link{Title: title, Type: "link", URL: url, Tags: []string{}}
}

type templating struct {
	List []Variable `json:"list"`
}

// Variable is a choice at the top of a dashboard.
type Variable struct {
	Name       string  `json:"name"`
	Label      string  `json:"label"`
	Type       string  `json:"type"`
	Query      string  `json:"query"`
	Datasource *Source `json:"datasource,omitempty"`
	Multi      bool    `json:"multi"`
	IncludeAll bool    `json:"includeAll"`
	AllValue   string  `json:"allValue,omitempty"`
	Refresh    int     `json:"refresh"`
	Sort       int     `json:"sort,omitempty"`
}

// Source is the data source of a panel.
type Source struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

// Grid is the place of a panel: 24 columns, rows of 30 pixels.
type Grid struct {
	H int `json:"h"`
	W int `json:"w"`
	X int `json:"x"`
	Y int `json:"y"`
}

// Panel is one picture, or a heading (type row).
type Panel struct {
	ID          int            `json:"id"`
	Type        string         `json:"type"`
	Title       string         `json:"title"`
	Description string         `json:"description,omitempty"`
	GridPos     Grid           `json:"gridPos"`
	Datasource  *Source        `json:"datasource,omitempty"`
	Targets     []Target       `json:"targets,omitempty"`
	FieldConfig *fieldConfig   `json:"fieldConfig,omitempty"`
	Options     map[string]any `json:"options,omitempty"`
	// Transformations change what the queries found before it is shown.
	Transformations []transformation `json:"transformations,omitempty"`
	Links           []Link           `json:"links,omitempty"`
	// A row alone has these.
	Collapsed *bool    `json:"collapsed,omitempty"`
	Panels    *[]Panel `json:"panels,omitempty"`
}

type transformation struct {
	ID      string         `json:"id"`
	Options map[string]any `json:"options"`
}

// Target is one query of a panel.
type Target struct {
	RefID        string  `json:"refId"`
	Expr         string  `json:"expr"`
	LegendFormat string  `json:"legendFormat"`
	Instant      bool    `json:"instant,omitempty"`
	Format       string  `json:"format,omitempty"`
	Datasource   *Source `json:"datasource"`
}

type fieldConfig struct {
	Defaults  fieldDefaults `json:"defaults"`
	Overrides []any         `json:"overrides"`
}

type fieldDefaults struct {
	Unit       string         `json:"unit"`
	Min        *float64       `json:"min,omitempty"`
	Max        *float64       `json:"max,omitempty"`
	NoValue    string         `json:"noValue,omitempty"`
	Thresholds *thresholds    `json:"thresholds,omitempty"`
	Custom     map[string]any `json:"custom,omitempty"`
}

type thresholds struct {
	Mode  string      `json:"mode"`
	Steps []threshold `json:"steps"`
}

type threshold struct {
	Color string   `json:"color"`
	Value *float64 `json:"value"`
}

const (
	// Runbook is where each alert has a section.
	Runbook = "https://github.com/cxbridge/watcher/blob/main/dashboards/RUNBOOK.md"

	overviewUID = "watcher-overview"
	deliveryUID = "watcher-delivery"
	width       = 24
)

// All returns the dashboards by the name of their file.
func All() map[string]Dashboard {
	return map[string]Dashboard{"overview.json": Overview(), "delivery.json": Delivery()}
}

// JSON is the file of a dashboard.
func (d Dashboard) JSON() ([]byte, error) {
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("dashboard %s: %w", d.UID, err)
	}
	return append(text, '\n'), nil
}

func source() *Source { return &Source{Type: "prometheus", UID: "${datasource}"} }

// dashboard puts panels under the common head.
func dashboard(uid, title, description, otherTitle, otherUID string, variables []Variable, panels []Panel) Dashboard {
	other, alerts := link(otherTitle, "/d/"+otherUID), link("Runbook", Runbook)
	other.KeepTime, other.IncludeVars, alerts.TargetBlank = true, true, true
	return Dashboard{
		UID: uid, Title: title, Description: description,
		Tags: []string{"watcher"}, SchemaVersion: 39, Refresh: "30s", Timezone: "browser", GraphTooltip: 1,
		Time: timeRange{From: "now-3h", To: "now"}, Annotations: listed{List: []any{}},
		Links:      []Link{other, alerts},
		Templating: templating{List: variables},
		Panels:     panels,
	}
}

// common are the variables of every dashboard. All is ".*", so that a metric
// without the label (no Kubernetes, no namespace) is found too.
func common() []Variable {
	return []Variable{
		{Name: "datasource", Label: "Data source", Type: "datasource", Query: "prometheus", Refresh: 1},
		choice("namespace", "Namespace", `label_values(watcher_build_info, namespace)`),
		choice("instance", "Instance", `label_values(watcher_build_info{namespace=~"$namespace"}, instance)`),
	}
}

func choice(name, label, query string) Variable {
	return Variable{
		Name: name, Label: label, Type: "query", Query: query, Datasource: source(),
		Multi: true, IncludeAll: true, AllValue: ".*", Refresh: 2, Sort: 1,
	}
}

// board lays panels out from left to right and top to bottom.
type board struct {
	panels  []Panel
	x, y, h int
}

func (b *board) row(title string) {
	b.newline()
	b.panels = append(b.panels, Panel{
		ID: len(b.panels) + 1, Type: "row", Title: title, GridPos: Grid{H: 1, W: width, X: 0, Y: b.y},
		Collapsed: new(bool), Panels: &[]Panel{},
	})
	b.y++
}

func (b *board) newline() {
	b.y += b.h
	b.x, b.h = 0, 0
}

func (b *board) place(p Panel, w, h int) {
	if b.x+w > width {
		b.newline()
	}
	p.ID = len(b.panels) + 1
	p.GridPos = Grid{H: h, W: w, X: b.x, Y: b.y}
	b.x += w
	b.h = max(b.h, h)
	b.panels = append(b.panels, p)
}

// query is an expression with the legend of its series.
type query struct{ expr, legend string }

// look is how a panel shows its numbers.
type look struct {
	unit    string
	noValue string
	steps   []threshold // nil for one colour
	stacked bool
	max     float64 // 0: by the data
	links   []Link
}

// step is the colour from a number on.
type step struct {
	from  float64
	color string
}

// steps is a colour to begin with, and those that follow upwards.
func steps(first string, rest ...step) []threshold {
	all := []threshold{{Color: first}}
	for _, s := range rest {
		all = append(all, threshold{Color: s.color, Value: &s.from})
	}
	return all
}

func (l look) fields() *fieldConfig {
	zero := 0.0
	d := fieldDefaults{Unit: l.unit, NoValue: l.noValue, Min: &zero}
	if l.max > 0 {
		d.Max = &l.max
	}
	if l.steps != nil {
		d.Thresholds = &thresholds{Mode: "absolute", Steps: l.steps}
	}
	return &fieldConfig{Defaults: d, Overrides: []any{}}
}

func targets(queries []query, instant bool) []Target {
	all := make([]Target, len(queries))
	for i, q := range queries {
		all[i] = Target{
			RefID: string(rune('A' + i)), Expr: q.expr, LegendFormat: q.legend, Instant: instant, Datasource: source(),
		}
	}
	return all
}

// stat is one large number.
func (b *board) stat(title, description string, l look, q query) {
	b.place(Panel{
		Type: "stat", Title: title, Description: description, Datasource: source(), Links: l.links,
		Targets: targets([]query{q}, true), FieldConfig: l.fields(),
		Options: map[string]any{
			"colorMode": "background", "graphMode": "none", "textMode": "auto", "justifyMode": "auto", "orientation": "auto",
			"wideLayout": true, "showPercentChange": false, "percentChangeColorMode": "standard",
			"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
		},
	}, 4, 4)
}

// graph shows numbers over time.
func (b *board) graph(title, description string, l look, w int, queries ...query) {
	fields := l.fields()
	fields.Defaults.Custom = map[string]any{"lineWidth": 1, "fillOpacity": 10, "showPoints": "never"}
	if l.stacked {
		fields.Defaults.Custom["stacking"] = map[string]any{"mode": "normal", "group": "A"}
		fields.Defaults.Custom["fillOpacity"] = 40
	}
	if l.steps != nil {
		fields.Defaults.Custom["thresholdsStyle"] = map[string]any{"mode": "dashed"}
	}
	b.place(Panel{
		Type: "timeseries", Title: title, Description: description, Datasource: source(), Links: l.links,
		Targets: targets(queries, false), FieldConfig: fields,
		Options: map[string]any{
			"legend":  map[string]any{"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []string{}},
			"tooltip": map[string]any{"mode": "multi", "sort": "desc"},
		},
	}, w, 8)
}

// column is a label of a table's query, and what the column is called.
type column struct{ label, name string }

// table lists series, the largest first: a column for each label, then the newest
// number under the name value.
func (b *board) table(title, description string, l look, w int, expr, value string, columns ...column) {
	t := targets([]query{{expr, ""}}, true)
	t[0].Format = "table"
	names, order := map[string]string{"Value": value}, map[string]int{"Value": len(columns)}
	for i, c := range columns {
		names[c.label], order[c.label] = c.name, i
	}
	b.place(Panel{
		Type: "table", Title: title, Description: description, Datasource: source(), Links: l.links,
		Targets: t, FieldConfig: l.fields(),
		Options: map[string]any{"frameIndex": 0, "showHeader": true, "sortBy": []any{map[string]any{"displayName": value, "desc": true}}},
		Transformations: []transformation{{ID: "organize", Options: map[string]any{
			"excludeByName": map[string]bool{"Time": true}, "renameByName": names, "indexByName": order,
		}}},
	}, w, 8)
}

// runbook is a panel's link to the section of an alert.
func runbook(anchor string) []Link {
	l := link("Runbook", Runbook+"#"+anchor)
	l.TargetBlank = true
	return []Link{l}
}
