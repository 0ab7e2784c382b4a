package console

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"
	"unicode"

	"github.com/cxbridge/watcher/internal/admin"
	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/outage"
	"github.com/cxbridge/watcher/internal/plain"
	"github.com/cxbridge/watcher/internal/replay"
)

//go:embed pages/*.html
var pageFiles embed.FS

//go:embed console.css
var consoleCSS string

// view is an answer: a page, or where to go.
type view struct {
	page     string // the name of its file
	Title    string
	Data     any
	status   int    // 0 is 200
	redirect string // instead of a page

	Did *Act // what was just done, to be said on top
}

// message is a page of one text.
type message struct{ Text string }

// frame is what the layout of each page gets.
type frame struct {
	view
	Name  string // of the saved position
	Now   time.Time
	Here  string // path
	Who   string // "" when nobody is logged in
	Form  string
	Style template.CSS
	Links []admin.Link
}

// pages are the parsed templates.
type pages struct {
	name   string
	css    string
	policy string
	byName map[string]*template.Template
}

func newPages(name string) (*pages, error) {
	p := &pages{name: name, css: admin.Style() + consoleCSS, byName: make(map[string]*template.Template)}
	p.policy = admin.Policy(p.css, "'self'")
	for _, page := range []string{"login", "message", "calls", "call", "bots", "bot", "acts", "confirm"} {
		t, err := template.New("layout.html").Funcs(functions()).ParseFS(pageFiles, "pages/layout.html", "pages/parts.html", "pages/"+page+".html")
		if err != nil {
			return nil, fmt.Errorf("parse the page %s: %w", page, err)
		}
		p.byName[page] = t
	}
	return p, nil
}

func functions() template.FuncMap {
	return template.FuncMap{
		"lines":    lines,
		"botPath":  botPath,
		"callPath": callPath,
		"count":    count,
		"current":  current,
		"duration": plain.Duration,
		"line":     func(text any, most int) string { return line(fmt.Sprint(text), most) },
		"ms":       plain.Millis,
		"number":   plain.Number,
		"shown":    func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
		"since":    func(now, t time.Time) string { return plain.Duration(max(0, now.Sub(t))) },
		"stamp":    func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"states":   states,
		"tone":     func(state any) string { return tone(fmt.Sprint(state)) },
		"yes":      func(b *bool) bool { return b != nil && *b },
	}
}

// show writes a view.
func (c *Console) show(w http.ResponseWriter, r *request, v view) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	// With "no-referrer" a browser would send forms with "Origin: null".
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	if v.redirect != "" {
		http.Redirect(w, r.Request, v.redirect, http.StatusSeeOther)
		return
	}
	f := frame{
		view: v, Name: c.o.Name, Now: time.Now().UTC(), Here: r.URL.Path, Links: Links(),
		Style: template.CSS(c.pages.css), //nolint:gosec // our own files
	}
	if r.session != nil {
		f.Who, f.Form = r.session.Name, r.session.Form()
	}
	var out bytes.Buffer
	if err := c.pages.byName[v.page].Execute(&out, f); err != nil {
		c.o.Logger.Error("a page could not be rendered", "page", v.page, "error", err)
		http.Error(w, "the page cannot be rendered", http.StatusInternalServerError)
		return
	}
	h.Set("Content-Security-Policy", c.pages.policy)
	h.Set("Content-Type", "text/html; charset=utf-8")
	if v.status == 0 {
		v.status = http.StatusOK
	}
	w.WriteHeader(v.status)
	_, _ = out.WriteTo(w) // the client is gone: nobody to tell
}

// failed is the page of an error.
func (c *Console) failed(ctx context.Context, err error) view {
	why := c.o.Redact(plain.Error(err))
	err = ofOperator(err)
	if r, ok := errors.AsType[refusal](err); ok {
		title := map[int]string{http.StatusNotFound: "Not found", http.StatusForbidden: "Refused"}[r.status]
		if title == "" {
			title = "That cannot be done"
		}
		return view{page: "message", Title: title, status: r.status, Data: message{why}}
	}
	c.o.Logger.Warn("an operators' page could not be made", "error", err)
	v := view{page: "message", Title: "No answer", status: http.StatusInternalServerError, Data: message{why}}
	if errors.Is(context.Cause(ctx), errSlow) || errors.Is(err, context.DeadlineExceeded) || outage.Passing(err) {
		v.Title, v.status = "MongoDB does not answer", http.StatusServiceUnavailable
		v.Data = message{why + ". Nothing is lost by that: reload the page in a while."}
	}
	return v
}

// ofOperator makes a refusal of an error that is about what was asked for.
func ofOperator(err error) error {
	if unknown, ok := errors.AsType[*bots.FindError](err); ok {
		return badRequest("%s", unknown.Error())
	}
	if unknown, ok := errors.AsType[*inspect.NotFoundError](err); ok {
		return notFound("%s", unknown.Error())
	}
	for _, known := range []error{replay.ErrTooMany, replay.ErrCancelled, hold.ErrTooMany, hold.ErrIncomplete, hold.ErrOver, hold.ErrUnknown} {
		if errors.Is(err, known) {
			return Refused("%s", err.Error())
		}
	}
	return err
}

// line is a text of others on one line of at most so many characters, without
// what would turn or hide the text around it.
func line(text string, most int) string {
	return cut(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsControl(r), unicode.Is(unicode.Zl, r), unicode.Is(unicode.Zp, r):
			return ' '
		case unicode.Is(unicode.Bidi_Control, r):
			return -1
		}
		return r
	}, head(text, most)), most)
}

// lines is line for a text of several lines.
func lines(text string, most int) string {
	return cut(strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r):
			return -1
		}
		return r
	}, head(text, most)), most)
}

// head is as much of a text as can be shown of it: a character has at most four
// bytes, and some of them are left out.
func head(text string, most int) string { return text[:min(len(text), 8*most+8)] }

func cut(text string, most int) string { return plain.Cut(strings.ToValidUTF8(text, "\ufffd"), most) }

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return plain.Number(n) + " " + what + "s"
}

// current is the aria-current of a link: "page" on its page, "true" on those below.
func current(l admin.Link, here string) string {
	switch {
	case l.Path == here:
		return "page"
	case strings.HasPrefix(here, l.Path+"/"):
		return "true"
	}
	return ""
}

// tone is the class of a state.
func tone(state string) string {
	switch state {
	case string(inspect.StateOK):
		return "good"
	case string(inspect.StateFailed), string(inspect.StateMissing):
		return "bad"
	case string(inspect.StateRejected), string(inspect.StateHeld):
		return "warn"
	default:
		return "calm"
	}
}

// allStates are the states in the order in which they are shown.
func allStates() []inspect.State {
	return []inspect.State{
		inspect.StateFailed, inspect.StateRejected, inspect.StateMissing, inspect.StateHeld,
		inspect.StateDue, inspect.StateSkipped, inspect.StateOK,
	}
}

// tally is how many calls are in a state.
type tally struct {
	State inspect.State
	Count int
}

// states are the counts of a group, the worst state first.
func states(m map[inspect.State]int) []tally {
	var all []tally
	for _, s := range allStates() {
		if m[s] > 0 {
			all = append(all, tally{s, m[s]})
		}
	}
	return all
}
