package resume

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// office watches who works on what, in fake time.
type office struct {
	t  *testing.T
	mu sync.Mutex
	at map[Partition][]*Lease
}

// work is a HoldFunc that saves its progress and stops when it is told to.
func (o *office) work(ctx context.Context, lease *Lease) error {
	o.mu.Lock()
	p := lease.Partition()
	if o.at == nil {
		o.at = make(map[Partition][]*Lease)
	}
	o.at[p] = append(o.at[p], lease)
	o.mu.Unlock()
	at := lease.Record().Position
	for pause(ctx, 300*time.Millisecond) == nil {
		at.ClusterTime.T++
		at.ClusterTime.I = 1
		limited, cancel := context.WithTimeout(lease.Context(), time.Second)
		_ = lease.Save(limited, at, Origin{})
		cancel()
	}
	return context.Cause(ctx)
}

// pause is a sleep without a channel of the timer: many such channels in one bubble of
// synctest crash the race detector of Go 1.26.
func pause(ctx context.Context, d time.Duration) error {
	limited, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-limited.Done()
	return ctx.Err()
}

// held is how many partitions of a layout somebody works on.
func (o *office) held(of int) int {
	n := 0
	for i := range of {
		n += len(o.live(Partition{i, of}))
	}
	return n
}

// live returns the leases on a partition whose context has not ended.
func (o *office) live(p Partition) []*Lease {
	o.mu.Lock()
	defer o.mu.Unlock()
	var live []*Lease
	for _, l := range o.at[p] {
		if l.Context().Err() == nil {
			live = append(live, l)
		}
	}
	return live
}

// replica is one Group that can be stopped, cut off and waited for.
type replica struct {
	group *Group
	line  *line
	stop  context.CancelFunc
	done  chan error
}

func (o *office) start(m *table, owner string, partitions int, seed uint64, slow time.Duration) *replica {
	o.t.Helper()
	l := newLine(m, seed, slow)
	g, err := NewGroup(GroupConfig{Store: l, Owner: owner, Partitions: partitions})
	if err != nil {
		o.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(o.t.Context())
	r := &replica{group: g, line: l, stop: stop, done: make(chan error, 1)}
	go func() { r.done <- g.Run(ctx, o.work) }()
	return r
}

func (r *replica) end(t *testing.T) {
	t.Helper()
	r.stop()
	if err := <-r.done; err != nil {
		t.Errorf("the group ended with %v", err)
	}
}

func wait(d time.Duration) { <-time.After(d) }

// until waits for a condition in fake time and returns how long that took.
func until(t *testing.T, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !ok() {
		if time.Since(began) > limit {
			t.Fatalf("%s: not within %s", what, limit)
		}
		wait(50 * time.Millisecond)
	}
	return time.Since(began)
}

func TestOneReplicaHoldsAtOnceAndLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, o := newTable(), &office{t: t}
		r := o.start(m, "a", 1, 1, 0)
		until(t, time.Second, "held", func() bool { return len(o.live(Partition{0, 1})) == 1 })
		if s := r.group.Status(); len(s.Partitions) != 1 || !s.Partitions[0].Ours || s.Partitions[0].Owner != "a" || s.Partitions[0].Term != 1 {
			t.Errorf("status at once %+v", s)
		}
		wait(3 * time.Second)
		s := r.group.Status()
		if !s.Known || s.Members != 1 || len(s.Partitions) != 1 || !s.Partitions[0].Ours || s.Partitions[0].Owner != "a" {
			t.Errorf("status %+v", s)
		}
		r.end(t)
		rec := m.stored("x")
		if len(m.records) != 2 || rec.Held() || rec.Position.ClusterTime.T == 0 {
			t.Errorf("left behind: %+v", m.records)
		}
	})
}

