package resume

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Ahead reports whether a follower has yet to come past a change of a document
// that was made at a time: a position is saved for the document's partition, and
// none of those saved is later. While the number of partitions changes there may
// be several, and one that passed is enough. Where no position is saved, nobody is
// on the way to anything.
//
// A position is a whole second, rounded down, of what was settled a second and
// more ago; that is the room for the difference between the clocks of MongoDB and
// of those who write.
func Ahead(records []Record, id bson.RawValue, at time.Time) bool {
	saved := false
	for i := range records {
		r := &records[i]
		if r.Member || r.Position.IsZero() || !r.Partition.Owns(id) {
			continue
		}
		if at.Before(r.Position.Time()) {
			return false
		}
		saved = true
	}
	return saved
}
