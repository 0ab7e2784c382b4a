package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/hold"
)

// mostBots is how many bots of a host are named.
const mostBots = 20

// printAdd says what a hold will keep back.
func (s *holds) printAdd(ctx context.Context, w io.Writer, h *hold.Hold, now time.Time) error {
	covered := s.covered(h)
	due, err := s.due(ctx, covered, now)
	if err != nil {
		return err
	}
	var out strings.Builder
	switch {
	case len(covered) == 0:
		fmt.Fprintf(&out, "Warning: no bot is %s now; one that will be is held then.\n", whichBots(h))
	default:
		fmt.Fprintf(&out, "%s to be held:\n\n", count(len(covered), "bot"))
		printHeldBots(&out, covered)
	}
	for _, b := range covered {
		if b.Push != nil && !b.Push.Enabled {
			fmt.Fprintf(&out, "Warning: the push of %s is switched off, which ends its due calls after the hold.\n", cell(b.ID, 30))
			break
		}
	}
	for i := range s.all {
		if o := &s.all[i]; o.Active(now) && o.Bot == h.Bot && o.Host == h.Host {
			fmt.Fprintf(&out, "Hold %s is about the same; its end releases nothing while this one lasts.\n", o.ID)
		}
	}
	end := "until the hold is released"
	if !h.Until.IsZero() {
		end = fmt.Sprintf("for %s, until %s", span(h.Until.Sub(now)), stamp(h.Until))
	}
	fmt.Fprintf(&out, "%s due now; these and all that come are kept %s.\n", are(due, "call"), end)
	_, err = io.WriteString(w, out.String())
	return err
}

// whichBots says what the bots of a hold have in common.
func whichBots(h *hold.Hold) string {
	if h.Bot != "" {
		return "named " + cell(h.Bot, 60)
	}
	return "pushing to " + h.Host
}

func printHeldBots(w io.Writer, all []*bots.Bot) {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "BOT\tNAME")
	for _, b := range all[:min(len(all), mostBots)] {
		fmt.Fprintf(table, "%s\t%s\n", cell(b.ID, 36), cell(b.Name, 60))
	}
	_ = table.Flush() // into memory
	if more := len(all) - mostBots; more > 0 {
		fmt.Fprintf(w, "and %d more\n", more)
	}
	fmt.Fprintln(w)
}

// printRelease says what goes out when holds are released.
func (s *holds) printRelease(ctx context.Context, w io.Writer, chosen []hold.Hold, now time.Time) error {
	rows := make([]holdRow, len(chosen))
	ended := make(map[string]bool)
	for i, h := range chosen {
		row, err := s.row(ctx, h, now)
		if err != nil {
			return err
		}
		rows[i], ended[h.ID] = row, true
	}
	var left []hold.Hold
	for _, h := range s.all {
		if !ended[h.ID] {
			left = append(left, h)
		}
	}
	stay, before := hold.NewSet(left), hold.NewSet(chosen)
	var free []*bots.Bot
	for _, b := range s.bots.All() {
		switch {
		case before.For(b, now) == nil:
		case stay.For(b, now) == nil:
			free = append(free, b)
		default:
			fmt.Fprintf(w, "Bot %s stays held, by %s.\n", cell(b.ID, 36), stay.For(b, now).ID)
		}
	}
	due, err := s.due(ctx, free, now)
	if err != nil {
		return err
	}
	if err := printHolds(w, rows, now); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "\n%s due and will be sent, slowly at first.\n", are(due, "call"))
	return err
}

// printHolds prints two lines for each hold: what it is, and why.
func printHolds(w io.Writer, rows []holdRow, now time.Time) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "Nothing is held.")
		return err
	}
	var lines strings.Builder
	table := tabwriter.NewWriter(&lines, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, "HOLD\tBOT OR HOST\tSINCE\tEND\tDUE CALLS")
	for i := range rows {
		r := &rows[i]
		what := "bot " + r.Bot
		if r.Bot == "" {
			what = r.Host
		}
		due := fmt.Sprint(r.Due)
		if !r.Active {
			due = "-"
		}
		fmt.Fprintf(table, "%s\t%s\t%s ago\t%s\t%s\n", cell(r.ID, 24), cell(what, 30), span(now.Sub(r.From)), endOf(r, now), due)
	}
	_ = table.Flush() // into memory
	n := -1
	for line := range strings.Lines(lines.String()) {
		fmt.Fprint(w, line)
		if n >= 0 {
			name := rows[n].Name
			if name != "" {
				name = cell(name, 24) + ": "
			}
			fmt.Fprintf(w, "    %s%s (%s)\n", name, cell(rows[n].Why, 40), cell(rows[n].By, 26))
		}
		n++
	}
	return nil
}

// endOf is when a hold is over, for people.
func endOf(r *holdRow, now time.Time) string {
	switch {
	case !r.Active && !r.Ended.IsZero():
		return "released " + span(now.Sub(r.Ended)) + " ago"
	case !r.Active:
		return "ran out " + span(now.Sub(r.Until)) + " ago"
	case r.Until.IsZero():
		return "when released"
	}
	return "in " + span(r.Until.Sub(now))
}

// cell is a text of others on one line of a table.
func cell(text string, most int) string {
	text = hold.OneLine(text, 4*most)
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return text
}

// are is a number of things and its verb.
func are(n int, thing string) string {
	if n == 1 {
		return "1 " + thing + " is"
	}
	return fmt.Sprintf("%d %ss are", n, thing)
}
