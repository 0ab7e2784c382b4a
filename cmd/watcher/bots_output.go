package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/cxbridge/watcher/internal/botfiles"
)

// mostChanges is how many changes of one bot a table shows.
const mostChanges = 200

// printImport prints a block for each bot that would change, and a sum.
func printImport(w io.Writer, rows []importRow) error {
	var out strings.Builder
	updates, creates := 0, 0
	for i := range rows {
		r := &rows[i]
		switch r.Action {
		case actionNone:
			continue
		case actionCreate:
			creates++
		case actionUpdate:
			updates++
		}
		fmt.Fprintln(&out, fit(fmt.Sprintf("%s bot %s (%s)", r.Action, r.BotID, r.File), lintWidth))
		for n := range r.Changes {
			if n == mostChanges {
				fmt.Fprintf(&out, "  and %d more; --output json shows all\n", len(r.Changes)-n)
				break
			}
			printChange(&out, &r.Changes[n])
		}
		for n := range r.Warnings {
			printFinding(&out, &r.Warnings[n])
		}
		fmt.Fprintln(&out)
	}
	fmt.Fprintf(&out, "%s: %d to update, %d to create, %d as they are stored", count(len(rows), "file"), updates, creates, len(rows)-updates-creates)
	_, err := fmt.Fprintln(w, out.String())
	return err
}

// printChange prints a value before and after, each on a line of its own.
func printChange(out *strings.Builder, c *botfiles.Change) {
	switch {
	case c.Order:
		fmt.Fprintln(out, "  "+fit("~ "+c.Path+": its keys in another order", lintWidth-2))
		return
	case c.Before == "":
		fmt.Fprintln(out, "  "+fit("+ "+c.Path+": "+c.After, lintWidth-2))
		return
	case c.After == "":
		fmt.Fprintln(out, "  "+fit("- "+c.Path+": "+c.Before, lintWidth-2))
		return
	}
	before, after := unlike(c.Before, c.After)
	fmt.Fprintln(out, "  "+fit("~ "+c.Path, lintWidth-2))
	fmt.Fprintf(out, "    was %s\n    now %s\n", fit(before, lintWidth-8), fit(after, lintWidth-8))
}

// unlike leaves out where two long texts begin alike, so that what differs is seen.
func unlike(a, b string) (string, string) {
	if len(a) < lintWidth-8 && len(b) < lintWidth-8 {
		return a, b
	}
	x, y := []rune(a), []rune(b)
	same := 0
	for same < min(len(x), len(y)) && x[same] == y[same] {
		same++
	}
	const shown = 20 // characters before the difference
	if same <= shown {
		return a, b
	}
	return "…" + string(x[same-shown:]), "…" + string(y[same-shown:])
}

func printWritten(w io.Writer, rows []importRow) error {
	n := 0
	for i := range rows {
		if rows[i].Written {
			n++
		}
	}
	_, err := fmt.Fprintf(w, "%s written; watchers see them at once.\n", count(n, "bot"))
	return err
}
