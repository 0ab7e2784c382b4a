package resume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"
)

// The oldest of several positions, which all partitions of another number begin
// at: of those in one second too, and among tokens of one transaction.
func TestOldestRecord(t *testing.T) {
	at := func(second, increment uint32, kind string) Position {
		ts := bson.Timestamp{T: second, I: increment}
		p := Position{ClusterTime: ts}
		if kind != "" {
			raw, err := bson.Marshal(bson.D{{Key: "_data", Value: fmt.Sprintf("82%08X%08X%s", second, increment, kind)}})
			if err != nil {
				t.Fatal(err)
			}
			p.Token = raw
		}
		return p
	}
	const idle, event = "2B0229296E04", "2B022C0100296E5A1004"
	inOrder := []Position{
		at(7, 1, event), at(8, 1, ""), at(8, 1, idle), at(8, 1, event), at(8, 1, event+"01"), at(8, 2, idle), at(8, 300, event), at(9, 1, idle),
	}
	saved := time.Unix(20_000, 0)
	rapid.Check(t, func(t *rapid.T) {
		pick := rapid.SliceOfNDistinct(rapid.IntRange(0, len(inOrder)-1), 1, len(inOrder), rapid.ID).Draw(t, "positions")
		var records []Record
		for _, i := range pick {
			records = append(records, Record{Position: inOrder[i], SavedAt: saved})
		}
		records = append(records, Record{}) // never saved: has no say
		got, ok := oldestRecord(records)
		if want := inOrder[slices.Min(pick)]; !ok || got.Position.String() != want.String() {
			t.Fatalf("the oldest of %v is %v, want %v", pick, got.Position, want)
		}
	})
	if _, ok := oldestRecord([]Record{{}}); ok {
		t.Error("an oldest of none")
	}
	// What cannot be read may have been before all that can.
	damage := &CorruptError{}
	good := Record{Position: At(saved), SavedAt: saved}
	for _, bad := range []Record{
		{Damage: damage, SavedAt: saved.Add(30 * time.Minute)},
		{Damage: damage, Position: Position{WallTime: saved.Add(30 * time.Minute)}},
	} {
		if got, _ := oldestRecord([]Record{good, bad}); !got.Position.Time().Equal(saved.Add(-30 * time.Minute)) {
			t.Errorf("beside %+v: begins at %v", bad, got.Position)
		}
	}
	unreadable := Record{Damage: damage}
	if got, _ := oldestRecord([]Record{{Position: At(time.Now())}, unreadable}); time.Since(got.Position.Time()) < 23*time.Hour {
		t.Errorf("beside a record of which nothing can be read: begins at %v", got.Position)
	}
}

func TestChangedNumberOfPartitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, o := newTable(), &office{t: t}
		four := o.start(m, "a", 4, 1, 20*time.Millisecond)
		until(t, 3*time.Second, "four are held", func() bool { return len(o.live(Partition{3, 4})) == 1 })
		wait(5 * time.Second)
		two := o.start(m, "b", 2, 2, 20*time.Millisecond)
		wait(30 * time.Second)
		if len(o.live(Partition{0, 2})) != 0 || len(o.live(Partition{0, 4})) != 1 {
			t.Fatal("both layouts are worked in at the same time")
		}
		four.end(t)
		oldest := ^uint32(0)
		for i := range 4 {
			oldest = min(oldest, m.stored(Partition{i, 4}.ID("x")).Position.ClusterTime.T)
		}
		until(t, 15*time.Second, "two are held", func() bool { return len(o.live(Partition{0, 2}))+len(o.live(Partition{1, 2})) == 2 })
		for i := range 2 {
			if got := o.live(Partition{i, 2})[0].Record().Position.ClusterTime.T; got != oldest {
				t.Errorf("partition %d starts at %d, the oldest was %d", i, got, oldest)
			}
		}
		two.end(t)
		for id, r := range m.records {
			if r.kind == kindPartition && r.Partition.Of != 2 {
				t.Errorf("%s is left", id)
			}
		}
	})
}

