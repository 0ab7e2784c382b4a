package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/plain"
)

// tableWidth is how many columns the lines of a table have at most.
const tableWidth = 100

// fitTable prints rows below a head, two blanks between the columns. A cell is cut to
// the width that its column has at most; the last column has what is left.
func fitTable(w io.Writer, head []string, most []int, rows [][]string) {
	last := len(head) - 1
	left := tableWidth
	for c := range last {
		width := utf8.RuneCountInString(head[c])
		for _, row := range rows {
			row[c] = plain.Line(row[c], most[c])
			width = max(width, utf8.RuneCountInString(row[c]))
		}
		left -= width + 2
	}
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, strings.Join(head, "\t"))
	for _, row := range rows {
		row[last] = plain.Line(row[last], max(left, utf8.RuneCountInString(head[last])))
		fmt.Fprintln(table, strings.TrimRight(strings.Join(row, "\t"), "\t "))
	}
	_ = table.Flush() // what cannot be written is noticed by who wrote last
}

// shortStamp is a time within a year for a narrow column, in UTC.
func shortStamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("01-02 15:04")
}

// callRows are the rows of a list as a table.
func callRows(rows []inspect.Row) (head []string, most []int, cells [][]string) {
	for i := range rows {
		r := &rows[i]
		status := "-"
		if r.HTTPStatus != 0 {
			status = strconv.Itoa(r.HTTPStatus)
		}
		why := r.Why
		if r.State == inspect.StateDue && !r.NextAttemptAt.IsZero() {
			why = "next " + shortStamp(r.NextAttemptAt) + "; " + why
		}
		cells = append(cells, []string{cmp.Or(r.SessionID, r.ID), cmp.Or(r.BotName, r.BotID, "-"), string(r.State), shortStamp(r.CompletedAt), status, why})
	}
	return []string{"CALL", "BOT", "STATUS", "STORED", "HTTP", "WHY"}, []int{36, 14, 8, 11, 4}, cells
}

func (c *callsCmd) printList(w io.Writer, list *inspect.List) error {
	var out strings.Builder
	if len(list.Rows) > 0 {
		head, most, cells := callRows(list.Rows)
		fitTable(&out, head, most, cells)
		fmt.Fprintln(&out)
	}
	fmt.Fprintln(&out, totals(list))
	if list.Total > 0 {
		first := list.Rows[0]
		fmt.Fprintf(&out, "One of them: watcher call %s\n", quoted(cmp.Or(first.SessionID, first.ID)))
		if list.Total > 1 {
			fmt.Fprintf(&out, "In groups: %s --group-by error\n", c.typed())
		}
	}
	out.WriteString(c.replayLine(list))
	_, err := io.WriteString(w, out.String())
	return err
}

func (c *callsCmd) printGroups(w io.Writer, groups []inspect.Group, list *inspect.List) error {
	head, most := []string{"CALLS", "NEWEST", "EXAMPLE", "STATUS AND ERROR"}, []int{7, 11, 36}
	if inspect.GroupBy(c.GroupBy) != inspect.ByError {
		head, most = []string{strings.ToUpper(c.GroupBy), "CALLS", "NEWEST", "EXAMPLE", "OF WHICH"}, []int{24, 7, 11, 36}
	}
	var cells [][]string
	for i := range groups {
		g := &groups[i]
		row := []string{strconv.Itoa(g.Count), shortStamp(g.Newest), cmp.Or(g.Example.SessionID, g.Example.ID)}
		if len(most) == 3 {
			row = append(row, g.Key)
		} else {
			row = append([]string{cmp.Or(g.Name, g.Key)}, append(row, statesText(g.States))...)
		}
		cells = append(cells, row)
	}
	var out strings.Builder
	if len(cells) > 0 {
		fitTable(&out, head, most, cells)
		fmt.Fprintln(&out)
	}
	fmt.Fprintln(&out, totals(list))
	if len(groups) > 0 {
		fmt.Fprintf(&out, "One of them: watcher call %s\n", quoted(cmp.Or(groups[0].Example.SessionID, groups[0].Example.ID)))
	}
	out.WriteString(c.replayLine(list))
	_, err := io.WriteString(w, out.String())
	return err
}

// totals says how many calls there are of which status, and what was looked at.
func totals(list *inspect.List) string {
	text := count(list.Total, "call")
	if len(list.States) > 0 {
		text += ": " + statesText(list.States)
	}
	if shown := len(list.Rows); shown > 0 && shown < list.Total {
		text += fmt.Sprintf("; the newest %d are shown", shown)
	}
	text += ".\n"
	switch {
	case list.Until.IsZero():
		text += "Of all results; "
	case list.Since.IsZero():
		text += fmt.Sprintf("Of results stored until %s; ", stamp(list.Until))
	default:
		text += fmt.Sprintf("Of results stored from %s to %s; ", stamp(list.Since), stamp(list.Until))
	}
	text += count(list.Read, "document") + " read."
	if list.Partial != "" {
		text += "\nNot all was read: " + list.Partial + "."
	}
	return text
}

// statesText is "3 failed, 2 ok", in the order of inspect.States.
func statesText(states map[inspect.State]int) string {
	var parts []string
	for _, s := range inspect.States {
		if n := states[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	return strings.Join(parts, ", ")
}

// typed is the command with the same filters.
func (c *callsCmd) typed() string {
	text := "watcher calls" + c.args(c.Since)
	if len(c.Status) > 0 {
		text += " --status " + quoted(strings.Join(c.Status, ","))
	}
	return text
}

// replayLine is the line with the command that pushes what went wrong, "" when nothing did.
func (c *callsCmd) replayLine(list *inspect.List) string {
	var wrong []string
	for _, s := range []inspect.State{inspect.StateFailed, inspect.StateRejected, inspect.StateMissing} {
		if list.States[s] > 0 {
			wrong = append(wrong, string(s))
		}
	}
	if len(wrong) == 0 {
		return ""
	}
	since := c.Since
	if since == "" && len(c.SessionID) == 0 {
		since = "24h"
	}
	slices.Sort(wrong)
	return fmt.Sprintf("Push them again: watcher replay%s --status %s\n", c.args(since), strings.Join(wrong, ","))
}
