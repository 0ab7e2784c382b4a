package push

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// phases are the parts of an exchange that are timed, in order.
var phases = [...]string{"dns", "connect", "tls", "first_byte", "total"}

// metrics are looked up once, here: an attempt touches only handles.
type metrics struct {
	attempts [classes]prometheus.Counter
	sends    prometheus.Counter
	phase    [len(phases)]prometheus.Observer
	conns    map[bool]prometheus.Counter // by whether they had served before
	tokens   map[bool]prometheus.Counter // by whether there was one
}

func newMetrics(reg prometheus.Registerer, namespace string) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Subsystem: "push", Name: name, Help: help}, labels)
	}
	attempts := counter("attempts_total", "Attempts by what they came to.", "class")
	sends := counter("sends_total", "Requests that went out on a wire.")
	conns := counter("connections_total", "Connections that served an attempt, by whether they had served before.", "reused")
	tokens := counter("oauth_fetches_total", "Fetches of an OAuth token.", "result")
	phase := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Subsystem: "push", Name: "phase_seconds",
		Help: "Duration of the parts of an exchange; first_byte and total count from its start.",
		// To 10 s, the cap of an exchange.
		Buckets: []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10},
	}, []string{"phase"})

	m := &metrics{
		sends:  sends.WithLabelValues(),
		conns:  map[bool]prometheus.Counter{true: conns.WithLabelValues("true"), false: conns.WithLabelValues("false")},
		tokens: map[bool]prometheus.Counter{true: tokens.WithLabelValues("ok"), false: tokens.WithLabelValues("failed")},
	}
	for _, c := range Classes() {
		m.attempts[c] = attempts.WithLabelValues(c.String())
	}
	for i, name := range phases {
		m.phase[i] = phase.WithLabelValues(name)
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{attempts, sends, conns, tokens, phase} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register push metrics: %w", err)
		}
	}
	return m, nil
}

// attempt counts a whole Send.
func (m *metrics) attempt(r *Result) {
	m.attempts[r.Class].Inc()
	if r.Class != ClassUnusable && r.Class != ClassBlocked {
		m.phase[len(phases)-1].Observe(r.Duration.Seconds())
	}
}

// wire counts one exchange.
func (m *metrics) wire(f fate) {
	m.sends.Add(float64(f.sends))
	if f.connected {
		m.conns[f.reused].Inc()
	}
	for i, d := range [...]time.Duration{f.dns, f.connect, f.tls, f.firstByte} {
		if d > 0 {
			m.phase[i].Observe(d.Seconds())
		}
	}
}
