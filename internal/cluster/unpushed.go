package cluster

import (
	"context"
	"errors"
	"time"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/dispatch"
)

// MostUnpushed is how far Unpushed counts.
const MostUnpushed = 10_000

var errEnough = errors.New("enough was counted")

// Unpushed counts the results of a time that have no outcome although their bots push,
// no further than MostUnpushed. Without an index that begins with completed_at it
// reads nothing and known is false.
func (r *Reader) Unpushed(ctx context.Context, set *bots.Set, from, to time.Time) (n int, known bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readLimit, errSlow)
	defer cancel()
	known, err = r.store.HasTimeIndex(ctx)
	if err != nil || !known {
		return 0, false, err
	}
	err = r.store.Select(ctx, calls.Stored{From: from, To: to}, func(call calls.Call) error {
		if !(dispatch.Policy{Past: true}).Settled(&call) && dispatch.SkipReason(&call, set.Bot(call.Bot)) == dispatch.NoReason {
			n++
		}
		if n == MostUnpushed {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return n, true, err
}
