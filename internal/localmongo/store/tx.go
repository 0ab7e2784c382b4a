package store

import (
	"time"

	"go.mongodb.org/mongo-driver/bson/primitive"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/query"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// Tx changes the store. Outside a transaction every change is written to the history at
// once with a time of its own. A Tx is valid only inside the function that it was given
// to.
type Tx struct {
	s *Store
	// session is the transaction that the changes belong to, nil outside one.
	session *Transaction
}

// Write runs fn with the store locked for changes.
func (s *Store) Write(fn func(tx *Tx) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.failed(); err != nil {
		return err
	}
	if err := fn(&Tx{s: s}); err != nil {
		return err
	}
	return s.failed()
}

// commit puts changes that belong together on disk and into the history.
func (s *Store) commit(entries ...*Entry) {
	if s.disk != nil {
		_ = s.disk.write(s, entries) // kept in the disk and asked for by failed
	}
	for _, e := range entries {
		e.after = nil
	}
	s.remember(entries)
	s.History.append(entries...)
}

// failed is the error of a store that can no longer write its data file. What it holds in
// memory may be ahead of the file, so nothing more is acknowledged.
func (s *Store) failed() error {
	if s.disk == nil || s.disk.err == nil {
		return nil
	}
	return mongoerr.New(mongoerr.InterruptedAtShutdown, "%s", s.disk.err)
}

// log gives a change its time and appends it, or keeps it for the commit.
func (tx *Tx) log(c *Collection, e *Entry) {
	e.DB, e.Coll, e.UUID = c.DB, c.Name, c.UUID
	if tx.session != nil {
		tx.session.log(e)
		return
	}
	e.Time, e.Wall = tx.s.tick(), time.Now()
	tx.s.commit(e)
}

// collection finds a collection as this Tx sees it; nil when there is none.
func (tx *Tx) collection(db, name string) *Collection {
	if tx.session != nil {
		return tx.session.collection(tx.s, db, name)
	}
	return tx.s.collection(db, name)
}

// create makes a collection, or returns the one that is there.
func (tx *Tx) create(db, name string) (*Collection, error) {
	if c := tx.collection(db, name); c != nil {
		return c, nil
	}
	if tx.session != nil {
		return nil, mongoerr.New(mongoerr.OperationNotSupportedInTxn, "Cannot create namespace %s.%s in multi-document transaction.", db, name)
	}
	if err := checkName(db, name); err != nil {
		return nil, err
	}
	c := newCollection(db, name, newUUID())
	tx.s.put(c)
	tx.log(c, &Entry{Op: Create})
	return c, nil
}

// Create makes a collection; it is an error when it is there.
func (tx *Tx) Create(db, name string) error {
	if tx.collection(db, name) != nil {
		return mongoerr.New(mongoerr.NamespaceExists, "Collection %s.%s already exists.", db, name)
	}
	_, err := tx.create(db, name)
	return err
}

// Insert adds a document that PrepareInsert has made.
func (tx *Tx) Insert(db, name string, doc bson.Raw) error {
	c, err := tx.create(db, name)
	if err != nil {
		return err
	}
	if err := c.insert(doc); err != nil {
		return err
	}
	tx.log(c, &Entry{Op: Insert, ID: value.Lookup(doc, "_id"), Full: doc})
	return nil
}

// Find selects documents as this Tx sees them.
func (tx *Tx) Find(db, name string, sel Selection) ([]bson.Raw, Stats, error) {
	return tx.s.findIn(tx.collection(db, name), sel)
}

// Change is the result of an update.
type Change struct {
	Matched, Modified int64
	// Upserted is the _id of a document that the update inserted.
	Upserted value.Raw
	// Before and After are the document of a single update, nil when there is none.
	Before, After bson.Raw
}

// Update applies an update to the selected documents, all of them with multi and else the
// first. With upsert it inserts when nothing was found. A failure in the middle of a
// multi update leaves the earlier documents changed, as on a MongoDB server.
func (tx *Tx) Update(db, name string, sel Selection, u *query.Update, multi, upsert bool) (Change, error) {
	var ch Change
	if !multi {
		sel.Limit = 1
	}
	c := tx.collection(db, name)
	var got []found
	if c != nil {
		var st Stats
		var err error
		got, err = c.find(sel, &st)
		tx.s.examined.Add(st.Docs)
		if err != nil {
			return ch, err
		}
	}
	if len(got) == 0 && upsert {
		return tx.upsert(db, name, sel.Filter, u)
	}
	for _, f := range got {
		ch.Matched++
		next, delta, err := u.Apply(f.doc, sel.Filter)
		if err != nil {
			return ch, err
		}
		ch.Before, ch.After = f.doc, next
		if &next[0] == &f.doc[0] {
			continue
		}
		if err := tx.replace(c, f, next, delta); err != nil {
			return ch, err
		}
		ch.Modified++
	}
	return ch, nil
}

func (tx *Tx) replace(c *Collection, f found, next bson.Raw, delta query.Delta) error {
	if err := c.replace(f.seq, f.doc, next); err != nil {
		return err
	}
	e := &Entry{Op: Update, ID: value.Lookup(next, "_id"), Delta: delta, after: next}
	if delta.Replaced {
		e.Op, e.Full = Replace, next
	}
	tx.log(c, e)
	return nil
}

func (tx *Tx) upsert(db, name string, f *query.Filter, u *query.Update) (Change, error) {
	doc, err := u.Insert(f, NewID)
	if err != nil {
		return Change{}, err
	}
	doc, err = PrepareInsert(doc, NewID)
	if err != nil {
		return Change{}, err
	}
	if err := tx.Insert(db, name, doc); err != nil {
		return Change{}, err
	}
	return Change{Matched: 1, Upserted: value.Lookup(doc, "_id"), After: doc}, nil
}

// NewID makes an ObjectID for a document without an _id.
func NewID() any { return primitive.NewObjectID() }

// Delete removes the selected documents and returns them.
func (tx *Tx) Delete(db, name string, sel Selection) ([]bson.Raw, error) {
	c := tx.collection(db, name)
	if c == nil {
		return nil, nil
	}
	var st Stats
	got, err := c.find(sel, &st)
	tx.s.examined.Add(st.Docs)
	if err != nil {
		return nil, err
	}
	var gone []bson.Raw
	for _, f := range got {
		if err := c.remove(f.seq, f.doc); err != nil {
			return gone, err
		}
		tx.log(c, &Entry{Op: Delete, ID: value.Lookup(f.doc, "_id")})
		gone = append(gone, f.doc)
	}
	return gone, nil
}

// IndexResult says what CreateIndexes found and made.
type IndexResult struct {
	CreatedCollection bool
	Before, After     int
}

// CreateIndexes builds indexes, and the collection when there is none.
func (tx *Tx) CreateIndexes(db, name string, list []*Index) (IndexResult, error) {
	var r IndexResult
	r.CreatedCollection = tx.collection(db, name) == nil
	c, err := tx.create(db, name)
	if err != nil {
		return r, err
	}
	r.Before = len(c.Indexes)
	for _, ix := range list {
		added, err := c.addIndex(ix)
		if err != nil {
			return r, err
		}
		if added {
			tx.log(c, &Entry{Op: CreateIndexes, Full: ix.Spec})
		}
	}
	r.After = len(c.Indexes)
	return r, nil
}

// DropIndexes removes an index by name, or all but _id_ for "*", and returns how many
// there were.
func (tx *Tx) DropIndexes(db, name, index string) (int, error) {
	c := tx.collection(db, name)
	if c == nil {
		return 0, mongoerr.New(mongoerr.NamespaceNotFound, "ns not found %s.%s", db, name)
	}
	n := len(c.Indexes)
	if err := c.dropIndexes(index); err != nil {
		return n, err
	}
	tx.log(c, &Entry{Op: DropIndexes, Name: index})
	return n, nil
}

// Drop removes a collection and returns how many indexes it had; ok is false when there
// is none.
func (tx *Tx) Drop(db, name string) (indexes int, ok bool) {
	c := tx.s.collection(db, name)
	if c == nil {
		return 0, false
	}
	delete(tx.s.dbs[db], name)
	tx.log(c, &Entry{Op: Drop})
	return len(c.Indexes), true
}

// DropDatabase removes a database with all its collections.
func (tx *Tx) DropDatabase(db string) {
	for _, name := range sortedKeys(tx.s.dbs[db]) {
		tx.Drop(db, name)
	}
	if _, ok := tx.s.dbs[db]; !ok {
		return
	}
	delete(tx.s.dbs, db)
	tx.log(&Collection{DB: db}, &Entry{Op: DropDatabase})
}

// Rename gives a collection another name. With dropTarget a collection of that name is
// dropped first.
func (tx *Tx) Rename(db, name, toDB, to string, dropTarget bool) error {
	c := tx.s.collection(db, name)
	if c == nil {
		return mongoerr.New(mongoerr.NamespaceNotFound, "Source collection %s.%s does not exist", db, name)
	}
	if db == toDB && name == to {
		return mongoerr.New(mongoerr.IllegalOperation, "Can't rename a collection to itself")
	}
	if err := checkName(toDB, to); err != nil {
		return err
	}
	if tx.s.collection(toDB, to) != nil {
		if !dropTarget {
			return mongoerr.New(mongoerr.NamespaceExists, "target namespace exists")
		}
		tx.Drop(toDB, to)
	}
	delete(tx.s.dbs[db], name)
	tx.log(c, &Entry{Op: Rename, ToDB: toDB, To: to})
	c.DB, c.Name = toDB, to
	tx.s.put(c)
	return nil
}
