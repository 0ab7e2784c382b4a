package dispatch

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/push"
)

// board is a top with one series, and its registry.
type board struct {
	*top
	t   rapid.TB
	reg *prometheus.Registry
}

func newBoard(t rapid.TB, limit int) *board {
	reg := prometheus.NewRegistry()
	desc := prometheus.NewDesc("things_total", "Things by name.", []string{"name"}, nil)
	return &board{top: newTop(reg, limit, []topSeries{{desc: desc}}), t: t, reg: reg}
}

// scrape returns the value of each name.
func (b *board) scrape() map[string]float64 { return scraped(b.t, b.reg, "things_total") }

// scraped returns the values of a family by their labels, joined.
func scraped(t rapid.TB, reg *prometheus.Registry, family string) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]float64)
	for _, f := range families {
		if f.GetName() != family {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			all[strings.Join(labels, " ")] = m.GetCounter().GetValue()
		}
	}
	return all
}

func (b *board) wants(want map[string]float64) {
	b.t.Helper()
	if got := b.scrape(); !maps.Equal(got, want) {
		b.t.Errorf("scraped %v, want %v", got, want)
	}
}

func TestTheWorstAndTheBusiestHaveSeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(t, 1)
		b.wants(map[string]float64{"other": 0})
		b.add("early", 0, 1, 1, 0)
		b.add("next", 0, 1, 1, 0)
		b.add("late", 0, 1, 1, 0) // both places are taken
		b.wants(map[string]float64{"early": 1, "next": 1, "other": 1})

		<-time.After(time.Minute)
		b.add("bad", 0, 5, 5, 5)
		b.add("busy", 0, 9, 9, 0)
		b.wants(map[string]float64{"bad": 0, "busy": 0, "other": 15})
		b.add("bad", 0, 1, 1, 1)
		b.add("next", 0, 1, 1, 0)
		b.wants(map[string]float64{"bad": 1, "busy": 0, "other": 16})

		<-time.After(topQuiet - 2*time.Minute)
		b.add("bad", 0, 1, 1, 1) // what it was counted before counts no more
		<-time.After(3 * time.Minute)
		b.wants(map[string]float64{"bad": 2, "other": 16})
		if len(b.byName) != 1 {
			t.Errorf("%d names are remembered", len(b.byName))
		}
	})
}

// What a tenant calls its bot breaks no scrape.
func TestOddNames(t *testing.T) {
	b := newBoard(t, 10)
	for _, name := range []string{"", "other", "\xff\xfe", "\xff", "a\nb\x00", strings.Repeat("x", 300), strings.Repeat("x", 400), strings.Repeat("ü", 200)} {
		b.add(name, 0, 1, 1, 0)
	}
	b.wants(map[string]float64{
		"other": 2, "\ufffd": 2, "a\nb\x00": 1, strings.Repeat("x", 256): 2, strings.Repeat("ü", 128): 1,
	})
}

func TestNamesAreBounded(t *testing.T) {
	b := newBoard(t, 1)
	for i := range maxTopNames + 100 {
		b.add(fmt.Sprint(i), 0, 1, 1, 0)
	}
	if len(b.byName) != maxTopNames {
		t.Errorf("%d names", len(b.byName))
	}
	if got := b.scrape(); len(got) != 3 || got["other"] != maxTopNames+100-2 {
		t.Errorf("scraped %v", got)
	}
}

// age makes everything so much older.
func (b *board) age(d time.Duration) {
	b.ranked = b.ranked.Add(-d)
	for _, e := range b.byName {
		e.counted, e.first = e.counted.Add(-d), e.first.Add(-d)
	}
}

