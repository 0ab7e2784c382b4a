package calls

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cxbridge/watcher/pkg/metrics"
)

// recordMetrics counts what the Recorder writes.
type recordMetrics struct {
	written [detailCount]prometheus.Counter
	retries prometheus.Counter
	size    prometheus.Observer
	seconds prometheus.Observer
}

func newRecordMetrics(reg prometheus.Registerer) *recordMetrics {
	r := metrics.Registry{Registerer: reg}
	written := r.Counter("watcher_calls_outcomes_written_total",
		"Outcomes by how much of them the call document took; not_due only that nothing is due any more, nothing that it is only in the log.", "part")
	m := &recordMetrics{
		retries: r.Counter("watcher_calls_write_retries_total",
			"Writes of outcomes that failed for now and were put back to be written later.").WithLabelValues(),
		size: r.Histogram("watcher_calls_write_outcomes", "Outcomes in one bulk write.",
			[]float64{1, 2, 4, 8, 16, 32, 64, 128, 256}).WithLabelValues(),
		seconds: r.Histogram("watcher_calls_write_seconds", "Time of one bulk write of outcomes until it was acknowledged.",
			[]float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}).WithLabelValues(),
	}
	r.Must()
	for d := range detailCount {
		m.written[d] = written.WithLabelValues(d.String())
	}
	return m
}