// A replica with another number of partitions, by a rollback, a leftover or a typo, changes
// nothing for those that work. It knows who does, and takes over when they are gone.
func TestAReplicaOfAnotherLayoutIsAStandby(t *testing.T) {
	for _, c := range []struct{ works, waits int }{{4, 1}, {1, 4}, {3, 2}, {2, 3}, {5, 64}} {
		synctest.Test(t, func(t *testing.T) {
			m, o := newTable(), &office{t: t}
			a := o.start(m, "a", c.works, 1, 50*time.Millisecond)
			until(t, 5*time.Second, "all are held", func() bool { return o.held(c.works) == c.works })
			wait(10 * time.Second)
			b := o.start(m, "b", c.waits, 2, 50*time.Millisecond)
			for range 20 {
				wait(15 * time.Second)
				if n, other := o.held(c.works), o.held(c.waits); n != c.works || other != 0 {
					t.Fatalf("%d of %d partitions are worked on, %d of %d", n, c.works, other, c.waits)
				}
			}
			parts := b.group.Status().Partitions
			if len(parts) != c.works || b.group.Status().Err != nil {
				t.Errorf("the standby sees %+v", b.group.Status())
			}
			for _, p := range parts {
				if p.Owner != "a" || p.Ours {
					t.Errorf("the standby sees %+v", p)
				}
			}
			a.line.setCut(true)
			until(t, 16*time.Second, "b works in its layout", func() bool { return o.held(c.waits) == c.waits && o.held(c.works) == 0 })
			a.line.setCut(false)
			wait(time.Minute)
			if o.held(c.waits) != c.waits || o.held(c.works) != 0 {
				t.Error("the first took it back")
			}
			b.end(t)
			a.end(t)
		})
	}
}

// A rolling change of the number, as a Deployment does it: each new replica is ready
// before an old one is stopped, and all the time somebody works.
func TestARollingChangeOfTheNumber(t *testing.T) {
	for _, c := range []struct{ from, to int }{{4, 2}, {2, 5}, {1, 3}, {3, 1}} {
		synctest.Test(t, func(t *testing.T) {
			m, o := newTable(), &office{t: t}
			var old, next []*replica
			for i := range 3 {
				old = append(old, o.start(m, fmt.Sprint("old", i), c.from, uint64(i), 50*time.Millisecond))
			}
			until(t, 10*time.Second, "the old work", func() bool { return o.held(c.from) == c.from })
			wait(20 * time.Second)
			for i := range 3 {
				r := o.start(m, fmt.Sprint("new", i), c.to, uint64(10+i), 50*time.Millisecond)
				next = append(next, r)
				until(t, 15*time.Second, "the new one is ready", func() bool {
					s := r.group.Status()
					return s.Known && s.Err == nil && !slices.ContainsFunc(s.Partitions, func(p PartitionStatus) bool { return p.Owner == "" })
				})
				old[i].end(t)
				until(t, 5*time.Second, "all is worked on", func() bool { return o.held(c.from) == c.from || o.held(c.to) == c.to })
			}
			until(t, time.Second, "the new work", func() bool { return o.held(c.to) == c.to && o.held(c.from) == 0 })
			for _, r := range next {
				r.end(t)
			}
		})
	}
}

// At the very first start, of many with several numbers at the same moment, one number
// is agreed on.
func TestManyNumbersAtTheFirstStart(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			m, o := newTable(), &office{t: t}
			var all []*replica
			for i := range 6 {
				all = append(all, o.start(m, fmt.Sprint(i), 1+i%3, seed*100+uint64(i), 300*time.Millisecond))
			}
			for range 400 {
				wait(50 * time.Millisecond)
				if o.overlap() {
					t.Fatal("two layouts are worked in")
				}
			}
			if o.held(1)+o.held(2)+o.held(3) == 0 {
				t.Errorf("seed %d: nobody works: %+v", seed, m.records)
			}
			for _, r := range all {
				r.end(t)
			}
		})
	}
}

// overlap says whether some document has two owners who are both certain to be its only one.
func (o *office) overlap() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	var certain []Partition
	for p, leases := range o.at {
		o.at[p] = slices.DeleteFunc(leases, func(l *Lease) bool { return l.Context().Err() != nil })
		for _, l := range o.at[p] {
			if l.Alive() {
				certain = append(certain, p)
			}
		}
	}
	for i, p := range certain {
		from, to := p.Range()
		for _, other := range certain[:i] {
			if f, t := other.Range(); f < to && from < t {
				return true
			}
		}
	}
	return false
}

