package demo

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/cxbridge/watcher/internal/demo/world"
)

// width is the most that a line takes, in characters.
const width = 104

// The columns of a call's line; what is left of the width is the outcome's.
const (
	callWidth = 9
	botWidth  = 19
	sentWidth = 29
)

// The colours, as ANSI codes.
const (
	plain  = ""
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

// printer writes for people. It is safe for concurrent use; errors of the
// writer are ignored, as there is nobody left to read.
type printer struct {
	mu    sync.Mutex
	out   io.Writer
	color bool
}

// paint gives text a colour where there are colours.
func (p *printer) paint(code, s string) string {
	if !p.color || code == plain || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p *printer) line(format string, args ...any) {
	_, _ = fmt.Fprintf(p.out, format+"\n", args...)
}

// opening says what is about to happen, and where.
func (p *printer) opening(o Options, crm, metrics string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line("")
	p.line("  %s", p.paint(bold, fmt.Sprintf("watcher demo: %s, %g per second, seed %d", plural(o.Calls, "call"), o.Rate, o.Seed)))
	p.line("  Calls are written as CXB API writes them; the watcher finds each result, renders the bot's")
	p.line("  mapping, pushes it to the CRM and writes the outcome back onto the call.")
	p.line("")
	for _, at := range []struct{ what, where string }{
		{"MongoDB", o.MongoURI}, {"CRM", crm}, {"metrics", metrics}, {"status", strings.TrimSuffix(metrics, "/metrics")},
	} {
		if at.where != "" {
			p.line("  %s %s", p.paint(dim, pad(at.what, 8)), cut(at.where, width-11))
		}
	}
	p.line("")
	p.line("  %s", p.paint(dim, columns("time", "call", "bot", "sent", "outcome")))
}

// columns lays a call's line out.
func columns(at, call, bot, sent, outcome string) string {
	return strings.TrimRight(strings.Join([]string{
		pad(at, len(clock)), pad(call, callWidth), pad(bot, botWidth), pad(sent, sentWidth), outcome,
	}, "  "), " ")
}

// clock is how the time of a line is written.
const clock = "15:04:05.00"

// ended prints the line of a call that has its outcome; d is what the CRM
// received of it, nil when nothing.
func (p *printer) ended(c *call, o *outcome, d *delivery) {
	sent := "–"
	if d != nil {
		sent = fmt.Sprintf("%s %s %s", pad(c.bot.method, 4), pad(c.bot.path, 17), bytesText(d.bytes))
	}
	color, text := verdict(c, o, d)
	p.call(c, sent, color, text)
}

// leftAlone prints the line of a call that was not to be pushed, and was not.
func (p *printer) leftAlone(c *call) { p.call(c, "–", dim, "· "+c.want.why) }

// call prints the line of a call.
func (p *printer) call(c *call, sent, color, outcome string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	const before = 2 + len(clock) + callWidth + botWidth + sentWidth + 4*2
	left := columns(time.Now().Format(clock), c.session, c.bot.name, sent, " ")
	p.line("  %s%s", pad(left, before-2), p.paint(color, cut(outcome, width-before)))
}

// verdict is the outcome of a call in a few words, with its colour.
func verdict(c *call, o *outcome, d *delivery) (color, text string) {
	var answers []string
	if d != nil {
		for _, a := range d.answers {
			answers = append(answers, fmt.Sprint(a))
		}
	}
	seen := strings.Join(answers, ", ")
	switch {
	case o.Status == "ok" && o.Attempts > 1:
		return yellow, fmt.Sprintf("✓ ok, attempt %d (%s)", o.Attempts, seen)
	case o.Status == "ok":
		return green, fmt.Sprintf("✓ ok, %.0f ms", o.DurationMS)
	case o.Status == "rejected":
		return red, fmt.Sprintf("✗ rejected (%s)", seen)
	case o.Status == "skipped":
		return dim, "– skipped (" + c.want.why + ")"
	}
	return red, "✗ " + o.Status + because(o)
}

// closing prints the table, the example and the verdict on the whole.
func (p *printer) closing(sum Summary, bots []*bot, shown *example, metrics string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line("")
	p.table(sum, bots)
	if shown != nil {
		p.received(shown)
		p.written(shown)
	}
	p.line("")
	if metrics != "" {
		p.line("  %s %s", p.paint(dim, "metrics were served at"), metrics)
	}
	right := sum.Stored - min(len(sum.Wrong), sum.Stored)
	if sum.OK() {
		p.line("  %s", p.paint(bold+";"+green, fmt.Sprintf("✓ all %s ended as they should, in %.1f s", plural(sum.Stored, "call"), sum.Elapsed.Seconds())))
		return
	}
	p.line("  %s", p.paint(bold+";"+red, fmt.Sprintf("✗ %d of %s ended as they should", right, plural(sum.Stored, "call"))))
	const shownFaults = 20
	for i, w := range sum.Wrong {
		if i == shownFaults {
			p.line("    and %d more", len(sum.Wrong)-shownFaults)
			break
		}
		p.line("    %s", w)
	}
}

// keeping says that the demo stays.
func (p *printer) keeping(metrics string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line("")
	if metrics != "" {
		p.line("  The watcher goes on, with its metrics at %s", metrics)
	} else {
		p.line("  The watcher goes on.")
	}
	p.line("  %s", p.paint(dim, "Ctrl-C ends it."))
}

// table prints the tallies, a row for each bot that had a call.
func (p *printer) table(sum Summary, bots []*bot) {
	head := []string{"stored", "pushed", "rejected", "skipped", "left alone", "retried"}
	if sum.Failed > 0 {
		head = append(head, "failed")
	}
	row := func(name string, t Tally, code string) {
		cells := []int{t.Stored, t.Pushed, t.Rejected, t.Skipped, t.Left, t.Retried, t.Failed}
		var b strings.Builder
		b.WriteString(pad(name, botWidth+1))
		for i, h := range head {
			cell := "·"
			if cells[i] > 0 {
				cell = fmt.Sprint(cells[i])
			}
			b.WriteString("  " + padLeft(cell, utf8.RuneCountInString(h)))
		}
		p.line("  %s", p.paint(code, b.String()))
	}
	p.line("  %s", p.paint(dim, pad("calls", botWidth+1)+"  "+strings.Join(head, "  ")))
	for _, b := range bots {
		if t := sum.byBot[b]; t != nil {
			row(b.name, *t, plain)
		}
	}
	p.line("  %s", p.paint(dim, strings.Repeat("─", botWidth+3+len(strings.Join(head, "  ")))))
	row("total", sum.Tally, bold)
}

// received prints a request as the CRM saw it.
func (p *printer) received(e *example) {
	p.heading("What the CRM received", e.call)
	p.line("    %s %s", p.paint(bold, e.request.Method), target(&e.request))
	for _, name := range []string{"Authorization", "Content-Type", "Idempotency-Key", "User-Agent"} {
		value := e.request.Header.Get(name)
		if value == "" {
			continue
		}
		if name == "Authorization" {
			value = "***"
		}
		p.line("    %s %s", p.paint(cyan, name+":"), cut(value, width-len(name)-6))
	}
	if e.request.Method == http.MethodGet {
		return
	}
	p.line("")
	p.block(prettyJSON(e.request.Body))
}

// target is the path and the query of a request.
func target(r *world.Request) string {
	if r.Query == "" {
		return r.Path
	}
	return r.Path + "?" + r.Query
}

// written prints what the watcher wrote onto the call.
func (p *printer) written(e *example) {
	p.heading("What was written to the call, as post_call_push_result", e.call)
	p.block(prettyBSON(e.outcome))
}

func (p *printer) heading(title string, c *call) {
	p.line("")
	p.line("  %s  %s", p.paint(bold, title), p.paint(dim, c.session+", "+c.bot.name))
	p.line("")
}

// block prints the lines of an indented document, its keys in colour.
func (p *printer) block(text string) {
	for l := range strings.Lines(text) {
		l = cut(strings.TrimRight(l, "\n"), width-4)
		key, value := "", l
		if i := strings.Index(l, `": `); i >= 0 && strings.HasPrefix(strings.TrimLeft(l, " "), `"`) {
			key, value = l[:i+1], l[i+1:]
		}
		p.line("    %s%s", p.paint(cyan, key), value)
	}
}

// plural is a count with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// bytesText is a size in few characters.
func bytesText(n int) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f kB", float64(n)/1000)
}

// pad fills up to n characters; longer text is cut.
func pad(s string, n int) string {
	s = cut(s, n)
	return s + strings.Repeat(" ", n-utf8.RuneCountInString(s))
}

func padLeft(s string, n int) string {
	return strings.Repeat(" ", max(0, n-utf8.RuneCountInString(s))) + s
}

// cut shortens text to n characters, the last of them an ellipsis.
func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	runes := []rune(s)
	return string(runes[:n-1]) + "…"
}

// note prints a line of what is told beside the table.
func (p *printer) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line("  "+format, args...)
}
