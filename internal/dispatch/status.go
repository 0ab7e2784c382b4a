package dispatch

import (
	"cmp"
	"context"
	"hash/fnv"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/plain"
	"github.com/cxbridge/watcher/internal/queue"
)

// problem is what an attempt said that was no success, before it is put into
// words, which costs more than an attempt should.
type problem struct {
	status int
	err    string
}

// ProblemText is what a lane's destination said last that was no success, in
// words; "" for nothing. It holds nothing that the receiver wrote.
func ProblemText(p queue.Problem) string {
	last, ok := p.What.(problem)
	if !ok {
		return ""
	}
	return words(last.status, last.err)
}

// Outcome is one of the last outcomes, for people.
type Outcome struct {
	At          time.Time  `json:"at"`
	Bot         string     `json:"bot"` // its name, else its id
	CallID      string     `json:"call_id"`
	Destination string     `json:"destination,omitempty"` // without query and user information; "" when the bot has none
	Status      string     `json:"status"`
	HTTPStatus  int        `json:"http_status,omitzero"`
	Attempts    int        `json:"attempts"`
	Elapsed     plain.Span `json:"elapsed_seconds"`          // of the attempt; 0 when nothing was sent
	Why         string     `json:"why,omitempty"`            // in words when it was no success; nothing that the receiver wrote
	Next        time.Time  `json:"next_attempt_at,omitzero"` // zero when it is final
}

// keptOutcomes is how many of the last outcomes are kept.
const keptOutcomes = 50

// memory is a ring of the last outcomes.
type memory struct {
	mu   sync.Mutex
	ring [keptOutcomes]kept
	next int
}

// kept is an Outcome before it is put into words.
type kept struct {
	outcome Outcome
	err     string
}

func (m *memory) add(k kept) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ring[m.next%keptOutcomes] = k
	m.next++
}

// Recent returns the last outcomes, at most 50, the newest first. Calls that
// were deferred without an attempt are not among them.
func (d *Dispatcher) Recent() []Outcome {
	d.recent.mu.Lock()
	ring, next := d.recent.ring, d.recent.next
	d.recent.mu.Unlock()
	all := make([]Outcome, 0, keptOutcomes)
	for i := next - 1; i >= max(0, next-keptOutcomes); i-- {
		k := &ring[i%keptOutcomes]
		k.outcome.Why = words(k.outcome.HTTPStatus, k.err)
		all = append(all, k.outcome)
	}
	return all
}

// Totals counts calls since the start.
type Totals struct {
	Ended   map[string]uint64 // by ending: ok, rejected, skipped, failed, due, ignored, released
	Skipped map[string]uint64 // of the ignored ones, by reason, without those that never were
	Pending int64             // taken and not ended
	Sending int64             // attempts under way
	Slots   int               // of them at most
}

// Totals counts what came to this process since its start. Due calls count
// each time that they are taken.
func (d *Dispatcher) Totals() Totals {
	f, pending := d.account()
	t := Totals{
		Ended: make(map[string]uint64, endings), Skipped: d.skipped.counts(),
		Pending: pending, Sending: d.metrics.sendingNow.Load(), Slots: d.o.Concurrency,
	}
	for from := range sources {
		for end := range endings {
			t.Ended[end.String()] += f.ended[from][end]
		}
	}
	return t
}

// skipCounts counts skips by reason beside the metrics, which cannot be asked.
type skipCounts [reasonCount]atomic.Uint64

func (s *skipCounts) counts() map[string]uint64 {
	counts := make(map[string]uint64)
	for r := range s {
		if n := s[r].Load(); n > 0 {
			counts[Reason(r).String()] = n //nolint:gosec // an index of the closed set
		}
	}
	return counts
}

// report counts and logs what was decided: one wide line for each outcome, kept
// for those who ask for the last ones, and one of level debug for a call that
// was skipped or deferred.
func (d *Dispatcher) report(it *item, decision Decision, o *calls.Outcome) {
	call := it.call
	if call == nil { // it is gone, and with it its name
		call = &calls.Call{ID: it.event.ID, CompletedAt: it.event.CompletedAt}
	}
	switch decision.Action {
	case Skip:
		d.metrics.skips[decision.Reason].Inc()
		d.skipped[decision.Reason].Add(1)
		if d.o.Skips != nil && reasonTexts[decision.Reason].leavesNoTrace {
			d.o.Skips.Add(call, decision.Reason.String())
		}
		d.logger.Debug("not pushed", "bot_id", call.BotID, "call_id", call.Name(), "reason", decision.Reason.String())
	case Defer:
		d.metrics.deferred.Inc()
		d.logger.Debug("deferred", "bot_id", call.BotID, "call_id", call.Name(), "reason", decision.Reason.String(), "until", decision.Until)
	default:
		d.reportDelivery(call, it.bot, o)
	}
}

// maxAnswer is how many characters of an answer a log line has.
const maxAnswer = 200

// reportDelivery writes the line. error, answer and next_attempt_at are there only
// when there is one; all other keys always are. bot is nil when it is gone.
func (d *Dispatcher) reportDelivery(call *calls.Call, bot *bots.Bot, o *calls.Outcome) {
	level := slog.LevelInfo
	if o.Status != calls.StatusOK && o.Status != calls.StatusSkipped && o.Transition != calls.ToWithdrawn {
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{
		slog.String("bot_id", call.BotID),
		slog.String("call_id", call.Name()),
		slog.String("delivery_id", o.DeliveryID),
		slog.String("outcome", string(o.Status)),
		slog.Int("http_status", o.HTTPStatus),
		slog.Int("attempts", o.Attempts),
		slog.Int64("elapsed_ms", o.Duration.Milliseconds()),
		slog.Int64("since_stored_ms", o.At.Sub(o.CompletedAt).Milliseconds()),
		slog.String("destination", place(o.URL)),
	}
	if o.Error != "" {
		attrs = append(attrs, slog.String("error", o.Error))
	}
	if o.Status != calls.StatusOK && o.ResponseBody != "" {
		attrs = append(attrs, slog.String("answer", plain.Line(plain.Mask(o.ResponseBody), maxAnswer)))
	}
	if !o.Final() {
		attrs = append(attrs, slog.Time("next_attempt_at", o.NextAttemptAt))
	}
	d.logger.LogAttrs(context.Background(), level, "delivery", attrs...)
	name := call.BotID
	if bot != nil {
		name = cmp.Or(bot.Name, name)
	}
	d.recent.add(kept{
		outcome: Outcome{
			At: o.At, Bot: name, CallID: call.Name(), Destination: o.URL, Status: string(o.Status),
			HTTPStatus: o.HTTPStatus, Attempts: o.Attempts, Elapsed: plain.Span(o.Duration), Next: o.NextAttemptAt,
		},
		err: o.Error,
	})
}

// place is a URL without its scheme.
func place(url string) string {
	if _, rest, ok := strings.Cut(url, "://"); ok {
		return rest
	}
	return url
}

// seed spreads the next attempts of deliveries that failed together.
func seed(deliveryID string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(deliveryID))
	return h.Sum64()
}
