package resources

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How garbage is collected.
const (
	// headroom is how much garbage may gather in any case, in bytes. By itself Go collects
	// when there is as much garbage as there is in use, which with the 10 MB of a watcher
	// under load is many times a second. This takes 8 % of its CPU away for 15 MB more.
	headroom = 24 << 20
	// usualPercent is Go's own GOGC, and mostPercent the highest that is set here.
	usualPercent, mostPercent = 100, 200

	paceEvery  = time.Second
	quietTicks = 30      // of so many, with at most one collection, the process is quiet
	worthwhile = 2 << 20 // bytes that are given back then; it costs one collection
)

// PaceGarbage keeps the pace of the garbage collection until ctx ends: some headroom
// while little is in use, and what is spare goes back to the system while the process is
// quiet. A GOGC that the operator has set stays. It concerns the whole process, so one
// at a time.
func PaceGarbage(ctx context.Context) {
	samples := []metrics.Sample{
		{Name: "/gc/gogc:percent"}, {Name: "/gc/cycles/automatic:gc-cycles"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	// held is what the heap has of the system, live the part that was in use when garbage
	// was last collected.
	look := func() (percent, cycles, live, held uint64) {
		metrics.Read(samples)
		return samples[0].Value.Uint64(), samples[1].Value.Uint64(), samples[2].Value.Uint64(), samples[3].Value.Uint64() + samples[4].Value.Uint64()
	}
	_, last, _, _ := look()
	own := os.Getenv("GOGC") == ""
	if own {
		defer debug.SetGCPercent(usualPercent)
	}
	ticker := time.NewTicker(paceEvery)
	defer ticker.Stop()
	for tick := 1; ; tick++ {
		select { // a start leaves holes in the heap, the fewer the more often it is collected
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		percent, cycles, live, held := look()
		if want := percentFor(live); own && want != percent {
			debug.SetGCPercent(int(want)) //nolint:gosec // at most mostPercent
		}
		if tick%quietTicks == 0 {
			if cycles <= last+1 && held > live+worthwhile {
				ReturnMemory()
			}
			last = cycles
		}
	}
}

// percentFor is GOGC for so many bytes in use, in steps of 20, as a change stops the
// process for a moment.
func percentFor(live uint64) uint64 {
	percent := headroom * 100 / max(live, 1)
	return min(max(percent-percent%20, usualPercent), mostPercent)
}
