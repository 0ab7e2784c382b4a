package hold

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// shelf is MongoDB with some holds.
type shelf struct {
	mu    sync.Mutex
	all   []Hold
	err   error
	asked int
}

func (s *shelf) List(context.Context) ([]Hold, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	return s.all, s.err
}

func (s *shelf) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *shelf) put(err error, all ...Hold) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all, s.err = all, err
}

func TestHoldsAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := &shelf{err: errors.New("away")}, botAt(t, "b", "https://crm.example.com")
		var log bytes.Buffer
		var changes atomic.Int64
		h := New(Options{
			Records: s, Logger: slog.New(slog.NewTextHandler(&log, nil)), Registerer: prometheus.NewRegistry(),
			OnChange: func(*Set, time.Time) { changes.Add(1) },
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { _ = h.Run(ctx); close(ended) }()
		step := func(what string, wait time.Duration, held bool, changed int64) {
			t.Helper()
			time.Sleep(wait)
			synctest.Wait()
			if got := h.Set() != nil && h.Set().For(b, time.Now()) != nil; got != held || changes.Load() != changed {
				t.Errorf("%s: held %t after %d changes, want %t after %d", what, got, changes.Load(), held, changed)
			}
			if active := testutil.ToFloat64(h.active); (active == 1) != held {
				t.Errorf("%s: %v active", what, active)
			}
		}
		step("nothing is known", 5*time.Second, false, 0)
		if h.Ready() == nil {
			t.Error("ready though nothing was read")
		}
		s.put(nil)
		step("there is none", 2*time.Second, false, 1)
		if h.Ready() != nil {
			t.Error(h.Ready())
		}
		hold := Hold{ID: "h1", Bot: "b", Why: "the CRM moves", By: "ann", From: time.Now(), Until: time.Now().Add(time.Minute)}
		s.put(nil, hold)
		step("one begins", 2*time.Second, true, 2)
		step("it lasts", 10*time.Second, true, 2)
		s.put(errors.New("away"))
		step("MongoDB is away", 10*time.Second, true, 2)
		step("its time is over meanwhile", 40*time.Second, false, 3)
		hold.Until = time.Time{}
		s.put(nil, hold)
		step("it is there again", 2*time.Second, true, 4)
		hold.Ended, hold.EndBy = time.Now(), "bob"
		s.put(nil, hold)
		step("it is released", 2*time.Second, false, 5)
		cancel()
		<-ended
		for _, want := range []string{
			`msg="a hold keeps calls back" hold_id=h1 bot_id=b host="" why="the CRM moves" by=ann`,
			`msg="a hold is over" hold_id=h1 bot_id=b host="" how="its time is over"`, `how=released by=bob`,
		} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("no line with %s in\n%s", want, log.String())
			}
		}
	})
}

// Who is told asks nobody, and asks again in time when nobody tells any more.
func TestHoldsThatAreToldOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, b := &shelf{}, botAt(t, "b", "https://crm.example.com")
		h := New(Options{
			Records: s, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(), OnChange: func(*Set, time.Time) {},
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { _ = h.Run(ctx); close(ended) }()
		check := func(what string, held bool) {
			t.Helper()
			synctest.Wait()
			if got := h.Set().For(b, time.Now()) != nil; got != held {
				t.Errorf("%s: held %t, want %t", what, got, held)
			}
		}
		synctest.Wait()
		h.Tell(nil)
		synctest.Wait()
		asked := s.count()
		holds := []Hold{{ID: "h1", Bot: "b", Why: "the CRM moves", By: "ann", From: time.Now(), Until: time.Now().Add(time.Minute)}}
		s.put(nil, holds...)
		for range 30 {
			time.Sleep(time.Second)
			h.Tell(nil)
			h.Tell(holds) // the later counts
			check("told", true)
		}
		if n := s.count() - asked; n != 0 {
			t.Errorf("asked %d times though told each second", n)
		}
		s.put(nil)
		time.Sleep(2 * time.Second)
		check("nobody tells any more", false)
		s.put(nil, holds...)
		time.Sleep(lookEvery)
		check("nobody told", true)
		time.Sleep(time.Minute)
		check("its time is over", false)
		cancel()
		<-ended
	})
}
