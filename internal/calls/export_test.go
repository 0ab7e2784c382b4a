package calls

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// ParseTime reads a stored time.
func ParseTime(v bson.RawValue) (time.Time, bool) { return timeOf(valueOf(v)) }
