package resume

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// A replica at rest asks the store three times in two seconds, whatever it holds.
func TestWhatAQuietReplicaAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newTable()
		idle := func(ctx context.Context, _ *Lease) error { <-ctx.Done(); return nil }
		ctx, stop := context.WithCancel(t.Context())
		var lines []*line
		done := make(chan error, 3)
		for i, partitions := range []int{64, 64, 2} { // two holders and a standby
			l := newLine(m, uint64(i), 0)
			lines = append(lines, l)
			g, err := NewGroup(GroupConfig{Store: l, Partitions: partitions})
			must(t, err)
			go func() { done <- g.Run(ctx, idle) }()
			wait(10 * time.Second)
		}
		for _, l := range lines {
			l.with(func(l *line) { l.asked = 0 })
		}
		wait(time.Minute)
		for i, l := range lines {
			l.with(func(l *line) {
				if l.asked > 93 {
					t.Errorf("replica %d asked %d times in a minute", i, l.asked)
				}
			})
		}
		stop()
		for range lines {
			must(t, <-done)
		}
	})
}

// A replica that stops releases each partition when it is drained, and the others take
// that one then: they do not wait for the slowest.
func TestADrainedPartitionIsFreeAtOnce(t *testing.T) {
	for slow := range 4 {
		synctest.Test(t, func(t *testing.T) {
			m, o := newTable(), &office{t: t}
			a, err := NewGroup(GroupConfig{Store: newLine(m, 1, 0), Owner: "a", Partitions: 4})
			must(t, err)
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				done <- a.Run(ctx, func(ctx context.Context, l *Lease) error {
					<-ctx.Done()
					if l.Partition().Index == slow && errors.Is(context.Cause(ctx), context.Canceled) {
						wait(25 * time.Second) // a call of it hangs
					}
					return nil
				})
			}()
			wait(3 * time.Second)
			b := o.start(m, "b", 4, 2, 0)
			until(t, 10*time.Second, "b has its share", func() bool { return o.held(4) == 2 })
			var drained []Partition
			for i, p := range a.Status().Partitions {
				if p.Ours && i != slow {
					drained = append(drained, Partition{i, 4})
				}
			}
			stop()
			for _, p := range drained {
				until(t, 3*time.Second, p.String(), func() bool { return len(o.live(p)) == 1 })
			}
			must(t, <-done)
			until(t, 3*time.Second, "the last", func() bool { return o.held(4) == 4 })
			b.end(t)
		})
	}
}

// However many partitions there are and however slow the store, as long as it answers no
// lease runs out.
func TestLeasesLastWhileOthersAreAcquired(t *testing.T) {
	for _, c := range []struct {
		partitions int
		oneWay     time.Duration
	}{{64, 170 * time.Millisecond}, {64, 500 * time.Millisecond}, {32, 500 * time.Millisecond}} {
		synctest.Test(t, func(t *testing.T) {
			m, o := newTable(), &office{t: t}
			m.set(Record{ID: "x/member/zz", Owner: "b", Instance: "zz", Lease: 10 * time.Minute, Partitions: -1}) // so that nobody is alone
			a := o.start(m, "a", c.partitions, 1, c.oneWay)
			a.line.with(func(l *line) { l.fixed = true })
			until(t, 5*time.Minute, "all are held", func() bool { return o.held(c.partitions) == c.partitions })
			wait(time.Minute)
			if n := o.held(c.partitions); n != c.partitions {
				t.Errorf("%d partitions, %s each way: %d are held a minute later", c.partitions, c.oneWay, n)
			}
			for i := range c.partitions {
				if term := m.stored(Partition{i, c.partitions}.ID("x")).Term; term != 1 {
					t.Fatalf("%d partitions, %s each way: partition %d was taken %d times", c.partitions, c.oneWay, i, term)
				}
			}
			a.end(t)
		})
	}
}

