package calls

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// ParseTime reads a stored time.
func ParseTime(v bson.RawValue) (time.Time, bool) { return timeOf(valueOf(v)) }

// Updates are all updates that may write an outcome.
func (o *Outcome) Updates() []bson.Raw {
	all := []bson.Raw{o.late()}
	for level := range detailNone {
		all = append(all, o.update(level))
	}
	return all
}

// Write is the update of an outcome as its owner sends it.
func (o *Outcome) Write() (filter, update bson.Raw) { return o.filter(), o.update(detailAll) }
