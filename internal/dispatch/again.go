package dispatch

import (
	"time"

	"github.com/cxbridge/watcher/internal/calls"
)

// Repush says what to do with a result that was pushed already.
type Repush string

// The values of Repush, from the least to the most.
const (
	RepushMissing Repush = "missing" // leave it; also what "" means
	RepushFailed  Repush = "failed"  // push it again when it failed or was rejected
	RepushAll     Repush = "all"     // push it again
)

// Again is an operator's wish to push results once more. The zero Again is no
// wish.
type Again struct {
	Repush Repush
	// Asked is when the operator asked: what was pushed after that has been
	// pushed again already, also by a replica that is gone.
	Asked time.Time
	// Past is a call that is looked up from the past. The platform pushed by
	// itself before there was a watcher and left no completed_at behind: looking
	// back, its result counts as that of the call's present result.
	Past bool
	// Yields is a call of a backlog: live calls of its destination go first.
	Yields bool
}

// class is the place of the call in its lane.
func (a Again) class() class {
	if a.Yields {
		return classDue
	}
	return classLive
}

// Settled reports whether a call that was looked up needs nothing: the outcome of
// its result stands on it already, or its next try does, and no wish is left.
func (a Again) Settled(call *calls.Call) bool {
	return a.answers(call) && (!call.Pushed.NextAttemptAt.IsZero() || !a.wants(&call.Pushed))
}

// answers reports whether what stands on a call is about its present result.
func (a Again) answers(call *calls.Call) bool {
	p := &call.Pushed
	return p.Status != "" && !call.CompletedAt.IsZero() &&
		(p.CompletedAt.Equal(call.CompletedAt) || a.Past && p.ByPlatform())
}

// wants reports whether a result that has its final outcome is pushed again.
func (a Again) wants(p *calls.Pushed) bool {
	if !p.PushedAt.Before(a.Asked) {
		return false
	}
	switch a.Repush {
	case RepushAll:
		return true
	case RepushFailed:
		return p.Status == calls.StatusFailed || p.Status == calls.StatusRejected
	default:
		return false
	}
}

// and joins two wishes for one call: the one that asks for more counts, and
// what is new about the call now counts over its past.
func (a Again) and(b Again) Again {
	more := b
	if a.Repush == RepushAll || b.Repush == "" || b.Repush == RepushMissing {
		more = a
	}
	more.Past, more.Yields = a.Past && b.Past, a.Yields && b.Yields
	return more
}
