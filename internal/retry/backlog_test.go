package retry

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/dispatch"
)

// backlog answers counts.
type backlog struct {
	mu     sync.Mutex
	n      int
	oldest time.Time
	err    error
	asked  int
}

func (b *backlog) CountDue(_ context.Context, q calls.DueQuery) (int, time.Time, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	if q.Replay {
		return 1, b.oldest.Add(-time.Hour), b.err
	}
	return b.n, b.oldest, b.err
}

func (b *backlog) counts() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asked
}

func (b *backlog) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

func (b *backlog) Due(context.Context, calls.DueQuery) ([]calls.DueCall, error) { return nil, nil }

// noBots is a deployment without bots.
type noBots struct{}

func (noBots) Set() *bots.Set                                 { return bots.NewSet(nil) }
func (noBots) Refresh(context.Context, []bson.RawValue) error { return nil }
func (noBots) Gone(bson.RawValue) bool                        { return false }

func TestTheBacklogIsCountedNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backlog{n: 7, oldest: time.Now().Add(-time.Minute)}
		reg, logger := prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
		d := dispatch.New(dispatch.Options{Bots: noBots{}, Concurrency: 1, DestinationConcurrency: 1, Logger: logger, Registerer: reg})
		r := New(Options{Finder: b, Bots: noBots{}, Road: d, Logger: logger, Registerer: reg})
		in := d.Open(context.Background(), dispatch.Share{}, nil)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { _ = r.Run(ctx); close(ended) }()
		synctest.Wait()
		check := func(attempts, replays, oldest float64) {
			t.Helper()
			for i, want := range []float64{attempts, replays} {
				if got := testutil.ToFloat64(r.metrics.due[i]); got != want {
					t.Errorf("due calls of class %s: %v, want %v", classes[i], got, want)
				}
			}
			if got := testutil.ToFloat64(r.metrics.oldest); got != oldest {
				t.Errorf("oldest due: %v s, want %v", got, oldest)
			}
		}
		check(7, 1, 60)
		asked := b.counts()
		time.Sleep(backlogEvery - time.Second)
		if n := b.counts() - asked; n != 0 {
			t.Errorf("asked %d times within %v", n, backlogEvery)
		}
		b.fail(errors.New("away"))
		time.Sleep(2 * time.Second)
		if got := testutil.ToFloat64(r.metrics.oldest); !math.IsNaN(got) {
			t.Errorf("oldest due is %v though the count failed, want NaN", got)
		}
		b.fail(nil)
		in.Stop() // a standby has nothing due
		time.Sleep(backlogEvery)
		check(0, 0, 0)
		cancel()
		<-ended
	})
}

// slowFinder takes its time, as without an index on a large collection.
type slowFinder struct {
	backlog
	takes time.Duration
	looks []time.Time
}

func (s *slowFinder) Due(context.Context, calls.DueQuery) ([]calls.DueCall, error) {
	<-time.After(s.takes)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks = append(s.looks, time.Now())
	return nil, s.err
}

// forget returns the times of the looks until now, and forgets them.
func (s *slowFinder) forget() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	looks := s.looks
	s.looks = nil
	return looks
}

// While nothing is due, what others make due is found by a look every five seconds, and
// what this process scheduled is looked for at its moment, whatever is scheduled beside it.
func TestAQuietRetrierLooksSeldomAndInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &slowFinder{}
		reg, logger := prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
		d := dispatch.New(dispatch.Options{Bots: noBots{}, Concurrency: 1, DestinationConcurrency: 1, Logger: logger, Registerer: reg})
		r := New(Options{Finder: f, Bots: noBots{}, Road: d, Logger: logger, Registerer: reg})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { _ = r.Run(ctx); close(ended) }()
		after := func(d time.Duration) []time.Time { time.Sleep(d); return f.forget() }
		after(1300 * time.Millisecond)
		opened := time.Now()
		in := d.Open(context.Background(), dispatch.Share{}, nil)
		if looks := after(time.Second); len(looks) != len(classes) || looks[0].Sub(opened) > leastRest {
			t.Errorf("looks after a partition was opened: %v", looks)
		}
		if n := len(after(time.Minute)); n != 12*len(classes) {
			t.Errorf("%d looks in a minute, want one every %s in each class", n, quietEvery)
		}
		begun := time.Now()
		var scheduled []time.Time
		for i := range 200 { // also some close together, and not in order
			at := begun.Add(time.Duration(i*i*7%60_000) * time.Millisecond)
			scheduled = append(scheduled, at)
			r.expect(at)
		}
		looks := after(time.Minute + time.Second)
		for _, at := range scheduled {
			if !slices.ContainsFunc(looks, func(look time.Time) bool { return !look.Before(at) && look.Sub(at) <= leastRest }) {
				t.Errorf("no look for what was due %s after the beginning", at.Sub(begun))
			}
		}
		f.fail(errors.New("away"))
		after(quietEvery)
		if n := len(after(time.Minute)); n < 55 {
			t.Errorf("%d looks in a minute while the database is away", n)
		}
		in.Stop()
		cancel()
		<-ended
	})
}

// A look that takes minutes is not followed by the next at once.
func TestSlowLooksLeaveMongoDBTimeForOtherThings(t *testing.T) {
	for _, c := range []struct {
		takes       time.Duration
		least, most int
	}{{0, 1000, 1600}, {time.Minute, 4, 24}} {
		synctest.Test(t, func(t *testing.T) {
			f := &slowFinder{takes: c.takes}
			reg, logger := prometheus.NewRegistry(), slog.New(slog.DiscardHandler)
			d := dispatch.New(dispatch.Options{Bots: noBots{}, Concurrency: 1, DestinationConcurrency: 1, Logger: logger, Registerer: reg})
			r := New(Options{Finder: f, Bots: noBots{}, Road: d, Logger: logger, Registerer: reg})
			in := d.Open(context.Background(), dispatch.Share{}, nil)
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan struct{})
			go func() { _ = r.Run(ctx); close(ended) }()
			time.Sleep(time.Hour)
			cancel()
			<-ended
			in.Stop()
			if n := len(f.looks); n < c.least || n > c.most {
				t.Errorf("%d looks of %s in an hour", n, c.takes)
			}
		})
	}
}
