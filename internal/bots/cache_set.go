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
	return &Set{byID: byID, fields: Fields(slices.Collect(maps.Values(byID)))}
}

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
		ids = append(ids, rawOf(id))
		if oid, err := bson.ObjectIDFromHex(id); err == nil {
			ids = append(ids, rawOf(oid))
		}
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
