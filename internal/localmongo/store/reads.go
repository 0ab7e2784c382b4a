package store

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// ReadConcern is what a read asks of the data that it is answered from. It matters only
// where reads were made stale or uncommitted: else every read sees all writes.
type ReadConcern struct {
	Majority     bool      // nothing that may still be rolled back
	Linearizable bool      // nothing that is not the newest
	After        Timestamp // all writes up to here at least
}

// readFaults is how far reads differ from what was written.
type readFaults struct {
	stale map[string]time.Duration // by the name of a collection, alone or with its database
	// past are the states of the collections with stale reads, by full name, oldest first.
	past map[string][]version
	// uncommitted are documents that reads see until they are rolled back, by full name.
	uncommitted map[string][]bson.Raw
}

// version is a collection as it was from one change to the next.
type version struct {
	time Timestamp
	wall time.Time
	docs *Collection // nil for none
}

// staleness is how old the answers of reads on a collection may be.
func (f *readFaults) staleness(db, name string) time.Duration {
	return max(f.stale[name], f.stale[db+"."+name])
}

// StaleReads lets reads on a collection, named alone or as database.collection, see only
// writes older than age, and those up to the time after which the read asks to be. 0
// ends it.
func (s *Store) StaleReads(name string, age time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults.stale == nil {
		s.faults.stale, s.faults.past = map[string]time.Duration{}, map[string][]version{}
	}
	s.faults.stale[name] = age
	clear(s.faults.past)
	for db, colls := range s.dbs {
		for coll, c := range colls {
			if s.faults.staleness(db, coll) > 0 {
				s.faults.past[c.NS()] = []version{{docs: c.snapshot()}}
			}
		}
	}
}

// remember keeps the states of collections with stale reads after some changes. The
// caller holds mu.
func (s *Store) remember(entries []*Entry) {
	for _, e := range entries {
		age := s.faults.staleness(e.DB, e.Coll)
		if age <= 0 {
			continue
		}
		v := version{time: e.Time, wall: e.Wall}
		if c := s.collection(e.DB, e.Coll); c != nil {
			v.docs = c.snapshot()
		}
		list := s.faults.past[e.DB+"."+e.Coll]
		if list == nil {
			list = []version{{}} // there was no collection
		}
		for len(list) > 1 && e.Wall.Sub(list[1].wall) > age {
			list = list[1:]
		}
		s.faults.past[e.DB+"."+e.Coll] = append(list, v)
	}
}

// readable is the collection as a read with rc sees it. The caller holds mu.
func (s *Store) readable(db, name string, rc ReadConcern) *Collection {
	age := s.faults.staleness(db, name)
	if age <= 0 || rc.Linearizable {
		return s.collection(db, name)
	}
	list := s.faults.past[db+"."+name]
	for i := len(list) - 1; i >= 0; i-- {
		if v := list[i]; i == 0 || time.Since(v.wall) >= age || v.time.Compare(rc.After) <= 0 {
			return v.docs
		}
	}
	return s.collection(db, name)
}

// WriteUncommitted lets reads without majority see a document, in the place of one with
// the same _id, as if it were written and not replicated yet. Writes, change streams and
// majority reads do not see it. Only RollBack takes it away.
func (s *Store) WriteUncommitted(db, name string, doc bson.Raw) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults.uncommitted == nil {
		s.faults.uncommitted = map[string][]bson.Raw{}
	}
	ns := db + "." + name
	s.faults.uncommitted[ns] = append(s.faults.uncommitted[ns], doc)
}

// RollBack takes all documents of WriteUncommitted away.
func (s *Store) RollBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.uncommitted = nil
}

// withUncommitted is a copy of a collection with what may still be rolled back. The
// caller holds mu for writing, which a snapshot needs.
func (s *Store) withUncommitted(c *Collection, db, name string) (*Collection, error) {
	docs := s.faults.uncommitted[db+"."+name]
	if len(docs) == 0 {
		return c, nil
	}
	if c == nil {
		c = newCollection(db, name, UUID{})
	}
	c = c.snapshot()
	for _, doc := range docs {
		seq, old, ok := c.byID(value.Lookup(doc, "_id"))
		var err error
		if ok {
			err = c.replace(seq, old, doc)
		} else {
			err = c.insert(doc)
		}
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Find selects documents. The result stays valid and unchanged for as long as it is held.
func (s *Store) Find(db, name string, sel Selection, rc ReadConcern) ([]bson.Raw, Stats, error) {
	s.mu.RLock()
	if len(s.faults.uncommitted) == 0 || rc.Majority {
		defer s.mu.RUnlock()
		return s.findIn(s.readable(db, name, rc), sel)
	}
	s.mu.RUnlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.withUncommitted(s.readable(db, name, rc), db, name)
	if err != nil {
		return nil, Stats{}, err
	}
	return s.findIn(c, sel)
}
