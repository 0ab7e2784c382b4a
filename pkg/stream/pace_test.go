package stream

import (
	"context"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// However opens and polls fail, there are never more than a few a minute.
func TestReopensArePaced(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(s *script)
	}{
		{"the open fails", func(s *script) { s.failOpen = func(Opening) error { return io.ErrUnexpectedEOF } }},
		{"the open is denied", func(s *script) { s.failOpen = func(Opening) error { return code(13) } }},
		{"the first poll fails", func(s *script) { s.failPoll = func(*scripted) error { return io.ErrUnexpectedEOF } }},
		{"history is always lost", func(s *script) { s.failPoll = func(*scripted) error { return code(286) } }},
		{"an unknown error each time", func(s *script) { s.failPoll = func(*scripted) error { return code(8) } }},
		{"every event is too large", func(s *script) { s.failPoll = func(*scripted) error { return code(10334) } }},
		{"each cursor answers once", func(s *script) {
			s.failPoll = func(c *scripted) error {
				if c.first {
					return nil
				}
				return io.ErrUnexpectedEOF
			}
		}},
		{"the collection is dropped all the time", func(s *script) {
			for range 500 {
				s.drop()
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, n := newScript(), newNotes(t)
				at := s.write(entry{operation: "insert", key: 1})
				c.set(s)
				f := follow(t, s, n, func(c *Config) { c.Start, c.Passing = saved(at), elections })
				wait(time.Minute)
				first, _, _ := s.counts()
				wait(10 * time.Minute)
				all, _, open := s.counts()
				if first < 3 || first > 10 {
					t.Errorf("%d opens in the first minute", first)
				}
				if later := all - first; later < 10 || later > 60 {
					t.Errorf("%d opens in the ten minutes after", later)
				}
				if open > 1 {
					t.Errorf("%d cursors are open", open)
				}
				f.end(t)
			})
		})
	}
}

func TestShortFailureIsOverSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n := newScript(), newNotes(t)
		f := follow(t, s, n, nil)
		wait(10 * time.Second)
		failures := 2
		s.mu.Lock()
		s.failPoll = func(*scripted) error {
			if failures > 0 {
				failures--
				return io.ErrUnexpectedEOF
			}
			return nil
		}
		s.mu.Unlock()
		s.insert(1)
		wait(2 * time.Second)
		if !slices.Equal(n.keys(), []int{1}) {
			t.Errorf("read %v two seconds after two failures", n.keys())
		}
		f.end(t)
	})
}

// hanging is a Source whose polls hang until they are cut off.
type hanging struct {
	*script
	hang bool
	only func(o Opening) bool
}

type hangingCursor struct {
	Cursor
	h *hanging
	o Opening
}

func (h *hanging) Open(ctx context.Context, o Opening) (Cursor, Batch, error) {
	c, b, err := h.script.Open(ctx, o)
	return &hangingCursor{Cursor: c, h: h, o: o}, b, err
}

func (c *hangingCursor) Poll(ctx context.Context) (Batch, error) {
	c.h.mu.Lock()
	hang := c.h.hang && c.h.only(c.o)
	c.h.mu.Unlock()
	if hang {
		<-ctx.Done()
		return Batch{}, ctx.Err()
	}
	return c.Cursor.Poll(ctx)
}

// A start on a quiet collection does not wait until the server says that it is quiet;
// a router may still refuse then.
func TestAQuietStreamIsOpenBeforeItsFirstPollIsOver(t *testing.T) {
	for _, sharded := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := follow(t, newScript(), newNotes(t), func(c *Config) { c.MaxAwait, c.Sharded = 3*time.Second, sharded })
			wait(answersWithin - time.Millisecond)
			if s := f.Status(); s.Open || s.Ready(time.Now()) == nil {
				t.Errorf("open too early: %+v", s)
			}
			wait(2 * time.Millisecond)
			if s := f.Status(); s.Open == sharded || (s.Ready(time.Now()) == nil) == sharded {
				t.Errorf("sharded %v: %+v", sharded, s)
			}
			wait(3 * time.Second)
			if s := f.Status(); !s.Open || s.Opens != 1 || s.Ready(time.Now()) != nil {
				t.Errorf("sharded %v, after the poll: %+v", sharded, s)
			}
			f.end(t)
		})
	}
}

// A server that is silent from the start is noticed like one that falls silent.
func TestAFirstPollThatHangsIsNotReadyForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hanging{script: newScript(), only: func(Opening) bool { return true }, hang: true}
		f := follow(t, h, newNotes(t), nil)
		wait(Stale + 2*time.Second)
		if s := f.Status(); s.Ready(time.Now()) == nil {
			t.Errorf("ready: %+v", s)
		}
		f.end(t)
	})
}

func TestFrozenPollIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hanging{script: newScript(), only: func(Opening) bool { return true }}
		n := newNotes(t)
		f := follow(t, h, n, nil)
		wait(5 * time.Second)
		h.mu.Lock()
		h.hang = true
		h.mu.Unlock()
		wait(40 * time.Second)
		if err := f.Status().Ready(time.Now()); err == nil {
			t.Error("ready although no poll comes back")
		}
		wait(10 * time.Minute)
		opens, _, open := h.counts()
		if opens < 3 || opens > 6 || open > 1 {
			t.Errorf("%d opens in ten frozen minutes, %d cursors", opens, open)
		}
		h.mu.Lock()
		h.hang = false
		h.mu.Unlock()
		h.insert(1)
		wait(20 * time.Minute) // the last frozen poll has the longest limit
		if !slices.Equal(n.keys(), []int{1}) {
			t.Errorf("read %v", n.keys())
		}
		if err := f.Status().Ready(time.Now()); err != nil {
			t.Errorf("not ready again: %v", err)
		}
		f.end(t)
	})
}

func TestEndDoesNotWaitForAFrozenPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hanging{script: newScript(), only: func(Opening) bool { return true }, hang: true}
		f := follow(t, h, newNotes(t), nil)
		wait(5 * time.Second)
		began := time.Now()
		f.end(t)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("took %s to stop", took)
		}
		if _, _, open := h.counts(); open != 0 {
			t.Errorf("%d cursors are left", open)
		}
	})
}

func TestProbeThatHangsIsAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hanging{script: newScript(), only: func(o Opening) bool { return o.Bare }, hang: true}
		n := newNotes(t)
		at := h.write(entry{operation: "insert", key: 1})
		wait(time.Minute)
		f := follow(t, h, n, func(c *Config) { c.Start = saved(at) })
		wait(time.Minute)
		h.insert(2)
		wait(5 * time.Second)
		gaps := n.theGaps()
		if len(gaps) != 1 || gaps[0].Reason != GapUnverified || !slices.Equal(n.keys(), []int{2}) {
			t.Errorf("gaps %+v, read %v", gaps, n.keys())
		}
		f.end(t)
	})
}

// Three quiet hours, longer than every limit there is (16 minutes for a poll, 30 for
// a session): the cursor stays the same, the position moves on, the stream is
// ready all the time, and the next event is read at once.
func TestIdleForLongerThanEveryLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n := newScript(), newNotes(t)
		f := follow(t, s, n, nil)
		for quarter := range 12 {
			wait(15 * time.Minute)
			if err := f.Status().Ready(time.Now()); err != nil {
				t.Fatalf("not ready after %d quiet quarters of an hour: %v", quarter+1, err)
			}
			if st := f.Status(); time.Since(st.Position.Time()) > 5*time.Second || st.Lag != 0 {
				t.Fatalf("after %d quiet quarters the position is %s old, lag %s", quarter+1, time.Since(st.Position.Time()), st.Lag)
			}
		}
		s.insert(1)
		wait(10 * time.Millisecond)
		if !slices.Equal(n.keys(), []int{1}) {
			t.Errorf("read %v", n.keys())
		}
		if opens, _, open := s.counts(); opens != 1 || open != 1 {
			t.Errorf("%d opens, %d cursors", opens, open)
		}
		f.end(t)
	})
}

// A sink that takes nothing for an hour, as when too much is pending: nothing is
// read meanwhile, the server ends the cursor that nobody asks, and the stream goes
// on from where it was without a gap.
func TestNothingIsReadWhileTooMuchIsPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n := newScript(), newNotes(t)
		f := follow(t, s, n, nil)
		wait(5 * time.Second)
		n.block = make(chan struct{})
		s.insert(1)
		wait(2 * time.Second)
		s.mu.Lock()
		polls := s.asked
		s.mu.Unlock()
		for k := 2; k <= 50; k++ {
			s.insert(k)
		}
		wait(time.Hour)
		s.mu.Lock()
		if s.asked != polls {
			t.Errorf("%d polls while the sink takes nothing", s.asked-polls)
		}
		gone := true
		s.failPoll = func(*scripted) error {
			if gone {
				gone = false
				return code(43)
			}
			return nil
		}
		s.mu.Unlock()
		close(n.block)
		wait(5 * time.Second)
		if got := n.keys(); len(got) != 50 || got[0] != 1 || got[49] != 50 || len(n.theGaps()) != 0 {
			t.Errorf("read %v, gaps %v", got, n.theGaps())
		}
		f.end(t)
	})
}
