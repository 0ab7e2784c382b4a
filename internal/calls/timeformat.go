package calls

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zone names must work in an image without zone files, in tests too

	"github.com/itchyny/timefmt-go"
)

// TimeFormat is how a date is written as text. The zero value is "iso8601".
type TimeFormat struct {
	kind    timeKind
	pattern string // for timePattern
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

// The bounds of a pattern and of what it writes, in bytes.
const (
	MaxTimePattern = 256
	MaxTimeText    = 1024
)

// ParseTimeFormat reads a setting: "iso8601" (2026-06-05T15:45:00+05:30, the
// default, also for ""), "datetime" (2026-06-05 15:45:00), "display" (05 June
// 2026, 03:45 PM IST), "unix", "unix_ms", or a strftime pattern, which holds at
// least one "%". The directives are those of C in its own locale, with the
// flags "-", "_" and "0" before numbers, and %:z. An unknown name or directive
// is an error that names it; so is a pattern that is too long or writes too much.
func ParseTimeFormat(s string) (TimeFormat, error) {
	if kind, named := timeKinds[s]; named {
		return TimeFormat{kind: kind}, nil
	}
	if len(s) > MaxTimePattern {
		return TimeFormat{}, fmt.Errorf("time format is %d bytes long, at most %d are taken", len(s), MaxTimePattern)
	}
	if !strings.Contains(s, "%") {
		return TimeFormat{}, fmt.Errorf("unknown time format %q: want iso8601, datetime, display, unix, unix_ms or a strftime pattern", s)
	}
	for _, rest, found := strings.Cut(s, "%"); found; _, rest, found = strings.Cut(rest, "%") {
		size, err := directive(rest)
		if err != nil {
			return TimeFormat{}, err
		}
		rest = rest[size:]
	}
	f := TimeFormat{kind: timePattern, pattern: s}
	// The day of the longest names.
	if n := len(f.Append(nil, time.Date(2026, 9, 30, 23, 59, 59, 0, time.UTC))); n > MaxTimeText {
		return TimeFormat{}, fmt.Errorf("time format writes %d bytes, at most %d are taken", n, MaxTimeText)
	}
	return f, nil
}

// The directives, numbers and others. A library writes them; it would also take
// widths, which are not bounded, and leave what it does not know as it is.
const (
	numberDirectives = "YCymdeHkIlMSfjuwGgVUWs"
	otherDirectives  = "aAbhBpPzZFDxTXRrc%nt"
)

// directive checks what follows a "%"; size is how much of s it is.
func directive(s string) (size int, err error) {
	flag := byte(0)
	if s != "" && strings.IndexByte("-_0:", s[0]) >= 0 {
		flag = s[0]
		size = 1
	}
	if size == len(s) {
		return 0, fmt.Errorf("time format ends within a directive: %q", "%"+s)
	}
	allowed := numberDirectives
	switch flag {
	case 0:
		allowed += otherDirectives
	case ':':
		allowed = "z"
	}
	if strings.IndexByte(allowed, s[size]) < 0 {
		return 0, fmt.Errorf("time format has an unknown directive %.*q", size+2, "%"+s)
	}
	return size + 1, nil
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
		return timefmt.AppendFormat(dst, t, f.pattern)
	default:
		return t.AppendFormat(dst, time.RFC3339)
	}
}
