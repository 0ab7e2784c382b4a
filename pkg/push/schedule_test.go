package push

import (
	"fmt"
	"math"
	"net/http"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDefaultSchedule(t *testing.T) {
	s := DefaultSchedule()
	if s.Attempts() != 9 {
		t.Errorf("%d tries, want 9", s.Attempts())
	}
	var sum time.Duration
	for _, d := range s.Delays {
		sum += d
	}
	if sum != 22*time.Hour+42*time.Minute+30*time.Second {
		t.Errorf("the delays sum up to %s", sum)
	}
}

func TestParseSchedule(t *testing.T) {
	for text, want := range map[string]int{"": 1, " ": 1, "1s": 2, " 1s , 2m,3h ": 4, "1.5h": 2, "168h": 2} {
		if s, err := ParseSchedule(text); err != nil || s.Attempts() != want {
			t.Errorf("%q: %d tries, %v; want %d", text, s.Attempts(), err, want)
		}
	}
	for _, text := range []string{",", "1s,", "30", "-1s", "0s", "169h", "soon", "1s;2s", "9999999h"} {
		if s, err := ParseSchedule(text); err == nil {
			t.Errorf("%q was read as %v", text, s)
		}
	}
}

// next is Decide with a bool for whether there is another attempt.
func next(s Schedule, attempt int, age time.Duration, r Result, seed uint64) (time.Duration, bool) {
	delay, why := s.Decide(attempt, age, r, seed)
	return delay, why == GiveUpNot
}

func anySchedule(t *rapid.T) Schedule {
	return Schedule{
		Delays: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.Int64Range(1, int64(maxDelay)).Draw(t, "delay"))
		}), 0, 10).Draw(t, "delays"),
		MaxAttempts: rapid.IntRange(0, 30).Draw(t, "max attempts"),
		MaxAge:      time.Duration(rapid.Int64Range(0, int64(100*24*time.Hour)).Draw(t, "max age")),
	}
}

func anyResult(t *rapid.T) Result {
	return Result{
		Class:      rapid.SampledFrom(Classes()).Draw(t, "class"),
		RetryAfter: time.Duration(rapid.Int64().Draw(t, "retry after")),
	}
}

// What holds of every answer of a schedule.
func TestScheduleProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, r := anySchedule(t), anyResult(t)
		attempt := rapid.IntRange(-1, 40).Draw(t, "attempt")
		age := time.Duration(rapid.Int64Range(-int64(time.Hour), int64(200*24*time.Hour)).Draw(t, "age"))
		seed := rapid.Uint64().Draw(t, "seed")

		delay, again := next(s, attempt, age, r, seed)
		same, _ := next(s, attempt, age, r, seed)
		switch {
		case delay != same:
			t.Fatalf("the same question was answered %s and %s", delay, same)
		case !again && delay != 0:
			t.Fatalf("no further try, but a delay of %s", delay)
		case !again:
			return
		case !r.Class.Retryable():
			t.Fatalf("class %s is tried again", r.Class)
		case r.Class != ClassCanceled && attempt >= s.Attempts():
			t.Fatalf("try %d of %d", attempt+1, s.Attempts())
		case delay <= 0:
			t.Fatalf("delay %s", delay)
		case s.MaxAge > 0 && max(age, 0)+delay > s.MaxAge:
			t.Fatalf("age %s and delay %s are more than %s", age, delay, s.MaxAge)
		}
		asked := min(r.RetryAfter, MaxRetryAfter)
		if delay < asked {
			t.Fatalf("delay %s undercuts %s", delay, asked)
		}
		base := s.delay(max(attempt, 1))
		if low := base / 2; delay < low {
			t.Fatalf("delay %s is less than half of %s", delay, base)
		}
		if high := max(base/2+base, asked+max(asked, 0)/10); delay > high {
			t.Fatalf("delay %s is more than %s", delay, high)
		}
	})
}

// A delivery that never succeeds ends: after as many tries as the schedule has.
func TestScheduleEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anySchedule(t)
		s.MaxAge = 0
		r := Result{Class: ClassBusy, RetryAfter: time.Duration(rapid.Int64().Draw(t, "retry after"))}
		tries, age := 1, time.Duration(0)
		for {
			delay, again := next(s, tries, age, r, 7)
			if !again {
				break
			}
			tries, age = tries+1, age+delay
			if tries > 50 {
				t.Fatal("it does not end")
			}
		}
		if tries != s.Attempts() {
			t.Fatalf("%d tries, want %d", tries, s.Attempts())
		}
	})
}

// Deliveries that failed together come back spread over the width of the delay.
func TestScheduleSpreads(t *testing.T) {
	s := Schedule{Delays: []time.Duration{time.Hour}}
	const n = 10_000
	var buckets [10]int
	var sum time.Duration
	for seed := range uint64(n) {
		d, _ := next(s, 1, 0, Result{Class: ClassBusy}, seed)
		sum += d
		buckets[(d-30*time.Minute)*10/time.Hour]++
	}
	for i, k := range buckets {
		if k < n/10*8/10 || k > n/10*12/10 {
			t.Errorf("%d of %d in tenth %d", k, n, i)
		}
	}
	if mean := sum / n; mean < 59*time.Minute || mean > 61*time.Minute {
		t.Errorf("mean %s, want the delay itself", mean)
	}
}