// A standby whose questions fail now and then still sees that an owner is dead.
func TestTakeoverOverABadLine(t *testing.T) {
	for name, disturb := range map[string]func(l *line){
		"2.5 of 9.5 s without an answer": func(l *line) {
			wait(7 * time.Second)
			l.setCut(true)
			wait(2500 * time.Millisecond)
			l.setCut(false)
		},
		"one in three refused": func(l *line) {
			l.with(func(l *line) { l.fails = 0.2 }) // of each way
			wait(time.Second)
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			m, o := newTable(), &office{t: t}
			p := Partition{0, 1}
			a := o.start(m, "a", 1, 1, 0)
			until(t, 2*time.Second, "a holds", func() bool { return len(o.live(p)) == 1 })
			b := o.start(m, "b", 1, 2, 0)
			wait(20 * time.Second)
			a.line.setCut(true) // the owner is gone
			began := time.Now()
			for !b.group.Status().Partitions[0].Ours {
				disturb(b.line)
				if took := time.Since(began); took > time.Minute {
					t.Fatalf("%s: nobody has the partition %s after the owner died", name, took)
				}
			}
			a.line.setCut(false)
			b.line.with(func(l *line) { l.fails = 0 })
			b.end(t)
			a.end(t)
		})
	}
}

// What was taken without an answer is taken again, or given to the one who is to have it.
func TestALeaseWhoseAnswerWasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, o := newTable(), &office{t: t}
		a := o.start(m, "a", 4, 1, 20*time.Millisecond)
		b := o.start(m, "b", 4, 2, 20*time.Millisecond)
		until(t, 5*time.Second, "all are held", func() bool { return o.held(4) == 4 })
		self, _, err := a.group.session.current()
		must(t, err)
		for i := range 4 { // a holds all of them by the records, without knowing
			must(t, m.put(t.Context(), Partition{i, 4}.ID("x"), m.stored(Partition{i, 4}.ID("x")),
				change{term: 9, holder: &self}))
		}
		until(t, 5*time.Second, "they are shared again", func() bool {
			mine := 0
			for _, p := range b.group.Status().Partitions {
				if p.Ours && p.Term > 9 {
					mine++
				}
			}
			return o.held(4) == 4 && mine == 2
		})
		a.end(t)
		b.end(t)
	})
}

// Replicas that crash, are cut off, stop and start, on slow lines: never two on
// one partition, never a save that goes back, and nobody waits for long.
func TestLeasesUnderRandomFaults(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { randomFaults(t, seed) })
		})
	}
}

func randomFaults(t *testing.T, seed uint64) {
	const partitions = 4
	random := rand.New(rand.NewPCG(seed, 2))
	m, o := newTable(), &office{t: t}
	var running, cut []*replica
	started := 0
	start := func() {
		started++
		running = append(running, o.start(m, fmt.Sprint("r", started), partitions, seed*1000+uint64(started), 400*time.Millisecond))
	}
	pick := func(from *[]*replica) *replica {
		i := random.IntN(len(*from))
		r := (*from)[i]
		*from = append((*from)[:i:i], (*from)[i+1:]...)
		return r
	}
	start()
	start()
	var alone [partitions]time.Duration
	const step = 50 * time.Millisecond
	for tick := range 12000 { // ten minutes
		if tick%320 == 0 { // a fault each 16 s, so that each is dealt with alone
			switch k := random.IntN(5); {
			case k == 0 && len(running) < 4:
				start()
			case k == 1 && len(running) > 1:
				r := pick(&running)
				r.line.setCut(true)
				cut = append(cut, r)
			case k == 2 && len(running) > 1:
				r := pick(&running)
				r.stop()
				cut = append(cut, r)
			case k == 3 && len(cut) > 0:
				r := pick(&cut)
				r.line.setCut(false)
				r.end(t)
			}
		}
		wait(step)
		for i := range partitions {
			live := o.live(Partition{i, partitions})
			if len(live) > 1 {
				t.Fatalf("after %s: %d replicas hold partition %d", time.Duration(tick)*step, len(live), i)
			}
			alone[i] += step
			if len(live) == 1 {
				alone[i] = 0
			}
			if alone[i] > 15*time.Second {
				t.Fatalf("after %s: nobody has held partition %d for %s", time.Duration(tick)*step, i, alone[i])
			}
		}
	}
	for _, r := range append(running, cut...) {
		r.line.setCut(false)
		r.end(t)
	}
	if len(m.back) > 0 {
		t.Errorf("saves went back: %v", m.back)
	}
}
