package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/plain"
)

// lintWidth is the longest line of a table.
const lintWidth = 100

// printLint prints a block for each bot that has something to say, and a sum.
func printLint(w io.Writer, results []lintResult) error {
	var out strings.Builder
	var unusable, findings, hidden int
	for i := range results {
		r := &results[i]
		hidden += r.hidden
		findings += len(r.Warnings)
		if !r.Usable {
			unusable++
		}
		if len(r.Warnings) == 0 && len(r.Keys) == 0 {
			continue
		}
		title := r.BotID
		if r.Name != "" {
			title += " " + r.Name
		}
		if !r.Usable {
			title += " (cannot push)"
		}
		fmt.Fprintln(&out, fit(title, lintWidth))
		for _, w := range r.Warnings {
			printFinding(&out, &w)
		}
		printKeys(&out, r)
		fmt.Fprintln(&out)
	}
	sum := fmt.Sprintf("%s, %d that cannot push, %s", count(len(results), "bot"), unusable, count(findings, "finding"))
	if hidden > 0 {
		sum += fmt.Sprintf(", %d more with --level info", hidden)
	}
	_, err := fmt.Fprintln(w, out.String()+sum)
	return err
}

// printFinding prints where and, on lines of its own, what.
func printFinding(out *strings.Builder, w *bots.Warning) {
	const indent = 11
	place := w.Key
	if w.Token != "" {
		place += "  " + w.Token
	}
	fmt.Fprintf(out, "  %-7s  %s\n", w.Level, fit(place, lintWidth-indent))
	text := w.Message
	if w.Suggestion != "" {
		text += "; try " + w.Suggestion
	}
	for _, line := range wrapped(oneLine(text), lintWidth-indent) {
		fmt.Fprintf(out, "%*s%s\n", indent, "", line)
	}
}

// wrapped cuts a text into lines at its blanks; a longer word is cut.
func wrapped(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		word = fit(word, width)
		switch {
		case line == "":
			line = word
		case len([]rune(line))+1+len([]rune(word)) > width:
			lines, line = append(lines, line), word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

// printKeys prints what the keys came to in real calls.
func printKeys(out *strings.Builder, r *lintResult) {
	if len(r.Keys) == 0 {
		return
	}
	fmt.Fprintf(out, "  in the newest %s:\n", count(r.Calls, "call"))
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "  key\tfilled\tno such name\tJSON\tlength\texample")
	for i := range r.Keys {
		k := &r.Keys[i]
		length, example := "-", ""
		if k.Filled > 0 {
			length = fmt.Sprintf("%d-%d", k.Shortest, k.Longest)
			example = k.Examples[0]
		}
		fmt.Fprintf(table, "  %s\t%d/%d\t%d\t%d\t%s\t%s\n", fit(k.Key, 30), k.Filled, k.Calls, k.Unresolved, k.JSON, length, fit(example, 26))
	}
	_ = table.Flush() // into memory
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// oneLine keeps text of a document from breaking the table or the terminal.
func oneLine(s string) string { return plain.Line(s, math.MaxInt) }
