package calls

import "github.com/prometheus/client_golang/prometheus"

// recordMetrics counts what the Recorder writes.
type recordMetrics struct {
	written [detailCount]prometheus.Counter
	retries prometheus.Counter
	size    prometheus.Histogram
	seconds prometheus.Histogram
}

func newRecordMetrics(reg prometheus.Registerer) *recordMetrics {
	written := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "watcher_calls_outcomes_written_total",
		Help: "Outcomes by how much of them the call document took; not_due only that nothing is due any more, nothing that it is only in the log.",
	}, []string{"part"})
	m := &recordMetrics{
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "watcher_calls_write_retries_total",
			Help: "Writes of outcomes that failed for now and were put back to be written later.",
		}),
		size: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "watcher_calls_write_outcomes",
			Help:    "Outcomes in one bulk write.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128, 256},
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "watcher_calls_write_seconds",
			Help:    "Time of one bulk write of outcomes until it was acknowledged.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}),
	}
	for d := range detailCount {
		m.written[d] = written.WithLabelValues(d.String())
	}
	reg.MustRegister(written, m.retries, m.size, m.seconds)
	return m
}
