package replay

import (
	"context"
	"time"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/records"
)

// PushAgain makes one call due now, as a replay of its own. Of the record, Marked is 0
// when the call was stored again or pushed since it was read, and Refused is 1 when
// its document does not accept the mark.
func PushAgain(ctx context.Context, store Marker, saver Saver, call *calls.Call, by string) (Record, error) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	r := Record{ID: records.NewID(now), Since: call.CompletedAt, Until: call.CompletedAt, Rate: 1, By: by, StartedAt: now}
	if call.SessionID != "" {
		r.Sessions = []string{call.SessionID}
	}
	return Run(ctx, store, saver, r, &Plan{calls: []calls.Snapshot{calls.SnapshotOf(call)}}, func(Record) {})
}
