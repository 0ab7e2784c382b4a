// Package hold keeps calls of a bot or a host back because an operator asks for
// it: the records of the holds, and which of them covers a bot.
//
// It owns the record of a hold, which stands beside the saved positions, and the
// set of holds that each replica knows. It does not own the decision on a call.
package hold

import (
	"slices"
	"strings"
	"time"

	"github.com/cxbridge/watcher/internal/bots"
)

// Hold keeps the calls of one bot, or of all bots that push to one host.
type Hold struct {
	ID    string    `bson:"-"                  json:"id"`
	Bot   string    `bson:"bot,omitempty"      json:"bot,omitempty"`     // id in text form, as calls.IDText gives it; "" for a host
	Host  string    `bson:"host,omitempty"     json:"host,omitempty"`    // in lower case, with its port when the URL names one
	Why   string    `bson:"why"                json:"why"`               // one line of at most 500 bytes
	By    string    `bson:"by"                 json:"by"`                // who asked, at most 200 bytes
	From  time.Time `bson:"from"               json:"from"`              // since when
	Until time.Time `bson:"until,omitempty"    json:"until,omitzero"`    // zero: until it is released
	Ended time.Time `bson:"ended,omitempty"    json:"released,omitzero"` // when it was released; zero when it was not
	EndBy string    `bson:"ended_by,omitempty" json:"released_by,omitempty"`
}

// Active reports whether the hold keeps calls back at a time. It does so from the
// moment on in which it is seen, whatever the clock said of those who made it.
func (h *Hold) Active(now time.Time) bool {
	return h.Ended.IsZero() && (h.Until.IsZero() || now.Before(h.Until))
}

// Over is when the hold ended or will end, the earlier of its release and its
// time; zero when it lasts until it is released.
func (h *Hold) Over() time.Time {
	if h.Ended.IsZero() || !h.Until.IsZero() && h.Until.Before(h.Ended) {
		return h.Until
	}
	return h.Ended
}

// Covers reports whether the hold is about this bot.
func (h *Hold) Covers(b *bots.Bot) bool {
	if h.Bot != "" {
		return h.Bot == b.ID
	}
	return b.Push != nil && slices.Contains(b.Push.Hosts, strings.ToLower(h.Host))
}

// Set is all holds at one moment, those that are over included for as long as
// they count for the age of a delivery. It is immutable; the zero Set holds nothing.
type Set struct {
	all           []Hold
	byBot, byHost map[string][]*Hold
}

// NewSet makes a Set.
func NewSet(all []Hold) *Set {
	s := &Set{all: all, byBot: make(map[string][]*Hold), byHost: make(map[string][]*Hold)}
	for i := range all {
		if h := &all[i]; h.Bot != "" {
			s.byBot[h.Bot] = append(s.byBot[h.Bot], h)
		} else {
			host := strings.ToLower(h.Host)
			s.byHost[host] = append(s.byHost[host], h)
		}
	}
	return s
}

// All is the holds of the Set. They must not be changed.
func (s *Set) All() []Hold { return s.all }

// about are the holds that cover a bot, over or not.
func (s *Set) about(b *bots.Bot) []*Hold {
	if b == nil {
		return nil
	}
	found := slices.Clip(s.byBot[b.ID])
	if b.Push != nil && len(s.byHost) > 0 {
		for _, host := range b.Push.Hosts {
			found = append(found, s.byHost[host]...)
		}
	}
	return found
}

// For returns the hold that keeps the calls of a bot back, nil when none does.
func (s *Set) For(b *bots.Bot, now time.Time) *Hold {
	for _, h := range s.about(b) {
		if h.Active(now) {
			return h
		}
	}
	return nil
}

// Paused is for how long of the time between from and to a bot was held, by
// whichever hold: the age of a delivery is less by that.
func (s *Set) Paused(b *bots.Bot, from, to time.Time) time.Duration {
	about := s.about(b)
	if len(about) == 0 {
		return 0
	}
	about = slices.SortedFunc(slices.Values(about), func(x, y *Hold) int { return x.From.Compare(y.From) })
	var sum time.Duration
	for _, h := range about {
		end := to
		if over := h.Over(); !over.IsZero() && over.Before(to) {
			end = over
		}
		if h.From.After(from) {
			from = h.From
		}
		if end.After(from) {
			sum += end.Sub(from)
			from = end // what two holds cover counts once
		}
	}
	return sum
}
