package dispatch

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/cxbridge/watcher/internal/calls"
)

// flow accounts for every call that was taken, so that an operator can check
// that none got lost: what was taken is what has ended and what is pending. The
// dispatcher's lock guards it, which makes a look at it exact.
type flow struct {
	taken [sources]uint64
	ended [sources][endings]uint64
}

// source is where a call was taken from.
type source uint8

const (
	fromStored source = iota // the stream or a sweep: a result was stored
	fromDue                  // its document: an attempt was due
	sources
)

var sourceNames = [...]string{"stored", "due"}

var _ [sources]struct{} = [len(sourceNames)]struct{}{}

func (s source) String() string { return sourceNames[s] }

// ending is how a call left. The first four are final outcomes.
type ending uint8

const (
	// endReleased is a call let go unsettled, at a stop or when the partition
	// moved: whoever reads next from the saved position takes it again.
	endReleased ending = iota
	endOK
	endRejected
	endSkipped
	endFailed
	endDue     // its document says when the next attempt is
	endIgnored // there was nothing to do; the reasons are in the skips
	endings
)

var endingNames = [...]string{"released", "ok", "rejected", "skipped", "failed", "due", "ignored"}

var _ [endings]struct{} = [len(endingNames)]struct{}{}

func (e ending) String() string { return endingNames[e] }

// endingOf is how a call ends by its decision and its outcome.
func endingOf(decision Decision, o *calls.Outcome) ending {
	switch {
	case decision.Action == Skip:
		return endIgnored
	case decision.Action == Defer, decision.Action == Deliver && !o.Final():
		return endDue
	}
	switch o.Status {
	case calls.StatusOK:
		return endOK
	case calls.StatusRejected:
		return endRejected
	case calls.StatusSkipped:
		return endSkipped
	default:
		return endFailed
	}
}

func (f *flow) take(it *item) { f.taken[it.source] += uint64(it.held) } //nolint:gosec // never negative

func (f *flow) end(it *item, as ending) { f.ended[it.source][as] += uint64(it.held) } //nolint:gosec // same

var (
	takenDesc = prometheus.NewDesc("watcher_dispatch_taken_total",
		"Calls taken, by where from: stored is a result from the stream or a sweep, due an attempt whose time had come.",
		[]string{"from"}, nil)
	settledDesc = prometheus.NewDesc("watcher_dispatch_settled_total",
		"Calls that left, by where they were taken from and how they ended: a final outcome, due (attempted later), "+
			"ignored (nothing to do) or released (let go at a stop). taken = settled + pending, at every moment.",
		[]string{"from", "as"}, nil)
	pendingDesc = prometheus.NewDesc("watcher_dispatch_pending_calls",
		"Calls taken that have not left yet.", nil, nil)
)

// collectFlow reads the account under the dispatcher's lock, so that the sum holds in
// every scrape.
func (d *Dispatcher) collectFlow(ch chan<- prometheus.Metric) {
	f, pending := d.account()
	for from := range sources {
		ch <- prometheus.MustNewConstMetric(takenDesc, prometheus.CounterValue, float64(f.taken[from]), from.String())
		for end := range endings {
			ch <- prometheus.MustNewConstMetric(settledDesc, prometheus.CounterValue,
				float64(f.ended[from][end]), from.String(), end.String())
		}
	}
	ch <- prometheus.MustNewConstMetric(pendingDesc, prometheus.GaugeValue, float64(pending))
}

// account returns the flow and what is pending. That is counted from what is
// held in memory, not from the flow, or the check would prove nothing.
func (d *Dispatcher) account() (flow, int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var pending int64
	for _, it := range d.inFlight {
		for ; it != nil; it = it.next {
			pending += it.held
		}
	}
	return d.flow, pending
}
