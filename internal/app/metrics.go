package app

import (
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cxbridge/watcher/internal/admin"
)

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
