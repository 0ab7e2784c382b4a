package calls

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// TimeFormat is how a date is written as text. The zero value is "iso8601".
type TimeFormat struct {
	kind   timeKind
	pieces []timePiece // of a pattern
}

type timeKind uint8
type timePiece struct{}

// ParseTimeFormat reads a setting: "iso8601" (2026-06-05T15:45:00+05:30, the
// default, also for ""), "datetime" (2026-06-05 15:45:00), "display" (05 June
// 2026, 03:45 PM IST), "unix", "unix_ms", or a strftime pattern, which holds at
// least one "%". An unknown name or directive is an error that names it.
func ParseTimeFormat(s string) (TimeFormat, error) {
	return TimeFormat{}, nil
}

// Append appends t in its own location.
func (f TimeFormat) Append(dst []byte, t time.Time) []byte {
	return t.AppendFormat(dst, time.RFC3339)
}

// ParseTime reads a stored time: a BSON date, an ISO 8601 string (no zone means
// UTC) or a number of seconds or milliseconds since 1970. The result is in UTC.
func ParseTime(v bson.RawValue) (time.Time, bool) {
	return time.Time{}, false
}

func timeOf(v value) (time.Time, bool) {
	t, ok := v.TimeOK()
	return t.UTC(), ok
}

// firstTime is the first of the fields that holds a time.
func (c *Call) firstTime(fields []docField) (time.Time, bool) {
	for _, f := range fields {
		if t, ok := timeOf(c.value(f)); ok {
			return t, true
		}
	}
	return time.Time{}, false
}
