// Package metrics makes Prometheus metrics and registers them, also those of parts
// that come and go while their metrics stay, such as those of a partition.
//
// It does not own what is measured.
package metrics

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Registry makes metrics and registers them, or returns those of an earlier part
// that are registered already. It is for one goroutine.
type Registry struct {
	Registerer           prometheus.Registerer // nil: nothing is registered
	Namespace, Subsystem string                // the first parts of each name; may be empty
	err                  error
}

// Counter makes counters by labels.
func (r *Registry) Counter(name, help string, labels ...string) *prometheus.CounterVec {
	return register(r, prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: r.Namespace, Subsystem: r.Subsystem, Name: name, Help: help}, labels))
}

// Gauge makes gauges by labels.
func (r *Registry) Gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return register(r, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: r.Namespace, Subsystem: r.Subsystem, Name: name, Help: help}, labels))
}

// Histogram makes histograms by labels.
func (r *Registry) Histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return register(r, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: r.Namespace, Subsystem: r.Subsystem, Name: name, Help: help, Buckets: buckets}, labels))
}

// Err is why some of the metrics could not be registered, nil when all were.
func (r *Registry) Err() error { return r.err }

// Must panics when Err is not nil: a name that stands twice is a fault of the program.
func (r *Registry) Must() {
	if r.err != nil {
		panic(r.err)
	}
}

func register[C prometheus.Collector](r *Registry, c C) C {
	if r.Registerer == nil {
		return c
	}
	err := r.Registerer.Register(c)
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
