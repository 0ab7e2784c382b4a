package queue

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	lanesDesc = prometheus.NewDesc("watcher_dispatch_lanes",
		"Destinations known now, by state: open takes no call because the destination is down, half_open finds out by one attempt and ends within a minute when no call is left, "+
			"told_to_wait waits as the destination asked, closed is normal.",
		[]string{"state"}, nil)
	usedDesc = prometheus.NewDesc("watcher_dispatch_lane_slots_used",
		"Attempts under way, all destinations together.", nil, nil)
	allowedDesc = prometheus.NewDesc("watcher_dispatch_lane_slots_allowed",
		"Attempts that all destinations together are trusted with now; it follows how they answer.", nil, nil)
	slotsDesc = prometheus.NewDesc("watcher_dispatch_slots_limit",
		"Attempts that may be under way in this process (--concurrency), beside the first of each destination that is not known to answer.", nil, nil)
	queuedDesc = prometheus.NewDesc("watcher_dispatch_queued_calls",
		"Loaded calls that wait for the turn of their destination, by class.", []string{"class"}, nil)
)

// metrics are the handles of this package; the rest is looked up when asked for.
type metrics struct {
	throttled prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, q *Queue) *metrics {
	m := &metrics{throttled: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "watcher_dispatch_throttled_seconds_total",
		Help: "Time for which calls waited in memory because of the rate limit of their destination alone.",
	})}
	reg.MustRegister(m.throttled, prometheus.CollectorFunc(q.collect))
	return m
}

// collect looks at the lanes when it is asked, so that jobs cost nothing.
func (q *Queue) collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	t := q.tally(time.Now())
	for s, n := range t.states {
		gauge(lanesDesc, n, State(s).String()) //nolint:gosec // an index of the closed set
	}
	for class, n := range t.queued {
		gauge(queuedDesc, n, Class(class).String()) //nolint:gosec // same
	}
	gauge(usedDesc, t.used)
	gauge(allowedDesc, t.allowed)
	gauge(slotsDesc, q.o.Slots)
}

// tally is all lanes summed up.
type tally struct {
	states        [stateCount]int
	queued        [classCount]int
	used, allowed int
}

func (q *Queue) tally(now time.Time) (t tally) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, l := range q.byKey {
		t.states[l.state(now)]++
		t.used += l.active
		t.allowed += l.allowed(now)
		for c := range classCount {
			t.queued[c] += l.queue[c].len()
		}
	}
	return t
}
