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
	"slices"
	"time"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/internal/inspect"
)

// Ask is what an operator asked for.
type Ask struct {
	inspect.Query         // States are those to push once more; bots are ids
	Rate          float64 // calls made due in a second
}

// MostCalls is how many calls one replay may concern: about 200 MB in memory.
const MostCalls = 500_000

// ErrTooMany says that a replay would concern more than MostCalls.
var ErrTooMany = fmt.Errorf("more than %d calls: ask for a shorter time, or for fewer bots", MostCalls)

// Count is what calls are counted by that would be made due.
type Count struct {
	Bot   string // text form of bot_id
	Name  string // of the bot
	State inspect.State
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
	OnTheWay int          // calls that no watcher has come past yet; not marked

	calls []calls.Snapshot // to mark, the oldest result first
}

// Calls is how many calls would be made due.
func (p *Plan) Calls() int { return len(p.calls) }

// Duration is how long it takes to make them due.
func (p *Plan) Duration(rate float64) time.Duration {
	return time.Duration(float64(max(0, len(p.calls)-1)) / rate * float64(time.Second))
}

// Find makes the plan of an ask, and changes nothing. Calls that the replay with this
// id has marked already are left out; "" is a new replay.
func Find(ctx context.Context, selection *inspect.Selection, ask Ask, id string) (*Plan, error) {
	p := &Plan{Counts: make(map[Count]int), Skips: make(map[Skip]int)}
	all := ask.Query
	all.States = nil // what is not pushable and what is on its way is counted too
	err := selection.Each(ctx, all, time.Now(), func(f *inspect.Found) error {
		if id != "" && f.Call.Pushed.ReplayID == id {
			return nil
		}
		return p.add(f, ask.States)
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(p.calls, func(a, b calls.Snapshot) int { return a.CompletedAt.Compare(b.CompletedAt) })
	return p, nil
}

// add counts a call, and notes it when it is to be marked.
func (p *Plan) add(f *inspect.Found, states []inspect.State) error {
	asked := slices.Contains(states, f.State)
	reason := dispatch.SkipReason(f.Call, f.Bot)
	switch {
	case f.OnItsWay:
		if asked || slices.Contains(states, inspect.StateMissing) {
			p.OnTheWay++
		}
	case !asked && (f.Outcome || f.State != inspect.StateSkipped || !slices.Contains(states, inspect.StateMissing)):
	case reason != dispatch.NoReason:
		p.skip(f.Call.BotID, reason)
	case !asked: // it was not to be pushed, and could be now
	case len(p.calls) == MostCalls:
		return ErrTooMany
	default:
		p.Counts[Count{Bot: f.Call.BotID, Name: f.Bot.Name, State: f.State}]++
		p.calls = append(p.calls, calls.SnapshotOf(f.Call))
	}
	return nil
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
func ReportOn(ctx context.Context, store inspect.Selector, r Record) (Report, error) {
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
	report.Replaced = max(0, r.Marked-r.Cancelled-report.Marks())
	return report, err
}
