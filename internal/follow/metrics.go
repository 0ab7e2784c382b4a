package follow

import (
	"github.com/prometheus/client_golang/prometheus"

	shared "github.com/cxbridge/watcher/pkg/metrics"
)

// sweepOutcome is how a sweep ended; one that failed is made again.
type sweepOutcome uint8

const (
	sweepDone sweepOutcome = iota
	sweepFailed
	sweepOutcomes
)

var sweepOutcomeNames = [...]string{"done", "failed"}

var _ [sweepOutcomes]struct{} = [len(sweepOutcomeNames)]struct{}{}

// swept is what became of a call that a sweep found.
type swept uint8

const (
	sweptPushed  swept = iota // now
	sweptDue                  // attempted now, and again later
	sweptAlready              // before
	sweptIgnored              // there was nothing to do
	sweptCount
)

var sweptNames = [...]string{"pushed", "due", "already_pushed", "not_pushed"}

var _ [sweptCount]struct{} = [len(sweptNames)]struct{}{}

// metrics are the handles of this package, looked up once.
type metrics struct {
	sweeps [sweepOutcomes]prometheus.Counter
	swept  [sweptCount]prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	r := shared.Registry{Registerer: reg}
	sweeps := r.Counter("watcher_app_sweeps_total",
		"Sweeps of the calls of a gap in the stream, by outcome; a failed one is made again.", "outcome")
	found := r.Counter("watcher_app_swept_calls_total",
		"Calls that sweeps found, by what became of them: pushed now, due (attempted now, and again later), "+
			"already_pushed before, not_pushed (there was nothing to do).", "result")
	r.Must()
	m := &metrics{}
	for i, name := range sweepOutcomeNames {
		m.sweeps[i] = sweeps.WithLabelValues(name)
	}
	for i, name := range sweptNames {
		m.swept[i] = found.WithLabelValues(name)
	}
	return m
}
