package resume

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// groupMetrics are of one Group; handles are looked up once.
type groupMetrics struct {
	replicas prometheus.Gauge
	fenced   prometheus.Counter
	changes  *prometheus.CounterVec // by leaseChanges
	held     *prometheus.GaugeVec   // by partition
	term     *prometheus.GaugeVec   // by partition
}

// leaseChanges is the closed set of what happens to a lease.
var leaseChanges = []string{"acquired", "taken_over", "released", "lost", "reset"}

func newGroupMetrics(reg prometheus.Registerer, namespace string, partitions int) (*groupMetrics, error) {
	r := &registry{reg: reg, namespace: namespace}
	m := &groupMetrics{
		replicas: r.gauge("replicas", "Replicas that share the partitions, this one included.").WithLabelValues(),
		fenced:   r.fenced(),
		changes:  r.counter("lease_changes_total", "Leases of this replica by what happened to them.", "change"),
		held:     r.gauge("leases_held", "1 while this replica holds the partition.", "partition"),
		term:     r.gauge("lease_term", "Term of the lease that this replica holds, 0 without one.", "partition"),
	}
	for _, change := range leaseChanges {
		m.changes.WithLabelValues(change)
	}
	for i := range partitions {
		m.hold(i, 0, 0)
	}
	return m, r.err
}

// hold notes how often a partition is held here, 0 or 1 times, and under which term.
func (m *groupMetrics) hold(partition int, held float64, term int64) {
	label := strconv.Itoa(partition)
	m.held.WithLabelValues(label).Set(held)
	m.term.WithLabelValues(label).Set(float64(term))
}

// checkpointMetrics are of one partition's Checkpointer.
type checkpointMetrics struct {
	saves    *prometheus.CounterVec // by outcome: saved, fenced, failed
	fenced   prometheus.Counter
	age      prometheus.Gauge
	pending  prometheus.Gauge
	oldest   prometheus.Gauge
	headroom prometheus.Gauge
	window   prometheus.Gauge
}

func newCheckpointMetrics(reg prometheus.Registerer, namespace string, partition int) (*checkpointMetrics, error) {
	r := &registry{reg: reg, namespace: namespace}
	gauge := func(name, help string) prometheus.Gauge {
		return r.gauge(name, help, "partition").WithLabelValues(strconv.Itoa(partition))
	}
	m := &checkpointMetrics{
		saves:    r.counter("saves_total", "Saves of the position by outcome.", "outcome"),
		fenced:   r.fenced(),
		age:      gauge("watermark_age_seconds", "Age of the newest position with nothing unsettled before it."),
		pending:  gauge("pending_events", "Events read and not settled."),
		oldest:   gauge("oldest_pending_seconds", "Age of the oldest event that is not settled."),
		headroom: gauge("headroom_seconds", "Time until the saved position leaves the oplog; NaN while unknown."),
		window:   gauge("oplog_window_seconds", "Time that the oplog spans; NaN while unknown."),
	}
	for _, outcome := range []string{"saved", "fenced", "failed"} {
		m.saves.WithLabelValues(outcome)
	}
	return m, r.err
}

// registry makes metrics, and returns those that are registered already: partitions come
// and go, their metrics stay.
type registry struct {
	reg       prometheus.Registerer // nil: nothing is registered
	namespace string
	err       error
}

const subsystem = "resume"

func (r *registry) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return register(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: r.namespace, Subsystem: subsystem, Name: name, Help: help}, labels))
}

func (r *registry) counter(name, help string, labels ...string) *prometheus.CounterVec {
	return register(r, prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: r.namespace, Subsystem: subsystem, Name: name, Help: help}, labels))
}

func (r *registry) fenced() prometheus.Counter {
	return r.counter("fenced_writes_total", "Writes refused because the lease had a newer term.").WithLabelValues()
}

func register[C prometheus.Collector](r *registry, c C) C {
	if r.reg == nil {
		return c
	}
	err := r.reg.Register(c)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := already.ExistingCollector.(C); ok {
			return existing
		}
	}
	if err != nil {
		r.err = errors.Join(r.err, fmt.Errorf("register a metric: %w", err))
	}
	return c
}
