package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/replay"
)

type replayCancelCmd struct {
	ID  string `arg:"" help:"Id of the replay."`
	Yes bool   `help:"Do not ask."`
	operatorFlags
}

// Run ends a replay and takes back the marks on calls that were not attempted yet.
func (r *replayCancelCmd) Run(ctx context.Context, std cli.Streams) error {
	s, err := openReplays(ctx, &r.operatorFlags, nil)
	if err != nil {
		return err
	}
	defer s.close()
	record, err := s.find(ctx, r.ID)
	if err != nil {
		return err
	}
	report, err := replay.ReportOn(ctx, s.calls, record)
	if err != nil {
		return err
	}
	fmt.Fprintf(std.Out, "Replay %s, %s: %s marked.\n%d of them were not attempted yet and will be as before.\n",
		record.ID, record.State, count(record.Marked, "call"), report.Waiting)
	if err := confirm(ctx, std, r.Yes); err != nil {
		return err
	}
	n, err := replay.Cancel(ctx, s.calls, s.records, record.ID, asker())
	if err != nil {
		return fmt.Errorf("%s as before; the same command goes on: %w", count(n, "call"), err)
	}
	fmt.Fprintf(std.Out, "Cancelled: %s as before. What a watcher has begun to send is still sent.\n", count(n, "call"))
	return nil
}

type replayStatusCmd struct {
	ID    string `arg:"" help:"Id of the replay."`
	Calls bool   `help:"Also print its calls, each with its status and why."`
	Limit int    `default:"50" placeholder:"N" help:"How many calls are printed, at most 10000."`
	outputFlag
	operatorFlags
}

// replayOutput is what became of a replay, with its calls when they are asked for.
type replayOutput struct {
	replay.Report
	Calls []inspect.Row `json:"calls,omitempty"`
}

// Run prints what became of the calls of a replay.
func (r *replayStatusCmd) Run(ctx context.Context, std cli.Streams) error {
	bad := r.outputFlag.check()
	if r.Limit < 1 || r.Limit > inspect.MostRows {
		bad.add("limit", fmt.Errorf("%d is not from 1 to %d", r.Limit, inspect.MostRows))
	}
	s, err := openReplays(ctx, &r.operatorFlags, bad)
	if err != nil {
		return err
	}
	defer s.close()
	record, err := s.find(ctx, r.ID)
	if err != nil {
		return err
	}
	var out replayOutput
	if out.Report, err = replay.ReportOn(ctx, s.calls, record); err != nil {
		return err
	}
	var list inspect.List
	if r.Calls {
		list, err = s.inspector.List(ctx, inspect.Query{ReplayID: record.ID, Since: record.Since, Until: record.Until, Limit: r.Limit})
		if err != nil {
			return err
		}
		out.Calls = list.Rows
	}
	return r.print(std.Out, out, func(w io.Writer) error {
		if err := printReport(w, &out.Report); err != nil || len(list.Rows) == 0 {
			return err
		}
		fmt.Fprintln(w)
		head, most, cells := callRows(list.Rows)
		fitTable(w, head, most, cells)
		_, err := fmt.Fprintf(w, "\n%s\n", totals(&list))
		return err
	})
}

type replayListCmd struct {
	outputFlag
	operatorFlags
}

// The bounds of the look at what became of the replays of a list.
const (
	mostReports = 20
	reportsTime = 20 * time.Second
)

var errReportsTime = errors.New("there was no time to look at the older replays")

// Run lists the replays of a name, the newest first, and what became of the newest.
func (r *replayListCmd) Run(ctx context.Context, std cli.Streams) error {
	s, err := openReplays(ctx, &r.operatorFlags, r.outputFlag.check())
	if err != nil {
		return err
	}
	defer s.close()
	all, err := s.records.List(ctx)
	if err != nil {
		return err
	}
	looking, cancel := context.WithTimeoutCause(ctx, reportsTime, errReportsTime)
	defer cancel()
	reports := make([]replay.Report, len(all))
	for i := range all {
		reports[i].Record = all[i]
		if i >= mostReports || looking.Err() != nil {
			continue
		}
		report, err := replay.ReportOn(looking, s.calls, all[i])
		switch {
		case err == nil:
			reports[i] = report
		case looking.Err() == nil || ctx.Err() != nil:
			return err
		}
	}
	return r.print(std.Out, reports, func(w io.Writer) error { return printReplays(w, reports) })
}
