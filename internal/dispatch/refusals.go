package dispatch

import (
	"sync"

	"github.com/cxbridge/watcher/internal/calls"
)

// maxRefusals is how many calls are remembered; of more the oldest is forgotten.
const maxRefusals = 10_000

// refusals are the results whose calls took nothing of an outcome, so that none
// of them is pushed for ever: what stands on such a call stays due.
type refusals struct {
	mu    sync.Mutex
	known map[string]struct{} // delivery ids
	order []string
}

func (r *refusals) add(call *calls.Call) {
	id := call.DeliveryID()
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.known[id]; known {
		return
	}
	if r.known == nil {
		r.known = make(map[string]struct{})
	}
	if len(r.order) == maxRefusals {
		delete(r.known, r.order[0])
		r.order = r.order[1:]
	}
	r.known[id] = struct{}{}
	r.order = append(r.order, id)
}

func (r *refusals) has(call *calls.Call) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) == 0 {
		return false
	}
	_, known := r.known[call.DeliveryID()]
	return known
}
