package follow

import (
	"time"

	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/pkg/resume"
)

// past is the time that an operator asked to be looked at again, by a reset of
// the position or by the start of a watcher that has none. The zero past is none.
type past struct {
	from   time.Time // where the operator put the position
	asked  time.Time // what came later is new, and normal rules hold
	repush dispatch.Repush
	ahead  time.Duration // of this machine's clock before MongoDB's, which from and asked are by
}

// pastOf is what an operator asked for of a partition whose record was just
// taken: with a reset, or with --start where there was no position. begun is by
// MongoDB's clock, as all times are that stand in events.
func pastOf(r resume.Record, first resume.Position, begun time.Time, ahead time.Duration) past {
	switch {
	case r.Reset != nil:
		p := past{asked: r.Reset.At, repush: dispatch.Repush(r.Reset.Repush), ahead: ahead}
		if r.SavedAt.Equal(r.Reset.At) { // nothing was saved since
			p.from = r.Position.Time()
		}
		return p
	case r.Position.IsZero() && !first.IsZero():
		return past{from: first.Time(), asked: begun, repush: dispatch.RepushMissing, ahead: ahead}
	case len(r.Position.Token) == 0 && !r.Position.ClusterTime.IsZero() && r.Damage == nil:
		// The first start ended before it came past its beginning.
		return past{from: r.Position.Time(), asked: r.SavedAt, repush: dispatch.RepushMissing, ahead: ahead}
	}
	return past{}
}

// policy is what holds for a result that was stored at a time, to whole seconds.
// Asked is compared with the times at which this machine wrote that it pushed.
func (p past) policy(stored time.Time) dispatch.Policy {
	if p.asked.IsZero() || stored.After(p.asked) {
		return dispatch.Policy{}
	}
	return dispatch.Policy{Repush: p.repush, Asked: p.asked.Add(p.ahead), Past: true}
}

// begins reports whether a gap begins where the operator put the position.
func (p past) begins(gap time.Time) bool { return !p.from.IsZero() && gap.Equal(p.from) }
