package resume

import "time"

// view is what a look at the records says.
type view struct {
	members    map[string]Record // by instance: those that live
	gone       []Record          // members to be removed: dead, or this replica before its restart
	partitions map[Partition]Record
	layout     Record
}

// owner is the member that holds a record, "" when nobody does who lives.
func (v view) owner(r Record) string {
	if _, lives := v.members[r.Instance]; !lives {
		return ""
	}
	return r.Instance
}

// owners are the holders of each partition of one layout.
func (v view) owners(of int) []string {
	owners := make([]string, of)
	for i := range owners {
		owners[i] = v.owner(v.partitions[Partition{i, of}])
	}
	return owners
}

// sharers are the members among which the partitions of one layout are shared.
func (v view) sharers(of int) []string {
	var instances []string
	for instance, m := range v.members {
		if m.Partitions == of && !m.Leaving {
			instances = append(instances, instance)
		}
	}
	return instances
}

// sighting is for how long a member was seen not to beat.
type sighting struct {
	beat   int64
	silent time.Duration
	until  time.Time // when that was known
}

// watch tells the members that live from those that do not, by its own clock alone.
type watch struct {
	lease time.Duration // of a member that says nothing of it, or something absurd
	most  time.Duration // of silence between two looks
	seen  map[string]sighting
}

// mostLease is how long a member may say that it lives without a beat.
const mostLease = 10 * time.Minute

// dead notes the beats of the members at a look that was sent at asked, and returns who
// has been silent for as long as its lease lasts. Silence is counted up to asked, and a
// change from now, so that a pause of this process makes no other look dead. What passes
// between two looks counts up to a limit only: when the store was away, nobody could beat.
func (w *watch) dead(records []Record, asked, now time.Time) map[string]bool {
	seen := make(map[string]sighting)
	dead := make(map[string]bool)
	for i := range records {
		r := &records[i]
		if r.kind != kindMember {
			continue
		}
		s, known := w.seen[r.Instance]
		if known && s.beat == r.Beat {
			s.silent += min(max(0, asked.Sub(s.until)), w.most)
			s.until = asked
		} else {
			s = sighting{beat: r.Beat, until: now}
		}
		lease := r.Lease
		if lease <= 0 || lease > mostLease {
			lease = w.lease
		}
		seen[r.Instance], dead[r.Instance] = s, s.silent >= lease
	}
	w.seen = seen
	return dead
}

// observe makes a view of the records.
func (g *Group) observe(records []Record, self member, asked time.Time) view {
	dead := g.watch.dead(records, asked, time.Now())
	v := view{members: make(map[string]Record), partitions: make(map[Partition]Record)}
	for _, r := range records {
		switch r.kind {
		case kindLayout:
			v.layout = r
		case kindPartition:
			v.partitions[r.Partition] = r
		case kindMember:
			v.members[r.Instance] = r
			if r.Instance != self.instance && (dead[r.Instance] || g.formerSelf(r)) {
				v.gone = append(v.gone, r)
			}
		}
	}
	return v
}

// formerSelf says whether r is this replica before it was restarted. Only at the first
// look: later on, an equal name is a replica that was given the same name by mistake,
// and the two would take from each other for ever.
func (g *Group) formerSelf(r Record) bool {
	if !g.first || r.Owner == "" {
		return false
	}
	return r.Owner == g.owner || g.gone != nil && g.gone(r.Owner)
}
