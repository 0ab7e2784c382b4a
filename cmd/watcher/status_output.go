package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cxbridge/watcher/internal/cluster"
	"github.com/cxbridge/watcher/internal/plain"
)

// printSummary prints a summary for people, in lines of 100 columns where what it
// names is not longer than usual.
func printSummary(w io.Writer, s *cluster.Summary, database string) error {
	var out strings.Builder
	fmt.Fprintf(&out, "%s on %s: %s, %s\n", s.Name, oneLine(database), statusText(s.Status), stamp(s.At))
	for _, text := range s.Attention {
		fmt.Fprintf(&out, "  ! %s\n", text)
	}
	printMembers(&out, s)
	printWaiting(&out, &s.Waiting, s.At)
	if len(s.Holds) > 0 {
		section(&out, "HOLD\tKEEPS BACK\tUNTIL\tBY\tWHY", func(t io.Writer) {
			for i := range s.Holds {
				h := &s.Holds[i]
				what, until := "bot "+h.Bot, "released"
				if h.Bot == "" {
					what = "host " + h.Host
				}
				if !h.Until.IsZero() {
					until = stamp(h.Until)
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", h.ID, clip(what, 30), until, clip(h.By, 20), clip(h.Why, 40))
			}
		})
	}
	if len(s.Replays) > 0 {
		section(&out, "REPLAY\tSTATE\tMARKED\tOF\tUPDATED\tBY", func(t io.Writer) {
			for i := range s.Replays {
				r := &s.Replays[i]
				fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%s\t%s\n", r.ID, r.State, r.Marked, r.Found, ago(s.At, r.UpdatedAt), clip(r.By, 30))
			}
		})
	}
	_, err := io.WriteString(w, out.String())
	return err
}

func statusText(s cluster.Status) string {
	switch s {
	case cluster.StatusDown:
		return "DOWN"
	case cluster.StatusAttention:
		return "works, needs attention"
	default:
		return "ok"
	}
}

func printMembers(out *strings.Builder, s *cluster.Summary) {
	if len(s.Replicas) > 0 {
		section(out, "REPLICA\tVERSION\tSTATE\tLAST BEAT\tREADS", func(t io.Writer) {
			for i := range s.Replicas {
				r := &s.Replicas[i]
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", shortOwner(r.Owner), orDash(clip(r.Version, 20)), r.State(), ago(s.At, r.BeatAt), orDash(clip(strings.Join(r.Partitions, ", "), 30)))
			}
		})
	}
	if len(s.Partitions) == 0 {
		return
	}
	section(out, "PARTITION\tREAD BY\tPOSITION\tAGE\tLAG\tHEADROOM\tSAVED", func(t io.Writer) {
		for i := range s.Partitions {
			p := &s.Partitions[i]
			owner := "nobody"
			if p.Owner != "" {
				owner = shortOwner(p.Owner)
			}
			headroom := spanText(p.Headroom)
			if p.Headroom != nil && *p.Headroom < 0 {
				headroom = "lost"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Name, owner, stamp(p.Position), spanText(p.Age), spanText(p.Lag), headroom, ago(s.At, p.SavedAt))
		}
	})
}

func printWaiting(out *strings.Builder, w *cluster.Waiting, now time.Time) {
	switch {
	case w.Unknown != "":
		fmt.Fprintf(out, "\nWhat waits is not known: %s.\n", w.Unknown)
		return
	case w.Calls == 0:
		fmt.Fprintf(out, "\nNo call waits for a next attempt.\n")
		return
	}
	more := ""
	if w.Partial {
		more = " and more"
	}
	fmt.Fprintf(out, "\nNext attempts of %s%s: %d due, %d scheduled, %d held; %d failing, %d by a replay.\n",
		count(w.Calls, "call"), more, w.Due, w.Scheduled, w.Held, w.Failing, w.Replayed)
	section(out, "BOT\tHOST\tDUE\tSCHEDULED\tHELD\tFAILING\tNEXT ATTEMPT", func(t io.Writer) {
		for i := range w.Bots {
			b := &w.Bots[i]
			fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%s\n", botText(b), orDash(clip(b.Host, 22)), b.Due, b.Scheduled, b.Held, b.Failing, nextText(now, &b.Counts))
		}
	})
	if w.BotsLeft > 0 {
		fmt.Fprintf(out, "and %s more\n", count(w.BotsLeft, "bot"))
	}
	printAnswers(out, w, now)
	section(out, "HOST\tBOTS\tDUE\tSCHEDULED\tHELD\tFAILING\tNEXT ATTEMPT", func(t io.Writer) {
		for i := range w.Hosts {
			h := &w.Hosts[i]
			fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%s\n", clip(h.Host, 40), h.Bots, h.Due, h.Scheduled, h.Held, h.Failing, nextText(now, &h.Counts))
		}
	})
	if w.HostsLeft > 0 {
		fmt.Fprintf(out, "and %s more\n", count(w.HostsLeft, "host"))
	}
}

// section prints a table after an empty line.
func section(out io.Writer, head string, rows func(io.Writer)) {
	fmt.Fprintln(out)
	table := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(table, head)
	rows(table)
	_ = table.Flush() // into memory
}

// nextText is when the first of some calls is attempted next.
func nextText(now time.Time, c *cluster.Counts) string {
	switch {
	case c.First.IsZero():
		return "when released"
	case c.First.After(now):
		return "in " + plain.Duration(c.First.Sub(now).Truncate(time.Second))
	}
	return "due " + ago(now, c.First)
}

// printAnswers prints what was said to one waiting call of each bot, where one was
// attempted.
func printAnswers(out *strings.Builder, w *cluster.Waiting, now time.Time) {
	if !slices.ContainsFunc(w.Bots, func(b cluster.WaitingBot) bool { return b.Last != nil }) {
		return
	}
	section(out, "BOT\tATTEMPTS OF ONE CALL\tLAST\tWHY", func(t io.Writer) {
		for i := range w.Bots {
			if b := &w.Bots[i]; b.Last != nil {
				fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", botText(b), b.Last.Attempts, ago(now, b.Last.At), clip(cmp.Or(b.Last.Error, string(b.Last.Status)), 36))
			}
		}
	})
}

func botText(b *cluster.WaitingBot) string { return orDash(clip(cmp.Or(b.Name, b.ID), 24)) }

func spanText(s *plain.Span) string {
	if s == nil {
		return "-"
	}
	return plain.Duration(time.Duration(*s).Truncate(time.Second))
}

func ago(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return plain.Duration(max(0, now.Sub(t)).Truncate(time.Second)) + " ago"
}

// shortOwner is host and process of a replica's name.
func shortOwner(owner string) string {
	if parts := strings.Split(owner, "/"); len(parts) == 4 {
		owner = parts[0] + "/" + parts[3]
	}
	return clip(owner, 30)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// clip is a text on one line, of at most n characters.
func clip(s string, n int) string {
	s = oneLine(s)
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