// Whatever happens in which order: no series of a name that stays goes backwards,
// nothing is counted twice, and no more names than allowed are shown.
func TestTopKeepsCount(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBoard(rt, rapid.IntRange(1, 3).Draw(rt, "limit"))
		added, hidden := 0.0, 0.0
		last := map[string]float64{}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			for range rapid.IntRange(0, 20).Draw(rt, "adds") {
				name := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g", "h", "other"}).Draw(rt, "name")
				b.add(name, 0, 1, 1, float64(rapid.IntRange(0, 1).Draw(rt, "bad")))
				added++
			}
			b.age(time.Duration(rapid.IntRange(0, 120).Draw(rt, "minutes")) * time.Minute)
			before := make(map[string]float64)
			for name, e := range b.byName {
				if e.scraped {
					before[name] = float64(e.counts[0])
				}
			}
			now := b.scrape()
			if len(now) > 2*b.limit+1 {
				rt.Fatalf("%d names: %v", len(now), now)
			}
			if now["other"] < last["other"] {
				rt.Fatalf("other went from %v to %v", last["other"], now["other"])
			}
			for name, n := range before {
				if is, ok := now[name]; !ok {
					hidden += n // its series ended with so much
				} else if is != n {
					rt.Fatalf("%s is %v, want %v", name, is, n)
				}
			}
			sum := hidden
			for _, n := range now {
				sum += n
			}
			if sum != added {
				rt.Fatalf("%v counted of %v: %v and %v that ended", sum, added, now, hidden)
			}
			last = now
		}
	})
}

func TestMetricsByBotAndHost(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := newMetrics(reg, 5)
	bot := prepareBot(t, map[string]any{"url": "https://CRM.example.com:8443/x?key=secret"})
	for _, class := range push.Classes() {
		m.bots.attempted(bot, class)
	}
	retry := calls.Outcome{Attempt: calls.Attempt{Status: calls.StatusRejected}, NextAttemptAt: time.Now()}
	for _, o := range []calls.Outcome{
		retry, {Attempt: calls.Attempt{Status: calls.StatusRejected}}, {Attempt: calls.Attempt{Status: calls.StatusSkipped}},
		{Attempt: calls.Attempt{Status: calls.StatusFailed}, Transition: calls.ToWithdrawn},
	} {
		m.bots.recorded(bot.ID, &o)
	}
	m.unresolved(bot.ID, &misses{2, 3})
	want := map[string]map[string]float64{
		"watcher_dispatch_bot_final_outcomes_total":    {bot.ID + " ok": 0, bot.ID + " rejected": 1, bot.ID + " failed": 0},
		"watcher_dispatch_bot_unresolved_tokens_total": {bot.ID + " unknown": 2, bot.ID + " empty": 3},
		"watcher_dispatch_unresolved_tokens_total":     {"unknown": 2, "empty": 3},
	}
	for family, name := range map[string]string{
		"watcher_dispatch_bot_attempts_total": bot.ID + " ", "watcher_dispatch_host_attempts_total": "crm.example.com:8443 ",
	} {
		want[family] = make(map[string]float64)
		for _, class := range topClasses {
			if host := "watcher_dispatch_host_attempts_total"; family == host {
				want[family][class.String()+" crm.example.com:8443"] = 1
				continue
			}
			want[family][name+class.String()] = 1
		}
	}
	for family, values := range want {
		got := scraped(t, reg, family)
		maps.DeleteFunc(got, func(labels string, _ float64) bool { return slices.Contains(strings.Fields(labels), otherName) })
		if !maps.Equal(got, values) {
			t.Errorf("%s: %v, want %v", family, got, values)
		}
	}
}

func TestNoMetricsByBotWithoutALimit(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := newMetrics(reg, 0)
	bot := prepareBot(t, map[string]any{"url": "https://crm.example.com"})
	m.bots.attempted(bot, push.ClassOK)
	m.bots.recorded(bot.ID, &calls.Outcome{Attempt: calls.Attempt{Status: calls.StatusOK}})
	m.unresolved(bot.ID, &misses{1, 1})
	if got := scraped(t, reg, "watcher_dispatch_bot_attempts_total"); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// BenchmarkRank shows what a scrape costs with as many bots as are ranked.
func BenchmarkRank(b *testing.B) {
	all := newBoard(b, 50)
	for i := range maxTopNames {
		all.add(fmt.Sprint(i), 0, 1, float64(i%977), float64(i%13))
	}
	for b.Loop() {
		all.rank(time.Now())
	}
}
