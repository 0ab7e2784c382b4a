package bots

import (
	"math"
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
	gauge("watcher_bots_age_seconds", "Time since bots were last read; NaN before the first time.", func() float64 {
		at := c.freshAt.Load()
		if at == 0 {
			return math.NaN()
		}
		return time.Since(time.Unix(0, at)).Seconds()
	})
}
