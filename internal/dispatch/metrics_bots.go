package dispatch

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/push"
)

// otherBots is the label of the bots that came after the limit was reached.
const otherBots = "other"

// botMetrics count by bot, for the first bots that push; all further ones share
// one label, so that the number of series is bounded. nil counts nothing.
type botMetrics struct {
	limit    int
	outcomes *prometheus.CounterVec
	attempts *prometheus.CounterVec

	mu    sync.RWMutex
	byBot map[string]*botCounters
	other *botCounters
}

// botCounters are the handles of one bot.
type botCounters struct {
	outcomes map[calls.Status]outcomeCounters
	attempts []prometheus.Counter // by push.Class
}

// newBotMetrics returns nil for a limit of 0: no metric has a bot then.
func newBotMetrics(reg prometheus.Registerer, limit int) *botMetrics {
	if limit <= 0 {
		return nil
	}
	m := &botMetrics{
		limit: limit,
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "watcher_dispatch_bot_outcomes_total",
			Help: "Outcomes written onto calls, by bot, status and whether it is final. Only with --metrics-bot-label.",
		}, []string{"bot_id", "status", "final"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "watcher_dispatch_bot_attempts_total",
			Help: "Attempts, by bot and what they came to. Only with --metrics-bot-label.",
		}, []string{"bot_id", "class"}),
		byBot: make(map[string]*botCounters),
	}
	m.other = m.counters(otherBots)
	reg.MustRegister(m.outcomes, m.attempts)
	return m
}

func (m *botMetrics) counters(bot string) *botCounters {
	c := &botCounters{outcomes: make(map[calls.Status]outcomeCounters)}
	for _, s := range calls.Statuses {
		c.outcomes[s] = outcomeCounters{
			final:     m.outcomes.WithLabelValues(bot, string(s), "true"),
			scheduled: m.outcomes.WithLabelValues(bot, string(s), "false"),
		}
	}
	for _, class := range push.Classes() {
		c.attempts = append(c.attempts, m.attempts.WithLabelValues(bot, class.String()))
	}
	return c
}

// of returns the counters of a bot; those of a new one begin at zero.
func (m *botMetrics) of(bot string) *botCounters {
	m.mu.RLock()
	c := m.byBot[bot]
	full := len(m.byBot) >= m.limit
	m.mu.RUnlock()
	switch {
	case c != nil:
		return c
	case full || bot == otherBots:
		return m.other
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.byBot[bot]; c != nil {
		return c
	}
	if len(m.byBot) >= m.limit {
		return m.other
	}
	c = m.counters(bot)
	m.byBot[bot] = c
	return c
}

// attempted counts an attempt. Where m is nil nothing is counted.
func (m *botMetrics) attempted(bot string, class push.Class) {
	if m != nil {
		m.of(bot).attempts[class].Inc()
	}
}

// recorded counts an outcome.
func (m *botMetrics) recorded(bot string, o *calls.Outcome) {
	if m == nil || o.Transition == calls.ToDeferred || o.Transition == calls.ToWithdrawn {
		return
	}
	c := m.of(bot).outcomes[o.Status]
	switch {
	case c.final == nil: // no status of ours
	case o.Final():
		c.final.Inc()
	default:
		c.scheduled.Inc()
	}
}
