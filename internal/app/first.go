package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cxbridge/watcher/internal/cluster"
	"github.com/cxbridge/watcher/pkg/stream"
)

const (
	// firstLook is how far before a first start it is looked for results without an outcome.
	firstLook      = time.Hour
	firstLookLimit = 10 * time.Second
)

// startsAtNow reports whether this start has no saved position, and no --start that
// looks back. What cannot be read is no reason to hold a start up.
func (a *App) startsAtNow(ctx context.Context) bool {
	if !a.cfg.Start.From(a.partitions.Begun()).IsZero() {
		return false
	}
	ctx, cancel := context.WithTimeoutCause(ctx, firstLookLimit, errors.New("the saved positions were not read in time"))
	defer cancel()
	records, err := a.positions.Records(ctx)
	for i := range records {
		if !records[i].Member && !records[i].Position.IsZero() {
			return false
		}
	}
	return err == nil
}

// warnOfUnpushed tells of results that were stored shortly before a first start and
// that nobody pushes.
func (a *App) warnOfUnpushed(ctx context.Context) {
	now, _, err := stream.ServerTime(ctx, a.client)
	if err != nil {
		return // as above
	}
	n, known, err := a.summary.Unpushed(ctx, a.bots.Set(), now.Add(-firstLook), now)
	switch {
	case err != nil:
		a.logger.DebugContext(ctx, "results from before the first start were not counted", "error", err)
		return
	case !known:
		a.logger.DebugContext(ctx, "results from before the first start were not counted: no index begins with completed_at")
		return
	case n == 0:
		return
	}
	const command = "watcher replay --status missing --since 1h"
	a.logger.WarnContext(ctx, "results stored before the first start have no outcome and are not pushed; a first start with --start 1h pushes them, and so does the command",
		"results", n, "more", n == cluster.MostUnpushed, "command", command)
	more := ""
	if n == cluster.MostUnpushed {
		more = " and more"
	}
	notice := fmt.Sprintf("At the first start, %s, %d results%s of the hour before had no outcome, and the start at now passed over them: %s pushes them.",
		now.Format(time.RFC3339), n, more, command)
	a.notice.Store(&notice)
}
