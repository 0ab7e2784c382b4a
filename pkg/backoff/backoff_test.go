package backoff

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestPauseDoublesUpToItsBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := Backoff{
			First: time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "first")),
			Most:  time.Duration(rapid.Int64Range(1, int64(24*time.Hour)).Draw(t, "most")),
		}
		n := rapid.IntRange(0, 1_000_000).Draw(t, "n")
		full := b.First
		for range min(n, 64) {
			full = min(2*full, b.Most)
		}
		full = min(full, b.Most)
		if got := b.Pause(n); got < full/2 || got > full {
			t.Fatalf("pause %d of %+v is %s, not within %s and %s", n, b, got, full/2, full)
		}
	})
}

func TestSleepEndsByItsTimeOrByItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		if err := Sleep(t.Context(), time.Hour); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took != time.Hour {
			t.Errorf("slept %s of an hour", took)
		}
		why := errors.New("stopped")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		begun = time.Now()
		if err := Sleep(ctx, time.Hour); !errors.Is(err, why) {
			t.Errorf("the sleep ended with %v", err)
		}
		if took := time.Since(begun); took != time.Second {
			t.Errorf("slept %s after the end of the context", took)
		}
	})
}