func TestStandbyTakesOver(t *testing.T) {
	for _, c := range []struct {
		name  string
		leave func(t *testing.T, r *replica)
		limit time.Duration
	}{
		{"crash", func(_ *testing.T, r *replica) { r.line.setCut(true) }, 15 * time.Second},
		{"clean stop", func(t *testing.T, r *replica) { r.end(t) }, 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, o := newTable(), &office{t: t}
				p := Partition{0, 1}
				a := o.start(m, "a", 1, 1, 100*time.Millisecond)
				until(t, 2*time.Second, "a holds", func() bool { return len(o.live(p)) == 1 })
				b := o.start(m, "b", 1, 2, 100*time.Millisecond)
				wait(20 * time.Second)
				first := o.live(p)
				if len(first) != 1 || first[0].Term() != 1 {
					t.Fatalf("the standby took from a holder that lives: %d leases", len(first))
				}
				c.leave(t, a)
				took := until(t, c.limit, "b holds", func() bool {
					live := o.live(p)
					return len(live) == 1 && live[0].Term() == 2
				})
				t.Logf("taken over after %s", took)
				if context.Cause(first[0].Context()) == nil {
					t.Error("the old lease still lives")
				}
				b.end(t)
				a.line.setCut(false)
				a.stop()
				wait(time.Minute)
			})
		})
	}
}

// A restart in place does not wait for its own old lease, and a second process
// with the same name does not start a tug of war.
func TestSameOwnerTakesOverAtStartOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, o := newTable(), &office{t: t}
		p := Partition{0, 1}
		a := o.start(m, "host", 1, 1, 0)
		until(t, time.Second, "a holds", func() bool { return len(o.live(p)) == 1 })
		b := o.start(m, "host", 1, 2, 0)
		until(t, 2*time.Second, "b took over", func() bool {
			live := o.live(p)
			return len(live) == 1 && live[0].Term() == 2
		})
		wait(time.Minute)
		if live := o.live(p); len(live) != 1 || live[0].Term() != 2 {
			t.Errorf("the two went on taking from each other: term %d", m.stored("x").Term)
		}
		a.end(t)
		b.end(t)
	})
}

func TestPartitionsAreSharedAndMoveBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, o := newTable(), &office{t: t}
		share := func(r *replica) int {
			n := 0
			for _, p := range r.group.Status().Partitions {
				if p.Ours {
					n++
				}
			}
			return n
		}
		a := o.start(m, "a", 5, 1, 50*time.Millisecond)
		until(t, 3*time.Second, "a holds all", func() bool { return share(a) == 5 })
		b := o.start(m, "b", 5, 2, 50*time.Millisecond)
		until(t, 5*time.Second, "b has its share", func() bool { return share(a) == 3 && share(b) == 2 })
		c := o.start(m, "c", 5, 3, 50*time.Millisecond)
		until(t, 5*time.Second, "c has its share", func() bool { return share(a) == 2 && share(b) == 2 && share(c) == 1 })
		terms := int64(0)
		for i := range 5 {
			terms += m.stored(Partition{i, 5}.ID("x")).Term
		}
		if terms != 8 { // five taken, three moved
			t.Errorf("%d changes of holder, want 8", terms)
		}
		b.end(t)
		until(t, 5*time.Second, "b's share is taken", func() bool { return share(a)+share(c) == 5 && share(a) >= 2 && share(c) >= 2 })
		a.end(t)
		c.end(t)
	})
}

func TestResetWinsOverARunningHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, o := newTable(), &office{t: t}
		p := Partition{0, 1}
		a := o.start(m, "a", 1, 1, 50*time.Millisecond)
		until(t, 2*time.Second, "a holds", func() bool { return len(o.live(p)) == 1 })
		wait(10 * time.Second)
		first := o.live(p)[0]
		must(t, m.Reset(t.Context(), p, At(time.Unix(5, 0)), Reset{ID: "r1", Repush: "all"}))
		until(t, 3*time.Second, "the holder notices", func() bool { return first.Context().Err() != nil })
		if cause := context.Cause(first.Context()); !errors.Is(cause, ErrReset) {
			t.Errorf("the lease ended with %v", cause)
		}
		until(t, 3*time.Second, "somebody holds it again", func() bool { return len(o.live(p)) == 1 })
		again := o.live(p)[0].Record()
		if again.Position.ClusterTime.T != 5 || again.Reset == nil || again.Reset.ID != "r1" {
			t.Errorf("the next holder starts at %v with %+v", again.Position, again.Reset)
		}
		a.end(t)
	})
}

