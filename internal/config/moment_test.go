package config

import (
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDurationsWithDays(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1d": 24 * time.Hour, "3d12h": 84 * time.Hour, "1.5d": 36 * time.Hour, "-2d6h": -54 * time.Hour,
		"0d": 0, "90s": 90 * time.Second, "0": 0, "1d1ms": 24*time.Hour + time.Millisecond,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "d", "1", "2h3d", "1d2", "1d-2h", "1d2d", "1dd", "99999999999d", "106751d48h", "one day", "1 d"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

// A time without a zone is one of this machine, whatever the season.
func TestMomentsInTheZoneOfTheMachine(t *testing.T) {
	berlin := time.FixedZone("CET", 3600)
	for text, want := range map[string]string{
		"2026-11-27":                "2026-11-26T23:00:00Z",
		"2026-11-27 14:00":          "2026-11-27T13:00:00Z",
		"2026-11-27T14:00:30":       "2026-11-27T13:00:30Z",
		"2026-11-27T14:00:00Z":      "2026-11-27T14:00:00Z",
		"2026-11-27T14:00:00+05:30": "2026-11-27T08:30:00Z",
	} {
		s, err := parseStart(text, berlin)
		if err != nil || s.At.UTC().Format(time.RFC3339) != want || s.Local != (s.At.Location() == berlin) {
			t.Errorf("%q: %+v, %v", text, s, err)
		}
	}
	for _, text := range []string{"yesterday", "14:00", "2026-13-01", "27.11.2026", "-2h", "0s", "2026-11-27 14:00 CET"} {
		if s, err := parseStart(text, berlin); err == nil {
			t.Errorf("%q: %+v", text, s)
		}
	}
}

func TestDaysAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		days := rapid.IntRange(0, 90_000).Draw(t, "days")
		rest := time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "rest"))
		got, err := ParseDuration(strconv.Itoa(days) + "d" + rest.String())
		if want := time.Duration(days*24)*time.Hour + rest; err != nil || got != want {
			t.Errorf("%v, want %v, %v", got, want, err)
		}
	})
}

// What package time reads is read alike, and what anybody types is no panic.
func FuzzParseStart(f *testing.F) {
	for _, seed := range []string{"now", "2h", "3d12h", "-1d", "2026-11-27", "2026-11-27 14:00", "2026-11-27T14:00:00+05:30", "1e9d", "9223372036854775807ns"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseStart(text, time.UTC)
		if err == nil && (s.Ago < 0 || s.Ago > 0 && !s.At.IsZero()) {
			t.Errorf("%q: %+v", text, s)
		}
		if want, err := time.ParseDuration(text); err == nil {
			if got, err := ParseDuration(text); err != nil || got != want {
				t.Errorf("%q: %v, %v", text, got, err)
			}
		}
	})
}
