package dispatch

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// otherName is the label of all names that have no series of their own.
const otherName = "other"

const (
	// maxTopNames is how many names are ranked; further ones are other.
	maxTopNames = 10_000
	// maxTopName is how long a label may be, in bytes.
	maxTopName = 256
	// topHalfLife is when what was counted for the rank counts half.
	topHalfLife = 30 * time.Minute
	// topQuiet is how long a name has nothing counted before it is forgotten.
	topQuiet = 3 * time.Hour
)

// topSeries is one of the series that each name has.
type topSeries struct {
	desc   *prometheus.Desc
	labels []string // beside the name
}

// top counts by a name that tenants choose, a bot's id or a host, with a bounded
// number of series. At each scrape the names are ranked: by what failed, and by how
// busy they are. The 2×limit names that were among the first limit of either list
// most recently have series of their own, so that few come and go. A new name has
// them at once while there is room. What happens under a name without series counts
// as other, which so never goes backwards; a name that gets series begins at zero.
//
// A nil *top counts nothing.
type top struct {
	limit  int // of each list
	series []topSeries

	mu     sync.Mutex
	byName map[string]*topName
	shown  int // names with series
	other  []uint64
	ranked time.Time // the last time
}

// topName is what is known of one name.
type topName struct {
	name      string
	counts    []uint64 // by series; nil without series of its own
	scraped   bool     // they were exposed at least once
	busy, bad float64  // fading
	counted   time.Time
	first     time.Time // when it was last among the first of a list
}

func newTop(reg prometheus.Registerer, limit int, series []topSeries) *top {
	t := &top{
		limit: limit, series: series, byName: make(map[string]*topName),
		other: make([]uint64, len(series)), ranked: time.Now(),
	}
	reg.MustRegister(t)
	return t
}

// add counts n in a series of a name, and for its rank.
func (t *top) add(name string, series int, n uint64, busy, bad float64) {
	if t == nil || n == 0 {
		return
	}
	now := time.Now()
	name = strings.ToValidUTF8(name[:min(len(name), maxTopName)], "\ufffd")
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entry(name, now)
	if e == nil {
		t.other[series] += n
		return
	}
	e.busy, e.bad, e.counted = e.busy+busy, e.bad+bad, now
	if e.counts == nil {
		t.other[series] += n
	} else {
		e.counts[series] += n
	}
}

// entry returns what is known of a name; nil when it cannot have series.
func (t *top) entry(name string, now time.Time) *topName {
	e := t.byName[name]
	if e != nil || name == "" || name == otherName || len(t.byName) >= maxTopNames {
		return e
	}
	e = &topName{name: name}
	t.byName[name] = e
	if t.shown < 2*t.limit {
		e.first = now
		t.show(e)
	}
	return e
}

func (t *top) show(e *topName) {
	e.counts = make([]uint64, len(t.series))
	t.shown++
}

func (t *top) hide(e *topName) {
	if !e.scraped { // nobody has seen these counts
		for i, n := range e.counts {
			t.other[i] += n
		}
	}
	e.counts, e.scraped = nil, false
	t.shown--
}

// rank decides which names have series. It returns those, in no order.
func (t *top) rank(now time.Time) []*topName {
	fade := math.Exp2(-now.Sub(t.ranked).Seconds() / topHalfLife.Seconds())
	t.ranked = now
	all := make([]*topName, 0, len(t.byName))
	for name, e := range t.byName {
		if now.Sub(e.counted) > topQuiet {
			delete(t.byName, name)
			if e.counts != nil {
				t.hide(e)
			}
			continue
		}
		e.busy *= fade
		e.bad *= fade
		all = append(all, e)
	}
	for _, by := range []func(e *topName) float64{
		func(e *topName) float64 { return e.bad },
		func(e *topName) float64 { return e.busy },
	} {
		slices.SortFunc(all, func(a, b *topName) int { return cmp.Or(cmp.Compare(by(b), by(a)), cmp.Compare(a.name, b.name)) })
		for _, e := range all[:min(t.limit, len(all))] {
			if by(e) > 0 {
				e.first = now
			}
		}
	}
	slices.SortFunc(all, func(a, b *topName) int { return cmp.Or(b.first.Compare(a.first), cmp.Compare(a.name, b.name)) })
	most := 2 * t.limit
	for _, e := range all[min(most, len(all)):] {
		if e.counts != nil {
			t.hide(e)
		}
	}
	all = slices.DeleteFunc(all[:min(most, len(all))], func(e *topName) bool { return e.first.IsZero() })
	for _, e := range all {
		if e.counts == nil {
			t.show(e)
		}
		e.scraped = true
	}
	return all
}

// Describe implements prometheus.Collector.
func (t *top) Describe(ch chan<- *prometheus.Desc) {
	for _, s := range t.series {
		ch <- s.desc
	}
}

// Collect implements prometheus.Collector.
func (t *top) Collect(ch chan<- prometheus.Metric) {
	t.mu.Lock()
	shown := t.rank(time.Now())
	all := make([]prometheus.Metric, 0, (len(shown)+1)*len(t.series))
	all = t.append(all, otherName, t.other)
	for _, e := range shown {
		all = t.append(all, e.name, e.counts)
	}
	t.mu.Unlock()
	for _, m := range all {
		ch <- m
	}
}

func (t *top) append(all []prometheus.Metric, name string, counts []uint64) []prometheus.Metric {
	for i, s := range t.series {
		labels := append([]string{name}, s.labels...)
		all = append(all, prometheus.MustNewConstMetric(s.desc, prometheus.CounterValue, float64(counts[i]), labels...))
	}
	return all
}
