package store

import (
	"sync"

	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// Scope is what a change stream watches: one collection, one database, or everything.
type Scope struct{ DB, Coll string }

// covers says whether an entry lies in the scope.
func (s Scope) covers(e *Entry) bool {
	switch {
	case s.DB == "":
		return e.DB != "admin" && e.DB != "config"
	case s.Coll == "":
		return e.DB == s.DB || e.Op == Rename && e.ToDB == s.DB
	default:
		return e.DB == s.DB && e.Coll == s.Coll || e.Op == Rename && e.ToDB == s.DB && e.To == s.Coll
	}
}

// Event is one event of a change stream.
type Event struct {
	Token Token
	Row   value.Row
	// Invalidates says that the stream ends with this event.
	Invalidates bool
	// LookUp says that fullDocument may be looked up for this event.
	LookUp bool
	Entry  *Entry
}

var opNames = map[Op]string{
	Insert: "insert", Replace: "replace", Update: "update", Delete: "delete",
	Drop: "drop", Rename: "rename", DropDatabase: "dropDatabase",
}

// Events are the events that an entry is within a scope, in order: none, one, or one and
// an invalidate.
func (s Scope) Events(e *Entry) []Event {
	name, shown := opNames[e.Op]
	if !shown || !s.covers(e) {
		return nil
	}
	if e.Op == DropDatabase && s.Coll != "" {
		return nil // the drop of the collection has ended the stream
	}
	token := eventToken(e, false)
	out := []Event{{Token: token, Row: e.eventRow(token, name), LookUp: e.Op == Update, Entry: e}}
	if s.ends(e) {
		t := eventToken(e, true)
		row := value.Row{{Key: "_id", Val: raw(t.Doc())}, {Key: "operationType", Val: raw("invalidate")}}
		out = append(out, Event{Token: t, Row: append(row, e.times()...), Invalidates: true, Entry: e})
	}
	return out
}

// ends says whether the entry takes away what the scope watches.
func (s Scope) ends(e *Entry) bool {
	switch e.Op {
	case Drop, Rename:
		return s.Coll != ""
	case DropDatabase:
		return s.Coll == "" && s.DB != ""
	default:
		return false
	}
}

// raw encodes a value that cannot fail to encode.
func raw(v any) value.Raw {
	r, err := value.EncodeValue(v)
	if err != nil {
		panic("localmongo: " + err.Error())
	}
	return r
}

func (e *Entry) times() value.Row {
	return value.Row{
		{Key: "clusterTime", Val: raw(primitive.Timestamp(e.Time))},
		{Key: "wallTime", Val: raw(primitive.NewDateTimeFromTime(e.Wall))},
	}
}

// prepare makes the event's row compute itself once, for all streams that show it.
func (e *Entry) prepare() {
	e.row = sync.OnceValue(func() value.Row {
		return e.makeRow(eventToken(e, false), opNames[e.Op])
	})
}

func (e *Entry) eventRow(token Token, name string) value.Row {
	if e.row != nil {
		return e.row()
	}
	return e.makeRow(token, name)
}

// makeRow puts the event's fields in the order of a server.
func (e *Entry) makeRow(token Token, name string) value.Row {
	row := make(value.Row, 0, 12)
	add := func(key string, v any) { row = append(row, value.Field{Key: key, Val: raw(v)}) }
	if e.LSID != nil {
		add("txnNumber", e.TxnNumber)
		add("lsid", e.LSID)
	}
	if e.Op == Rename {
		add("to", namespace(e.ToDB, e.To))
	}
	add("_id", token.Doc())
	add("operationType", name)
	row = append(row, e.times()...)
	if e.Op == Insert || e.Op == Replace {
		row = append(row, value.Field{Key: "fullDocument", Val: value.Raw{Type: bson.TypeEmbeddedDocument, Data: e.Full}})
	}
	if e.Op == DropDatabase {
		add("ns", kit.D{{Key: "db", Value: e.DB}})
	} else {
		add("ns", namespace(e.DB, e.Coll))
	}
	if !e.ID.Absent() {
		add("documentKey", kit.D{{Key: "_id", Value: e.ID}})
	}
	if e.Op == Update {
		add("updateDescription", e.description())
	}
	return row
}

func namespace(db, coll string) kit.D {
	return kit.D{{Key: "db", Value: db}, {Key: "coll", Value: coll}}
}

func (e *Entry) description() kit.D {
	updated := kit.D{}
	for _, f := range e.Delta.Updated {
		updated = append(updated, kit.E{Key: f.Key, Value: f.Val})
	}
	removed := kit.A{}
	for _, r := range e.Delta.Removed {
		removed = append(removed, r)
	}
	truncated := kit.A{}
	for _, t := range e.Delta.Truncated {
		truncated = append(truncated, kit.D{{Key: "field", Value: t.Field}, {Key: "newSize", Value: t.Size}})
	}
	return kit.D{
		{Key: "updatedFields", Value: updated},
		{Key: "removedFields", Value: removed},
		{Key: "truncatedArrays", Value: truncated},
	}
}
