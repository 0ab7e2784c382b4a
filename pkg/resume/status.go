package resume

import (
	"slices"
	"time"
)

// GroupStatus is what a Group knows, for readiness and for people.
type GroupStatus struct {
	Known      bool              // the records were read at least once
	ReadAt     time.Time         // when they were read last
	Err        error             // of the last round; nil when it went well
	Owner      string            // this replica
	Members    int               // replicas that live, this one included
	Partitions []PartitionStatus // of the number that is worked in; another than this replica's while that waits
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
	s.Partitions = slices.Clone(s.Partitions)
	s.Owner = g.owner
	return s
}

// report notes how a round went. The first error after a good round is logged; it stands
// in the status until the next good one.
func (g *Group) report(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case err != nil && g.status.Err == nil:
		g.log.Warn("cannot share the partitions", "error", err)
	case err == nil && g.status.Err != nil:
		g.log.Info("sharing the partitions again")
	}
	g.status.Err = err
}

// note keeps what a good look found, of the layout that is worked in.
func (g *Group) note(v view) {
	of := g.parts
	if v.layout.complete {
		of = v.layout.Partitions
	}
	parts := make([]PartitionStatus, of)
	for i := range parts {
		p := Partition{i, of}
		r := v.partitions[p]
		parts[i] = PartitionStatus{
			Partition: p, Term: r.Term, SavedAt: r.SavedAt, Position: r.Position,
			Ours: of == g.parts && g.held[i] != nil,
		}
		if v.owner(r) != "" {
			parts[i].Owner = r.Owner
		}
	}
	g.metric.replicas.Set(float64(len(v.members)))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.status.Known, g.status.ReadAt = true, time.Now()
	g.status.Members, g.status.Partitions = len(v.members), parts
}

// noteHeld keeps that a partition was taken: the next look is a second away.
func (g *Group) noteHeld(r Record) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if parts := g.status.Partitions; len(parts) == g.parts {
		p := &parts[r.Partition.Index]
		p.Ours, p.Owner, p.Term = true, r.Owner, r.Term
	}
}
