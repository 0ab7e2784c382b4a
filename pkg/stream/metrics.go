package stream

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	shared "github.com/cxbridge/watcher/pkg/metrics"
)

// metrics are of one stream; handles are looked up once.
type metrics struct {
	events      map[string]prometheus.Counter
	batches     [2]prometheus.Counter // empty, full
	opens       map[openMode]map[string]prometheus.Counter
	reopens     map[string]prometheus.Counter
	gaps        map[GapReason]prometheus.Counter
	skipped     map[string]prometheus.Counter
	lag         prometheus.Gauge
	lastPoll    prometheus.Gauge
	openCursors prometheus.Gauge
}

// operations is the closed set of operation types that have a counter.
var operations = []string{"insert", "update", "replace", "delete", "drop", "rename", "dropDatabase", "invalidate", "other"}

func newMetrics(reg prometheus.Registerer, namespace, name string) (*metrics, error) {
	r := shared.Registry{Registerer: reg, Namespace: namespace, Subsystem: "stream"}
	events := r.Counter("events_total", "Change events read, by operation.", "stream", "operation")
	batches := r.Counter("batches_total", "Successful polls, by whether they brought events.", "stream", "kind")
	opens := r.Counter("opens_total",
		"Opens of the stream by the place they began from and how they went.", "stream", "way", "outcome")
	reopens := r.Counter("reopens_total", "Why the stream had to be opened again.", "stream", "reason")
	gaps := r.Counter("gaps_total", "Spans of time whose events may have been missed.", "stream", "reason")
	skipped := r.Counter("events_skipped_total",
		"Events that were read and not worked on: another partition has the document, or there is none (drop, rename).", "stream", "reason")
	lag := r.Gauge("lag_seconds",
		"How far the read position is behind the server's time, 0 on an idle stream; NaN while unknown or not reading.", "stream")
	lastPoll := r.Gauge("last_poll_timestamp_seconds",
		"When a poll last succeeded, as Unix time; 0 before the first, NaN once this replica stopped reading.", "stream")
	open := r.Gauge("open_cursors", "1 while the cursor is open and answers.", "stream")
	if r.Err() != nil {
		return nil, r.Err()
	}
	m := &metrics{
		events:      make(map[string]prometheus.Counter),
		opens:       make(map[openMode]map[string]prometheus.Counter),
		reopens:     make(map[string]prometheus.Counter),
		gaps:        make(map[GapReason]prometheus.Counter),
		skipped:     make(map[string]prometheus.Counter),
		batches:     [2]prometheus.Counter{batches.WithLabelValues(name, "empty"), batches.WithLabelValues(name, "full")},
		lag:         lag.WithLabelValues(name),
		lastPoll:    lastPoll.WithLabelValues(name),
		openCursors: open.WithLabelValues(name),
	}
	m.lag.Set(math.NaN())
	m.lastPoll.Set(0)
	for _, reason := range []string{skipPartition, skipNoDocument} {
		m.skipped[reason] = skipped.WithLabelValues(name, reason)
	}
	for _, op := range operations {
		m.events[op] = events.WithLabelValues(name, op)
	}
	for _, mode := range []openMode{modeToken, modeTime, modeNow} {
		m.opens[mode] = make(map[string]prometheus.Counter)
		for _, outcome := range []string{"ok", "refused", "failed"} {
			m.opens[mode][outcome] = opens.WithLabelValues(name, string(mode), outcome)
		}
	}
	for _, reason := range reopenReasons {
		m.reopens[reason] = reopens.WithLabelValues(name, reason)
	}
	for _, reason := range gapReasons {
		m.gaps[reason] = gaps.WithLabelValues(name, string(reason))
	}
	return m, nil
}

// Why an event is not worked on.
const (
	skipPartition  = "other_partition"
	skipNoDocument = "no_document"
)

func (m *metrics) skip(reason string) { m.skipped[reason].Inc() }

// stopped clears what is no longer true once nobody reads: a standby is not stuck.
func (m *metrics) stopped() {
	m.lag.Set(math.NaN())
	m.lastPoll.Set(math.NaN())
	m.openCursors.Set(0)
}

func (m *metrics) event(operation string) {
	c := m.events[operation]
	if c == nil {
		c = m.events["other"]
	}
	c.Inc()
}

func (m *metrics) open(mode openMode, err error) {
	outcome := "ok"
	if err != nil {
		outcome = "failed"
		if c := classify(err); c == classLost || c == classToken {
			outcome = "refused"
		}
	}
	m.opens[mode][outcome].Inc()
}

func (m *metrics) poll(now time.Time, events int, s *Status) {
	m.batches[min(events, 1)].Inc()
	m.lastPoll.Set(float64(now.UnixMilli()) / 1000)
	m.openCursors.Set(1)
	if s.LagKnown {
		m.lag.Set(s.Lag.Seconds())
	} else {
		m.lag.Set(math.NaN())
	}
}
