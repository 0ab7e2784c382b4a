package calls

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Style is how values become text for one bot. The zero value writes dates as
// ISO 8601 in UTC.
type Style struct {
	Location *time.Location // nil is UTC
	Format   TimeFormat
}

// AppendText appends the text of a value: a string as it is, an object or array
// as compact JSON, null and a missing value as "".
func (s Style) AppendText(dst []byte, v bson.RawValue) []byte { return dst }

// AppendJSON appends a value as JSON, always valid: numbers stay numbers, dates
// and ObjectIds are strings, key order is kept.
func (s Style) AppendJSON(dst []byte, v bson.RawValue) []byte { return append(dst, "null"...) }