func TestDecideSaysWhy(t *testing.T) {
	s := Schedule{Delays: []time.Duration{time.Minute}, MaxAge: time.Hour}
	for _, tc := range []struct {
		attempt int
		age     time.Duration
		r       Result
		want    GiveUp
	}{
		{1, 0, Result{Class: ClassBusy}, GiveUpNot},
		{2, 0, Result{Class: ClassBusy}, GiveUpAttempts},
		{2, 0, Result{Class: ClassCanceled}, GiveUpNot},
		{1, 0, Result{Class: ClassRejected}, GiveUpFinal},
		{1, time.Hour, Result{Class: ClassUnreached}, GiveUpAge},
		{1, 0, Result{Class: ClassBusy, RetryAfter: 2 * time.Hour}, GiveUpAge},
	} {
		if _, why := s.Decide(tc.attempt, tc.age, tc.r, 1); why != tc.want {
			t.Errorf("attempt %d, age %s, %+v: %q, want %q", tc.attempt, tc.age, tc.r, why, tc.want)
		}
	}
	if d, again := next(Schedule{MaxAttempts: 2}, 1, 0, Result{Class: ClassBusy}, 1); !again || d < 15*time.Second {
		t.Errorf("more attempts but no delays: %s, %v", d, again)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 6, 5, 10, 0, 0, 0, time.UTC)
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for _, tc := range []struct {
		value, date string
		want        time.Duration
	}{
		{"", "", 0}, {"120", "", 2 * time.Minute}, {" 120 ", "", 2 * time.Minute}, {"0", "", 0}, {"-1", "", 0}, {"+30", "", 30 * time.Second},
		{"1.5", "", 0}, {"soon", "", 0}, {"1e3", "", 0}, {"0x10", "", 0}, {"120 seconds", "", 0}, {"120, 60", "", 0},
		{"86400", "", 24 * time.Hour}, {"86401", "", MaxRetryAfter}, {"2678400", "", MaxRetryAfter}, {"2678401", "", 0},
		{"31536000", "", 0}, {"1780653600000", "", 0}, {"1000000000000000000", "", 0}, {"99999999999999999999", "", 0},
		{fmt.Sprint(int64(math.MaxInt64)), "", 0},
		{at(90 * time.Second), "", 90 * time.Second}, {at(-time.Minute), "", 0}, {at(48 * time.Hour), "", MaxRetryAfter},
		{at(365 * 24 * time.Hour), "", 0}, {"Mon, 01 Jan 0001 00:00:00 GMT", "", 0}, {"Fri, 31 Dec 9999 23:59:59 GMT", "", 0},
		{now.Add(time.Hour).Format(time.RFC850), "", time.Hour}, {now.Add(time.Hour).Format(time.ANSIC), "", time.Hour},
		{now.Add(time.Hour).Format(time.RFC3339), "", 0},
		// The receiver's clock is an hour ahead: its own Date tells.
		{at(time.Hour + time.Minute), at(time.Hour), time.Minute}, {at(time.Hour), at(time.Hour), 0}, {at(time.Minute), "nonsense", time.Minute},
	} {
		h := http.Header{"Retry-After": {tc.value}}
		if tc.date != "" {
			h.Set("Date", tc.date)
		}
		if got := retryAfter(h, now); got != tc.want {
			t.Errorf("Retry-After %q (Date %q) = %s, want %s", tc.value, tc.date, got, tc.want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("120", "")
	f.Add("Fri, 05 Jun 2026 10:00:00 GMT", "Fri, 05 Jun 2026 09:00:00 GMT")
	f.Fuzz(func(t *testing.T, value, date string) {
		got := retryAfter(http.Header{"Retry-After": {value}, "Date": {date}}, time.Unix(1_780_000_000, 0))
		if got < 0 || got > MaxRetryAfter {
			t.Fatalf("%q, %q = %s", value, date, got)
		}
	})
}

func TestSendReadsRetryAfter(t *testing.T) {
	for _, status := range []int{408, 425, 429, 503} {
		srv := newRawServer(t, answering(fmt.Sprintf("HTTP/1.1 %d X\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", status)))
		res := newTestClient(t, Options{}).Send(t.Context(), postRequest(srv.URL))
		if res.Class != ClassBusy || res.RetryAfter != 7*time.Second {
			t.Errorf("%d: %+v", status, res)
		}
	}
}

func TestClass(t *testing.T) {
	for class, want := range map[Class]struct {
		text, status string
		again        bool
	}{
		ClassOK: {"ok", "ok", false}, ClassRefused: {"refused", "rejected", false}, ClassRejected: {"rejected", "rejected", false},
		ClassBusy: {"busy", "rejected", true}, ClassUnreached: {"unreached", "failed", true}, ClassUnknown: {"unknown", "failed", true},
		ClassBlocked: {"blocked", "failed", false}, ClassUnusable: {"unusable", "failed", false}, ClassCanceled: {"canceled", "failed", true},
		Class(200): {"invalid", "failed", false},
	} {
		if class.String() != want.text || class.Status() != want.status || class.Retryable() != want.again {
			t.Errorf("%d: %s, %s, %v", class, class, class.Status(), class.Retryable())
		}
	}
}
