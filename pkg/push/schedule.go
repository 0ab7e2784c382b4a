package push

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// DefaultDelays is the text of the default schedule, and the only place that names it: 9 attempts over about 23 hours
// (docs/contract.md, section 7).
const DefaultDelays = "30s,2m,10m,30m,1h,3h,6h,12h"

// maxDelay bounds one configured delay, and with jitter and Retry-After keeps
// every sum of this file far from overflow.
const maxDelay = 7 * 24 * time.Hour

// Schedule says when a delivery is tried again. It is a value without state: the
// same arguments give the same answer in every process.
//
// The wait after attempt n is spread evenly between half and one and a half times
// the nth delay: as wide as the delay itself and with the delay as its mean, so
// that deliveries which failed together do not come back together and the
// schedule still takes as long as it says. A Retry-After is never undercut: the
// wait is at least what was asked, and up to a tenth more, spread in the same way.
type Schedule struct {
	// Delays are the waits before the second, third, ... attempt. N delays make N+1 attempts.
	Delays []time.Duration
	// MaxAttempts bounds the number of attempts when it is more than 0. With more
	// attempts than delays the last delay is repeated.
	MaxAttempts int
	// MaxAge is the age, counted from the first attempt, after which a delivery is not
	// tried again; 0 is no limit. A wait that would end later is not begun.
	MaxAge time.Duration
}

// GiveUp says why there is no further attempt.
type GiveUp string

// The reasons to give up. The set is closed; the empty one means there is another attempt.
const (
	GiveUpNot      GiveUp = ""
	GiveUpFinal    GiveUp = "final"        // another attempt would come to the same
	GiveUpAttempts GiveUp = "max_attempts" // all attempts are used up
	GiveUpAge      GiveUp = "max_age"      // the delivery is too old, or would be
)

// DefaultSchedule returns the schedule of DefaultDelays without an age limit.
func DefaultSchedule() Schedule {
	s, err := ParseSchedule(DefaultDelays)
	if err != nil {
		panic(err) // a constant of this package
	}
	return s
}

var errDelay = errors.New("must be a duration of more than 0 and at most 168h")

// ParseSchedule reads delays separated by commas, such as "30s,2m,10m". Empty text
// is a schedule of one attempt.
func ParseSchedule(text string) (Schedule, error) {
	var s Schedule
	if strings.TrimSpace(text) == "" {
		return s, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		d, err := time.ParseDuration(strings.TrimSpace(part))
		if err != nil || d <= 0 || d > maxDelay {
			return Schedule{}, fmt.Errorf("delay %q: %w", strings.TrimSpace(part), errDelay)
		}
		s.Delays = append(s.Delays, d)
	}
	return s, nil
}

// Attempts returns how many attempts a delivery has at most, the first included.
func (s Schedule) Attempts() int {
	if s.MaxAttempts > 0 {
		return s.MaxAttempts
	}
	return len(s.Delays) + 1
}

// Decide returns how long to wait after an attempt, or why there is no further
// one. attempt is the number of attempts made, 1 after the first; age is the time
// since the first; seed spreads deliveries, so it should differ between them.
func (s Schedule) Decide(attempt int, age time.Duration, r Result, seed uint64) (time.Duration, GiveUp) {
	attempt = max(attempt, 1)
	switch {
	case !r.Class.Retryable():
		return 0, GiveUpFinal
	case attempt >= s.Attempts() && r.Class != ClassCanceled: // a canceled attempt does not count
		return 0, GiveUpAttempts
	}
	rng := rand.New(rand.NewPCG(seed, uint64(attempt)))
	delay := s.delay(attempt)
	delay = delay/2 + spread(rng, delay)
	if asked := min(r.RetryAfter, MaxRetryAfter); asked > 0 {
		delay = max(delay, asked+spread(rng, asked/10))
	}
	if s.MaxAge > 0 && max(age, 0)+delay > s.MaxAge {
		return 0, GiveUpAge
	}
	return delay, GiveUpNot
}

// delay is the middle of the wait after a try.
func (s Schedule) delay(attempt int) time.Duration {
	if len(s.Delays) == 0 {
		return DefaultSchedule().delay(attempt) // more attempts were asked for, but no delays
	}
	d := s.Delays[min(attempt, len(s.Delays))-1]
	return min(max(d, time.Millisecond), maxDelay)
}

// spread returns an even choice from [0, d), or 0.
func spread(rng *rand.Rand, d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(rng.Int64N(int64(d)))
}
