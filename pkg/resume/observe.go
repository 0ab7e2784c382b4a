package resume

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// sighting is when a record was last seen to change.
type sighting struct {
	term, beat bson.RawValue
	since      time.Time
}

// view is what a look at the records says about who lives.
type view struct {
	members    []string // instances
	partitions map[Partition]Record
	held       map[Partition]bool // by a holder that lives
	stale      []Record           // members that have been silent for long
}

func (v view) record(i, of int) Record { return v.partitions[Partition{i, of}] }

func (v view) taken(i, of int) bool { return v.held[Partition{i, of}] }

func (v view) owners(of int) []string {
	owners := make([]string, of)
	for i := range owners {
		if v.taken(i, of) {
			owners[i] = v.record(i, of).Instance
		}
	}
	return owners
}

// observe compares the records with what was seen before. A holder lives until
// its record has not changed for as long as its lease lasts. The records were
// asked for at asked: silence is counted up to there, and a change from now, so
// that a pause of this process cannot make another look dead.
func (g *Group) observe(records []Record, asked time.Time) view {
	now := time.Now()
	v := view{partitions: make(map[Partition]Record), held: make(map[Partition]bool)}
	seen := make(map[string]sighting, len(records))
	for _, r := range records {
		s, known := g.seen[r.ID]
		if !known || !same(s.term, r.seenTerm) || !same(s.beat, r.seenBeat) {
			s = sighting{term: r.seenTerm, beat: r.seenBeat, since: now}
		}
		seen[r.ID] = s
		silent := asked.Sub(s.since)
		lives := r.Held() && silent < g.lease(r) && !g.formerSelf(r)
		switch {
		case !r.Member:
			v.partitions[r.Partition] = r
			v.held[r.Partition] = lives && (r.Instance != g.self.instance || g.holds(r.Partition))
		case lives && r.Instance != g.self.instance:
			v.members = append(v.members, r.Instance)
		case g.formerSelf(r) || silent > 10*g.lease(r):
			v.stale = append(v.stale, r)
		}
	}
	v.members = append(v.members, g.self.instance)
	g.seen = seen
	return v
}

// formerSelf says whether r was held by this replica before it was restarted.
// Only at the first look: later on, an equal name is a replica that was given
// the same name by mistake, and the two would take from each other for ever.
func (g *Group) formerSelf(r Record) bool {
	if !g.first || r.Owner == "" || r.Instance == g.self.instance {
		return false
	}
	return r.Owner == g.self.owner || g.gone != nil && g.gone(r.Owner)
}

func (g *Group) holds(p Partition) bool {
	return p.Of == g.parts && g.held[p.Index] != nil
}

// lease is how long the holder of r said that it lives without a beat. A record
// that says nothing, or something absurd, is given our own.
func (g *Group) lease(r Record) time.Duration {
	if r.Lease <= 0 || r.Lease > 10*time.Minute {
		return g.self.lease
	}
	return r.Lease
}

func same(a, b bson.RawValue) bool {
	return a.Type == b.Type && bytes.Equal(a.Value, b.Value)
}

// settleLayout brings progress that was saved under another number of
// partitions into this one. It returns false while nothing may be taken: the
// others still work in their layout, or the move is not done.
//
// The order makes a crash harmless: the old records are fenced, then the new
// ones get the oldest old position, then the old ones go. Until they are gone
// nobody works in the new layout, and whoever comes next begins again.
func (g *Group) settleLayout(ctx context.Context, v view) bool {
	g.sweep(ctx, v.stale)
	var old []Record
	for p, r := range v.partitions {
		if p.Of == g.parts {
			continue
		}
		if v.held[p] {
			if now := time.Now(); now.Sub(g.warned) > time.Minute {
				g.warned = now
				g.log.WarnContext(ctx, "waiting for replicas that use another number of partitions",
					"theirs", p.Of, "ours", g.parts, "owner", r.Owner)
			}
			return false
		}
		old = append(old, r)
	}
	if len(old) == 0 {
		return true
	}
	if err := g.move(ctx, old, v); err != nil {
		g.fail(err)
		return false
	}
	return false // look again first
}

