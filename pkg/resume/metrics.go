package resume

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cxbridge/watcher/pkg/metrics"
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
	r := registry(reg, namespace)
	m := &groupMetrics{
		replicas: r.Gauge("replicas", "Replicas that share the partitions, this one included.").WithLabelValues(),
		fenced:   fencedWrites(r),
		changes:  r.Counter("lease_changes_total", "Leases of this replica by what happened to them.", "change"),
		held:     r.Gauge("leases_held", "1 while this replica holds the partition.", "partition"),
		term:     r.Gauge("lease_term", "Term of the lease that this replica holds, 0 without one.", "partition"),
	}
	for _, change := range leaseChanges {
		m.changes.WithLabelValues(change)
	}
	for i := range partitions {
		m.hold(i, 0, 0)
	}
	return m, r.Err()
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
	r := registry(reg, namespace)
	gauge := func(name, help string) prometheus.Gauge {
		return r.Gauge(name, help, "partition").WithLabelValues(strconv.Itoa(partition))
	}
	m := &checkpointMetrics{
		saves:    r.Counter("saves_total", "Saves of the position by outcome.", "outcome"),
		fenced:   fencedWrites(r),
		age:      gauge("watermark_age_seconds", "Age of the newest position with nothing unsettled before it."),
		pending:  gauge("pending_events", "Events read and not settled."),
		oldest:   gauge("oldest_pending_seconds", "Age of the oldest event that is not settled."),
		headroom: gauge("headroom_seconds", "Time until the saved position leaves the oplog; NaN while unknown."),
		window:   gauge("oplog_window_seconds", "Time that the oplog spans; NaN while unknown."),
	}
	for _, outcome := range []string{"saved", "fenced", "failed"} {
		m.saves.WithLabelValues(outcome)
	}
	return m, r.Err()
}

func registry(reg prometheus.Registerer, namespace string) *metrics.Registry {
	return &metrics.Registry{Registerer: reg, Namespace: namespace, Subsystem: "resume"}
}

func fencedWrites(r *metrics.Registry) prometheus.Counter {
	return r.Counter("fenced_writes_total", "Writes refused because the lease had a newer term.").WithLabelValues()
}
