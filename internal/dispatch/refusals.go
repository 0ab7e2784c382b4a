package dispatch

import (
	"sync"

	"github.com/cxbridge/watcher/internal/calls"
)

// maxRefusals is how many results are remembered, some 15 MB; of more the oldest
// is forgotten. A validator that is added to a collection may refuse all outcomes.
const maxRefusals = 250_000

// refusals are the results whose calls took nothing of an outcome, so that none
// of them is pushed for ever: what stands on such a call stays due. A new process
// knows none of them and pushes each once more.
type refusals struct {
	mu    sync.Mutex
	known map[uint64]struct{} // hashes of delivery ids
	order []uint64            // a ring once it is full
	next  int
}

func (r *refusals) add(call *calls.Call) {
	id := seed(call.DeliveryID())
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.known[id]; known {
		return
	}
	if r.known == nil {
		r.known = make(map[uint64]struct{})
	}
	r.known[id] = struct{}{}
	if len(r.order) < maxRefusals {
		r.order = append(r.order, id)
		return
	}
	delete(r.known, r.order[r.next])
	r.order[r.next] = id
	r.next = (r.next + 1) % maxRefusals
}

func (r *refusals) has(call *calls.Call) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) == 0 {
		return false
	}
	_, known := r.known[seed(call.DeliveryID())]
	return known
}
