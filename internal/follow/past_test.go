package follow

import (
	"testing"
	"time"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/pkg/resume"
)

// A reset is measured by MongoDB's clock, and what was pushed by this machine's:
// however far apart they are, a result is pushed again once, and only if it was
// stored before the reset.
func TestResetsUnderClocksThatDiffer(t *testing.T) {
	reset := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC) // MongoDB's clock
	for _, ahead := range []time.Duration{-time.Hour, -3 * time.Second, 0, 3 * time.Second, time.Hour} {
		record := resume.Record{
			Position: resume.At(reset.Add(-time.Hour)), SavedAt: reset,
			Reset: &resume.Reset{ID: "r", At: reset, Repush: string(dispatch.RepushAll)},
		}
		p := pastOf(record, resume.Position{}, reset.Add(time.Minute), ahead)
		if !p.begins(reset.Add(-time.Hour)) {
			t.Errorf("ahead %v: the gap does not begin where the position was put", ahead)
		}
		stored := reset.Add(-10 * time.Minute)
		pushedAt := func(by time.Time) *calls.Call { // by MongoDB's clock; this machine writes its own
			call := &calls.Call{CompletedAt: stored}
			call.Pushed = calls.Pushed{Present: true, Status: calls.StatusOK, CompletedAt: stored, PushedAt: by.Add(ahead)}
			return call
		}
		again := p.policy(stored)
		if again.Settled(pushedAt(reset.Add(-time.Minute))) {
			t.Errorf("ahead %v: what was pushed before the reset is not pushed again", ahead)
		}
		if !again.Settled(pushedAt(reset.Add(time.Minute))) {
			t.Errorf("ahead %v: what was pushed again is pushed once more", ahead)
		}
		if late := p.policy(reset.Add(time.Second)); late != (dispatch.Policy{}) {
			t.Errorf("ahead %v: a result of after the reset is treated as %+v", ahead, late)
		}
	}
}
