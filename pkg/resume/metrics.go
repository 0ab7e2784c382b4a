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
	changes  map[string]prometheus.Counter
	held     []prometheus.Gauge
	term     []prometheus.Gauge
}

// leaseChanges is the closed set of what happens to a lease.
var leaseChanges = []string{"acquired", "taken_over", "released", "lost", "reset"}

func newGroupMetrics(reg prometheus.Registerer, partitions int) (*groupMetrics, error) {
	replicas := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "watcher_resume_replicas", Help: "Replicas that share the partitions, this one included."})
	changes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "watcher_resume_lease_changes_total", Help: "Leases of this replica by what happened to them."},
		[]string{"change"})
	held := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "watcher_resume_leases_held", Help: "1 while this replica holds the partition."},
		[]string{"partition"})
	term := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "watcher_resume_lease_term", Help: "Term of the lease that this replica holds, 0 without one."},
		[]string{"partition"})
	m := &groupMetrics{changes: make(map[string]prometheus.Counter)}
	var err error
	if m.replicas, err = register(reg, replicas); err != nil {
		return nil, err
	}
	if m.fenced, err = register(reg, newFenced()); err != nil {
		return nil, err
	}
	if changes, err = register(reg, changes); err != nil {
		return nil, err
	}
	if held, err = register(reg, held); err != nil {
		return nil, err
	}
	if term, err = register(reg, term); err != nil {
		return nil, err
	}
	for _, change := range leaseChanges {
		m.changes[change] = changes.WithLabelValues(change)
	}
	for i := range partitions {
		m.held = append(m.held, held.WithLabelValues(strconv.Itoa(i)))
		m.term = append(m.term, term.WithLabelValues(strconv.Itoa(i)))
	}
	return m, nil
}

func (m *groupMetrics) hold(partition int, term int64) {
	m.held[partition].Set(1)
	m.term[partition].Set(float64(term))
}

func (m *groupMetrics) letGo(partition int) {
	m.held[partition].Set(0)
	m.term[partition].Set(0)
}

func newFenced() prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{
		Name: "watcher_resume_fenced_writes_total", Help: "Writes refused because the lease had a newer term."})
}

// checkpointMetrics are of one partition's Checkpointer.
type checkpointMetrics struct {
	saves    map[string]prometheus.Counter
	fenced   prometheus.Counter
	age      prometheus.Gauge
	pending  prometheus.Gauge
	oldest   prometheus.Gauge
	headroom prometheus.Gauge
	window   prometheus.Gauge
}

func newCheckpointMetrics(reg prometheus.Registerer, partition int) (*checkpointMetrics, error) {
	gauge := func(name, help string) (prometheus.Gauge, error) {
		vec, err := register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"partition"}))
		if err != nil {
			return nil, err
		}
		return vec.WithLabelValues(strconv.Itoa(partition)), nil
	}
	saves, errSaves := register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "watcher_resume_saves_total", Help: "Saves of the position by outcome."}, []string{"outcome"}))
	fenced, errFenced := register(reg, newFenced())
	age, errAge := gauge("watcher_resume_watermark_age_seconds",
		"Age of the newest position with nothing unsettled before it.")
	pending, errPending := gauge("watcher_resume_pending_events", "Events read and not settled.")
	oldest, errOldest := gauge("watcher_resume_oldest_pending_seconds", "Age of the oldest event that is not settled.")
	headroom, errHeadroom := gauge("watcher_resume_headroom_seconds",
		"Time until the saved position leaves the oplog; NaN while unknown.")
	window, errWindow := gauge("watcher_resume_oplog_window_seconds", "Time that the oplog spans; NaN while unknown.")
	err := errors.Join(errSaves, errFenced, errAge, errPending, errOldest, errHeadroom, errWindow)
	if err != nil {
		return nil, err
	}
	m := &checkpointMetrics{
		saves: make(map[string]prometheus.Counter), fenced: fenced,
		age: age, pending: pending, oldest: oldest, headroom: headroom, window: window,
	}
	for _, outcome := range []string{"saved", "fenced", "failed"} {
		m.saves[outcome] = saves.WithLabelValues(outcome)
	}
	return m, nil
}

// register registers a collector, or returns the equal one that is registered
// already: partitions come and go, their metrics stay.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) (C, error) {
	if reg == nil {
		return c, nil
	}
	err := reg.Register(c)
	if err == nil {
		return c, nil
	}
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := already.ExistingCollector.(C); ok {
			return existing, nil
		}
	}
	return c, fmt.Errorf("register a metric: %w", err)
}
