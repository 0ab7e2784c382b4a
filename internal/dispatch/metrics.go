package dispatch

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cxbridge/watcher/internal/calls"
	shared "github.com/cxbridge/watcher/pkg/metrics"
	"github.com/cxbridge/watcher/pkg/render"
)

// metrics are the handles of this package, looked up once.
type metrics struct {
	outcomes     map[calls.Status]outcomeCounters
	skips        [reasonCount]prometheus.Counter
	deferred     prometheus.Counter
	replayed     map[calls.Status]prometheus.Counter
	loadErrors   prometheus.Counter
	misses       [2]prometheus.Counter // by render.Miss
	bots         botMetrics
	queueSeconds prometheus.Observer
	sinceStored  prometheus.Histogram

	sendingNow atomic.Int64
}

// outcomeCounters count the outcomes of one status.
type outcomeCounters struct {
	final, scheduled prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, topBots int) *metrics {
	r := shared.Registry{Registerer: reg}
	outcomes := r.Counter("watcher_dispatch_outcomes_total",
		"Outcomes written onto calls, by status and by whether another attempt is scheduled.", "status", "final")
	skips := r.Counter("watcher_dispatch_skips_total",
		"Calls for which there was nothing to do, by reason; the others of the closed set are reasons of other decisions.", "reason")
	unresolved := r.Counter("watcher_dispatch_unresolved_tokens_total",
		"Tokens of mappers that were sent as nothing: unknown names no variable of the call, empty one without a value.", "kind")
	replayed := r.Counter("watcher_dispatch_replayed_calls_total",
		"Final outcomes of calls that a replay had pushed again, by status; those still to come are due calls of class replay.", "status")
	m := &metrics{
		replayed: make(map[calls.Status]prometheus.Counter),
		outcomes: make(map[calls.Status]outcomeCounters),
		deferred: r.Counter("watcher_dispatch_deferred_total",
			"Calls deferred without an attempt because their destination was busy or down, their bot was gone, or an operator held it.").WithLabelValues(),
		loadErrors: r.Counter("watcher_dispatch_load_errors_total", "Reads of calls that failed and were tried again.").WithLabelValues(),
		queueSeconds: r.Histogram("watcher_dispatch_queue_seconds", "Time a loaded call waited for the turn of its destination.",
			[]float64{.001, .005, .01, .05, .1, .5, 1, 2.5, 5, 10, 30}).WithLabelValues(),
		sinceStored: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "watcher_dispatch_stored_to_logged_seconds",
			Help: "Time from the result being stored (completed_at) to its final outcome being written, replays left out.",
			// Retries run for most of a day, so the classic buckets do too.
			Buckets:                        []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600},
			NativeHistogramBucketFactor:    1.1,
			NativeHistogramMaxBucketNumber: 160,
		}),
		bots: newBotMetrics(reg, topBots),
	}
	for _, s := range calls.Statuses {
		m.replayed[s] = replayed.WithLabelValues(string(s))
		m.outcomes[s] = outcomeCounters{
			final:     outcomes.WithLabelValues(string(s), "true"),
			scheduled: outcomes.WithLabelValues(string(s), "false"),
		}
	}
	for r := NoReason + 1; r < reasonCount; r++ {
		m.skips[r] = skips.WithLabelValues(r.String())
	}
	for _, miss := range render.Misses() {
		m.misses[miss] = unresolved.WithLabelValues(miss.String())
	}
	sending := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "watcher_dispatch_sending_calls",
		Help: "Attempts under way.",
	}, func() float64 { return float64(m.sendingNow.Load()) })
	reg.MustRegister(m.sinceStored, sending)
	r.Must()
	return m
}

// unresolved counts the tokens of one payload that came to nothing.
func (m *metrics) unresolved(bot string, counts *misses) {
	for miss, n := range counts {
		m.misses[miss].Add(float64(n))
	}
	m.bots.unresolved(bot, counts)
}

// misses are the tokens of one payload that came to nothing, by render.Miss.
type misses [2]uint64

// missed implements render.Options.Missed.
func (m *misses) missed(_ *render.Token, miss render.Miss) { m[miss]++ }

// recorded counts an outcome that now stands on its call.
func (m *metrics) recorded(o *calls.Outcome, now time.Time) {
	if o.Transition == calls.ToDeferred || o.Transition == calls.ToWithdrawn {
		return
	}
	c, ok := m.outcomes[o.Status]
	if !ok {
		return
	}
	if !o.Final() {
		c.scheduled.Inc()
		return
	}
	c.final.Inc()
	if o.ReplayID != "" {
		m.replayed[o.Status].Inc()
		return // its result was stored long ago, which says nothing of today
	}
	m.sinceStored.Observe(max(0, now.Sub(o.CompletedAt).Seconds()))
}
