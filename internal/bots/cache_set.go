package bots

import (
	"maps"
	"slices"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
)

// Set is all bots at one moment. It is immutable.
type Set struct {
	byID   map[idKey]*Bot
	fields func() []string // made when first needed, as it takes the mappers of all
	limits map[string]Limits
}

// Limits are what the bots of one destination have set for it: the lowest of
// each, as the destination is one for all of them. 0 is not set.
type Limits struct {
	Concurrency int
	PerSecond   float64
}

// NewSet makes a Set of bots; of two with one id the later counts.
func NewSet(all []*Bot) *Set {
	byID := make(map[idKey]*Bot, len(all))
	for _, b := range all {
		byID[keyOf(b.RawID)] = b
	}
	return newSet(byID)
}

func newSet(byID map[idKey]*Bot) *Set {
	return &Set{
		byID:   byID,
		fields: sync.OnceValue(func() []string { return Fields(slices.Collect(maps.Values(byID))) }),
		limits: limitsOf(byID),
	}
}

func limitsOf(byID map[idKey]*Bot) map[string]Limits {
	all := make(map[string]Limits)
	for _, b := range byID {
		if !b.Usable() || !b.Push.Enabled || b.Push.MaxConcurrency == 0 && b.Push.RatePerSecond == 0 {
			continue
		}
		l := all[b.Push.Destination]
		l.Concurrency = lower(l.Concurrency, b.Push.MaxConcurrency)
		l.PerSecond = lower(l.PerSecond, b.Push.RatePerSecond)
		all[b.Push.Destination] = l
	}
	return all
}

// lower is the lower one of those that are set.
func lower[T int | float64](a, b T) T {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// Limits returns the limits of a destination, none when it is not known.
func (s *Set) Limits(destination string) Limits { return s.limits[destination] }

// Bot returns the bot of an id as a call holds it, nil when there is none: the
// bot with the very same type and value, else with an id that means the same.
func (s *Set) Bot(id bson.RawValue) *Bot {
	for _, form := range calls.IDForms(id) {
		if b := s.byID[keyOf(form)]; b != nil {
			return b
		}
	}
	return nil
}

// Named returns a bot that a person means by a text, nil when there is none.
func (s *Set) Named(text string) *Bot {
	for _, form := range calls.IDFormsOfText(text) {
		if b := s.byID[keyOf(form)]; b != nil {
			return b
		}
	}
	return nil
}

// Len is the number of bots.
func (s *Set) Len() int { return len(s.byID) }

// All returns the bots in no order.
func (s *Set) All() []*Bot { return slices.Collect(maps.Values(s.byID)) }

// Fields are the paths of a call's document that decisions and the mappers of
// these bots need.
func (s *Set) Fields() []string { return s.fields() }

// IDsOf returns the ids of the bots that match, in every form in which a call may
// hold them.
func (s *Set) IDsOf(match func(*Bot) bool) []bson.RawValue {
	var ids []bson.RawValue
	for _, b := range s.byID {
		if match(b) {
			ids = append(ids, calls.IDForms(b.RawID)...)
		}
	}
	return ids
}

// idKey is an id as a key of a map: its type and its bytes.
type idKey string

func keyOf(id bson.RawValue) idKey { return idKey(append([]byte{byte(id.Type)}, id.Value...)) }

// with returns the Set with these changes.
func (s *Set) with(changes map[idKey]change) *Set {
	byID := maps.Clone(s.byID)
	for key, ch := range changes {
		if ch.after == nil {
			delete(byID, key)
		} else {
			byID[key] = ch.after
		}
	}
	return newSet(byID)
}
