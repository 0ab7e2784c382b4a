// Package hold keeps calls of a bot or a host back because an operator asks for
// it: the records of the holds, and which of them covers a bot.
//
// It owns the record of a hold, which stands beside the saved positions, and the
// set of holds that each replica knows. It does not own the decision on a call.
package hold

import (
	"time"

	"github.com/cxbridge/watcher/internal/bots"
)

// Hold keeps the calls of one bot, or of all bots that push to one host.
type Hold struct {
	ID    string    `bson:"-"            json:"id"`
	Bot   string    `bson:"bot"          json:"bot,omitempty"`     // id in text form; "" for a host
	Host  string    `bson:"host"         json:"host,omitempty"`    // in lower case, with its port when the URL names one
	Why   string    `bson:"why"          json:"why"`               // at most 500 bytes
	By    string    `bson:"by"           json:"by"`                // who asked
	From  time.Time `bson:"from"         json:"from"`              // since when
	Until time.Time `bson:"until"        json:"until,omitzero"`    // zero: until it is released
	Ended time.Time `bson:"ended"        json:"released,omitzero"` // when it was released; zero when it was not
	EndBy string    `bson:"ended_by"     json:"released_by,omitempty"`
}

// Active reports whether the hold keeps calls back at a time.
func (h *Hold) Active(now time.Time) bool {
	return !now.Before(h.From) && h.Ended.IsZero() && (h.Until.IsZero() || now.Before(h.Until))
}

// Covers reports whether the hold is about this bot.
func (h *Hold) Covers(b *bots.Bot) bool {
	if h.Bot != "" {
		return h.Bot == b.ID
	}
	return b.Push != nil && h.Host != "" && h.Host == b.Push.Host()
}

// Set is all holds at one moment, those that are over included for as long as
// they count for the age of a delivery. It is immutable; the zero Set holds nothing.
type Set struct{ all []Hold }

// NewSet makes a Set.
func NewSet(all []Hold) *Set { return &Set{all: all} }

// For returns the hold that keeps the calls of a bot back, nil when none does.
func (s *Set) For(b *bots.Bot, now time.Time) *Hold {
	for i := range s.all {
		if h := &s.all[i]; h.Active(now) && h.Covers(b) {
			return h
		}
	}
	return nil
}
