package store

import (
	"errors"
	"fmt"

	"github.com/256dpi/lungo/bsonkit"
	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/query"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// picture gives the records of the whole store: a head, the collections with their
// documents, the history, and an end.
func (s *Store) picture(put func(kit.D) error) error {
	if err := put(kit.D{{Key: "k", Value: "localmongo"}, {Key: "v", Value: int32(dataFormat)}}); err != nil {
		return err
	}
	for _, db := range sortedKeys(s.dbs) {
		for _, name := range sortedKeys(s.dbs[db]) {
			if err := s.dbs[db][name].picture(put); err != nil {
				return err
			}
		}
	}
	for _, e := range s.History.copyEntries(-1, false) {
		if err := put(kit.D{{Key: "k", Value: "past"}, {Key: "e", Value: e.record()}}); err != nil {
			return err
		}
	}
	return put(kit.D{{Key: "k", Value: "end"}})
}

func (c *Collection) picture(put func(kit.D) error) error {
	specs := kit.A{}
	for _, ix := range c.Indexes[1:] {
		specs = append(specs, ix.Spec)
	}
	err := put(kit.D{
		{Key: "k", Value: "collection"}, {Key: "db", Value: c.DB}, {Key: "c", Value: c.Name},
		{Key: "ui", Value: primitive.Binary{Subtype: 4, Data: c.UUID[:]}}, {Key: "indexes", Value: specs},
	})
	c.docs.Scan(func(_ uint64, doc bson.Raw) bool {
		if err == nil {
			err = put(kit.D{{Key: "k", Value: "doc"}, {Key: "d", Value: doc}})
		}
		return err == nil
	})
	return err
}

// record is an entry as the data file has it.
func (e *Entry) record() kit.D {
	d := kit.D{
		{Key: "ts", Value: primitive.Timestamp(e.Time)}, {Key: "at", Value: primitive.NewDateTimeFromTime(e.Wall)},
		{Key: "pos", Value: int32(e.Position)}, {Key: "op", Value: int32(e.Op)},
		{Key: "db", Value: e.DB}, {Key: "c", Value: e.Coll}, {Key: "ui", Value: primitive.Binary{Subtype: 4, Data: e.UUID[:]}},
	}
	add := func(key string, v any) { d = append(d, kit.E{Key: key, Value: v}) }
	if e.To != "" {
		add("toDB", e.ToDB)
		add("to", e.To)
	}
	if !e.ID.Absent() {
		add("id", e.ID)
	}
	if e.Full != nil {
		add("full", e.Full)
	}
	if e.after != nil {
		add("after", e.after)
	}
	if e.Op == Update {
		add("delta", e.description())
	}
	if e.Name != "" {
		add("name", e.Name)
	}
	if e.LSID != nil {
		add("lsid", e.LSID)
		add("txn", e.TxnNumber)
	}
	return d
}

// loader applies the records of a data file to an empty store.
type loader struct {
	s        *Store
	coll     *Collection
	started  bool
	complete bool // the picture was read to its end
}

func (l *loader) record(doc bson.Raw) error {
	kind := text(doc, "k")
	if !l.started && kind != "localmongo" {
		return errors.New("this is no data file of localmongo")
	}
	switch kind {
	case "localmongo":
		l.started = true
		if v := number(doc, "v"); v != dataFormat {
			return fmt.Errorf("format %d is not known", v)
		}
	case "collection":
		return l.collection(doc)
	case "doc":
		if l.coll == nil {
			return errors.New("document without a collection")
		}
		return l.coll.insert(embedded(doc, "d"))
	case "past":
		e, err := parseEntry(embedded(doc, "e"))
		if err != nil {
			return err
		}
		l.remember(e)
	case "end":
		l.complete = true
	case "change":
		return l.changes(value.Lookup(doc, "e").Document())
	default:
		return fmt.Errorf("unknown record %q", kind)
	}
	return nil
}

func (l *loader) remember(e *Entry) {
	e.after = nil
	l.s.clock = e.Time
	l.s.History.append(e)
}

func (l *loader) collection(doc bson.Raw) error {
	c := newCollection(text(doc, "db"), text(doc, "c"), uuid(doc))
	for _, v := range value.Elements(value.Lookup(doc, "indexes").Document()) {
		ix, err := NewIndex(bson.Raw(v.Data))
		if err != nil {
			return err
		}
		if _, err := c.addIndex(ix); err != nil {
			return err
		}
	}
	l.s.put(c)
	l.coll = c
	return nil
}

func (l *loader) changes(list bson.Raw) error {
	for _, v := range value.Elements(list) {
		e, err := parseEntry(bson.Raw(v.Data))
		if err != nil {
			return err
		}
		if err := l.s.apply(e); err != nil {
			return err
		}
		l.remember(e)
	}
	return nil
}

// put adds a collection to its database.
func (s *Store) put(c *Collection) {
	if s.dbs[c.DB] == nil {
		s.dbs[c.DB] = map[string]*Collection{}
	}
	s.dbs[c.DB][c.Name] = c
}

// apply makes a recorded change again.
func (s *Store) apply(e *Entry) error {
	switch e.Op {
	case Noop:
		return nil
	case Create:
		s.put(newCollection(e.DB, e.Coll, e.UUID))
		return nil
	case DropDatabase:
		delete(s.dbs, e.DB)
		return nil
	default:
	}
	c := s.collection(e.DB, e.Coll)
	if c == nil {
		return fmt.Errorf("change of %s.%s, which is not there", e.DB, e.Coll)
	}
	switch e.Op {
	case Drop:
		delete(s.dbs[e.DB], e.Coll)
		return nil
	case Rename:
		delete(s.dbs[e.DB], e.Coll)
		c.DB, c.Name = e.ToDB, e.To
		s.put(c)
		return nil
	case CreateIndexes:
		ix, err := NewIndex(e.Full)
		if err != nil {
			return err
		}
		_, err = c.addIndex(ix)
		return err
	case DropIndexes:
		return c.dropIndexes(e.Name)
	case Insert:
		return c.insert(e.Full)
	default:
		return c.apply(e)
	}
}

// apply makes a recorded change of a document again.
func (c *Collection) apply(e *Entry) error {
	seq, old, ok := c.byID(e.ID)
	if !ok {
		return fmt.Errorf("change of a document of %s that is not there", c.NS())
	}
	switch e.Op {
	case Replace:
		return c.replace(seq, old, e.Full)
	case Update:
		if e.after == nil {
			return errors.New("update without its result")
		}
		return c.replace(seq, old, e.after)
	case Delete:
		return c.remove(seq, old)
	default:
		return fmt.Errorf("unknown change %d", e.Op)
	}
}

func parseEntry(doc bson.Raw) (*Entry, error) {
	d, err := value.Decode(doc, value.NeedPaths("ts", "at", "pos", "op", "txn"))
	if err != nil {
		return nil, err
	}
	get := func(key string) any { return bsonkit.Get(&d, key) }
	ts, ok1 := get("ts").(primitive.Timestamp)
	at, ok2 := get("at").(primitive.DateTime)
	op, ok3 := get("op").(int32)
	if !ok1 || !ok2 || !ok3 {
		return nil, errors.New("change without its time or kind")
	}
	e := &Entry{
		Time: Timestamp(ts), Wall: at.Time(), Op: Op(op), Position: int(number(doc, "pos")),
		DB: text(doc, "db"), Coll: text(doc, "c"), UUID: uuid(doc),
		ToDB: text(doc, "toDB"), To: text(doc, "to"), Name: text(doc, "name"),
		ID: value.Lookup(doc, "id"), Full: embedded(doc, "full"), after: embedded(doc, "after"),
		LSID: embedded(doc, "lsid"), TxnNumber: number(doc, "txn"),
	}
	e.Delta = parseDelta(embedded(doc, "delta"))
	return e, nil
}

func parseDelta(doc bson.Raw) query.Delta {
	var d query.Delta
	d.Updated = value.RowOf(value.Lookup(doc, "updatedFields").Document())
	for _, v := range value.Elements(value.Lookup(doc, "removedFields").Document()) {
		if s, err := value.DecodeValue(v); err == nil {
			name, _ := s.(string)
			d.Removed = append(d.Removed, name)
		}
	}
	for _, v := range value.Elements(value.Lookup(doc, "truncatedArrays").Document()) {
		t := bson.Raw(v.Data)
		d.Truncated = append(d.Truncated, query.Truncation{Field: text(t, "field"), Size: int32(number(t, "newSize"))})
	}
	return d
}

func text(doc bson.Raw, key string) string {
	v := value.Lookup(doc, key)
	if v.Type != bson.TypeString {
		return ""
	}
	d, _ := value.DecodeValue(v)
	return d.(string)
}

func number(doc bson.Raw, key string) int64 {
	d, err := value.DecodeValue(value.Lookup(doc, key))
	if err != nil {
		return 0
	}
	switch n := d.(type) {
	case int32:
		return int64(n)
	case int64:
		return n
	}
	return 0
}

func uuid(doc bson.Raw) UUID {
	var u UUID
	if v := value.Lookup(doc, "ui"); v.Type == bson.TypeBinary && len(v.Data) == 5+len(u) {
		copy(u[:], v.Data[5:])
	}
	return u
}

func embedded(doc bson.Raw, key string) bson.Raw {
	if v := value.Lookup(doc, key); v.Type == bson.TypeEmbeddedDocument {
		return bson.Raw(v.Data)
	}
	return nil
}
