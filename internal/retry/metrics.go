package retry

import "github.com/prometheus/client_golang/prometheus"

// metrics are the handles of this package, looked up once.
type metrics struct {
	due    [len(classes)]prometheus.Gauge
	oldest prometheus.Gauge
	held   prometheus.Gauge
	errors prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	due := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "watcher_dispatch_due_calls",
		Help: "Calls of this replica's partitions whose next attempt, or replay, is due, those of held bots left out; counted every 15 s, up to 10000 for each partition.",
	}, []string{"class"})
	m := &metrics{
		oldest: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "watcher_dispatch_oldest_due_seconds",
			Help: "How long the oldest due call of this replica's partitions has been due, replays and held bots left out. Looked at every 15 s.",
		}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "watcher_dispatch_held_calls",
			Help: "Calls of this replica's partitions that are due and that an operator holds back; counted as the due ones.",
		}),
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "watcher_retry_read_errors_total",
			Help: "Looks for due calls that failed and were made again.",
		}),
	}
	for i, class := range classes {
		m.due[i] = due.WithLabelValues(class.String())
	}
	reg.MustRegister(due, m.oldest, m.held, m.errors)
	return m
}
