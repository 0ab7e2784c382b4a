package app

import (
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cxbridge/watcher/internal/admin"
)

// metrics are what only the whole knows; handles are looked up once.
type metrics struct {
	sweeps map[string]prometheus.Counter // by outcome
	swept  map[string]prometheus.Counter // by result
}

// The outcomes of a sweep; one that failed is tried again.
const (
	sweepDone   = "done"
	sweepFailed = "failed"
)

func newMetrics(reg prometheus.Registerer, version string) *metrics {
	sweeps := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "watcher_app_sweeps_total",
		Help: "Sweeps of the calls of a gap in the stream, by outcome; a failed one is tried again.",
	}, []string{"outcome"})
	swept := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "watcher_app_swept_calls_total",
		Help: "Calls that sweeps found, by what became of them: pushed now, due (tried now, and again later), " +
			"already_pushed before, not_pushed (there was nothing to do).",
	}, []string{"result"})
	m := &metrics{
		sweeps: make(map[string]prometheus.Counter),
		swept:  make(map[string]prometheus.Counter),
	}
	for _, outcome := range []string{sweepDone, sweepFailed} {
		m.sweeps[outcome] = sweeps.WithLabelValues(outcome)
	}
	for _, result := range sweptResults {
		m.swept[result] = swept.WithLabelValues(result)
	}
	reg.MustRegister(sweeps, swept, buildInfo(version))
	return m
}

// What became of the calls of a sweep, a closed set.
const (
	sweptPushed  = "pushed"
	sweptDue     = "due"
	sweptAlready = "already_pushed"
	sweptIgnored = "not_pushed"
)

var sweptResults = []string{sweptPushed, sweptDue, sweptAlready, sweptIgnored}

// buildInfo says in its labels what runs.
func buildInfo(version string) prometheus.Collector {
	revision := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				revision = s.Value
			}
		}
	}
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "watcher_build_info",
		Help:        "Always 1; what runs is in the labels. revision is empty when the build did not know it.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "goversion": runtime.Version()},
	})
	g.Set(1)
	return g
}

// registerChecks shows the checks of /readyz as metrics.
func registerChecks(reg prometheus.Registerer, checks []admin.Check) {
	for _, c := range checks {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "watcher_app_ready",
			Help:        "1 while this check of /readyz passes; a standby passes too.",
			ConstLabels: prometheus.Labels{"check": c.Name},
		}, func() float64 {
			if c.Ready() != nil {
				return 0
			}
			return 1
		}))
	}
}
