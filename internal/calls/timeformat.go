package calls

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zone names must work in an image without zone files, in tests too
)

// TimeFormat is how a date is written as text. The zero value is "iso8601".
type TimeFormat struct {
	kind   timeKind
	pieces []timePiece // of a pattern
}

type timeKind uint8

const (
	timeISO timeKind = iota
	timeDateTime
	timeDisplay
	timeUnix
	timeUnixMilli
	timePattern
)

// The layouts of the named formats. A zone without letters of its own shows
// its offset for "MST", such as +04.
const (
	layoutDateTime    = "2006-01-02 15:04:05"
	layoutDisplayDate = "02 January 2006"
	layoutDisplayTime = "03:04 PM MST"
	layoutDisplay     = layoutDisplayDate + ", " + layoutDisplayTime
)

var timeKinds = map[string]timeKind{
	"":         timeISO,
	"iso8601":  timeISO,
	"datetime": timeDateTime,
	"display":  timeDisplay,
	"unix":     timeUnix,
	"unix_ms":  timeUnixMilli,
}

// timePiece is literal text, or one directive of a pattern.
type timePiece struct {
	text      string
	directive byte // 0 for text
	flag      byte // '-' no padding, '_' blanks, '0' zeros, ':' offset with a colon, 0 none
}

// ParseTimeFormat reads a setting: "iso8601" (2026-06-05T15:45:00+05:30, the
// default, also for ""), "datetime" (2026-06-05 15:45:00), "display" (05 June
// 2026, 03:45 PM IST), "unix", "unix_ms", or a strftime pattern, which holds at
// least one "%". The directives are those of C in its own locale, with the
// flags "-", "_" and "0" before numbers, and %:z. An unknown name or directive
// is an error that names it.
func ParseTimeFormat(s string) (TimeFormat, error) {
	if kind, named := timeKinds[s]; named {
		return TimeFormat{kind: kind}, nil
	}
	if !strings.Contains(s, "%") {
		return TimeFormat{}, fmt.Errorf("unknown time format %q: want iso8601, datetime, display, unix, unix_ms or a strftime pattern", s)
	}
	f := TimeFormat{kind: timePattern}
	for s != "" {
		text, rest, found := strings.Cut(s, "%")
		if text != "" {
			f.pieces = append(f.pieces, timePiece{text: text})
		}
		if !found {
			break
		}
		piece, size, err := parseDirective(rest)
		if err != nil {
			return TimeFormat{}, err
		}
		f.pieces = append(f.pieces, piece)
		s = rest[size:]
	}
	return f, nil
}

// The directives: numbers with their width, the rest, and those made of others.
var (
	numberDirectives = map[byte]numberDirective{
		'Y': {4, '0', func(t time.Time) int { return t.Year() }},
		'C': {2, '0', func(t time.Time) int { return t.Year() / 100 }},
		'y': {2, '0', func(t time.Time) int { return t.Year() % 100 }},
		'm': {2, '0', func(t time.Time) int { return int(t.Month()) }},
		'd': {2, '0', time.Time.Day},
		'e': {2, ' ', time.Time.Day},
		'H': {2, '0', time.Time.Hour},
		'k': {2, ' ', time.Time.Hour},
		'I': {2, '0', hour12},
		'l': {2, ' ', hour12},
		'M': {2, '0', time.Time.Minute},
		'S': {2, '0', time.Time.Second},
		'f': {6, '0', func(t time.Time) int { return t.Nanosecond() / 1000 }},
		'j': {3, '0', time.Time.YearDay},
		'u': {1, '0', func(t time.Time) int { return (int(t.Weekday())+6)%7 + 1 }},
		'w': {1, '0', func(t time.Time) int { return int(t.Weekday()) }},
		'G': {4, '0', func(t time.Time) int { year, _ := t.ISOWeek(); return year }},
		'g': {2, '0', func(t time.Time) int { year, _ := t.ISOWeek(); return year % 100 }},
		'V': {2, '0', func(t time.Time) int { _, week := t.ISOWeek(); return week }},
		'U': {2, '0', func(t time.Time) int { return (t.YearDay() + 6 - int(t.Weekday())) / 7 }},
		'W': {2, '0', func(t time.Time) int { return (t.YearDay() + 6 - (int(t.Weekday())+6)%7) / 7 }},
		's': {1, '0', func(t time.Time) int { return int(t.Unix()) }},
	}
	layoutDirectives = map[byte]string{
		'a': "Mon", 'A': "Monday", 'b': "Jan", 'h': "Jan", 'B': "January", 'p': "PM", 'P': "pm",
		'z': "-0700", 'Z': "MST", 'F': "2006-01-02", 'D': "01/02/06", 'x': "01/02/06",
		'T': "15:04:05", 'X': "15:04:05", 'R': "15:04", 'r': "03:04:05 PM", 'c': "Mon Jan _2 15:04:05 2006",
	}
	textDirectives = map[byte]string{'%': "%", 'n': "\n", 't': "\t"}
)

