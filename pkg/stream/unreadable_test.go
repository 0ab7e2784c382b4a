package stream

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/pkg/resume"
)

// An event that is too large to be returned is a gap from the last position to the
// moment of the new open; the stream goes on there, in batches of the usual size.
func TestOversizedEventIsAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n := newScript(), newNotes(t)
		at := s.write(entry{operation: "insert", key: 1})
		wait(time.Minute)
		s.insert(2)
		big := s.write(entry{operation: "insert", key: 3, big: true})
		wait(time.Minute)
		s.insert(4)
		wait(time.Second)
		f := follow(t, s, n, func(c *Config) { c.Start = saved(at) })
		wait(5 * time.Second)
		s.insert(5)
		wait(5 * time.Second)
		if got := n.keys(); !slices.Equal(got, []int{5}) {
			t.Errorf("read %v, want what came after the gap", got)
		}
		gaps := n.theGaps()
		if len(gaps) != 1 || gaps[0].Reason != GapOversized || !gaps[0].From.Equal(resume.ClockTime(at)) {
			t.Fatalf("gaps %+v, the position was %s", gaps, resume.ClockTime(at))
		}
		if end := gaps[0].To; !end.After(resume.ClockTime(big)) || end.After(time.Now()) || !end.Equal(gaps[0].Position.Time().Add(time.Second)) {
			t.Errorf("the gap ends at %s, the event was at %s, it goes on at %s", end, resume.ClockTime(big), gaps[0].Position)
		}
		if opens, probes, open := s.counts(); opens != 2 || open != 1 || probes > 1 {
			t.Errorf("%d opens, %d probes, %d cursors", opens, probes, open)
		}
		f.end(t)
	})
}

// One error that does not come again, as when another member answers, has no effect
// on how the stream is read an hour later.
func TestOversizedErrorThatComesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n := newScript(), newNotes(t)
		once := true
		s.failPoll = func(*scripted) error {
			if once {
				once = false
				return code(10334)
			}
			return nil
		}
		f := follow(t, s, n, nil)
		for k := range 5 { // elections
			wait(15 * time.Minute)
			s.mu.Lock()
			s.failPoll = func(*scripted) error { s.failPoll = nil; return code(91) }
			s.mu.Unlock()
			s.insert(k + 1)
		}
		wait(time.Minute)
		s.mu.Lock()
		for _, o := range s.opens {
			if !o.Bare && o.BatchSize != 0 {
				t.Errorf("opened with batches of %d", o.BatchSize)
			}
		}
		s.mu.Unlock()
		if got := n.keys(); !slices.Equal(got, []int{1, 2, 3, 4, 5}) || len(n.theGaps()) != 1 {
			t.Errorf("read %v, gaps %v", got, n.theGaps())
		}
		f.end(t)
	})
}

// The first event after the position is too large without the pipeline, which cuts it
// down: the history is there, and nothing is missed.
func TestOversizedEventUnderTheProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n := newScript(), newNotes(t)
		at := s.write(entry{operation: "insert", key: 1})
		s.write(entry{operation: "insert", key: 2, bigBare: true})
		f := follow(t, s, n, func(c *Config) { c.Start = saved(at) })
		wait(5 * time.Second)
		if got := n.keys(); !slices.Equal(got, []int{2}) || len(n.theGaps()) != 0 {
			t.Errorf("read %v, gaps %v", got, n.theGaps())
		}
		f.end(t)
	})
}

// An event for which the server has an error of its own stops nobody for ever: what
// follows the gap is read. An error that is known to pass is waited for instead.
func TestEventThatCannotBeRead(t *testing.T) {
	for number, gap := range map[int32]bool{1: true, 8: true, 13548: true, 91: false, 10107: false, 43: false} {
		t.Run(fmt.Sprint("code ", number), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, n := newScript(), newNotes(t)
				at := s.write(entry{operation: "insert", key: 1})
				wait(time.Minute)
				s.insert(2)
				bad := s.now().T
				s.failPoll = func(c *scripted) error {
					if c.o.Bare || c.after >= resume.TokenText(tokenAt(bson.Timestamp{T: bad + 1}, "")) {
						return nil
					}
					return code(number)
				}
				f := follow(t, s, n, func(c *Config) { c.Start, c.Passing = saved(at), elections })
				wait(20 * time.Second)
				if len(n.theGaps()) != 0 {
					t.Error("a gap after 20 seconds")
				}
				wait(10 * time.Minute)
				s.insert(3)
				wait(20 * time.Second)
				gaps := n.theGaps()
				if !gap {
					if len(gaps) != 0 || len(n.keys()) != 0 {
						t.Errorf("gaps %+v, read %v", gaps, n.keys())
					}
				} else if len(gaps) != 1 || gaps[0].Reason != GapUnreadable || !gaps[0].From.Equal(resume.ClockTime(at)) || !slices.Equal(n.keys(), []int{3}) {
					t.Errorf("gaps %+v, read %v", gaps, n.keys())
				}
				f.end(t)
			})
		})
	}
}

// A probe that fails each time with an error of its own: the stream goes by time, where
// there is nothing to probe.
func TestProbeThatFailsForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n := newScript(), newNotes(t)
		at := s.write(entry{operation: "insert", key: 1})
		wait(time.Minute)
		s.insert(2)
		s.failPoll = func(c *scripted) error {
			if c.o.Bare {
				return code(8)
			}
			return nil
		}
		f := follow(t, s, n, func(c *Config) { c.Start, c.Passing = saved(at), elections })
		wait(5 * time.Minute)
		if got := n.keys(); !slices.Contains(got, 2) || len(n.theGaps()) != 0 {
			t.Errorf("read %v, gaps %v", got, n.theGaps())
		}
		f.end(t)
	})
}

// elections are errors that pass.
func elections(err error) bool {
	server, ok := errors.AsType[mongo.ServerError](err)
	return ok && (server.HasErrorCode(91) || server.HasErrorCode(10107) || server.HasErrorCode(43))
}
