package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/plain"
)

// The form of a report on a terminal.
const (
	screenWidth = 100
	labelWidth  = 14
	mostBody    = 4000 // characters of a payload
	mostSaid    = 250  // of what a CRM said to one attempt
)

// callName is what people call a call.
func callName(r *inspect.Report) string { return plain.Line(cmp.Or(r.SessionID, r.ID), 200) }

// printCall prints a report for people.
func printCall(w io.Writer, out *callOutput) error {
	p := &callPrinter{r: out.Report}
	p.head(out)
	p.attempts()
	p.checklist()
	p.skips()
	p.payload()
	_, err := io.WriteString(w, p.String())
	return err
}

// callPrinter writes a report into memory.
type callPrinter struct {
	strings.Builder
	r *inspect.Report
}

// field writes a labelled text; what is longer than a line goes on below.
func (p *callPrinter) field(label, format string, args ...any) {
	for _, line := range wrap(plain.Line(fmt.Sprintf(format, args...), 2000), screenWidth-labelWidth) {
		fmt.Fprintln(p, strings.TrimRight(fmt.Sprintf("%-*s%s", labelWidth, label, line), " "))
		label = ""
	}
}

// wrap cuts a text into lines, at blanks where there are any.
func wrap(text string, width int) []string {
	var lines []string
	rest := []rune(text)
	for len(rest) > width {
		end := width
		for i := width; i > width/2; i-- {
			if rest[i] == ' ' {
				end = i
				break
			}
		}
		lines = append(lines, string(rest[:end]))
		rest = []rune(strings.TrimPrefix(string(rest[end:]), " "))
	}
	return append(lines, string(rest))
}

func (p *callPrinter) head(out *callOutput) {
	r := p.r
	p.field("call", "%s", cmp.Or(r.SessionID, "(no session id)"))
	p.field("id", "%s", r.ID)
	switch b := &r.Bot; {
	case b.ID == "":
		p.field("bot", "none")
	case !b.Known:
		p.field("bot", "%s, which has no document", b.ID)
	default:
		p.field("bot", "%s", strings.Join(present(b.ID, b.Name, b.URL), ", "))
	}
	if r.CompletedAt.IsZero() {
		p.field("result", "none is stored")
	} else {
		p.field("result", "stored at %s, delivery %s", stamp(r.CompletedAt), r.DeliveryID)
	}
	p.field("state", "%s. %s", r.State, r.Summary)
	p.field("now", "%s", strings.Join(present(r.Decision.Action, r.Decision.Text), ": "))
	if o := r.Outcome; o != nil && !o.Final {
		p.field("next attempt", "%s, %s", stamp(o.NextAttemptAt), o.NextWhy)
	}
	if o := r.Outcome; o != nil && o.ReplayID != "" {
		p.field("replay", "%s", o.ReplayID)
	}
	if h := r.Hold; h != nil {
		until := "until it is released"
		if !h.Until.IsZero() {
			until = "until " + stamp(h.Until)
		}
		p.field("hold", "%s, %s, by %s: %s", h.ID, until, h.By, h.Why)
	}
	if len(out.Others) > 0 {
		p.field("others", "older calls of this session: %s", strings.Join(out.Others, ", "))
	}
	for _, text := range r.Warnings {
		p.field("warning", "%s", text)
	}
}

// present are those texts that are not empty.
func present(texts ...string) []string {
	return slices.DeleteFunc(texts, func(s string) bool { return s == "" })
}

func (p *callPrinter) attempts() {
	if len(p.r.Attempts) == 0 {
		return
	}
	fmt.Fprintln(p)
	p.field("attempts", "")
	for i := range p.r.Attempts {
		a := &p.r.Attempts[i]
		answer := "no answer"
		if a.HTTPStatus != 0 {
			answer = fmt.Sprintf("HTTP %d", a.HTTPStatus)
		}
		p.field(fmt.Sprintf("  %d", a.Number), "%s  %s, %s, took %s", stamp(a.At), plain.Line(string(a.Status), 20), answer, plain.Millis(a.DurationMS))
		for _, text := range present(a.Error, a.ResponseBody) {
			p.field("", "%s", plain.Line(text, mostSaid))
		}
	}
}

// table writes rows under a head, none wider than the screen.
func (p *callPrinter) table(head string, n int, row func(i int) string) {
	var out strings.Builder
	t := tabwriter.NewWriter(&out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, head)
	for i := range n {
		fmt.Fprintln(t, row(i))
	}
	_ = t.Flush() // into memory
	for line := range strings.Lines(out.String()) {
		fmt.Fprintln(p, plain.Line(strings.TrimRight(line, " \n"), screenWidth))
	}
}

func (p *callPrinter) checklist() {
	fmt.Fprintln(p)
	for i := range p.r.Checklist {
		check, mark := &p.r.Checklist[i], "-"
		if check.OK != nil {
			mark = map[bool]string{true: "✓", false: "✗"}[*check.OK]
		}
		p.field(fmt.Sprintf("%s %s", mark, check.Name), "%s", check.Text)
	}
}

func (p *callPrinter) skips() {
	if len(p.r.Skips) == 0 {
		return
	}
	fmt.Fprintln(p)
	p.table("NOT PUSHED\tREASON\tRESULT OF\tBOT", len(p.r.Skips), func(i int) string {
		s := &p.r.Skips[i]
		return fmt.Sprintf("%s\t%s\t%s\t%s", stamp(s.At), plain.Line(s.Reason, 30), stamp(s.CompletedAt), plain.Line(s.Bot, 60))
	})
}

func (p *callPrinter) payload() {
	l := p.r.Payload
	if l == nil {
		return
	}
	fmt.Fprintln(p)
	if l.Method == "" {
		fmt.Fprintln(p, "Nothing would be sent now.")
	} else {
		fmt.Fprintln(p, "What would be sent now:")
		fmt.Fprintf(p, "  %s %s\n", l.Method, plain.Line(l.URL, mostBody))
		for _, name := range slices.Sorted(maps.Keys(l.Headers)) {
			fmt.Fprintf(p, "  %s: %s\n", plain.Line(name, 200), plain.Line(l.Headers[name], 1000))
		}
		p.body(l.Body)
	}
	if l.Diff == nil {
		return
	}
	if len(l.Diff) == 0 {
		fmt.Fprintln(p, "\nWith the other bot document the same would be sent.")
		return
	}
	fmt.Fprintln(p, "\nWith the other bot document:")
	for i := range l.Diff {
		d := &l.Diff[i]
		for _, side := range []struct {
			sign string
			text *string
		}{{"-", d.Now}, {"+", d.Other}} {
			if side.text != nil {
				fmt.Fprintln(p, plain.Line(fmt.Sprintf("  %s %s: %s", side.sign, d.Key, *side.text), screenWidth))
			}
		}
	}
}

// body writes a payload, indented where it is JSON.
func (p *callPrinter) body(text string) {
	if text == "" {
		return
	}
	var indented bytes.Buffer
	if json.Indent(&indented, []byte(text), "", "  ") == nil {
		text = indented.String()
	}
	fmt.Fprintln(p)
	left := mostBody
	for line := range strings.Lines(text) {
		line = plain.Line(strings.TrimRight(line, "\n"), min(left, mostBody))
		fmt.Fprintln(p, "  "+line)
		if left -= len(line); left <= 0 {
			fmt.Fprintln(p, "  … --output json shows all of it")
			return
		}
	}
}
