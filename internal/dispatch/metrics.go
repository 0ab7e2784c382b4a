package dispatch

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cxbridge/watcher/internal/calls"
)

// metrics are the handles of this package, looked up once.
type metrics struct {
	outcomes     map[calls.Status]outcomeCounters
	skips        map[Reason]prometheus.Counter
	parked       prometheus.Counter
	throttled    prometheus.Counter
	loadErrors   prometheus.Counter
	pending      prometheus.Gauge
	dueSeen      prometheus.Gauge
	queueSeconds prometheus.Histogram
	sinceStored  prometheus.Histogram

	sendingNow atomic.Int64
}

// outcomeCounters count the outcomes of one status.
type outcomeCounters struct {
	final, again prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	outcomes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "watcher_dispatch_outcomes_total",
		Help: "Outcomes written onto calls, by status and by whether another try is scheduled.",
	}, []string{"status", "final"})
	skips := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "watcher_dispatch_skips_total",
		Help: "Calls for which there was nothing to do, by reason.",
	}, []string{"reason"})
	m := &metrics{
		outcomes: make(map[calls.Status]outcomeCounters),
		skips:    make(map[Reason]prometheus.Counter),
		parked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "watcher_dispatch_parked_total",
			Help: "Calls put off without a try because their destination was busy or down.",
		}),
		throttled: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "watcher_dispatch_throttled_seconds_total",
			Help: "Time that lanes with waiting calls were held back by a rate limit or a Retry-After.",
		}),
		loadErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "watcher_dispatch_load_errors_total",
			Help: "Reads of calls that failed and were tried again.",
		}),
		pending: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "watcher_dispatch_pending_calls",
			Help: "Calls taken and not settled yet.",
		}),
		dueSeen: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "watcher_dispatch_due_calls",
			Help: "Due calls that the last look found, at most one batch; those of blocked destinations are not looked for.",
		}),
		queueSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "watcher_dispatch_queue_seconds",
			Help:    "Time a loaded call waited for the turn of its destination.",
			Buckets: []float64{.001, .005, .01, .05, .1, .5, 1, 2.5, 5, 10, 30},
		}),
		sinceStored: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "watcher_dispatch_stored_to_logged_seconds",
			Help: "Time from the result being stored (completed_at) to its final outcome being written.",
			// Retries run for most of a day, so the classic buckets do too.
			Buckets:                        []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600},
			NativeHistogramBucketFactor:    1.1,
			NativeHistogramMaxBucketNumber: 160,
		}),
	}
	for _, s := range calls.Statuses {
		m.outcomes[s] = outcomeCounters{
			final: outcomes.WithLabelValues(string(s), "true"),
			again: outcomes.WithLabelValues(string(s), "false"),
		}
	}
	for _, r := range allReasons {
		m.skips[r] = skips.WithLabelValues(string(r))
	}
	sending := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "watcher_dispatch_sending_calls",
		Help: "Attempts under way.",
	}, func() float64 { return float64(m.sendingNow.Load()) })
	reg.MustRegister(outcomes, skips, m.parked, m.throttled, m.loadErrors, m.pending,
		m.dueSeen, m.queueSeconds, m.sinceStored, sending)
	return m
}

// recorded counts an outcome that now stands on its call.
func (m *metrics) recorded(o *calls.Outcome, now time.Time) {
	if o.Parked || o.Withdrawn {
		return
	}
	c, ok := m.outcomes[o.Status]
	if !ok {
		return
	}
	if !o.Final() {
		c.again.Inc()
		return
	}
	c.final.Inc()
	m.sinceStored.Observe(max(0, now.Sub(o.CompletedAt).Seconds()))
}
