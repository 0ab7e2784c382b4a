package localmongo

import (
	"math"
	"time"

	"go.mongodb.org/mongo-driver/bson/primitive"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// args reads the fields of a command. It remembers what was read, so that a field that
// nobody asked for is refused by name instead of being ignored.
type args struct {
	where  string
	fields value.Row
	seqs   map[string][]bson.Raw
	used   map[string]bool
	err    error
}

// generic are the fields that any command may carry and that change nothing here.
var generic = []string{
	"$db", "lsid", "$clusterTime", "$readPreference", "readConcern", "writeConcern", "maxTimeMS",
	"comment", "apiVersion", "apiStrict", "apiDeprecationErrors", "txnNumber", "autocommit",
	"startTransaction", "$audit", "$client", "allowDiskUse", "bypassDocumentValidation",
	"noCursorTimeout", "allowPartialResults",
}

func newArgs(where string, doc bson.Raw, seqs map[string][]bson.Raw) *args {
	a := &args{where: where, fields: value.RowOf(doc), seqs: seqs, used: map[string]bool{}}
	for _, g := range generic {
		a.used[g] = true
	}
	return a
}

func (a *args) get(name string) value.Raw {
	a.used[name] = true
	return a.fields.Get(name)
}

func (a *args) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

func (a *args) wrongType(name string, v value.Raw, want string) {
	a.fail(mongoerr.New(mongoerr.TypeMismatch, "BSON field '%s.%s' is the wrong type '%s', expected type '%s'", a.where, name, typeAlias(v), want))
}

func typeAlias(v value.Raw) string {
	d, err := value.DecodeValue(v)
	if err != nil {
		return v.Type.String()
	}
	return aliasOf(d)
}

// doc reads a document; nil when the field is missing or null.
func (a *args) doc(name string) bson.Raw {
	v := a.get(name)
	switch v.Type {
	case 0, bson.TypeNull:
		return nil
	case bson.TypeEmbeddedDocument:
		return bson.Raw(v.Data)
	}
	a.wrongType(name, v, "object")
	return nil
}

// docs reads an array of documents, from the body or from a document sequence.
func (a *args) docs(name string) []bson.Raw {
	v := a.get(name)
	if seq, ok := a.seqs[name]; ok {
		return seq
	}
	if v.Absent() || v.Type == bson.TypeNull {
		return nil
	}
	if v.Type != bson.TypeArray {
		a.wrongType(name, v, "array")
		return nil
	}
	out := []bson.Raw{}
	for _, item := range value.Elements(v.Document()) {
		if item.Type != bson.TypeEmbeddedDocument {
			a.wrongType(name, item, "object")
			return nil
		}
		out = append(out, bson.Raw(item.Data))
	}
	return out
}

func (a *args) str(name string) string {
	v := a.get(name)
	switch v.Type {
	case 0, bson.TypeNull:
		return ""
	case bson.TypeString:
		d, _ := value.DecodeValue(v)
		return d.(string)
	}
	a.wrongType(name, v, "string")
	return ""
}

// flag reads a bool that may also be a number.
func (a *args) flag(name string, def bool) bool {
	v := a.get(name)
	switch v.Type {
	case 0, bson.TypeNull:
		return def
	case bson.TypeBoolean, bson.TypeInt32, bson.TypeInt64, bson.TypeDouble:
		d, _ := value.DecodeValue(v)
		switch n := d.(type) {
		case bool:
			return n
		case int32:
			return n != 0
		case int64:
			return n != 0
		case float64:
			return n != 0
		}
	}
	a.wrongType(name, v, "bool")
	return def
}

// number reads an integer of any numeric type; ok is false when the field is missing.
func (a *args) number(name string) (n int64, ok bool) {
	v := a.get(name)
	if v.Absent() || v.Type == bson.TypeNull {
		return 0, false
	}
	d, err := value.DecodeValue(v)
	if err == nil {
		switch n := d.(type) {
		case int32:
			return int64(n), true
		case int64:
			return n, true
		case float64:
			if n == math.Trunc(n) && math.Abs(n) < 1<<62 {
				return int64(n), true
			}
		}
	}
	a.wrongType(name, v, "long")
	return 0, false
}

// size reads a number that must not be negative, with a default.
func (a *args) size(name string, def int64) int64 {
	n, ok := a.number(name)
	if !ok {
		return def
	}
	if n < 0 {
		a.fail(mongoerr.New(mongoerr.BadValue, "BSON field '%s' value must be >= 0, actual value '%d'", name, n))
	}
	return n
}

func (a *args) timestamp(name string) (primitive.Timestamp, bool) {
	v := a.get(name)
	if v.Absent() || v.Type == bson.TypeNull {
		return primitive.Timestamp{}, false
	}
	d, _ := value.DecodeValue(v)
	t, ok := d.(primitive.Timestamp)
	if !ok {
		a.wrongType(name, v, "timestamp")
	}
	return t, ok
}

// millis reads a duration in milliseconds.
func (a *args) millis(name string, def time.Duration) time.Duration {
	n, ok := a.number(name)
	if !ok {
		return def
	}
	return time.Duration(n) * time.Millisecond
}

// ignore takes fields that are known and change nothing.
func (a *args) ignore(names ...string) {
	for _, n := range names {
		a.used[n] = true
	}
}

// simpleCollation refuses any collation but the one by bytes.
func (a *args) simpleCollation() {
	c := a.doc("collation")
	if c == nil {
		return
	}
	if locale := newArgs("collation", c, nil).str("locale"); locale != "simple" {
		a.fail(mongoerr.New(mongoerr.BadValue, "collation with locale '%s' is not supported", locale))
	}
}

// done returns the first error, or one for a field that was not asked for.
func (a *args) done() error {
	if a.err != nil {
		return a.err
	}
	for _, f := range a.fields {
		if !a.used[f.Key] {
			return mongoerr.New(mongoerr.UnknownField, "BSON field '%s.%s' is an unknown field.", a.where, f.Key)
		}
	}
	for name := range a.seqs {
		if !a.used[name] {
			return mongoerr.New(mongoerr.UnknownField, "BSON field '%s.%s' is an unknown field.", a.where, name)
		}
	}
	return nil
}
