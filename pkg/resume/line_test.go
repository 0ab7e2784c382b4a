package resume

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

var errAway = errors.New("the store is away")

// table is a Memory that many lines lead to, with an eye on what is saved.
type table struct {
	*Memory
	mu    sync.Mutex
	saves map[string]uint32 // highest second saved
	back  []string          // saves that went back
}

func newTable() *table {
	return &table{Memory: NewMemory("x"), saves: make(map[string]uint32)}
}

// stored is the record with an id.
func (m *table) stored(id string) Record {
	m.Memory.mu.Lock()
	defer m.Memory.mu.Unlock()
	return m.records[id]
}

func (m *table) set(r Record) {
	m.Memory.mu.Lock()
	defer m.Memory.mu.Unlock()
	r.Partition, r.kind, _ = parseID(m.name, r.ID)
	r.Member = r.kind == kindMember
	m.records[r.ID] = r
}

// line is one replica's connection to a table: slow, failing, and at times cut.
type line struct {
	*table

	mu     sync.Mutex
	rand   *rand.Rand
	slow   time.Duration // longest delay of each way
	fixed  bool          // each way takes as long as the longest
	cut    bool          // nothing arrives, no answer comes
	fails  float64       // share of the questions that are refused at once
	fast   float64       // by how much this replica's clock is fast
	asked  int           // questions
	writes int           // to the records left before all fail; 0 is no limit
}

func newLine(m *table, seed uint64, slow time.Duration) *line {
	return &line{table: m, rand: rand.New(rand.NewPCG(seed, 1)), slow: slow}
}

func (l *line) with(f func(l *line)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l)
}

func (l *line) setCut(cut bool) { l.with(func(l *line) { l.cut = cut }) }

// travel is one way to or from the store.
func (l *line) travel(ctx context.Context) error {
	l.mu.Lock()
	cut, fails, delay := l.cut, l.rand.Float64() < l.fails, time.Duration(0)
	if l.slow > 0 {
		delay = time.Duration(l.rand.Int64N(int64(l.slow)))
	}
	if l.fixed {
		delay = l.slow
	}
	l.mu.Unlock()
	switch {
	case cut:
		<-ctx.Done()
		return errAway
	case fails:
		return errAway
	}
	return pause(ctx, delay)
}

// ask runs do on the store, with the way there and the way back. The answer can
// be lost though the work was done.
func (l *line) ask(ctx context.Context, do func() error) error {
	l.with(func(l *line) { l.asked++ })
	if err := l.travel(ctx); err != nil {
		return err
	}
	err := do()
	if lost := l.travel(ctx); lost != nil {
		return lost
	}
	return err
}

func (l *line) look(ctx context.Context) (all []Record, err error) {
	err = l.ask(ctx, func() (err error) { all, err = l.Memory.look(ctx); return err })
	var fast float64
	l.with(func(l *line) { fast = l.fast })
	for i := range all {
		all[i].Lease -= time.Duration(float64(all[i].Lease) * fast) // a fast clock finds it over sooner
	}
	return all, err
}

func (l *line) Record(ctx context.Context, p Partition) (r Record, ok bool, err error) {
	err = l.ask(ctx, func() (err error) { r, ok, err = l.Memory.Record(ctx, p); return err })
	return r, ok, err
}

func (l *line) acquire(ctx context.Context, seen Record, m member) (r Record, err error) {
	err = l.ask(ctx, func() (err error) { r, err = l.Memory.acquire(ctx, seen, m); return err })
	return r, err
}

func (l *line) put(ctx context.Context, id string, seen Record, c change) error {
	return l.ask(ctx, func() error {
		if l.spent() {
			return errAway
		}
		err := l.Memory.put(ctx, id, seen, c)
		if c.saved != nil && err == nil {
			l.table.mu.Lock()
			defer l.table.mu.Unlock()
			at := c.saved.position.ClusterTime.T
			if c.what == "save the position" && at < l.saves[id] {
				l.back = append(l.back, fmt.Sprintf("%s from %d to %d", id, l.saves[id], at))
			}
			l.saves[id] = at
		}
		return err
	})
}

// spent counts a write.
func (l *line) spent() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.writes == 0:
		return false
	case l.writes > 1:
		l.writes--
		return false
	}
	return true
}

func (l *line) remove(ctx context.Context, seen Record) error {
	return l.ask(ctx, func() error {
		if l.spent() {
			return errAway
		}
		return l.Memory.remove(ctx, seen)
	})
}

func (l *line) beat(ctx context.Context, m member, join bool) error {
	return l.ask(ctx, func() error { return l.Memory.beat(ctx, m, join) })
}
