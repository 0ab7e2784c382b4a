package resume

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// Memory is a Ledger in memory, for tests of what works under a Lease. It does what a
// Store does, at once and without failing. It is safe for concurrent use.
type Memory struct {
	name string

	mu      sync.Mutex
	records map[string]Record
}

// NewMemory returns an empty Memory for one name.
func NewMemory(name string) *Memory {
	return &Memory{name: name, records: make(map[string]Record)}
}

// Hold takes the lease of a partition without a Group. It lives until ctx ends, with
// the cause of ctx: ErrLost, ErrReset or ErrMoved show a Handler how leases end.
func (m *Memory) Hold(ctx context.Context, p Partition) (*Lease, error) {
	id := p.ID(m.name)
	seen, found, err := m.Record(ctx, p)
	if err != nil {
		return nil, err
	}
	if !found {
		if err := m.put(ctx, id, Record{}, change{what: "make a record"}); err != nil {
			return nil, err
		}
		seen, _, _ = m.Record(ctx, p)
	}
	acquired, err := m.acquire(ctx, seen, member{owner: "test", instance: "test"})
	if err != nil {
		return nil, err
	}
	return newLease(ctx, m, acquired, func() bool { return true }), nil
}

// Name implements Ledger.
func (m *Memory) Name() string { return m.name }

// Record implements Ledger.
func (m *Memory) Record(_ context.Context, p Partition) (Record, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, found := m.records[p.ID(m.name)]
	return r, found, nil
}

// Reset implements Ledger.
func (m *Memory) Reset(ctx context.Context, p Partition, to Position, r Reset) error {
	return reset(ctx, m, p, to, r)
}

func (m *Memory) look(context.Context) ([]Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.SortedFunc(maps.Values(m.records), func(a, b Record) int { return strings.Compare(a.ID, b.ID) }), nil
}

func (m *Memory) acquire(ctx context.Context, seen Record, by member) (Record, error) {
	if err := m.put(ctx, seen.ID, seen, change{what: "acquire the lease", term: nextTerm(seen), holder: &by}); err != nil {
		return Record{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.records[seen.ID], nil
}

func (m *Memory) put(_ context.Context, id string, seen Record, c change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, found := m.records[id]
	if found != (seen.ID != "") || r.Term != seen.Term {
		return fmt.Errorf("%s %s: %w", c.what, id, ErrFenced)
	}
	r.ID, r.Term = id, c.term
	r.Partition, r.kind, _ = parseID(m.name, id)
	if h := c.holder; h != nil {
		r.Owner, r.Instance = h.owner, h.instance
	}
	if p := c.saved; p != nil {
		r.Position, r.SavedAt = p.position, p.savedAt
		r.ReplicaSet, r.Pipeline = p.origin.ReplicaSet, p.origin.Pipeline
	}
	if c.reset != nil {
		r.Reset = c.reset
	}
	if l := c.layout; l != nil {
		r.Partitions, r.complete = l.partitions, l.complete
	}
	m.records[id] = r
	return nil
}

func (m *Memory) remove(_ context.Context, seen Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.records[seen.ID]; r.Term == seen.Term && r.Beat == seen.Beat {
		delete(m.records, seen.ID)
	}
	return nil
}

func (m *Memory) beat(_ context.Context, by member, join bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	id := memberID(m.name, by.instance)
	r, found := m.records[id]
	if !found && !join {
		return fmt.Errorf("show that this replica lives: %w", ErrFenced)
	}
	m.records[id] = Record{
		ID: id, Member: true, kind: kindMember, Owner: by.owner, Instance: by.instance, Beat: r.Beat + 1, BeatAt: time.Now(), Version: by.version,
		Lease: by.lease, Partitions: by.partitions, Leaving: by.leaving,
	}
	return nil
}