// A reset ends what a stopping holder still sends, as it ends all else.
func TestResetWhileAHolderDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTable()
		g, err := NewGroup(GroupConfig{Store: m})
		must(t, err)
		ctx, stop := context.WithCancel(t.Context())
		var why error
		done := make(chan error, 1)
		go func() {
			done <- g.Run(ctx, func(_ context.Context, lease *Lease) error {
				<-lease.Context().Done() // a call hangs
				why = context.Cause(lease.Context())
				return nil
			})
		}()
		wait(5 * time.Second)
		stop()
		wait(5 * time.Second)
		must(t, m.Reset(t.Context(), Partition{0, 1}, At(time.Unix(5, 0)), Reset{}))
		must(t, <-done)
		if !errors.Is(why, ErrReset) {
			t.Errorf("the lease ended with %v", why)
		}
	})
}

// A holder that is cut off while its hold function hangs may not save when it
// comes back, and knows that it lost the lease.
func TestPausedHolderIsFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, o := newTable(), &office{t: t}
		a := o.start(m, "a", 1, 1, 0)
		p := Partition{0, 1}
		until(t, 2*time.Second, "a holds", func() bool { return len(o.live(p)) == 1 })
		old := o.live(p)[0]
		b := o.start(m, "b", 1, 2, 0)
		wait(5 * time.Second)
		a.line.setCut(true)
		until(t, 15*time.Second, "b holds", func() bool { return len(o.live(p)) == 1 && o.live(p)[0] != old })
		a.line.setCut(false)
		if err := a.line.put(t.Context(), "x", old.Record(), change{term: old.Term(), saved: &saved{}}); !errors.Is(err, ErrFenced) {
			t.Errorf("a late write of the old holder: %v", err)
		}
		if err := old.Save(t.Context(), At(time.Unix(1, 0)), Origin{}); !errors.Is(err, ErrFenced) || !errors.Is(err, ErrLost) {
			t.Errorf("a late save of the old holder: %v", err)
		}
		b.end(t)
		a.end(t)
	})
}

// The only replica works on while the store is away, and stops when somebody
// came meanwhile.
func TestAloneOutlivesTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, o := newTable(), &office{t: t}
		a := o.start(m, "a", 1, 1, 0)
		p := Partition{0, 1}
		until(t, 2*time.Second, "a holds", func() bool { return len(o.live(p)) == 1 })
		wait(5 * time.Second)
		lease := o.live(p)[0]
		a.line.setCut(true)
		wait(time.Minute)
		a.line.setCut(false)
		wait(5 * time.Second)
		if lease.Context().Err() != nil || m.stored("x").Term != 1 {
			t.Fatalf("stopped after a minute without the store: %v", context.Cause(lease.Context()))
		}
		a.line.setCut(true)
		b := o.start(m, "b", 1, 2, 0)
		until(t, 15*time.Second, "b holds", func() bool { return m.stored("x").Term == 2 })
		a.line.setCut(false)
		until(t, 4*time.Second, "a notices", func() bool { return errors.Is(context.Cause(lease.Context()), ErrLost) })
		a.end(t)
		b.end(t)
	})
}

// When the store was away for all of them, the holder keeps what it has if it
// comes back in time: nobody counts a silence that nobody could break.
func TestStandbyDoesNotCountAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, o := newTable(), &office{t: t}
		p := Partition{0, 1}
		a := o.start(m, "a", 1, 1, 0)
		until(t, 2*time.Second, "a holds", func() bool { return len(o.live(p)) == 1 })
		b := o.start(m, "b", 1, 2, 0)
		for range 5 {
			wait(5 * time.Second)
			a.line.setCut(true)
			b.line.setCut(true)
			wait(5500 * time.Millisecond)
			b.line.setCut(false)
			wait(500 * time.Millisecond)
			a.line.setCut(false)
		}
		if live := o.live(p); len(live) != 1 || live[0].Term() != 1 {
			t.Errorf("the lease moved: term %d", m.stored("x").Term)
		}
		a.end(t)
		b.end(t)
	})
}

func TestHoldErrorEndsTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTable()
		g, err := NewGroup(GroupConfig{Store: m.Memory, Partitions: 3})
		if err != nil {
			t.Fatal(err)
		}
		broken := errors.New("broken")
		err = g.Run(t.Context(), func(ctx context.Context, lease *Lease) error {
			if lease.Partition().Index == 1 {
				return broken
			}
			<-ctx.Done()
			return nil
		})
		if !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		for id, r := range m.records {
			if r.Held() {
				t.Errorf("%s is still held", id)
			}
		}
	})
}
