package outage

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cxbridge/watcher/internal/plain"
)

var errAway = errors.New("away")

// recorder is a Log whose lines are kept, without times.
func recorder() (*Log, func() []string) {
	var out bytes.Buffer
	handler := slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(g []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return plain.Attr(g, a)
	}})
	log := New(slog.New(handler), "cannot read, trying again", "reading again")
	return log, func() []string {
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		out.Reset()
		return lines
	}
}

// An hour of failures, one a second, is a handful of lines and an end.
func TestALongOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, lines := recorder()
		for range 3600 {
			log.Failed(t.Context(), errAway, slog.Int("calls", 3))
			<-time.After(time.Second)
		}
		log.Worked(t.Context())
		log.Worked(t.Context())
		want := []string{
			`level=WARN msg="cannot read, trying again" calls=3 error=away`,
			`level=WARN msg="cannot read, trying again" calls=3 times=31 for=30s error=away`,
			`level=WARN msg="cannot read, trying again" calls=3 times=91 for=1m30s error=away`,
			`level=WARN msg="cannot read, trying again" calls=3 times=211 for=3m30s error=away`,
			`level=WARN msg="cannot read, trying again" calls=3 times=451 for=7m30s error=away`,
			`level=WARN msg="cannot read, trying again" calls=3 times=931 for=15m30s error=away`,
			`level=WARN msg="cannot read, trying again" calls=3 times=1531 for=25m30s error=away`,
			`level=WARN msg="cannot read, trying again" calls=3 times=2131 for=35m30s error=away`,
			`level=WARN msg="cannot read, trying again" calls=3 times=2731 for=45m30s error=away`,
			`level=WARN msg="cannot read, trying again" calls=3 times=3331 for=55m30s error=away`,
			`level=INFO msg="reading again" failures=3600 after=1h0m0s`,
		}
		if got := lines(); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s", strings.Join(got, "\n"))
		}
	})
}

// What fails and works in turn does not get two lines for each turn.
func TestFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, lines := recorder()
		for range 600 {
			log.Failed(t.Context(), errAway)
			log.Worked(t.Context())
			<-time.After(100 * time.Millisecond)
		}
		if got := lines(); len(got) != 4 { // two in each half minute
			t.Errorf("%d lines:\n%s", len(got), strings.Join(got, "\n"))
		}
	})
}

// Another cause is told soon, but not each time when two take turns.
func TestAnotherCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, lines := recorder()
		log.Failed(t.Context(), errAway)
		<-time.After(otherCause)
		log.Failed(t.Context(), errors.New("not authorised"))
		for range 10 {
			log.Failed(t.Context(), errAway)
			log.Failed(t.Context(), errors.New("not authorised"))
		}
		got := lines()
		if len(got) != 2 || !strings.HasSuffix(got[1], `times=2 for=5s error="not authorised"`) {
			t.Errorf("%s", strings.Join(got, "\n"))
		}
	})
}

func TestConcurrentUse(t *testing.T) {
	log, _ := recorder()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				log.Failed(t.Context(), errAway)
				log.Worked(t.Context())
			}
		})
	}
	all.Wait()
	if log.down.Load() && log.times == 0 {
		t.Error("nothing failed since it last worked, yet it is down")
	}
}

func BenchmarkWorked(b *testing.B) {
	log := New(slog.New(slog.DiscardHandler), "failing", "working")
	for b.Loop() {
		log.Worked(b.Context())
	}
}
