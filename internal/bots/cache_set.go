package bots

import (
	"maps"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Set is all bots at one moment. It is immutable.
type Set struct {
	byID   map[string]*Bot
	fields []string
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
	byID := make(map[string]*Bot, len(all))
	for _, b := range all {
		byID[b.ID] = b
	}
	return newSet(byID)
}

func newSet(byID map[string]*Bot) *Set {
	return &Set{byID: byID, fields: Fields(slices.Collect(maps.Values(byID))), limits: limitsOf(byID)}
}

func limitsOf(byID map[string]*Bot) map[string]Limits {
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

// Bot returns the bot of an id in text form, nil when there is none.
func (s *Set) Bot(id string) *Bot { return s.byID[id] }

// Len is the number of bots.
func (s *Set) Len() int { return len(s.byID) }

// All returns the bots in no order.
func (s *Set) All() []*Bot { return slices.Collect(maps.Values(s.byID)) }

// Fields are the paths of a call's document that decisions and the mappers of
// these bots need.
func (s *Set) Fields() []string { return s.fields }

// IDsOf returns the ids of the bots that push to these destinations, in every
// form in which a call may hold them.
func (s *Set) IDsOf(destinations map[string]bool) []bson.RawValue {
	var ids []bson.RawValue
	for id, b := range s.byID {
		if b.Push == nil || !destinations[b.Push.Destination] {
			continue
		}
		ids = append(ids, RawIDs(id)...)
	}
	return ids
}

// RawIDs returns the id of a bot, which it has in text form, in every form in
// which a call may hold it.
func RawIDs(id string) []bson.RawValue {
	ids := []bson.RawValue{rawOf(id)}
	if oid, err := bson.ObjectIDFromHex(id); err == nil {
		ids = append(ids, rawOf(oid))
	}
	return ids
}

func rawOf(v any) bson.RawValue {
	t, data, err := bson.MarshalValue(v)
	if err != nil {
		return bson.RawValue{Type: bson.TypeNull} // strings and ObjectIds always marshal
	}
	return bson.RawValue{Type: t, Value: data}
}

// with returns the Set with some bots replaced or added, and the gone ones
// left out.
func (s *Set) with(changed []*Bot, gone []string) *Set {
	byID := maps.Clone(s.byID)
	for _, id := range gone {
		delete(byID, id)
	}
	for _, b := range changed {
		byID[b.ID] = b
	}
	return newSet(byID)
}
