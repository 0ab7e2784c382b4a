package replay

import (
	"context"
	"time"

	"github.com/cxbridge/watcher/internal/calls"
)

// PushAgain makes one call due now, as a replay of its own. Of the record, Marked is 0
// when the call was stored again or pushed since it was read, and Refused is 1 when
// its document does not accept the mark.
func PushAgain(ctx context.Context, store Marker, records Saver, call *calls.Call, by string) (Record, error) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	r := Record{ID: NewID(now), Since: call.CompletedAt, Until: call.CompletedAt, Rate: 1, By: by, StartedAt: now}
	if call.SessionID != "" {
		r.Sessions = []string{call.SessionID}
	}
	return Run(ctx, store, records, r, &Plan{calls: []calls.Snapshot{calls.SnapshotOf(call)}}, func(Record) {})
}
