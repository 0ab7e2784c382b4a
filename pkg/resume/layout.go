package resume

import (
	"context"
	"errors"
	"slices"
	"time"
)

// agree says whether this replica may share the partitions of its layout, by the view that
// it returns. One record says which number of partitions is worked in, and that each has
// its record; who takes one has seen it so. A replica with another number waits, as a
// standby, until nobody works in that, and then brings the progress into its own layout.
func (g *Group) agree(ctx context.Context, v view, self member) (view, bool, error) {
	if v.layout.complete && v.layout.Partitions == g.parts {
		return v, true, g.tidy(ctx, v)
	}
	for _, h := range g.held { // another moved the layout before it was seen that this one works
		h.stop(ErrMoved)
	}
	if other, works := v.worker(g.parts, self); works || len(g.held) > 0 {
		if now := time.Now(); works && other.Partitions != g.parts && now.Sub(g.warned) > time.Minute {
			g.warned = now
			g.log.WarnContext(ctx, "waiting for replicas that use another number of partitions",
				"theirs", other.Partitions, "ours", g.parts, "owner", other.Owner)
		}
		return v, false, nil
	}
	err := g.move(ctx, v, self)
	if err == nil {
		v, err = g.look(ctx)
	}
	if errors.Is(err, ErrFenced) { // another was quicker
		return v, false, nil
	}
	return v, err == nil && v.layout.complete && v.layout.Partitions == g.parts, err
}

// worker is a member that keeps a replica with of partitions from moving the layout: one
// that holds a partition, works in the layout as it stands, or moves it now.
func (v view) worker(of int, self member) (Record, bool) {
	for _, r := range v.partitions {
		if owner := v.owner(r); owner != "" && owner != self.instance {
			return v.members[owner], true
		}
	}
	for _, m := range v.members {
		if v.layout.Partitions != of && m.Partitions == v.layout.Partitions && !m.Leaving {
			return m, true
		}
	}
	mover := v.owner(v.layout)
	return v.members[mover], mover != "" && mover != self.instance
}

// move brings all progress into the layout of this replica. Whatever a crash leaves
// behind, and whoever begins again, nothing is passed over: the layout is claimed and
// marked as incomplete; all records are fenced, against those who looked before; each
// new partition gets the oldest of all positions; the other records go; and then the
// layout is complete.
func (g *Group) move(ctx context.Context, v view, self member) error {
	claimed := v.layout
	claimed.ID, claimed.Term = layoutID(g.ledger.Name()), nextTerm(v.layout)
	err := g.each(ctx, 1, func(ctx context.Context, _ int) error {
		return g.ledger.put(ctx, claimed.ID, v.layout, change{
			what: "claim the layout", term: claimed.Term, holder: &self, layout: &layout{partitions: g.parts}})
	})
	if err != nil {
		return err
	}
	fenced, highest := records(v)
	err = g.each(ctx, len(fenced), func(ctx context.Context, i int) error {
		before := fenced[i]
		fenced[i].Term = nextTerm(before)
		return g.ledger.put(ctx, before.ID, before, change{what: "fence", term: fenced[i].Term, holder: &member{}})
	})
	if err != nil {
		return err
	}
	others := g.others(fenced)
	if err := g.place(ctx, fenced, len(others) > 0, highest); err != nil {
		return err
	}
	if err := g.remove(ctx, others); err != nil {
		return err
	}
	return g.each(ctx, 1, func(ctx context.Context, _ int) error {
		return g.ledger.put(ctx, claimed.ID, claimed, change{
			what: "complete the layout", term: claimed.Term, holder: &member{}, layout: &layout{partitions: g.parts, complete: true}})
	})
}

// records are those of all partitions, and a term above that of each.
func records(v view) (all []Record, highest int64) {
	for _, r := range v.partitions {
		all = append(all, r)
		highest = max(highest, nextTerm(r))
	}
	return all, highest
}

// others are the records of other layouts.
func (g *Group) others(all []Record) []Record {
	return slices.DeleteFunc(slices.Clone(all), func(r Record) bool { return r.Partition.Of == g.parts })
}

func (g *Group) remove(ctx context.Context, records []Record) error {
	return g.each(ctx, len(records), func(ctx context.Context, i int) error { return g.ledger.remove(ctx, records[i]) })
}

// place makes the records of this layout that are missing, with a term that no holder
// ever had, and moves all to the oldest position if there were others.
func (g *Group) place(ctx context.Context, all []Record, moved bool, highest int64) error {
	own := make([]Record, g.parts)
	for _, r := range all {
		if r.Partition.Of == g.parts {
			own[r.Partition.Index] = r
		}
	}
	c := change{what: "place a partition"}
	if oldest, ok := oldestRecord(all); ok && moved {
		c.saved = &saved{oldest.Position, Origin{ReplicaSet: oldest.ReplicaSet, Pipeline: oldest.Pipeline}, oldest.SavedAt}
		c.reset = oldest.Reset
		g.log.InfoContext(ctx, "the number of partitions changes", "records", len(all), "partitions", g.parts,
			"position", oldest.Position.String())
	}
	return g.each(ctx, g.parts, func(ctx context.Context, i int) error {
		seen, c := own[i], c
		switch {
		case seen.ID == "":
			c.term = highest
		case c.saved == nil:
			return nil // it is there
		default:
			c.term = seen.Term
		}
		return g.ledger.put(ctx, Partition{i, g.parts}.ID(g.ledger.Name()), seen, c)
	})
}

// tidy removes records of other layouts, made by one who did not know that the layout
// had changed meanwhile, and makes again what was removed by hand.
func (g *Group) tidy(ctx context.Context, v view) error {
	all, highest := records(v)
	unused := slices.DeleteFunc(g.others(all), func(r Record) bool { return v.owner(r) != "" })
	if err := g.remove(ctx, unused); err != nil {
		return err
	}
	err := g.place(ctx, all, false, highest)
	if errors.Is(err, ErrFenced) {
		return nil // another made it
	}
	return err
}
