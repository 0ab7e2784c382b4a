package admin

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the page and its style
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/cxbridge/watcher/internal/plain"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

// refreshEvery is how often a browser asks for the page again, in seconds.
const refreshEvery = 5

// snapshotAge is how long what is shown may be old: the cost of a page does not
// grow with its readers.
const snapshotAge = time.Second

// pages shows a Source.
type pages struct {
	source   Source
	health   func() Health
	links    []Link
	template *template.Template
	policy   string // Content-Security-Policy

	mu   sync.Mutex
	last *snapshot
}

// snapshot is what a Source said at one moment, in the forms in which it was asked for.
type snapshot struct {
	made              time.Time
	html, still, json func() ([]byte, error)
}

func newPages(source Source, health func() Health, links []Link) (*pages, error) {
	t, err := template.New("page").Funcs(template.FuncMap{
		"ago":       func(now, t time.Time) string { return plain.Duration(max(0, now.Sub(t))) + " ago" },
		"clock":     clock,
		"laneState": laneState,
		"laneTone":  laneTone,
		"mark":      mark,
		"number":    plain.Number,
		"since":     func(now, t time.Time) string { return plain.Duration(max(0, now.Sub(t))) },
		"stamp":     func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"tone":      tone,
	}).Parse(pageHTML)
	if err != nil {
		return nil, fmt.Errorf("parse the status page: %w", err)
	}
	return &pages{source: source, health: health, links: links, template: t, policy: Policy(pageCSS, "'none'")}, nil
}

// Style is the style sheet of the status page, for pages that look like it.
func Style() string { return pageCSS }

// Policy is the Content-Security-Policy of a page with this style sheet, whose
// forms lead to what forms says: nothing may be loaded or framed, and no script
// and no other style counts.
func Policy(css, forms string) string {
	sum := sha256.Sum256([]byte(css))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action " + forms + "; frame-ancestors 'none'"
}

// view is what the template gets.
type view struct {
	Page
	Links   []Link
	Style   template.CSS
	Refresh int // seconds; 0: not at all
}

// Worst is the worst of all partitions that this replica reads.
func (v view) Worst() Partition {
	var w Partition
	for i := range v.Partitions {
		p := &v.Partitions[i]
		if p.Lag != nil && (w.Lag == nil || *p.Lag > *w.Lag) {
			w.Lag = p.Lag
		}
		if p.Headroom != nil && (w.Headroom == nil || *p.Headroom < *w.Headroom) {
			w.Headroom = p.Headroom
		}
		if p.Oldest != nil && *p.Oldest > 0 && (w.Oldest == nil || *p.Oldest > *w.Oldest) {
			w.Oldest = p.Oldest
		}
	}
	return w
}

// LaneCount is the number of all destinations.
func (v view) LaneCount() int { return len(v.Lanes) + v.LanesLeft }

// FaultyCount is the number of all bots that cannot push.
func (v view) FaultyCount() int { return len(v.Faulty) + v.FaultyLeft }

// SkipList is the reasons for which there was nothing to do, with their counts.
func (v view) SkipList() []string {
	var list []string
	for _, reason := range slices.Sorted(maps.Keys(v.Skipped)) {
		list = append(list, plain.Number(v.Skipped[reason])+" "+reason)
	}
	return list
}

// current is what the Source says, or said less than a second ago.
func (p *pages) current() *snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil || time.Since(p.last.made) >= snapshotAge {
		page := prepared(p.source.Status(), p.health())
		p.last = &snapshot{
			made:  time.Now(),
			html:  sync.OnceValues(func() ([]byte, error) { return p.render(page, refreshEvery) }),
			still: sync.OnceValues(func() ([]byte, error) { return p.render(page, 0) }),
			json:  sync.OnceValues(func() ([]byte, error) { return json.MarshalIndent(page, "", "  ") }),
		}
	}
	return p.last
}

func (p *pages) render(page Page, refresh int) ([]byte, error) {
	var out bytes.Buffer
	err := p.template.Execute(&out, view{Page: page, Links: p.links, Style: template.CSS(pageCSS), Refresh: refresh}) //nolint:gosec // our own file
	return out.Bytes(), err
}

func (p *pages) html(w http.ResponseWriter, r *http.Request) {
	form := p.current().html
	if r.URL.Query().Get("refresh") == "0" {
		form = p.current().still
	}
	h := w.Header()
	h.Set("Content-Security-Policy", p.policy)
	h.Set("Referrer-Policy", "no-referrer")
	write(w, "text/html; charset=utf-8", form)
}

func (p *pages) json(w http.ResponseWriter, _ *http.Request) {
	write(w, "application/json", p.current().json)
}

func write(w http.ResponseWriter, kind string, form func() ([]byte, error)) {
	body, err := form()
	if err != nil {
		http.Error(w, "the page cannot be rendered", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write(body) // the client is gone: nobody to tell
}

// mark shows the state in the title of a browser tab.
func mark(status string) string {
	if tone(status) == "good" {
		return "●"
	}
	return "▲"
}

// tone is the class of a state or an outcome.
func tone(status string) string {
	switch status {
	case StateReady, "ok":
		return "good"
	case StateNotReady, "failed":
		return "bad"
	case "rejected":
		return "warn"
	default: // standby, skipped
		return "calm"
	}
}

// laneState is the state of a lane in a word for people.
func laneState(l Lane) string {
	switch l.State {
	case "open":
		return "stopped"
	case "half_open":
		return "probing"
	case "told_to_wait":
		return "told to wait"
	}
	if l.Problem.Times > 0 {
		return "failing"
	}
	return "fine"
}

func laneTone(l Lane) string {
	switch l.severity() {
	case 4, 3:
		return "bad"
	case 2, 1:
		return "warn"
	default:
		return "good"
	}
}
