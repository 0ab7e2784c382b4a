package cluster

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/internal/plain"
)

// The bounds of what is counted and shown.
const (
	maxCounted = 100_000 // entries of the index
	maxRows    = 50      // bots, and hosts
)

// Waiting is the calls that a next attempt is scheduled for.
type Waiting struct {
	Counts
	Replayed int    `json:"replayed"`          // of them, those that a replay made due
	Partial  bool   `json:"partial"`           // there are more than the 100,000 that were counted
	Unknown  string `json:"unknown,omitempty"` // why nothing was counted

	Bots      []WaitingBot  `json:"bots"` // those with the most calls that are due first
	BotsLeft  int           `json:"bots_left"`
	Hosts     []WaitingHost `json:"hosts"`
	HostsLeft int           `json:"hosts_left"`
}

// Counts are calls with a next attempt. Each is either held, due or scheduled.
type Counts struct {
	Calls     int       `json:"calls"`
	Due       int       `json:"due"`                      // the time of the next attempt has come
	Scheduled int       `json:"scheduled"`                // it is still to come
	Held      int       `json:"held"`                     // an operator keeps them back
	Failing   int       `json:"failing"`                  // of all these, those of which an attempt has failed
	First     time.Time `json:"next_attempt_at,omitzero"` // the earliest of those that are not held
}

func (c *Counts) add(o Counts) {
	c.Calls += o.Calls
	c.Due += o.Due
	c.Scheduled += o.Scheduled
	c.Held += o.Held
	c.Failing += o.Failing
	if c.First.IsZero() || !o.First.IsZero() && o.First.Before(c.First) {
		c.First = o.First
	}
}

// order is by how much is due, then by how much there is.
func (c *Counts) order(o *Counts) int {
	return cmp.Or(cmp.Compare(o.Due, c.Due), cmp.Compare(o.Calls, c.Calls))
}

// WaitingBot is what waits of one bot.
type WaitingBot struct {
	ID   string `json:"id"` // "" for calls without one
	Name string `json:"name,omitempty"`
	Host string `json:"host,omitempty"`
	Counts
	// Last is what was said to one of the calls last; nil when it was not looked up or
	// none was attempted yet.
	Last *Answer `json:"last_attempt,omitempty"`
}

// Answer is what came of an attempt.
type Answer struct {
	At         time.Time    `json:"at"`
	Status     calls.Status `json:"status"`
	HTTPStatus int          `json:"http_status,omitempty"`
	Error      string       `json:"error,omitempty"` // without what could lead to a customer
	Attempts   int          `json:"attempts"`
}

// WaitingHost is what waits of all bots that push to one host.
type WaitingHost struct {
	Host string `json:"host"`
	Bots int    `json:"bots"`
	Counts
}

func (r *Reader) waiting(ctx context.Context, s *Summary) error {
	s.Waiting.Bots, s.Waiting.Hosts = []WaitingBot{}, []WaitingHost{}
	groups, err := r.store.CountWaiting(ctx, s.At, maxCounted)
	if errors.Is(err, calls.ErrNoDueIndex) {
		s.Waiting.Unknown = err.Error() + "; watcher run creates it, if it has the right to"
		return nil
	}
	if err != nil {
		return err
	}
	known := bots.NewSet(nil)
	if len(groups) > 0 {
		if known, err = r.o.Known(ctx); err != nil {
			return err
		}
	}
	slices.SortFunc(groups, func(a, b calls.Waiting) int {
		return cmp.Or(cmp.Compare(b.Due, a.Due), cmp.Compare(b.Calls, a.Calls), cmp.Compare(calls.IDText(a.Bot), calls.IDText(b.Bot)))
	})
	holds, hosts := hold.NewSet(s.Holds), make(map[string]*WaitingHost)
	for _, g := range groups {
		row := waitingBot(g, known.Bot(g.Bot), holds, s.At)
		s.Waiting.add(row.Counts)
		s.Waiting.Replayed += g.Replay
		if row.Host != "" {
			h := hosts[row.Host]
			if h == nil {
				h = &WaitingHost{Host: row.Host}
				hosts[row.Host] = h
			}
			h.Bots++
			h.add(row.Counts)
		}
		if len(s.Waiting.Bots) == maxRows {
			s.Waiting.BotsLeft++
			continue
		}
		if len(s.Waiting.Bots) < r.o.Samples {
			if row.Last, err = r.last(ctx, g); err != nil {
				return err
			}
		}
		s.Waiting.Bots = append(s.Waiting.Bots, row)
	}
	s.Waiting.Partial = s.Waiting.Calls >= maxCounted
	for _, h := range hosts {
		s.Waiting.Hosts = append(s.Waiting.Hosts, *h)
	}
	slices.SortFunc(s.Waiting.Hosts, func(a, b WaitingHost) int { return cmp.Or(a.order(&b.Counts), strings.Compare(a.Host, b.Host)) })
	s.Waiting.HostsLeft = max(0, len(s.Waiting.Hosts)-maxRows)
	s.Waiting.Hosts = s.Waiting.Hosts[:min(len(s.Waiting.Hosts), maxRows)]
	return nil
}

func waitingBot(g calls.Waiting, bot *bots.Bot, holds *hold.Set, now time.Time) WaitingBot {
	row := WaitingBot{Counts: Counts{Calls: g.Calls, Failing: g.Failing}}
	if g.Bot.Type != 0 && !g.Bot.IsZero() {
		row.ID = text(calls.IDText(g.Bot))
	}
	if bot != nil {
		row.Name = text(bot.Name)
		if bot.Push != nil {
			row.Host = text(bot.Push.Host())
		}
		if holds.For(bot, now) != nil {
			row.Held = g.Calls
			return row
		}
	}
	row.Due, row.Scheduled, row.First = g.Due, g.Calls-g.Due, g.First
	return row
}

// last looks one call up.
func (r *Reader) last(ctx context.Context, g calls.Waiting) (*Answer, error) {
	last, err := r.store.Sample(ctx, g.Bot)
	if err != nil || last.Attempts == 0 {
		return nil, err
	}
	return &Answer{
		At: last.At, Status: calls.Status(text(string(last.Status))), HTTPStatus: last.HTTPStatus,
		Error: text(plain.Mask(last.Error)), Attempts: last.Attempts,
	}, nil
}
