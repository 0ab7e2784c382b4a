package calls

import (
	"math"
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

// isoScanner reads an ISO 8601 text from the left.
type isoScanner struct{ rest []byte }

// parseISO reads a date, or a date and a time after "T" or a blank, to the
// minute or finer, with any fraction, in the extended or the basic form, with
// "Z", an offset or no zone.
func parseISO(text []byte) (time.Time, bool) {
	s := isoScanner{trimBlanks(text)}
	year, ok1 := s.number(4)
	extended := s.skip("-")
	month, ok2 := s.number(2)
	if extended && !s.skip("-") {
		return time.Time{}, false
	}
	day, ok3 := s.number(2)
	if !ok1 || !ok2 || !ok3 || month < 1 || month > 12 {
		return time.Time{}, false
	}
	var hour, minute, second, nanos int
	zone := 0 // seconds east of UTC
	if len(s.rest) > 0 {
		var ok bool
		if hour, minute, second, nanos, ok = s.clock(); !ok {
			return time.Time{}, false
		}
		if zone, ok = s.zone(); !ok {
			return time.Time{}, false
		}
	}
	date := time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	if date.Day() != day || len(s.rest) > 0 { // 31 June
		return time.Time{}, false
	}
	return date.Add(time.Duration(hour*3600+minute*60+second-zone)*time.Second + time.Duration(nanos)), true
}

func (s *isoScanner) clock() (hour, minute, second, nanos int, ok bool) {
	if !s.skip("Tt ") {
		return 0, 0, 0, 0, false
	}
	hour, ok1 := s.number(2)
	s.skip(":")
	minute, ok2 := s.number(2)
	if s.skip(":") || len(s.rest) > 0 && isDigit(s.rest[0]) {
		if second, ok = s.number(2); !ok {
			return 0, 0, 0, 0, false
		}
		if nanos, ok = s.fraction(); !ok {
			return 0, 0, 0, 0, false
		}
	}
	ok = ok1 && ok2 && hour < 24 && minute < 60 && second <= 60 // a leap second
	return hour, minute, second, nanos, ok
}

// fraction reads an optional fraction of a second; digits behind the ninth are
// dropped.
func (s *isoScanner) fraction() (nanos int, ok bool) {
	if !s.skip(".,") {
		return 0, true
	}
	unit, digits := 100_000_000, 0
	for len(s.rest) > 0 && isDigit(s.rest[0]) {
		nanos += int(s.rest[0]-'0') * unit
		unit /= 10
		digits++
		s.rest = s.rest[1:]
	}
	return nanos, digits > 0
}

// zone reads "Z", "+05:30", "+0530", "+05" or nothing, which is UTC.
func (s *isoScanner) zone() (seconds int, ok bool) {
	s.skip(" ")
	if len(s.rest) == 0 || s.skip("Zz") {
		return 0, true
	}
	sign := 1
	if s.skip("-") {
		sign = -1
	} else if !s.skip("+") {
		return 0, false
	}
	hour, ok := s.number(2)
	if !ok || hour > 23 {
		return 0, false
	}
	minute := 0
	if len(s.rest) > 0 {
		s.skip(":")
		if minute, ok = s.number(2); !ok || minute > 59 {
			return 0, false
		}
	}
	return sign * (hour*3600 + minute*60), true
}

// number reads exactly n digits.
func (s *isoScanner) number(n int) (int, bool) {
	if len(s.rest) < n {
		return 0, false
	}
	value := 0
	for _, b := range s.rest[:n] {
		if !isDigit(b) {
			return 0, false
		}
		value = value*10 + int(b-'0')
	}
	s.rest = s.rest[n:]
	return value, true
}

// skip steps over one byte of a set.
func (s *isoScanner) skip(set string) bool {
	if len(s.rest) == 0 {
		return false
	}
	for i := range len(set) {
		if s.rest[0] == set[i] {
			s.rest = s.rest[1:]
			return true
		}
	}
	return false
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

func trimBlanks(b []byte) []byte {
	for len(b) > 0 && b[0] == ' ' {
		b = b[1:]
	}
	for len(b) > 0 && b[len(b)-1] == ' ' {
		b = b[:len(b)-1]
	}
	return b
}
