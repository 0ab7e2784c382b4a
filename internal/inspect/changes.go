package inspect

import (
	"slices"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/plain"
)

// Side is what one of two bot documents makes of a call: the payload as Show gives
// it, secrets hidden, and the bot that it is of.
type Side struct {
	Payload *Payload
	Push    *bots.Push
}

// Compare is how the payloads differ, key by key; method, address and headers stand in
// brackets. It is never nil.
func Compare(now, other Side) []Difference {
	return differences(partsOf(now.Payload, now.Push), partsOf(other.Payload, other.Push))
}

// Changes counts how the payloads of two bot documents differ over calls. The zero
// value is ready.
type Changes struct {
	Calls     int              `json:"calls"`     // compared
	Changed   int              `json:"changed"`   // of these, those of which another payload is sent, or none any more
	Decisions []DecisionChange `json:"decisions"` // calls that only one of the documents pushes
	Keys      []KeyChange      `json:"keys"`      // in the order of the payloads
}

// DecisionChange is a decision that is not the same with the other document.
type DecisionChange struct {
	Now   string `json:"now"` // push, or why not
	Other string `json:"other"`
	Calls int    `json:"calls"`
}

// KeyChange is one key that is not the same in some calls.
type KeyChange struct {
	Key      string    `json:"key"`
	Changed  int       `json:"changed"` // calls
	Added    int       `json:"added"`   // of these, those where the key is new
	Removed  int       `json:"removed"`
	Filled   int       `json:"filled"`  // "" before
	Emptied  int       `json:"emptied"` // "" now
	Examples []Example `json:"examples"`
}

// Example is the value of a key before and after in one call, as JSON, with what could
// lead to a person masked; nil where the key is not there.
type Example struct {
	Call  string  `json:"call"`
	Now   *string `json:"now"`
	Other *string `json:"other"`
}

const (
	mostExamples = 3   // of one key
	mostExample  = 200 // characters
)

// AddDecision counts a call that not both documents push, with why not. Two that are
// the same are no change.
func (c *Changes) AddDecision(now, other string) {
	c.Calls++
	if now == other {
		return
	}
	c.Changed++
	i := slices.IndexFunc(c.Decisions, func(d DecisionChange) bool { return d.Now == now && d.Other == other })
	if i < 0 {
		i = len(c.Decisions)
		c.Decisions = append(c.Decisions, DecisionChange{Now: now, Other: other})
	}
	c.Decisions[i].Calls++
}

// Add counts a call that both documents push, with how its payloads differ.
func (c *Changes) Add(call string, diff []Difference) {
	c.Calls++
	if len(diff) > 0 {
		c.Changed++
	}
	for i := range diff {
		c.key(diff[i].Key).add(call, &diff[i])
	}
}

func (c *Changes) key(name string) *KeyChange {
	i := slices.IndexFunc(c.Keys, func(k KeyChange) bool { return k.Key == name })
	if i < 0 {
		i = len(c.Keys)
		c.Keys = append(c.Keys, KeyChange{Key: name, Examples: []Example{}})
	}
	return &c.Keys[i]
}

func (k *KeyChange) add(call string, d *Difference) {
	k.Changed++
	switch {
	case d.Now == nil:
		k.Added++
	case d.Other == nil:
		k.Removed++
	case isEmpty(*d.Now):
		k.Filled++
	case isEmpty(*d.Other):
		k.Emptied++
	}
	e := Example{Call: plain.MaskID(call), Now: masked(d.Now), Other: masked(d.Other)}
	same := func(x Example) bool { return equal(x.Now, e.Now) && equal(x.Other, e.Other) }
	if len(k.Examples) < mostExamples && !slices.ContainsFunc(k.Examples, same) {
		k.Examples = append(k.Examples, e)
	}
}

// isEmpty is true for "" in a query and in JSON.
func isEmpty(value string) bool { return value == "" || value == `""` }

func masked(value *string) *string {
	if value == nil {
		return nil
	}
	text := plain.Line(plain.Mask(*value), mostExample)
	return &text
}

func equal(x, y *string) bool {
	if x == nil || y == nil {
		return x == y
	}
	return *x == *y
}
