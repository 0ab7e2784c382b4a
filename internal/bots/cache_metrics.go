package bots

import (
	"math"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// registerCacheMetrics describes the cache; the values are read when asked for.
func registerCacheMetrics(reg prometheus.Registerer, c *Cache) {
	gauge := func(name, help string, value func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	gauge("watcher_bots_cached", "Bots in memory.", func() float64 { return float64(c.Set().Len()) })
	gauge("watcher_bots_invalid", "Bots with a push configuration that cannot be used.", func() float64 {
		n := 0
		for _, b := range c.Set().byID {
			if b.Push != nil && !b.Usable() {
				n++
			}
		}
		return float64(n)
	})
	reg.MustRegister(faultCollector{c})
	gauge("watcher_bots_age_seconds", "Time since bots were last read; NaN before the first time.", func() float64 {
		at := c.freshAt.Load()
		if at == 0 {
			return math.NaN()
		}
		return time.Since(time.Unix(0, at)).Seconds()
	})
}

var faultsDesc = prometheus.NewDesc("watcher_bots_config_faults",
	"Faults in the push configurations of all bots, by part (mapper, other) and level: "+
		"error makes the pushes of the bot impossible, warning does not. watcher lint names them.",
	[]string{"part", "level"}, nil)

// faultCollector counts what Compile found, when asked.
type faultCollector struct{ cache *Cache }

// Describe implements prometheus.Collector.
func (f faultCollector) Describe(ch chan<- *prometheus.Desc) { ch <- faultsDesc }

// Collect implements prometheus.Collector.
func (f faultCollector) Collect(ch chan<- prometheus.Metric) {
	type key struct {
		part  string
		level Level
	}
	n := make(map[key]int)
	for _, b := range f.cache.Set().byID {
		for i := range b.Warnings {
			n[key{b.Warnings[i].part(), b.Warnings[i].Level}]++
		}
	}
	for _, part := range []string{partMapper, partOther} {
		for _, level := range []Level{LevelError, LevelWarning} {
			ch <- prometheus.MustNewConstMetric(faultsDesc, prometheus.GaugeValue, float64(n[key{part, level}]), part, string(level))
		}
	}
}

// The parts of a configuration, for metrics.
const (
	partMapper = "mapper"
	partOther  = "other"
)

func (w *Warning) part() string {
	if w.Token != "" || strings.HasPrefix(w.Key, at(mapperKey)) {
		return partMapper
	}
	return partOther
}
