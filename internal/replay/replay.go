// Package replay pushes stored results once more because an operator asks for it:
// which calls that concerns, how they are made due a few at a time, the record
// of the replay, and what became of it.
//
// It owns the record of a replay, which stands beside the saved positions, and
// the pace of the marking. It pushes nothing: a marked call is due on its
// document, and a running watcher finds it there. It does not own the decision
// to push, nor the fields of a call.
package replay

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/pkg/resume"
)

// Missing is the status of a call whose present result was never pushed.
const Missing calls.Status = "missing"

// Statuses is what a replay can select by, a closed set.
var Statuses = []calls.Status{Missing, calls.StatusFailed, calls.StatusRejected, calls.StatusOK, calls.StatusSkipped}

// Ask is what an operator asked for. Empty Bots and Sessions are all.
type Ask struct {
	Since, Until time.Time // of completed_at, both included
	Bots         []string  // ids in text form
	Sessions     []string
	Statuses     []calls.Status
	Rate         float64 // calls made due in a second
}

// StatusOf is the status of a call's present result. What the platform pushed by
// itself counts, though it does not say of which result it was.
func StatusOf(call *calls.Call) calls.Status {
	p := &call.Pushed
	if p.Status == "" || !p.CompletedAt.Equal(call.CompletedAt) && !p.ByPlatform() {
		return Missing
	}
	return p.Status
}

// Selector finds stored results; *calls.Store is the real one.
type Selector interface {
	Select(ctx context.Context, q calls.Stored, fn func(calls.Call) error) error
}

// MostCalls is how many calls one replay may concern: about 120 MB in memory.
const MostCalls = 500_000

// ErrTooMany says that a replay would concern more than MostCalls.
var ErrTooMany = fmt.Errorf("more than %d calls: ask for a shorter time, or for fewer bots", MostCalls)

// Count is what calls are counted by that would be made due.
type Count struct {
	Bot    string       // text form of bot_id
	Name   string       // of the bot
	Status calls.Status // of the present result
}

// Skip is what calls are counted by that would not be pushed.
type Skip struct {
	Bot    string // text form of bot_id, its first 200 bytes; OtherBots beyond 1,000 bots and reasons
	Reason dispatch.Reason
}

// The bounds of Plan.Skips: a call may name any bot.
const (
	mostSkips   = 1000
	mostBotText = 200
	// OtherBots stands for the bots that are not counted one by one.
	OtherBots = "(others)"
)

// Plan is what a replay would do.
type Plan struct {
	Counts   map[Count]int
	Skips    map[Skip]int // not marked
	OnTheWay int          // calls that the stream has yet to bring; not marked

	calls []calls.Snapshot // to mark, the oldest result first
}

// Calls is how many calls would be made due.
func (p *Plan) Calls() int { return len(p.calls) }

// Duration is how long it takes to make them due.
func (p *Plan) Duration(rate float64) time.Duration {
	return time.Duration(float64(max(0, len(p.calls)-1)) / rate * float64(time.Second))
}

// Survey is what a plan is made from.
type Survey struct {
	Store Selector
	Bots  *bots.Set
	// Positions are the records of the saved positions, read before the calls are:
	// a call without an outcome that lies after them is not missing, a watcher comes to it.
	Positions []resume.Record
}

// Plan finds the calls of an ask, and changes nothing. Calls that the replay
// with this id has marked already are left out; "" is a new replay.
func (s *Survey) Plan(ctx context.Context, ask Ask, id string) (*Plan, error) {
	query := calls.Stored{From: ask.Since, To: ask.Until, Sessions: ask.Sessions}
	for _, bot := range ask.Bots {
		query.Bots = append(query.Bots, calls.IDFormsOfText(bot)...)
	}
	p := &Plan{Counts: make(map[Count]int), Skips: make(map[Skip]int)}
	err := s.Store.Select(ctx, query, func(call calls.Call) error {
		status := StatusOf(&call)
		if !slices.Contains(ask.Statuses, status) || id != "" && call.Pushed.ReplayID == id {
			return nil
		}
		bot := s.Bots.Bot(call.Bot)
		switch reason := dispatch.SkipReason(&call, bot); {
		case reason != dispatch.NoReason:
			p.skip(call.BotID, reason)
		case status == Missing && resume.Ahead(s.Positions, call.ID, call.CompletedAt):
			p.OnTheWay++
		case len(p.calls) == MostCalls:
			return ErrTooMany
		default:
			p.Counts[Count{Bot: call.BotID, Name: bot.Name, Status: status}]++
			p.calls = append(p.calls, calls.SnapshotOf(&call))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(p.calls, func(a, b calls.Snapshot) int { return a.CompletedAt.Compare(b.CompletedAt) })
	return p, nil
}

func (p *Plan) skip(bot string, reason dispatch.Reason) {
	key := Skip{Bot: bot[:min(len(bot), mostBotText)], Reason: reason}
	if p.Skips[key] == 0 && len(p.Skips) >= mostSkips {
		key.Bot = OtherBots
	}
	p.Skips[key]++
}

// Report is what became of a replay.
type Report struct {
	Record

	// Waiting calls are due, or will be, and were not attempted yet; Retrying ones
	// were, and are attempted once more.
	Waiting  int                  `json:"waiting"`
	Retrying int                  `json:"retrying"`
	Done     map[calls.Status]int `json:"done"` // by final status
	// Replaced calls were marked, and have a newer result or were pushed by the
	// watcher before the replay came to them.
	Replaced int `json:"replaced"`
}

// Marks is how many calls carry the mark of the replay now.
func (r *Report) Marks() int {
	n := r.Waiting + r.Retrying
	for _, done := range r.Done {
		n += done
	}
	return n
}

// ReportOn finds what became of a replay.
func ReportOn(ctx context.Context, store Selector, r Record) (Report, error) {
	report := Report{Record: r, Done: make(map[calls.Status]int)}
	err := store.Select(ctx, calls.Stored{From: r.Since, To: r.Until, ReplayID: r.ID}, func(call calls.Call) error {
		switch p := &call.Pushed; {
		case p.NextAttemptAt.IsZero():
			report.Done[p.Status]++
		case p.Attempts == 0:
			report.Waiting++
		default:
			report.Retrying++
		}
		return nil
	})
	report.Replaced = max(0, r.Marked-report.Marks())
	return report, err
}

// ParseStatuses reads "failed,rejected"; each is one of Statuses.
func ParseStatuses(texts []string) ([]calls.Status, error) {
	known := make(map[calls.Status]bool)
	for _, text := range texts {
		s := calls.Status(text)
		if !slices.Contains(Statuses, s) {
			return nil, fmt.Errorf("%q is not failed, rejected, missing, ok or skipped", text)
		}
		known[s] = true
	}
	return slices.Sorted(maps.Keys(known)), nil
}
