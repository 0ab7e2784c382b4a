package dispatch

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	lanesDesc = prometheus.NewDesc("watcher_dispatch_lanes",
		"Destinations known now, by state: open takes no call because the destination is down, half_open tries one, "+
			"held waits as the destination asked, closed is normal.",
		[]string{"state"}, nil)
	laneUsedDesc = prometheus.NewDesc("watcher_dispatch_lane_slots_used",
		"Attempts under way, all destinations together.", nil, nil)
	laneAllowedDesc = prometheus.NewDesc("watcher_dispatch_lane_slots_allowed",
		"Attempts that all destinations together are trusted with now; it follows how they answer.", nil, nil)
	slotsLimitDesc = prometheus.NewDesc("watcher_dispatch_slots_limit",
		"Attempts that may be under way in this process (--concurrency).", nil, nil)
	queuedDesc = prometheus.NewDesc("watcher_dispatch_queued_calls",
		"Loaded calls that wait for the turn of their destination, by class.", []string{"class"}, nil)
)

// laneStates is the closed set of what a lane may be in.
var laneStates = []string{"closed", "held", "open", "half_open"}

func (c class) String() string { return [...]string{"live", "due", "replay"}[c] }

// state is one of laneStates.
func (l *lane) state(now time.Time) string {
	switch {
	case l.breaker.probing(now):
		return "half_open"
	case l.breaker.open:
		return "open"
	case l.hold.After(now):
		return "held"
	}
	return "closed"
}

// laneCollector looks at the lanes when it is asked, so that calls cost nothing.
type laneCollector struct{ s *lanes }

// Describe implements prometheus.Collector.
func (c laneCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{lanesDesc, laneUsedDesc, laneAllowedDesc, slotsLimitDesc, queuedDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c laneCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	t := c.s.tally(time.Now())
	for _, state := range laneStates {
		gauge(lanesDesc, t.states[state], state)
	}
	for class, n := range t.queued {
		gauge(queuedDesc, n, class.String())
	}
	gauge(laneUsedDesc, t.used)
	gauge(laneAllowedDesc, t.allowed)
	gauge(slotsLimitDesc, c.s.slots)
}

// laneTally is all lanes summed up.
type laneTally struct {
	states        map[string]int
	queued        map[class]int
	used, allowed int
}

func (s *lanes) tally(now time.Time) laneTally {
	t := laneTally{states: make(map[string]int), queued: make(map[class]int)}
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range classes {
		t.queued[c] = 0
	}
	for _, l := range s.byKey {
		t.states[l.state(now)]++
		t.used += l.active
		t.allowed += l.allowed(now)
		for c := range classes {
			t.queued[c] += l.queue[c].len()
		}
	}
	return t
}
