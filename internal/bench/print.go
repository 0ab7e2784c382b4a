package bench

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
)

// Print prints a report as a table, one column for each road.
func (r *Report) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, value func(*Result) string) {
		fmt.Fprintf(t, "%-32s\t", name)
		for i := range r.Roads {
			fmt.Fprintf(t, "%s\t", value(&r.Roads[i]))
		}
		fmt.Fprintln(t)
	}
	number := func(format string, value func(*Result) float64) func(*Result) string {
		return func(r *Result) string { return fmt.Sprintf(format, value(r)) }
	}
	row("", func(r *Result) string { return r.Road })
	row("calls pushed", func(r *Result) string { return fmt.Sprint(r.Sent) })
	row("deferred meanwhile", func(r *Result) string { return fmt.Sprint(r.Deferred) })
	row("calls/s", number("%.0f", func(r *Result) float64 { return r.PerSec }))
	if r.Load.Rate > 0 {
		row("stored to sent, p50 (ms)", number("%.1f", func(r *Result) float64 { return r.P50 }))
		row("stored to sent, p99 (ms)", number("%.1f", func(r *Result) float64 { return r.P99 }))
		row("stored to sent, p99.9 (ms)", number("%.1f", func(r *Result) float64 { return r.P999 }))
	}
	row("CPU of this process/call (µs)", number("%.0f", func(r *Result) float64 { return r.CPU }))
	row("peak memory (MB)", number("%.0f", func(r *Result) float64 { return float64(r.PeakMemory) / 1e6 }))
	row("bytes from MongoDB/call", number("%.0f", func(r *Result) float64 { return r.BytesIn }))
	row("bytes to MongoDB/call", number("%.0f", func(r *Result) float64 { return r.BytesOut }))
	row("documents from MongoDB/call", number("%.2f", func(r *Result) float64 { return r.Returned }))
	row("documents updated/call", number("%.2f", func(r *Result) float64 { return r.Updated }))
	row("calls/find", number("%.1f", func(r *Result) float64 { return r.PerFind }))
	row("outcomes/write", number("%.1f", func(r *Result) float64 { return r.PerWrite }))
	names := make(map[string]bool)
	for i := range r.Roads {
		for name := range r.Roads[i].Commands {
			names[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		row(name+"/1,000 calls", number("%.1f", func(r *Result) float64 { return 1000 * r.Commands[name] }))
	}
	return t.Flush()
}
