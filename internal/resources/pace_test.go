package resources

import (
	"context"
	"errors"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"testing/synctest"
	"time"
)

func TestThereIsHeadroomWhileLittleIsInUse(t *testing.T) {
	for live, want := range map[uint64]uint64{0: 200, 4 << 20: 200, 12 << 20: 200, 16 << 20: 140, 24 << 20: 100, 1 << 30: 100} {
		if got := percentFor(live); got != want {
			t.Errorf("%d MiB in use: %d %%, want %d", live>>20, got, want)
		}
	}
}

// The pace is that of the process again when whoever kept it has ended.
func TestThePaceEnds(t *testing.T) {
	percent := func() uint64 {
		sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	t.Setenv("GOGC", "")
	before := percent()
	defer debug.SetGCPercent(int(before)) //nolint:gosec // as it was
	debug.SetGCPercent(usualPercent)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			PaceGarbage(ctx)
		}()
		time.Sleep(2 * quietTicks * paceEvery)
		if got := percent(); got != mostPercent {
			t.Errorf("%d %% while nearly nothing is in use, want %d", got, mostPercent)
		}
		cancel(errors.New("over"))
		<-ended
	})
	if got := percent(); got != usualPercent {
		t.Errorf("%d %% is left behind", got)
	}

	t.Setenv("GOGC", "100") // of the operator, though it is the usual one
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			PaceGarbage(ctx)
		}()
		time.Sleep(2 * quietTicks * paceEvery)
		if got := percent(); got != usualPercent {
			t.Errorf("%d %% in place of the operator's", got)
		}
		cancel(errors.New("over"))
		<-ended
	})
}
