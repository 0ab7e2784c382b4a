package store

import (
	"bytes"
	"slices"
	"strings"

	"github.com/tidwall/btree"
	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/query"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// UUID names a collection for its whole life; one that is dropped and made again has
// another.
type UUID [16]byte

// Collection holds documents as bytes, in the order of their insertion, and indexes that
// point to them. It does no locking and keeps no history: the Store does both. A stored
// document is never changed in place, so whoever holds one may read it without a lock.
type Collection struct {
	DB, Name string
	UUID     UUID
	Indexes  []*Index // the first is _id_

	docs  *btree.Map[uint64, bson.Raw]
	next  uint64
	bytes int64
}

var idIndexSpec = mustEncode(kit.D{{Key: "key", Value: kit.D{{Key: "_id", Value: int32(1)}}}, {Key: "name", Value: "_id_"}})

func mustEncode(d kit.D) bson.Raw {
	raw, err := value.Encode(d)
	if err != nil {
		panic("localmongo: " + err.Error())
	}
	return raw
}

func newCollection(db, name string, id UUID) *Collection {
	ix, err := NewIndex(idIndexSpec)
	if err != nil {
		panic("localmongo: " + err.Error())
	}
	return &Collection{DB: db, Name: name, UUID: id, Indexes: []*Index{ix}, docs: btree.NewMap[uint64, bson.Raw](0), next: 1}
}

// NS is the full name, database and collection with a dot between.
func (c *Collection) NS() string { return c.DB + "." + c.Name }

// Len is the number of documents.
func (c *Collection) Len() int { return c.docs.Len() }

// Bytes is the size of all documents together.
func (c *Collection) Bytes() int64 { return c.bytes }

// snapshot is a copy that shares all it can; changes of either are not seen in the other.
func (c *Collection) snapshot() *Collection {
	s := *c
	s.docs = c.docs.Copy()
	s.Indexes = make([]*Index, len(c.Indexes))
	for i, ix := range c.Indexes {
		s.Indexes[i] = ix.clone()
	}
	return &s
}

// byID finds a document by its _id.
func (c *Collection) byID(id value.Raw) (uint64, bson.Raw, bool) {
	v, err := value.DecodeValue(id)
	if err != nil {
		return 0, nil, false
	}
	seq, ok := c.Indexes[0].tree.Get(string(value.AppendKey(nil, v, false)))
	if !ok {
		return 0, nil, false
	}
	doc, ok := c.docs.Get(seq)
	return seq, doc, ok
}

// insert adds a document, which must have its _id first and is kept as it is.
func (c *Collection) insert(doc bson.Raw) error {
	seq := c.next
	keys, err := c.checkAll(doc, seq)
	if err != nil {
		return err
	}
	for i, ix := range c.Indexes {
		ix.add(keys[i], seq)
	}
	c.docs.Set(seq, doc)
	c.next++
	c.bytes += int64(len(doc))
	return nil
}

// checkAll computes a document's keys for all indexes and refuses a duplicate.
func (c *Collection) checkAll(doc bson.Raw, seq uint64) ([][]string, error) {
	keys := make([][]string, len(c.Indexes))
	for i, ix := range c.Indexes {
		var err error
		if keys[i], err = ix.keys(doc); err != nil {
			return nil, err
		}
		if _, ok := ix.check(keys[i], seq); !ok {
			return nil, ix.duplicate(c.NS(), doc)
		}
	}
	return keys, nil
}

// replace puts a new version of a document in the place of the old one.
func (c *Collection) replace(seq uint64, old, doc bson.Raw) error {
	changed := changedRoots(old, doc)
	type change struct {
		ix       *Index
		was, now []string
	}
	var changes []change
	for _, ix := range c.Indexes[1:] {
		if !ix.touched(changed) {
			continue
		}
		was, err := ix.keys(old)
		if err != nil {
			return err
		}
		now, err := ix.keys(doc)
		if err != nil {
			return err
		}
		if slices.Equal(was, now) {
			continue
		}
		if _, ok := ix.check(now, seq); !ok {
			return ix.duplicate(c.NS(), doc)
		}
		changes = append(changes, change{ix, was, now})
	}
	for _, ch := range changes {
		ch.ix.remove(ch.was, seq)
		ch.ix.add(ch.now, seq)
	}
	c.docs.Set(seq, doc)
	c.bytes += int64(len(doc) - len(old))
	return nil
}

// changedRoots tells which top-level fields differ between two versions.
func changedRoots(old, doc bson.Raw) func(root string) bool {
	return func(root string) bool { return !value.Lookup(old, root).Equal(value.Lookup(doc, root)) }
}

// remove takes a document away.
func (c *Collection) remove(seq uint64, doc bson.Raw) error {
	for _, ix := range c.Indexes {
		keys, err := ix.keys(doc)
		if err != nil {
			return err
		}
		ix.remove(keys, seq)
	}
	c.docs.Delete(seq)
	c.bytes -= int64(len(doc))
	return nil
}

// addIndex builds an index. It reports false when the same one exists.
func (c *Collection) addIndex(ix *Index) (bool, error) {
	for _, have := range c.Indexes {
		sameKey, sameName := bytes.Equal(have.key, ix.key), have.Name == ix.Name
		if sameKey && have.Name == "_id_" {
			return false, nil
		}
		if sameKey && sameName && bytes.Equal(have.Spec, ix.Spec) {
			return false, nil
		}
		if sameName && ix.sameButExpiry(have) {
			return false, mongoerr.New(mongoerr.IndexOptionsConflict, "An equivalent index already exists with the same name but different options. Requested index: %s, existing index: %s", ix.Spec, have.Spec)
		}
		if sameName {
			return false, mongoerr.New(mongoerr.IndexKeySpecsConflict, "An existing index has the same name as the requested index. Requested index: %s, existing index: %s", ix.Spec, have.Spec)
		}
		if sameKey && samePartial(have, ix) {
			return false, mongoerr.New(mongoerr.IndexOptionsConflict, "Index already exists with a different name: %s", have.Name)
		}
	}
	var err error
	c.docs.Scan(func(seq uint64, doc bson.Raw) bool {
		var keys []string
		if keys, err = ix.keys(doc); err != nil {
			return false
		}
		if _, ok := ix.check(keys, seq); !ok {
			err = ix.duplicate(c.NS(), doc)
			return false
		}
		ix.add(keys, seq)
		return true
	})
	if err != nil {
		return false, err
	}
	c.Indexes = append(c.Indexes[:len(c.Indexes):len(c.Indexes)], ix)
	return true, nil
}

func samePartial(a, b *Index) bool {
	return value.Lookup(a.Spec, "partialFilterExpression").Equal(value.Lookup(b.Spec, "partialFilterExpression"))
}

// dropIndexes removes the index of a name, or all but _id_ for "*".
func (c *Collection) dropIndexes(name string) error {
	if name == "_id_" {
		return mongoerr.New(mongoerr.InvalidOptions, "cannot drop _id index")
	}
	keep := slices.DeleteFunc(slices.Clone(c.Indexes), func(ix *Index) bool {
		return ix.Name != "_id_" && (name == "*" || ix.Name == name)
	})
	if len(keep) == len(c.Indexes) && name != "*" {
		return mongoerr.New(mongoerr.IndexNotFound, "index not found with name [%s]", name)
	}
	c.Indexes = keep
	return nil
}

// PrepareInsert checks a document that a client wants to insert and gives it its place in
// memory of its own, with the _id first. newID makes an _id where there is none.
func PrepareInsert(doc bson.Raw, newID func() any) (bson.Raw, error) {
	if len(doc) > query.MaxDocument {
		return nil, mongoerr.New(mongoerr.BadValue, "object to insert too large. size in bytes: %d, max size: %d", len(doc), query.MaxDocument)
	}
	id := value.Lookup(doc, "_id")
	switch id.Type {
	case bson.TypeArray, bson.TypeRegex, bson.TypeUndefined:
		return nil, mongoerr.New(mongoerr.InvalidIDField, "The '_id' value cannot be of type %s", strings.ToLower(id.Type.String()))
	case 0:
		var err error
		if id, err = value.EncodeValue(newID()); err != nil {
			return nil, err
		}
	default:
		if doc[4] == byte(id.Type) && bytes.HasPrefix(doc[5:], []byte("_id\x00")) {
			return bytes.Clone(doc), nil
		}
	}
	start, dst := value.Open(make([]byte, 0, len(doc)+24))
	dst = value.AppendRaw(dst, "_id", id)
	for key, v := range value.Elements(doc) {
		if string(key) != "_id" {
			dst = value.AppendRaw(dst, string(key), v)
		}
	}
	return value.Close(dst, start), nil
}
