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

// and joins two wishes for one call: the one that asks for more counts.
func (a Again) and(b Again) Again {
	if a.Repush == RepushAll || b.Repush == "" || b.Repush == RepushMissing {
		return a
	}
	return b
}
