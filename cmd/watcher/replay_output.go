package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/plain"
	"github.com/cxbridge/watcher/internal/replay"
)

// printPlan says what a replay will do.
func printPlan(w io.Writer, plan *replay.Plan, ask replay.Ask) error {
	var out strings.Builder
	fmt.Fprintf(&out, "Results stored %s:\n\n", window(ask.Since, ask.Until))
	var rows [][]string
	for _, c := range slices.SortedFunc(maps.Keys(plan.Counts), func(a, b replay.Count) int {
		return cmp.Or(cmp.Compare(a.Bot, b.Bot), cmp.Compare(a.State, b.State))
	}) {
		rows = append(rows, []string{c.Bot, c.Name, string(c.State), strconv.Itoa(plan.Counts[c])})
	}
	if len(rows) > 0 {
		fitTable(&out, []string{"BOT", "NAME", "STATUS", "CALLS"}, []int{36, 36, 8}, rows)
	}
	if len(plan.Skips) > 0 {
		fmt.Fprintln(&out, "\nNot replayed, because they would not be pushed:")
		rows = nil
		for _, s := range slices.SortedFunc(maps.Keys(plan.Skips), func(a, b replay.Skip) int {
			return cmp.Or(cmp.Compare(a.Bot, b.Bot), cmp.Compare(a.Reason, b.Reason))
		}) {
			rows = append(rows, []string{cmp.Or(s.Bot, "(no bot)"), s.Reason.String(), strconv.Itoa(plan.Skips[s])})
		}
		fitTable(&out, []string{"BOT", "REASON", "CALLS"}, []int{60, 20}, rows)
	}
	if plan.OnTheWay > 0 {
		are := "are still on their way"
		if plan.OnTheWay == 1 {
			are = "is still on its way"
		}
		fmt.Fprintf(&out, "\n%s %s: the saved position is not past them yet.\n", count(plan.OnTheWay, "call"), are)
	}
	if plan.Calls() == 0 {
		fmt.Fprintln(&out, "Nothing to replay.")
	} else {
		fmt.Fprintf(&out, "\n%s at %v a second: %s.\n", count(plan.Calls(), "call"), ask.Rate, span(plan.Duration(ask.Rate)+time.Second))
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// window is the time of the results of a replay.
func window(since, until time.Time) string {
	if since.IsZero() {
		return "until " + stamp(until)
	}
	return fmt.Sprintf("from %s to %s", stamp(since), stamp(until))
}

// progressLine shows how far a replay is: one line that changes on a terminal,
// else a line every ten seconds.
type progressLine struct {
	w       io.Writer
	updates bool
	total   int
	shown   time.Time
	open    bool // the line has no end yet
}

const progressEvery = 10 * time.Second

func (p *progressLine) show(r replay.Record, now time.Time) {
	if !p.updates && now.Sub(p.shown) < progressEvery {
		return
	}
	p.shown = now
	done := r.Marked + r.Passed + r.Refused
	left := time.Duration(float64(max(0, p.total-done)) / r.Rate * float64(time.Second))
	text := fmt.Sprintf("marked %d of %d, %s left", done, p.total, span(left))
	if !p.updates {
		fmt.Fprintln(p.w, text)
		return
	}
	p.open = true
	fmt.Fprintf(p.w, "\r%s\x1b[K", text)
}

func (p *progressLine) end(r replay.Record) {
	if p.open {
		fmt.Fprintln(p.w)
	}
	fmt.Fprintf(p.w, "%s marked", count(r.Marked, "call"))
	if r.Passed > 0 {
		fmt.Fprintf(p.w, ", %d left alone: pushed or stored again meanwhile", r.Passed)
	}
	if r.Refused > 0 {
		fmt.Fprintf(p.w, ", %d refused by their documents", r.Refused)
	}
	fmt.Fprintln(p.w)
}

func printReport(w io.Writer, r *replay.Report) error {
	var out strings.Builder
	table := tabwriter.NewWriter(&out, 0, 4, 2, ' ', 0)
	row := func(name string, value any) { fmt.Fprintf(table, "%s\t%v\n", name, value) }
	row("replay", fmt.Sprintf("%s, %s, by %s", r.ID, r.State, oneLine(r.By)))
	row("results", "stored "+window(r.Since, r.Until))
	if len(r.Bots) > 0 {
		row("bots", plain.Line(strings.Join(r.Bots, ", "), 80))
	}
	if len(r.Hosts) > 0 {
		row("hosts", plain.Line(strings.Join(r.Hosts, ", "), 80))
	}
	row("found", r.Found)
	row("marked", r.Marked)
	if r.Passed > 0 {
		row("left alone", fmt.Sprintf("%d (pushed or stored again before they were marked)", r.Passed))
	}
	if r.Refused > 0 {
		row("refused", fmt.Sprintf("%d (their documents do not accept the mark)", r.Refused))
	}
	if r.Skipped > 0 {
		row("not pushable", r.Skipped)
	}
	if r.State == replay.StateCancelled {
		row("taken back", fmt.Sprintf("%d (cancelled by %s)", r.Cancelled, oneLine(r.EndedBy)))
	}
	row("waiting", r.Waiting)
	row("retrying", r.Retrying)
	for _, s := range calls.Statuses {
		row("done "+string(s), r.Done[s])
	}
	if r.Replaced > 0 {
		row("replaced", fmt.Sprintf("%d (pushed or stored again after they were marked)", r.Replaced))
	}
	_ = table.Flush() // into memory
	_, err := io.WriteString(w, out.String())
	return err
}

func printReplays(w io.Writer, all []replay.Report) error {
	var out strings.Builder
	cells := make([][]string, len(all))
	for i := range all {
		r := &all[i]
		bots := "all"
		if len(r.Bots) > 0 {
			bots = strings.Join(r.Bots, ",")
		}
		cells[i] = []string{r.ID, string(r.State), bots, fmt.Sprintf("%d/%d", r.Marked, r.Found), outcomeText(r)}
	}
	fitTable(&out, []string{"REPLAY", "STATE", "BOTS", "MARKED", "OUTCOME"}, []int{30, 11, 18, 13}, cells)
	_, err := io.WriteString(w, out.String())
	return err
}

// outcomeText is "38 ok, 2 waiting"; "-" when nobody looked.
func outcomeText(r *replay.Report) string {
	if r.Done == nil {
		return "-"
	}
	var parts []string
	add := func(n int, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	for _, s := range calls.Statuses {
		add(r.Done[s], string(s))
	}
	add(r.Retrying, "retrying")
	add(r.Waiting, "waiting")
	add(r.Cancelled, "taken back")
	add(r.Replaced, "replaced")
	return cmp.Or(strings.Join(parts, ", "), "nothing")
}
