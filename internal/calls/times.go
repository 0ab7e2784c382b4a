package calls

import (
	"bytes"
	"math"
	"regexp"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// The numbers that are times: up to 1e11 they are seconds (until the year
// 5138), from there milliseconds (from 1973 on), to the end of the year 9999.
// Zero and less is a field that nobody set; no call began in 1970.
const (
	firstMillis = 1e11
	lastMillis  = 253402300799999
)

// EventTime is the completed_at that an event of Pipeline tells of, as
// Call.CompletedAt has it; zero when it is none.
func EventTime(event bson.Raw) time.Time { return millis(fieldOf(event, fieldCompleted)) }

// timeOf reads a stored time: a BSON date, an ISO 8601 string (no zone means UTC) or
// a number of seconds or milliseconds since 1970, told apart by size. It is in UTC.
func timeOf(v value) (time.Time, bool) {
	switch v.Type {
	case bsoncore.TypeDateTime:
		if ms, ok := v.DateTimeOK(); ok {
			return time.UnixMilli(ms).UTC(), true
		}
	case bsoncore.TypeTimestamp:
		if seconds, _, ok := v.TimestampOK(); ok {
			return time.Unix(int64(seconds), 0).UTC(), true
		}
	case typeString:
		return parseISO(textBytes(v))
	case bsoncore.TypeDecimal128:
		if high, low, ok := v.Decimal128OK(); ok {
			f, err := strconv.ParseFloat(bson.NewDecimal128(high, low).String(), 64)
			return timeOfNumber(f, err == nil)
		}
	default:
		return timeOfNumber(v.AsFloat64OK())
	}
	return time.Time{}, false
}

func timeOfNumber(f float64, ok bool) (time.Time, bool) {
	if !ok || !(f > 0) || f > lastMillis { // NaN is not above zero
		return time.Time{}, false
	}
	if f < firstMillis {
		f *= 1000
	}
	return time.UnixMilli(int64(math.Round(f))).UTC(), true
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

// isoForm is a date, or a date and a time after "T" or a blank, to the minute or
// finer, with any fraction, in the extended or the basic form, with "Z", an offset
// or no zone, which is UTC. A second of 60 is a leap second.
var isoForm = regexp.MustCompile(`^(\d{4})(?:-(\d\d)-|(\d\d))(\d\d)` +
	`(?:[Tt ]([01]\d|2[0-3]):?([0-5]\d)(?::?([0-5]\d|60)([.,]\d+)?)? ?(?:[Zz]|([+-])([01]\d|2[0-3])(?::?([0-5]\d))?)?)?$`)

// maxISO is the longest text, in bytes, that is looked at as a time.
const maxISO = 256

// parseISO reads a time in isoForm, with blanks around it. Digits behind the ninth of a fraction are dropped.
func parseISO(text []byte) (time.Time, bool) {
	text = bytes.Trim(text, " ")
	if len(text) > maxISO {
		return time.Time{}, false
	}
	m := isoForm.FindSubmatch(text)
	if m == nil {
		return time.Time{}, false
	}
	number := func(group int) int {
		n, _ := strconv.Atoi(string(m[group])) // digits, or nothing
		return n
	}
	month, day := time.Month(number(2)+number(3)), number(4)
	date := time.Date(number(1), month, day, 0, 0, 0, 0, time.UTC)
	if date.Month() != month || date.Day() != day { // there is no such day
		return time.Time{}, false
	}
	var nanos int
	if fraction := m[8]; len(fraction) > 0 {
		nanos, _ = strconv.Atoi((string(fraction[1:]) + "00000000")[:9])
	}
	clock := func(hours, minutes, seconds int) time.Duration {
		return time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute + time.Duration(seconds)*time.Second
	}
	east := clock(number(10), number(11), 0)
	if string(m[9]) == "-" {
		east = -east
	}
	return date.Add(clock(number(5), number(6), number(7)) + time.Duration(nanos) - east), true
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }
