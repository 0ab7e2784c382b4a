package stream

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cxbridge/watcher/pkg/resume"
)

// blocked is a follower whose sink holds the event 1 until release is closed.
type blocked struct {
	*script
	*notes
	*running
	first   resume.Position // of the event 1
	release chan struct{}
}

func (b *blocked) polls() int {
	b.script.mu.Lock()
	defer b.script.mu.Unlock()
	return b.asked
}

// onEvent1 runs a test with a follower that is held at the event 1, with a poll under
// way that waits for 20 s.
func onEvent1(t *testing.T, source func(s *script) Source, test func(t *testing.T, b *blocked)) {
	synctest.Test(t, func(t *testing.T) {
		s, n := newScript(), newNotes(t)
		n.block = make(chan struct{})
		b := &blocked{script: s, notes: n, release: n.block}
		b.running = follow(t, source(s), n, func(c *Config) { c.MaxAwait = 20 * time.Second })
		wait(2 * time.Second)
		b.first = resume.Position{ClusterTime: s.write(entry{operation: "insert", key: 1})}
		wait(2 * time.Second)
		test(t, b)
		b.end(t)
		if _, _, open := s.counts(); open != 0 {
			t.Errorf("%d cursors are left", open)
		}
	})
}

func itself(s *script) Source { return s }

func TestTheNextBatchIsReadWhileOneIsHandedOver(t *testing.T) {
	onEvent1(t, itself, func(t *testing.T, b *blocked) {
		under := b.polls()
		b.insert(2)
		wait(time.Second)
		if p := b.Status().Position; !p.ClusterTime.After(b.first.ClusterTime) || len(b.keys()) != 0 {
			t.Errorf("read up to %s, handed over %v", p, b.keys())
		}
		b.insert(3)
		wait(time.Hour)
		if b.polls() != under {
			t.Errorf("%d more polls while a batch waits", b.polls()-under)
		}
		close(b.release)
		wait(time.Second)
		if opens, _, _ := b.counts(); opens != 1 || !slices.Equal(b.keys(), []int{1, 2, 3}) {
			t.Errorf("%d opens, read %v", opens, b.keys())
		}
	})
}

// A large batch is handed over before the next is asked for.
func TestNothingIsReadBesideALargeBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, n := newScript(), newNotes(t)
		n.block = make(chan struct{})
		f := follow(t, s, n, nil)
		wait(1500 * time.Millisecond)
		s.mu.Lock()
		before := s.asked // one is under way
		s.mu.Unlock()
		s.write(entry{operation: "insert", key: 1, padding: aheadBytes})
		wait(time.Hour)
		s.mu.Lock()
		if s.asked != before {
			t.Errorf("%d more polls beside a large batch", s.asked-before)
		}
		s.mu.Unlock()
		s.insert(2)
		close(n.block)
		wait(time.Second)
		if !slices.Equal(n.keys(), []int{1, 2}) {
			t.Errorf("read %v", n.keys())
		}
		f.end(t)
	})
}

// History that goes while a batch waits: the batch is there and is handed over, and
// the gap begins behind it.
func TestHistoryIsLostBehindABatchThatWaits(t *testing.T) {
	onEvent1(t, itself, func(t *testing.T, b *blocked) {
		second := b.write(entry{operation: "insert", key: 2})
		wait(time.Minute)
		b.insert(3)
		b.forget()
		b.script.mu.Lock()
		lost := false
		b.failPoll = func(*scripted) error {
			if lost {
				return nil
			}
			lost = true
			return code(286)
		}
		b.script.mu.Unlock()
		close(b.release)
		wait(time.Minute)
		b.insert(4)
		wait(time.Minute)
		gaps := b.theGaps()
		if len(gaps) != 1 || gaps[0].Reason != GapHistoryLost || !gaps[0].From.Equal(resume.ClockTime(second)) || !slices.Equal(b.keys(), []int{1, 2, 4}) {
			t.Errorf("gaps %+v, read %v", gaps, b.keys())
		}
	})
}

// The driver opens again by itself during the poll ahead: the history after what was
// read is asked for at once, before the sink is done, and lost history is never believed.
func TestDriverReopensDuringThePollAhead(t *testing.T) {
	for _, lost := range []bool{false, true} {
		onEvent1(t, itself, func(t *testing.T, b *blocked) {
			wait(time.Minute) // the poll under way has come back empty and waits
			b.script.mu.Lock()
			b.moveID, b.lax = true, true
			b.script.mu.Unlock()
			if lost {
				b.forget()
				wait(2 * time.Second)
			}
			b.insert(2)
			close(b.release)
			wait(time.Minute)
			_, probes, _ := b.counts()
			gaps := b.theGaps()
			switch {
			case probes == 0:
				t.Error("nothing was asked by time")
			case !lost && (len(gaps) != 0 || !slices.Equal(b.keys(), []int{1, 2})):
				t.Errorf("gaps %+v, read %v", gaps, b.keys())
			case lost && (len(gaps) != 1 || gaps[0].Reason != GapHistoryLost || !slices.Equal(b.keys(), []int{1})):
				t.Errorf("lost: gaps %+v, read %v", gaps, b.keys())
			}
		})
	}
}

// The probe does not wait for the sink: history that goes later is no gap.
func TestProbeDoesNotWaitForTheSink(t *testing.T) {
	onEvent1(t, itself, func(t *testing.T, b *blocked) {
		b.script.mu.Lock()
		b.moveID = true
		b.script.mu.Unlock()
		b.insert(2)
		wait(time.Second)
		if _, probes, _ := b.counts(); probes != 1 {
			t.Errorf("%d probes while the sink is busy", probes)
		}
		wait(time.Minute)
		b.forget()
		close(b.release)
		wait(time.Minute)
		if gaps := b.theGaps(); len(gaps) != 0 || !slices.Equal(b.keys(), []int{1, 2}) {
			t.Errorf("gaps %+v, read %v", gaps, b.keys())
		}
	})
}

func TestInvalidateInABatchThatWaits(t *testing.T) {
	onEvent1(t, itself, func(t *testing.T, b *blocked) {
		b.drop()
		wait(time.Minute)
		if opens, _, _ := b.counts(); opens != 1 {
			t.Errorf("%d opens before the drop was handed over", opens)
		}
		close(b.release)
		wait(time.Minute)
		b.insert(2)
		wait(time.Minute)
		if got := b.operations(); !slices.Equal(got, []string{"insert", "drop", "invalidate", "insert"}) || len(b.theGaps()) != 0 {
			t.Errorf("%v, gaps %v", got, b.theGaps())
		}
	})
}

// breaking is a Source whose polls fail behind the events that they bring, as a cursor
// does that dies in the middle of an answer.
type breaking struct{ *script }

type breakingCursor struct{ Cursor }

func (b breaking) Open(ctx context.Context, o Opening) (Cursor, Batch, error) {
	c, first, err := b.script.Open(ctx, o)
	if o.Bare {
		return c, first, err
	}
	return breakingCursor{c}, first, err
}

func (c breakingCursor) Poll(ctx context.Context) (Batch, error) {
	b, err := c.Cursor.Poll(ctx)
	if n := len(b.Events); n > 0 && err == nil && decode(b.Events[n-1], time.Now()).Operation == "update" {
		err = code(11601)
	}
	return b, err
}

func TestErrorBehindTheEventsOfABatchThatWaits(t *testing.T) {
	onEvent1(t, func(s *script) Source { return breaking{s} }, func(t *testing.T, b *blocked) {
		b.write(entry{operation: "update", key: 2})
		wait(time.Minute)
		close(b.release)
		wait(time.Minute)
		b.insert(3)
		wait(time.Minute)
		if opens, _, _ := b.counts(); opens != 2 || !slices.Equal(b.keys(), []int{1, 2, 3}) || len(b.theGaps()) != 0 {
			t.Errorf("%d opens, read %v, gaps %v", opens, b.keys(), b.theGaps())
		}
	})
}

// A server that falls silent under the poll ahead: the cursor is given up, but what
// the sink has is not handed over again.
func TestPollAheadHangs(t *testing.T) {
	var h *hanging
	hang := func(s *script) Source {
		h = &hanging{script: s, only: func(Opening) bool { return true }}
		return h
	}
	onEvent1(t, hang, func(t *testing.T, b *blocked) {
		h.mu.Lock()
		h.hang = true
		h.mu.Unlock()
		b.insert(2) // ends the poll that is under way; the next hangs
		wait(time.Second)
		close(b.release)
		wait(30 * time.Second)
		h.mu.Lock()
		h.hang = false
		h.mu.Unlock()
		b.insert(3)
		wait(20 * time.Minute)
		if opens, _, _ := b.counts(); opens != 2 || !slices.Equal(b.keys(), []int{1, 2, 3}) || len(b.theGaps()) != 0 {
			t.Errorf("%d opens, read %v, gaps %v", opens, b.keys(), b.theGaps())
		}
	})
}

// What was read ahead at the end was not handed over, and the position says so.
func TestEndWhileABatchWaits(t *testing.T) {
	onEvent1(t, itself, func(t *testing.T, b *blocked) {
		b.insert(2)
		wait(time.Second)
		b.end(t)
		b.done <- nil // for the end of onEvent1
		if len(b.keys()) != 0 || b.last != "" && b.last >= resume.TokenText(tokenAt(b.first.ClusterTime, tokenEvent)) {
			t.Errorf("handed over %v, up to %s", b.keys(), b.last)
		}
	})
}

// Whatever happens between server, driver and sink short of lost history, each event
// is handed over once and in order.
func TestReadingAheadLosesNothing(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 9))
			s, n := newScript(), newNotes(t)
			slow := &slowSink{notes: n, most: time.Duration(r.IntN(3)) * time.Second, rng: rand.New(rand.NewPCG(seed, 10))}
			f := follow(t, s, slow, func(c *Config) { c.ReopenEvery = time.Second })
			wait(2 * time.Second)
			for key := 1; key <= 40; key++ {
				s.insert(key)
				switch r.IntN(6) {
				case 0:
					s.mu.Lock()
					s.moveID = true
					s.mu.Unlock()
				case 1:
					s.mu.Lock()
					failures := 1 + r.IntN(2)
					s.failPoll = func(c *scripted) error {
						if failures--; failures >= 0 && !c.o.Bare {
							return code([]int32{43, 11601, 91}[key%3])
						}
						return nil
					}
					s.mu.Unlock()
				}
				wait(time.Duration(r.IntN(2500)) * time.Millisecond)
			}
			wait(4 * time.Minute)
			want := make([]int, 40)
			for i := range want {
				want[i] = i + 1
			}
			if !slices.Equal(n.keys(), want) || len(n.theGaps()) != 0 {
				t.Errorf("seed %d: read %v, gaps %v", seed, n.keys(), n.theGaps())
			}
			f.end(t)
		})
	}
}

// slowSink needs up to a time for each event.
type slowSink struct {
	*notes
	most time.Duration
	rng  *rand.Rand
}

func (s *slowSink) Event(ctx context.Context, e Event) error {
	if s.most > 0 {
		<-time.After(time.Duration(s.rng.Int64N(int64(s.most))))
	}
	return s.notes.Event(ctx, e)
}
