package config

import (
	"fmt"
	"time"
)

// Start says where a watcher without a saved position begins. The zero Start
// is now.
type Start struct {
	Ago time.Duration // this long before the start, when positive
	At  time.Time     // this moment, when not zero
}

// ParseStart reads "now", a duration ago ("2h") or an RFC 3339 time.
func ParseStart(s string) (Start, error) {
	if s == "" || s == "now" {
		return Start{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		if d <= 0 {
			return Start{}, fmt.Errorf("%q is not a duration ago: it has to be more than 0", s)
		}
		return Start{Ago: d}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return Start{}, fmt.Errorf("%q is not now, a duration such as 2h, or an RFC 3339 time", s)
	}
	return Start{At: t}, nil
}

// UnmarshalText implements encoding.TextUnmarshaler with ParseStart.
func (s *Start) UnmarshalText(text []byte) (err error) {
	*s, err = ParseStart(string(text))
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