// sweep removes members that are gone; whoever sees them first.
func (g *Group) sweep(ctx context.Context, stale []Record) {
	ctx, cancel := context.WithTimeoutCause(ctx, g.limit, errStoreSlow)
	defer cancel()
	for _, r := range stale {
		if err := g.store.forget(ctx, r); err != nil {
			g.fail(err)
			return
		}
	}
}

func (g *Group) move(ctx context.Context, old []Record, v view) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*g.limit, errStoreSlow)
	defer cancel()
	for i, r := range old {
		taken, err := g.store.take(ctx, r.Partition, r, g.self)
		if err != nil {
			return err
		}
		old[i] = taken
	}
	if oldest, ok := oldestRecord(old); ok {
		for i := range g.parts {
			if v.taken(i, g.parts) {
				continue
			}
			if err := g.store.adopt(ctx, Partition{i, g.parts}, oldest); err != nil {
				return err
			}
		}
		g.log.InfoContext(ctx, "the number of partitions changed", "records", len(old), "partitions", g.parts,
			"position", oldest.Position.String())
	}
	// The oldest goes last: if this ends halfway, the next try finds it again.
	slices.SortFunc(old, func(a, b Record) int { return compareRecords(b, a) })
	for _, r := range old {
		r.seenTerm = termValue(r.Term)
		if err := g.store.forget(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// oldestRecord is the record from which nothing of the others is passed over.
func oldestRecord(records []Record) (Record, bool) {
	placed := slices.DeleteFunc(slices.Clone(records), func(r Record) bool {
		return r.Position.IsZero() && r.SavedAt.IsZero()
	})
	if len(placed) == 0 {
		return Record{}, false
	}
	return slices.MinFunc(placed, compareRecords), true
}

// compareRecords orders records by their places. A second holds thousands of
// events: where both have exact places, those decide.
func compareRecords(a, b Record) int {
	if a.Position.ClusterTime.IsZero() || b.Position.ClusterTime.IsZero() {
		return a.when().Compare(b.when())
	}
	return cmp.Or(a.Position.ClusterTime.Compare(b.Position.ClusterTime),
		CompareTokens(a.Position.Token, b.Position.Token))
}

// when is the time of the position, or failing that of the save.
func (r Record) when() time.Time {
	if t := r.Position.Time(); !t.IsZero() {
		return t
	}
	return r.SavedAt
}

func termValue(term int64) bson.RawValue {
	t, data, err := bson.MarshalValue(term)
	if err != nil {
		return bson.RawValue{}
	}
	return bson.RawValue{Type: t, Value: data}
}

// GroupStatus is what a Group knows, for readiness and for people.
type GroupStatus struct {
	Known      bool      // the records were read at least once
	ReadAt     time.Time // when they were read last
	Err        error     // of the last round; nil when it went well
	Owner      string    // this replica
	Instance   string
	Members    int // replicas that live, this one included
	Partitions []PartitionStatus
}

// PartitionStatus is who works on a partition.
type PartitionStatus struct {
	Partition Partition
	Owner     string // "" when nobody lives that holds it
	Ours      bool
	Term      int64
	SavedAt   time.Time
	Position  Position
}

// Status is the last known state; it asks nobody.
func (g *Group) Status() GroupStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.status
	s.Owner, s.Instance = g.self.owner, g.self.instance
	s.Partitions = slices.Clone(s.Partitions)
	return s
}

// fail notes that a round went wrong. The first error after a good round is
// logged; it stands in the status until the next good one.
func (g *Group) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.status.Err == nil {
		g.log.Warn("cannot share the partitions", "error", err)
	}
	g.status.Err = err
}

// note keeps what a good look said.
func (g *Group) note(v view) {
	parts := make([]PartitionStatus, g.parts)
	for i := range parts {
		r := v.record(i, g.parts)
		parts[i] = PartitionStatus{
			Partition: Partition{i, g.parts}, Term: r.Term, SavedAt: r.SavedAt, Position: r.Position,
			Ours: g.held[i] != nil,
		}
		if v.taken(i, g.parts) {
			parts[i].Owner = r.Owner
		}
	}
	g.metric.replicas.Set(float64(len(v.members)))
	g.alone.Store(len(v.members) == 1)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.status.Err != nil {
		g.log.Info("sharing the partitions again")
	}
	g.status = GroupStatus{Known: true, ReadAt: time.Now(), Members: len(v.members), Partitions: parts}
}