// A change of the number that ends halfway, at whichever write, is begun again by the next
// replica, whatever its number: none begins behind a position of before.
func TestALayoutMoveThatEndsHalfway(t *testing.T) {
	for writes := range 20 {
		for _, next := range []int{3, 4, 1} {
			synctest.Test(t, func(t *testing.T) {
				m, o := newTable(), &office{t: t}
				for i, at := range []uint32{8, 5, 9, 7} { // of which 5 is the oldest
					m.set(Record{ID: Partition{i, 4}.ID("x"), Term: 7, SavedAt: time.Unix(20, 0),
						Position: Position{ClusterTime: bson.Timestamp{T: at, I: 1}}})
				}
				m.set(Record{ID: layoutID("x"), Term: 3, Partitions: 4, complete: true})
				first := o.start(m, "a", 3, 1, 0)
				first.line.with(func(l *line) { l.writes = writes + 1 })
				wait(time.Minute)
				first.line.setCut(true)
				wait(30 * time.Second)
				began := o.held(3) == 3 // it had all the writes that it needed
				limit := []uint32{5, 5, 5, 5}
				if next == 4 {
					limit = []uint32{8, 5, 9, 7}
				}
				second := o.start(m, "b", next, 2, 0)
				until(t, 30*time.Second, "all are held", func() bool { return o.held(next) == next })
				for i := range next {
					first := o.live(Partition{i, next})[0].Record()
					if at := first.Position.ClusterTime.T; at > limit[i] && !began || at == 0 {
						t.Errorf("after %d writes, then %d partitions: partition %d begins at %d, not %d", writes, next, i, at, limit[i])
					}
					if first.Term <= 7 {
						t.Errorf("after %d writes, then %d partitions: partition %d has term %d", writes, next, i, first.Term)
					}
				}
				second.end(t)
				first.line.setCut(false)
				first.end(t)
			})
		}
	}
}

// A suspended replica that looked before the number changed, and acts on that now, takes
// nothing.
func TestALateHolderOfAnotherLayout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, o := newTable(), &office{t: t}
		a := o.start(m, "a", 2, 1, 0)
		until(t, 5*time.Second, "two are held", func() bool { return o.held(2) == 2 })
		a.end(t)
		seen := m.stored("x/0-of-2")
		for _, of := range []int{3, 2} {
			b := o.start(m, "b", of, 2, 0)
			until(t, 5*time.Second, "all are held", func() bool { return o.held(of) == of })
			if _, err := m.acquire(t.Context(), seen, member{instance: "late"}); !errors.Is(err, ErrFenced) {
				t.Errorf("with %d partitions: a late take: %v", of, err)
			}
			b.end(t)
		}
	})
}

// late is a line on which somebody acts on old news, just before a write.
type late struct {
	*line
	what string
	act  func()
}

func (l *late) put(ctx context.Context, id string, seen Record, c change) error {
	if c.what == l.what {
		l.act()
	}
	return l.line.put(ctx, id, seen, c)
}

// A take that was on its way while the layout changed comes too late, or the change waits.
func TestALeaseInTheMiddleOfALayoutMove(t *testing.T) {
	for _, what := range []string{"claim the layout", "fence", "place a partition", "complete the layout"} {
		synctest.Test(t, func(t *testing.T) {
			m, o := newTable(), &office{t: t}
			p := Partition{0, 2}
			m.set(Record{ID: p.ID("x"), Term: 5})
			m.set(Record{ID: Partition{1, 2}.ID("x"), Term: 5})
			m.set(Record{ID: layoutID("x"), Term: 1, Partitions: 2, complete: true})
			other := member{owner: "b", instance: "b", lease: time.Minute, partitions: 2, leaving: true}
			must(t, m.beat(t.Context(), other, true))
			seen, took, work := m.stored(p.ID("x")), false, &late{line: newLine(m, 1, 0), what: what}
			work.act = sync.OnceFunc(func() {
				_, err := m.acquire(t.Context(), seen, other)
				took = err == nil
			})
			g, err := NewGroup(GroupConfig{Store: work, Partitions: 3})
			must(t, err)
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- g.Run(ctx, o.work) }()
			for range 100 {
				wait(50 * time.Millisecond)
				if r := m.stored(p.ID("x")); r.Instance == other.instance && o.held(3) > 0 {
					t.Fatalf("%s: both layouts are worked in", what)
				}
			}
			if !took && o.held(3) != 3 {
				t.Errorf("%s: nobody works", what)
			}
			stop()
			must(t, <-done)
		})
	}
}
