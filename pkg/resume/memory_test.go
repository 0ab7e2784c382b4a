package resume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// memory is the reference for the store: one document is changed at a time, and
// only by who saw its newest term and beat. Store must not differ; see
// TestLedger.
type memory struct {
	mu      sync.Mutex
	records map[string]Record
	saves   map[Partition]uint32 // highest second saved
	back    []string             // saves that went back
}

func newMemory() *memory {
	return &memory{records: make(map[string]Record), saves: make(map[Partition]uint32)}
}

var errAway = errors.New("the store is away")

// line is one replica's connection to a memory: slow, and at times cut.
type line struct {
	*memory
	name string

	mu   sync.Mutex
	rand *rand.Rand
	slow time.Duration // longest delay of each way
	cut  bool
}

func newLine(m *memory, name string, seed uint64, slow time.Duration) *line {
	return &line{memory: m, name: name, rand: rand.New(rand.NewPCG(seed, 1)), slow: slow}
}

func (l *line) setCut(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
}

// travel is one way to or from the store.
func (l *line) travel(ctx context.Context) error {
	l.mu.Lock()
	cut, delay := l.cut, time.Duration(0)
	if l.slow > 0 {
		delay = time.Duration(l.rand.Int64N(int64(l.slow)))
	}
	l.mu.Unlock()
	if cut {
		<-ctx.Done()
		return errAway
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(delay):
		return nil
	}
}

// ask runs do on the store, with the way there and the way back. The answer can
// be lost though the work was done.
func (l *line) ask(ctx context.Context, do func(m *memory) error) error {
	if err := l.travel(ctx); err != nil {
		return err
	}
	l.memory.mu.Lock()
	err := do(l.memory)
	l.memory.mu.Unlock()
	if lost := l.travel(ctx); lost != nil {
		return lost
	}
	return err
}

func (m *memory) look(id string) Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.records[id]
}

func (m *memory) put(r Record) {
	r.seenTerm, r.seenBeat = termValue(r.Term), termValue(r.Beat)
	m.records[r.ID] = r
}

func (l *line) Records(ctx context.Context) ([]Record, error) {
	var all []Record
	err := l.ask(ctx, func(m *memory) error {
		all = slices.Collect(maps.Values(m.records))
		return nil
	})
	return all, err
}

func (l *line) Record(ctx context.Context, p Partition) (r Record, ok bool, err error) {
	err = l.ask(ctx, func(m *memory) error {
		r, ok = m.records[p.ID(l.name)]
		return nil
	})
	return r, ok, err
}

func (l *line) take(ctx context.Context, p Partition, seen Record, h holder) (taken Record, err error) {
	err = l.ask(ctx, func(m *memory) error {
		now, exists := m.records[p.ID(l.name)]
		if exists != (seen.ID != "") || now.Term != seen.Term || now.Beat != seen.Beat {
			return ErrFenced
		}
		now.ID, now.Partition = p.ID(l.name), p
		now.Owner, now.Instance, now.Lease = h.owner, h.instance, h.lease
		now.Term, now.Beat = seen.Term+1, 0
		m.put(now)
		taken = m.records[now.ID]
		return nil
	})
	return taken, err
}

func (l *line) change(ctx context.Context, id string, term int64, f func(m *memory, r *Record)) error {
	return l.ask(ctx, func(m *memory) error {
		r, ok := m.records[id]
		if !ok || r.Term != term {
			return fmt.Errorf("change: %w", ErrFenced)
		}
		f(m, &r)
		m.put(r)
		return nil
	})
}

func (l *line) renew(ctx context.Context, id string, term int64) error {
	return l.change(ctx, id, term, func(_ *memory, r *Record) { r.Beat++ })
}

func (l *line) release(ctx context.Context, id string, term int64) error {
	return l.change(ctx, id, term, func(_ *memory, r *Record) { r.Owner, r.Instance = "", ""; r.Beat++ })
}

func (l *line) save(ctx context.Context, id string, term int64, p Position, o Origin, now time.Time) error {
	return l.change(ctx, id, term, func(m *memory, r *Record) {
		if p.ClusterTime.T < m.saves[r.Partition] {
			m.back = append(m.back, fmt.Sprintf("%s from %d to %d", id, m.saves[r.Partition], p.ClusterTime.T))
		}
		m.saves[r.Partition] = p.ClusterTime.T
		r.Position, r.SavedAt, r.Pipeline, r.ReplicaSet = p, now, o.Pipeline, o.ReplicaSet
	})
}

func (l *line) beat(ctx context.Context, h holder) error {
	return l.ask(ctx, func(m *memory) error {
		r := m.records[l.name+memberPart+h.instance]
		r.ID, r.Member = l.name+memberPart+h.instance, true
		r.Owner, r.Instance, r.Lease = h.owner, h.instance, h.lease
		r.Beat++
		m.put(r)
		return nil
	})
}

func (l *line) forget(ctx context.Context, seen Record) error {
	return l.ask(ctx, func(m *memory) error {
		if r := m.records[seen.ID]; seen.Member || r.Term == seen.Term {
			delete(m.records, seen.ID)
		}
		return nil
	})
}

func (l *line) adopt(ctx context.Context, p Partition, from Record) error {
	return l.ask(ctx, func(m *memory) error {
		r := m.records[p.ID(l.name)]
		r.ID, r.Partition = p.ID(l.name), p
		r.Position, r.SavedAt, r.Pipeline, r.ReplicaSet = from.Position, from.SavedAt, from.Pipeline, from.ReplicaSet
		r.Owner, r.Instance, r.Beat = "", "", 0
		r.Term++
		if from.Reset != nil {
			r.Reset = from.Reset
		}
		m.put(r)
		return nil
	})
}

// reset is what Store.Reset does.
func (m *memory) reset(p Partition, name string, to Position, reset Reset) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.records[p.ID(name)]
	r.ID, r.Partition, r.Position, r.Reset = p.ID(name), p, to, &reset
	r.Owner, r.Instance, r.Beat = "", "", 0
	r.Term++
	m.saves[p] = to.ClusterTime.T
	m.put(r)
}
