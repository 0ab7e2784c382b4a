package store

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
)

// Transaction collects the changes of several commands and makes them one. It works on
// snapshots taken when a collection is first touched, so it sees its own writes and
// nobody else's. Conflicts are found when it commits, not when it writes: a document that
// changed meanwhile is a WriteConflict, which drivers retry.
type Transaction struct {
	LSID      bson.Raw
	TxnNumber int64

	views   map[string]*view
	entries []*Entry
}

type view struct {
	base, work *Collection
	// live is the collection that base was taken from.
	live *Collection
}

// NewTransaction starts a transaction.
func NewTransaction(lsid bson.Raw, number int64) *Transaction {
	return &Transaction{LSID: lsid, TxnNumber: number, views: map[string]*view{}}
}

// Join runs fn as a part of a transaction.
func (s *Store) Join(t *Transaction, fn func(tx *Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fn(&Tx{s: s, session: t})
}

func (t *Transaction) collection(s *Store, db, name string) *Collection {
	ns := db + "." + name
	if v, ok := t.views[ns]; ok {
		return v.work
	}
	live := s.collection(db, name)
	if live == nil {
		return nil
	}
	v := &view{base: live.snapshot(), work: live.snapshot(), live: live}
	t.views[ns] = v
	return v.work
}

func (t *Transaction) log(e *Entry) {
	e.LSID, e.TxnNumber = t.LSID, t.TxnNumber
	t.entries = append(t.entries, e)
}

// Commit makes the changes of a transaction, all at one cluster time, or none of them.
func (s *Store) Commit(t *Transaction) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.failed(); err != nil || len(t.entries) == 0 {
		return err
	}
	trial := map[string]*Collection{}
	for _, e := range t.entries {
		ns := e.DB + "." + e.Coll
		if err := t.replay(s, trial, ns, e); err != nil {
			if dup, ok := errors.AsType[*mongoerr.Error](err); ok && dup.Code == mongoerr.DuplicateKey {
				return conflict() // with a key that came after the snapshot
			}
			return err
		}
	}
	for ns, c := range trial {
		live := t.views[ns].live
		live.docs, live.Indexes, live.next, live.bytes = c.docs, c.Indexes, c.next, c.bytes
	}
	now, wall := s.tick(), time.Now()
	for i, e := range t.entries {
		e.Time, e.Wall, e.Position = now, wall, i
	}
	s.commit(t.entries...)
	return s.failed()
}

// replay makes one change on a copy of the live collection, if the document is still the
// one that the transaction saw.
func (t *Transaction) replay(s *Store, trial map[string]*Collection, ns string, e *Entry) error {
	v := t.views[ns]
	if s.collection(e.DB, e.Coll) != v.live {
		return conflict()
	}
	c, ok := trial[ns]
	if !ok {
		c = v.live.snapshot()
		trial[ns] = c
	}
	seq, now, exists := c.byID(e.ID)
	first := slices.IndexFunc(t.entries, func(o *Entry) bool { return sameDocument(o, e) })
	if t.entries[first] == e {
		_, then, existed := v.base.byID(e.ID)
		if exists != existed || exists && !bytes.Equal(then, now) {
			return conflict()
		}
	}
	switch e.Op {
	case Insert:
		return c.insert(e.Full)
	case Replace:
		return c.replace(seq, now, e.Full)
	case Update:
		return c.replace(seq, now, e.after)
	case Delete:
		return c.remove(seq, now)
	default:
		return mongoerr.New(mongoerr.OperationNotSupportedInTxn, "operation is not supported in a transaction")
	}
}

func sameDocument(a, b *Entry) bool {
	return a.DB == b.DB && a.Coll == b.Coll && a.ID.Equal(b.ID)
}

func conflict() error {
	return mongoerr.New(mongoerr.WriteConflict, "Caused by :: Write conflict during plan execution and yielding is disabled. :: Please retry your operation or multi-document transaction.")
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