type numberDirective struct {
	width int
	pad   byte
	of    func(time.Time) int
}

func hour12(t time.Time) int { return (t.Hour()+11)%12 + 1 }

// parseDirective reads what follows a "%"; size is how much of s it took.
func parseDirective(s string) (piece timePiece, size int, err error) {
	if s != "" && strings.IndexByte("-_0:", s[0]) >= 0 {
		piece.flag = s[0]
		size = 1
	}
	if size == len(s) {
		return piece, 0, fmt.Errorf("time format ends within a directive: %q", "%"+s)
	}
	piece.directive = s[size]
	size++
	_, number := numberDirectives[piece.directive]
	_, layout := layoutDirectives[piece.directive]
	text, literal := textDirectives[piece.directive]
	switch {
	case piece.flag == ':' && piece.directive != 'z',
		piece.flag != 0 && piece.flag != ':' && !number,
		!number && !layout && !literal:
		return piece, 0, fmt.Errorf("time format has an unknown directive %q", "%"+firstRunes(s, size))
	case literal:
		return timePiece{text: text}, size, nil
	}
	return piece, size, nil
}

// firstRunes is s up to n bytes, and to the end of the character there.
func firstRunes(s string, n int) string {
	for i := range s {
		if i >= n {
			return s[:i]
		}
	}
	return s
}

// Append appends t in its own location. A fraction of a second is dropped,
// towards the past.
func (f TimeFormat) Append(dst []byte, t time.Time) []byte {
	switch f.kind {
	case timeDateTime:
		return t.AppendFormat(dst, layoutDateTime)
	case timeDisplay:
		return t.AppendFormat(dst, layoutDisplay)
	case timeUnix:
		return strconv.AppendInt(dst, t.Unix(), 10)
	case timeUnixMilli:
		return strconv.AppendInt(dst, t.UnixMilli(), 10)
	case timePattern:
		for _, p := range f.pieces {
			dst = p.append(dst, t)
		}
		return dst
	default:
		return t.AppendFormat(dst, time.RFC3339)
	}
}

func (p timePiece) append(dst []byte, t time.Time) []byte {
	if p.directive == 0 {
		return append(dst, p.text...)
	}
	if number, ok := numberDirectives[p.directive]; ok {
		return number.append(dst, t, p.flag)
	}
	layout := layoutDirectives[p.directive]
	if p.flag == ':' {
		layout = "-07:00"
	}
	return t.AppendFormat(dst, layout)
}

func (d numberDirective) append(dst []byte, t time.Time, flag byte) []byte {
	var buf [20]byte
	digits := strconv.AppendInt(buf[:0], int64(d.of(t)), 10)
	pad := d.pad
	switch flag {
	case '-':
		return append(dst, digits...)
	case '_':
		pad = ' '
	case '0':
		pad = '0'
	}
	for range d.width - len(digits) {
		dst = append(dst, pad)
	}
	return append(dst, digits...)
}
