package resume

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// happening is one thing that happens to a replica.
type happening struct {
	what  string
	which int
	of    int           // partitions of a replica that starts
	slow  time.Duration // of its line, each way
	skew  float64       // of its clock; a positive one is fast
	then  time.Duration // until the next
}

// Whatever happens to replicas of one or of several numbers of partitions, on lines that
// are slow, fail and break, with clocks that go wrong by two in a hundred: no document
// has two owners who are both certain, no save goes back, and when all is well again
// everything is worked on.
func TestNoDocumentHasTwoOwners(t *testing.T) {
	drawn := rapid.Custom(func(t *rapid.T) happening {
		return happening{
			what: rapid.SampledFrom([]string{"start", "start", "cut", "cut", "mend", "stop", "fail", "recover", "reset"}).Draw(t, "what"),
			of:   rapid.SampledFrom([]int{4, 4, 4, 1, 3}).Draw(t, "of"), which: rapid.IntRange(0, 3).Draw(t, "which"),
			slow: time.Duration(rapid.IntRange(0, 800).Draw(t, "slow")) * time.Millisecond,
			skew: float64(rapid.IntRange(-2, 2).Draw(t, "skew")) / 100,
			then: time.Duration(rapid.IntRange(0, 15000).Draw(t, "then")) * time.Millisecond,
		}
	})
	rapid.Check(t, func(rt *rapid.T) {
		all := rapid.SliceOfN(drawn, 5, 20).Draw(rt, "happenings")
		fault := ""
		synctest.Test(t, func(t *testing.T) { fault = model(t, all) })
		if fault != "" {
			rt.Fatal(fault)
		}
	})
}

func model(t *testing.T, all []happening) (fault string) {
	m, o := newTable(), &office{t: t}
	// Somebody else is always there: one that is alone goes on without the store.
	m.set(Record{ID: "x/member/zz", Owner: "zz", Instance: "zz", Lease: 8 * time.Minute, Partitions: -1})
	var replicas []*replica
	watch := func(d time.Duration) {
		for range d / (250 * time.Millisecond) {
			wait(250 * time.Millisecond)
			if o.overlap() && fault == "" {
				fault = fmt.Sprint("two owners at ", time.Now())
			}
		}
	}
	start := func(i int, h happening) {
		r := o.start(m, fmt.Sprint(i), h.of, uint64(i), h.slow)
		r.line.with(func(l *line) { l.fast = h.skew })
		r.group.session.mu.Lock()
		r.group.session.lasts -= time.Duration(h.skew * float64(r.group.session.lasts))
		r.group.session.mu.Unlock()
		replicas = append(replicas, r)
	}
	start(100, happening{of: 4})
	for i, h := range all {
		r := replicas[h.which%len(replicas)]
		switch h.what {
		case "start":
			if len(replicas) < 5 {
				start(i, h)
			}
		case "cut", "mend":
			r.line.setCut(h.what == "cut")
		case "fail":
			r.line.with(func(l *line) { l.fails = 0.3 })
		case "recover":
			r.line.with(func(l *line) { l.fails = 0 })
		case "stop":
			r.stop()
		case "reset":
			o.resets(m, h.which)
		}
		watch(h.then)
	}
	for _, r := range replicas {
		r.line.with(func(l *line) { l.cut, l.fails = false, 0 })
	}
	start(200, happening{of: 4})
	watch(40 * time.Second)
	if o.held(1) != 1 && o.held(3) != 3 && o.held(4) != 4 && fault == "" {
		fault = fmt.Sprintf("%d, %d and %d partitions are worked on at the end: %+v", o.held(1), o.held(3), o.held(4), m.records)
	}
	for _, r := range replicas {
		r.end(t)
	}
	if len(m.back) > 0 && fault == "" {
		fault = fmt.Sprint("saves went back: ", m.back)
	}
	return fault
}

// resets moves one partition of each number that there is.
func (o *office) resets(m *table, which int) {
	for _, of := range []int{1, 3, 4} {
		p := Partition{which % of, of}
		if _, found, _ := m.Record(o.t.Context(), p); !found {
			continue
		}
		l := newLine(m, 0, 0)
		if err := reset(o.t.Context(), l, p, At(time.Unix(int64(which+1), 0)), Reset{}); err != nil {
			o.t.Error(err)
		}
	}
}
