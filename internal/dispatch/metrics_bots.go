package dispatch

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/render"
)

// botMetrics count by bot, and by the host that bots push to. Which of them have
// series is said at top. The zero botMetrics counts nothing.
type botMetrics struct{ bots, hosts *top }

// The series of a bot in their order: attempts by class, final outcomes by status,
// unresolved tokens by kind. Those of a host are its attempts by class.
var (
	topClasses  = slices.DeleteFunc(push.Classes(), func(c push.Class) bool { return c == push.ClassCanceled })
	topStatuses = []calls.Status{calls.StatusOK, calls.StatusRejected, calls.StatusFailed}
)

// newBotMetrics gives series to twice as many bots and hosts as limit says, at
// most; to none with 0.
func newBotMetrics(reg prometheus.Registerer, limit int) botMetrics {
	if limit <= 0 {
		return botMetrics{}
	}
	attempts := func(name, of, label string) (all []topSeries) {
		desc := prometheus.NewDesc(name, "Attempts by "+of+" and what they came to, for the worst and the busiest; the others are other.",
			[]string{label, "class"}, nil)
		for _, c := range topClasses {
			all = append(all, topSeries{desc, []string{c.String()}})
		}
		return all
	}
	ofBot := attempts("watcher_dispatch_bot_attempts_total", "bot", "bot_id")
	outcomes := prometheus.NewDesc("watcher_dispatch_bot_final_outcomes_total",
		"Final outcomes written onto calls, by bot and status, for the worst and the busiest; the others are other.", []string{"bot_id", "status"}, nil)
	for _, s := range topStatuses {
		ofBot = append(ofBot, topSeries{outcomes, []string{string(s)}})
	}
	unresolved := prometheus.NewDesc("watcher_dispatch_bot_unresolved_tokens_total",
		"Tokens of the bot's mapper that were sent as nothing, as in watcher_dispatch_unresolved_tokens_total, for the worst and the busiest; the others are other.",
		[]string{"bot_id", "kind"}, nil)
	for _, miss := range render.Misses() {
		ofBot = append(ofBot, topSeries{unresolved, []string{miss.String()}})
	}
	return botMetrics{
		bots:  newTop(reg, limit, ofBot),
		hosts: newTop(reg, limit, attempts("watcher_dispatch_host_attempts_total", "host of the destination", "host")),
	}
}

// attempted counts an attempt.
func (m botMetrics) attempted(bot *bots.Bot, class push.Class) {
	series := slices.Index(topClasses, class)
	if m.bots == nil || series < 0 {
		return
	}
	bad := 0.0
	if class != push.ClassOK {
		bad = 1
	}
	m.bots.add(bot.ID, series, 1, 1, bad)
	m.hosts.add(bot.Push.Host(), series, 1, 1, bad)
}

// recorded counts an outcome that stands on its call. Final failures count for the
// rank too: a bot that cannot push has no attempts.
func (m botMetrics) recorded(bot string, o *calls.Outcome) {
	status := slices.Index(topStatuses, o.Status)
	if !o.Final() || o.Transition == calls.ToWithdrawn || status < 0 {
		return
	}
	bad := 0.0
	if o.Status != calls.StatusOK {
		bad = 1
	}
	m.bots.add(bot, len(topClasses)+status, 1, 0, bad)
}

// unresolved counts the tokens of one payload that came to nothing.
func (m botMetrics) unresolved(bot string, counts *misses) {
	for miss, n := range counts {
		m.bots.add(bot, len(topClasses)+len(topStatuses)+miss, n, 0, 0)
	}
}
