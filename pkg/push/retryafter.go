package push

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// MaxRetryAfter is the longest wait that a receiver may ask for; a longer one
	// is shortened to it.
	MaxRetryAfter = 24 * time.Hour
	// absurdRetryAfter is where a value is no wait any more but a
	// mistake (milliseconds since 1970, a year), and is ignored.
	absurdRetryAfter = 31 * 24 * time.Hour
)

// retryAfter reads the Retry-After header: whole seconds or an HTTP date (RFC
// 9110 section 10.2.3). A date is taken relative to the answer's own Date, so
// that a receiver whose clock is off is still understood. Past, negative,
// malformed and absurd values are 0, as if nothing had been asked.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if text == "" {
		return 0
	}
	var wait time.Duration
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		if seconds <= 0 || seconds > int64(absurdRetryAfter/time.Second) {
			return 0
		}
		wait = time.Duration(seconds) * time.Second
	} else {
		at, err := http.ParseTime(text)
		if err != nil {
			return 0
		}
		if date, err := http.ParseTime(h.Get("Date")); err == nil {
			now = date
		}
		wait = at.Sub(now)
	}
	if wait <= 0 || wait > absurdRetryAfter {
		return 0
	}
	return min(wait, MaxRetryAfter)
}
