package config

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// whenHelp says in a flag's help what ParseStart reads.
const whenHelp = "a duration ago (2h, 3d12h), a date, a local time (2026-11-27 14:00) or an RFC 3339 time"

// ParseDuration reads what time.ParseDuration does, and days of 24 hours before
// it: "1d", "3d12h", "1.5d".
func ParseDuration(s string) (time.Duration, error) {
	bad := func() (time.Duration, error) {
		return 0, fmt.Errorf("%.80q is not a duration such as 90s, 2h or 3d12h", s)
	}
	days, rest, ok := strings.Cut(s, "d")
	if !ok {
		d, err := time.ParseDuration(s)
		if err != nil {
			return bad()
		}
		return d, nil
	}
	if strings.Trim(days, "+-.0123456789") != "" {
		return bad()
	}
	d, err := time.ParseDuration(days + "h")
	if err != nil || d.Abs() > math.MaxInt64/24 {
		return bad()
	}
	d *= 24 // hours
	if rest == "" {
		return d, nil
	}
	r, err := time.ParseDuration(rest)
	if err != nil || strings.ContainsAny(rest[:1], "+-") || r > math.MaxInt64-d.Abs() {
		return bad()
	}
	if strings.HasPrefix(days, "-") {
		return d - r, nil
	}
	return d + r, nil
}

// localForms are the times without a zone.
var localForms = []string{"2006-01-02", "2006-01-02 15:04", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02T15:04:05"}

// Start says where a watcher without a saved position begins. The zero Start
// is now.
type Start struct {
	Ago time.Duration // this long before the start, when positive
	At  time.Time     // this moment, when not zero
	// Local says that At was told without a zone: it is in that of this machine.
	Local bool
}

// ParseStart reads "now", a duration ago ("2h", "3d12h"), a date or a time in the
// zone of this machine ("2026-11-27", "2026-11-27 14:00"), or an RFC 3339 time.
func ParseStart(s string) (Start, error) { return parseStart(s, time.Local) }

func parseStart(s string, zone *time.Location) (Start, error) {
	if s == "" || s == "now" {
		return Start{}, nil
	}
	if d, err := ParseDuration(s); err == nil {
		if d <= 0 {
			return Start{}, fmt.Errorf("%q is not a duration ago: it has to be more than 0", s)
		}
		return Start{Ago: d}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return Start{At: t}, nil
	}
	for _, form := range localForms {
		if t, err := time.ParseInLocation(form, s, zone); err == nil {
			return Start{At: t, Local: true}, nil
		}
	}
	return Start{}, fmt.Errorf("%.80q is not now, %s", s, whenHelp)
}

// UnmarshalText implements encoding.TextUnmarshaler with ParseStart.
func (s *Start) UnmarshalText(text []byte) (err error) {
	*s, err = ParseStart(strings.TrimSpace(string(text)))
	return err
}

// From returns the moment that a start at now begins at; zero means now.
func (s Start) From(now time.Time) time.Time {
	switch {
	case !s.At.IsZero():
		return s.At
	case s.Ago > 0:
		return now.Add(-s.Ago)
	}
	return time.Time{}
}

// decodeDuration reads a flag of type time.Duration with ParseDuration.
func decodeDuration(ctx *kong.DecodeContext, target reflect.Value) error {
	var text string
	if ctx.Scan.PopValueInto("duration", &text) != nil {
		return errNoValue
	}
	d, err := ParseDuration(strings.TrimSpace(text))
	if err == nil {
		target.SetInt(int64(d))
	}
	return err
}
