package dispatch

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/push"
)

// LaneStatus is how one destination does, for people.
type LaneStatus struct {
	Key     string    // bots.Push.Destination; not for people
	URL     string    // without query and user information
	State   string    // closed, held, open or half_open, as in the metrics
	Until   time.Time // when a lane that is open or held takes calls again
	Active  int       // attempts under way
	Allowed int       // of them at most now
	Limit   int       // of them at most ever
	Waiting int       // calls in memory that wait for their turn
	PutOff  int       // calls that were put off on their documents since it last went well
	Used    time.Time
	Problem Problem
}

// Problem is what a destination said last that was no success. The zero
// Problem is none so far.
type Problem struct {
	Text  string    // in words; may hold what the receiver wrote
	Since time.Time // of the first since the last success; zero when a success came after it
	Last  time.Time
	Times int // since the last success
}

// trouble is a Problem before it is put into words, which costs more than an
// attempt should. The lanes' lock guards it.
type trouble struct {
	status      int
	err, body   string
	since, last time.Time
	times       int
}

func (t *trouble) note(res *push.Result, now time.Time) {
	if res.Err == nil {
		t.since, t.times = time.Time{}, 0
		return
	}
	if t.times == 0 {
		t.since = now
	}
	t.times++
	t.last, t.status, t.err, t.body = now, res.HTTPStatus, res.Err.Error(), res.Body
}

func (t *trouble) problem() Problem {
	return Problem{Text: words(t.status, t.err, t.body), Since: t.since, Last: t.last, Times: t.times}
}

// Lanes is how the destinations do that were used in the last half hour, in no
// order.
func (d *Dispatcher) Lanes() []LaneStatus {
	now := time.Now()
	d.lanes.mu.Lock()
	all := make([]LaneStatus, 0, len(d.lanes.byKey))
	troubles := make([]trouble, 0, len(d.lanes.byKey))
	for key, l := range d.lanes.byKey {
		all = append(all, LaneStatus{
			Key: key, URL: l.url, State: l.state(now), Until: l.blockedUntil(now),
			Active: l.active, Allowed: l.allowed(now), Limit: l.limit.max,
			Waiting: l.waiting(), PutOff: int(l.putOff.Load()), Used: l.used,
		})
		troubles = append(troubles, l.trouble)
	}
	d.lanes.mu.Unlock()
	for i := range all {
		all[i].Problem = troubles[i].problem()
	}
	return all
}

// Outcome is one of the last outcomes, for people.
type Outcome struct {
	At         time.Time
	BotID      string
	BotName    string
	CallID     string
	URL        string // without query and user information; "" when the bot has none
	Status     calls.Status
	HTTPStatus int
	Attempts   int
	Elapsed    time.Duration // of the attempt; 0 when nothing was sent
	Why        string        // in words when it was no success; may hold what the receiver wrote
	Next       time.Time     // of the next try; zero when it is final
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
	body    string
}

func (m *memory) add(k kept) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ring[m.next%keptOutcomes] = k
	m.next++
}

// Recent returns the last outcomes, at most 50, the newest first. Calls that
// were put off without a try are not among them.
func (d *Dispatcher) Recent() []Outcome {
	d.recent.mu.Lock()
	ring, next := d.recent.ring, d.recent.next
	d.recent.mu.Unlock()
	all := make([]Outcome, 0, keptOutcomes)
	for i := next - 1; i >= max(0, next-keptOutcomes); i-- {
		k := &ring[i%keptOutcomes]
		k.outcome.Why = words(k.outcome.HTTPStatus, k.err, k.body)
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

// Totals counts what came to this process since its start. Due tries count
// each time that they are taken.
func (d *Dispatcher) Totals() Totals {
	f, pending := d.account()
	t := Totals{
		Ended: make(map[string]uint64, endings), Skipped: d.skipped.counts(),
		Pending: pending, Sending: d.metrics.sendingNow.Load(), Slots: d.lanes.slots,
	}
	for from := range sources {
		for end := range endings {
			t.Ended[end.String()] += f.ended[from][end]
		}
	}
	return t
}

// skipCounts counts skips by reason beside the metrics, which cannot be asked.
// The map is complete from the start and never changes.
type skipCounts map[Reason]*atomic.Uint64

func newSkipCounts() skipCounts {
	s := make(skipCounts, len(allReasons))
	for _, r := range allReasons {
		s[r] = new(atomic.Uint64)
	}
	return s
}

func (s skipCounts) counts() map[string]uint64 {
	counts := make(map[string]uint64)
	for r, n := range s {
		if n := n.Load(); n > 0 {
			counts[string(r)] = n
		}
	}
	return counts
}

// report writes the one wide line of a delivery, and keeps it for those who ask
// for the last ones. error and next_attempt_at are there only when there is
// one; all other keys always are. bot is nil when it is gone.
func (d *Dispatcher) report(call *calls.Call, bot *bots.Bot, o *calls.Outcome) {
	level := slog.LevelInfo
	if o.Status != calls.StatusOK && o.Status != calls.StatusSkipped && !o.Withdrawn {
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{
		slog.String("bot_id", call.BotID),
		slog.String("call_id", call.Name()),
		slog.String("delivery_id", o.DeliveryID),
		slog.String("outcome", string(o.Status)),
		slog.Int("http_status", o.HTTPStatus),
		slog.Int("attempts", o.Attempts),
		slog.Duration("elapsed", o.Duration),
		slog.Duration("since_stored", o.PushedAt.Sub(o.CompletedAt)),
		slog.String("destination", place(o.URL)),
	}
	if o.Error != "" {
		attrs = append(attrs, slog.String("error", o.Error))
	}
	if !o.Final() {
		attrs = append(attrs, slog.Time("next_attempt_at", o.NextAttemptAt))
	}
	d.logger.LogAttrs(context.Background(), level, "delivery", attrs...)
	name := ""
	if bot != nil {
		name = bot.Name
	}
	d.recent.add(kept{
		outcome: Outcome{
			At: o.PushedAt, BotID: call.BotID, BotName: name, CallID: call.Name(), URL: o.URL,
			Status: o.Status, HTTPStatus: o.HTTPStatus, Attempts: o.Attempts, Elapsed: o.Duration, Next: o.NextAttemptAt,
		},
		err: o.Error, body: o.ResponseBody,
	})
}

// place is a URL without its scheme.
func place(url string) string {
	if _, rest, ok := strings.Cut(url, "://"); ok {
		return rest
	}
	return url
}
