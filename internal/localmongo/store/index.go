package store

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"

	"github.com/256dpi/lungo/bsonkit"
	"github.com/256dpi/lungo/mongokit"
	"github.com/tidwall/btree"
	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/query"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// Index is one index of a collection: keys made of the indexed fields, in order, each
// with the record it belongs to. A key of an index that is not unique ends in the record
// number, so that equal keys can stand side by side.
type Index struct {
	Name string
	// Spec is the index as listIndexes shows it.
	Spec bson.Raw

	// expires is how old the time in the indexed field may become, in seconds; nil
	// without a limit. It is kept and shown; nothing is removed by it.
	expires *int32

	key      bson.Raw
	columns  []bsonkit.Column
	unique   bool
	sparse   bool
	partial  *query.Filter
	need     *value.Need
	tree     *btree.Map[string, uint64]
	multikey bool
}

// indexOptions are the fields of an index specification that are understood. The value
// says whether the field may also be present with any value, without effect.
var indexOptions = map[string]bool{
	"key": true, "name": true, "unique": true, "sparse": true, "partialFilterExpression": true,
	"expireAfterSeconds": true, "v": true, "background": true, "ns": true,
}

// NewIndex checks an index specification as createIndexes takes it.
func NewIndex(spec bson.Raw) (*Index, error) {
	ix := &Index{tree: btree.NewMap[string, uint64](0), need: value.NeedPaths()}
	for k, v := range value.Elements(spec) {
		if !indexOptions[string(k)] {
			return nil, mongoerr.New(mongoerr.InvalidOptions, "index option '%s' is not supported", k)
		}
		if err := ix.option(string(k), v); err != nil {
			return nil, err
		}
	}
	if ix.key == nil {
		return nil, mongoerr.New(mongoerr.FailedToParse, "The 'key' field is a required property of an index specification")
	}
	if ix.Name == "" {
		return nil, mongoerr.New(mongoerr.FailedToParse, "The 'name' field is a required property of an index specification")
	}
	if ix.Name == "_id_" {
		ix.unique = true
	}
	if ix.expires != nil && (len(ix.columns) > 1 || ix.columns[0].Path == "_id") {
		return nil, mongoerr.New(mongoerr.CannotCreateIndex, "TTL indexes are single-field indexes on a field that is not _id, %s is not", ix.key)
	}
	ix.Spec = ix.describe()
	return ix, nil
}

func (ix *Index) option(name string, v value.Raw) error {
	switch name {
	case "key":
		return ix.setKey(v)
	case "name":
		if s, err := value.DecodeValue(v); err == nil {
			ix.Name, _ = s.(string)
		}
	case "unique":
		ix.unique = truth(v)
	case "sparse":
		ix.sparse = truth(v)
	case "partialFilterExpression":
		doc := v.Document()
		if v.Type != bson.TypeEmbeddedDocument {
			return mongoerr.New(mongoerr.TypeMismatch, "The field 'partialFilterExpression' must be an object")
		}
		f, err := query.CompileFilter(doc)
		ix.partial = f
		return err
	case "expireAfterSeconds":
		return ix.setExpires(v)
	}
	return nil
}

func (ix *Index) setExpires(v value.Raw) error {
	n, ok := (bson.RawValue{Type: v.Type, Value: v.Data}).AsInt64OK()
	if !ok {
		return mongoerr.New(mongoerr.TypeMismatch, "The field 'expireAfterSeconds' must be a number")
	}
	if n < 0 || n > math.MaxInt32 {
		return mongoerr.New(mongoerr.CannotCreateIndex, "TTL index 'expireAfterSeconds' option must be within an acceptable range, %d is not", n)
	}
	seconds := int32(n)
	ix.expires = &seconds
	return nil
}

func (ix *Index) setKey(v value.Raw) error {
	if v.Type != bson.TypeEmbeddedDocument {
		return mongoerr.New(mongoerr.TypeMismatch, "The field 'key' must be an object")
	}
	ix.key = append(bson.Raw(nil), v.Data...)
	doc, err := value.Decode(ix.key, nil)
	if err != nil {
		return mongoerr.New(mongoerr.InvalidBSON, "%s", err)
	}
	if ix.columns, err = mongokit.Columns(&doc); err != nil || len(ix.columns) == 0 {
		return mongoerr.New(mongoerr.CannotCreateIndex, "index key %s is not supported: only ascending (1) and descending (-1) fields are", ix.key)
	}
	for _, c := range ix.columns {
		if c.Path == "" || strings.HasPrefix(c.Path, "$") || strings.Contains(c.Path, "$**") {
			return mongoerr.New(mongoerr.CannotCreateIndex, "index on %q is not supported", c.Path)
		}
		ix.need.Add(c.Path)
	}
	return nil
}

func (ix *Index) describe() bson.Raw {
	d := kit.D{{Key: "v", Value: int32(2)}}
	if ix.unique && ix.Name != "_id_" {
		d = append(d, kit.E{Key: "unique", Value: true})
	}
	d = append(d, kit.E{Key: "key", Value: ix.key}, kit.E{Key: "name", Value: ix.Name})
	if ix.sparse {
		d = append(d, kit.E{Key: "sparse", Value: true})
	}
	if ix.partial != nil {
		d = append(d, kit.E{Key: "partialFilterExpression", Value: ix.partial.Doc()})
	}
	if ix.expires != nil {
		d = append(d, kit.E{Key: "expireAfterSeconds", Value: *ix.expires})
	}
	raw, err := value.Encode(d)
	if err != nil {
		panic("localmongo: index specification cannot be encoded: " + err.Error())
	}
	return raw
}

// truth reads a flag that clients send as a bool or a number.
func truth(v value.Raw) bool {
	switch v.Type {
	case bson.TypeBoolean:
		return v.Data[0] == 1
	case bson.TypeInt32, bson.TypeInt64, bson.TypeDouble:
		d, _ := value.DecodeValue(v)
		return bsonkit.Compare(d, int32(0)) != 0
	}
	return false
}

// keys lists the index keys of a document, without record numbers; none when the index
// leaves the document out.
func (ix *Index) keys(doc bson.Raw) ([]string, error) {
	if ix.Name == "_id_" {
		id, err := value.DecodeValue(value.Lookup(doc, "_id"))
		if err != nil {
			return nil, mongoerr.New(mongoerr.InvalidBSON, "%s", err)
		}
		return []string{string(value.AppendKey(nil, id, false))}, nil
	}
	if ix.partial != nil {
		if ok, err := ix.partial.Match(doc); err != nil || !ok {
			return nil, err
		}
	}
	d, err := value.Decode(doc, ix.need)
	if err != nil {
		return nil, mongoerr.New(mongoerr.InvalidBSON, "%s", err)
	}
	return ix.columnKeys(d)
}

func (ix *Index) columnKeys(d kit.D) ([]string, error) {
	prefixes := [][]byte{nil}
	present, arrays := false, 0
	for _, c := range ix.columns {
		v, _ := bsonkit.All(&d, c.Path, true, true)
		present = present || v != bsonkit.Missing
		values := []any{v}
		if list, ok := v.(kit.A); ok && len(list) > 0 {
			values = list
			if arrays++; arrays > 1 {
				return nil, mongoerr.New(171, "cannot index parallel arrays [%s]", ix.Name)
			}
		}
		next := make([][]byte, 0, len(prefixes)*len(values))
		for _, p := range prefixes {
			for _, v := range values {
				next = append(next, value.AppendKey(p[:len(p):len(p)], v, c.Reverse))
			}
		}
		prefixes = next
	}
	if ix.sparse && !present {
		return nil, nil
	}
	return distinct(prefixes), nil
}

func distinct(keys [][]byte) []string {
	out := make([]string, 0, len(keys))
	seen := make(map[string]bool, len(keys))
	for _, k := range keys {
		if !seen[string(k)] {
			seen[string(k)] = true
			out = append(out, string(k))
		}
	}
	return out
}

// entry is the key under which a record stands in the tree.
func (ix *Index) entry(key string, seq uint64) string {
	if ix.unique {
		return key
	}
	return string(binary.BigEndian.AppendUint64([]byte(key), seq))
}

// check says whether the keys of a record would break uniqueness.
func (ix *Index) check(keys []string, seq uint64) (string, bool) {
	if !ix.unique {
		return "", true
	}
	for _, k := range keys {
		if other, ok := ix.tree.Get(k); ok && other != seq {
			return k, false
		}
	}
	return "", true
}

func (ix *Index) add(keys []string, seq uint64) {
	ix.multikey = ix.multikey || len(keys) > 1
	for _, k := range keys {
		ix.tree.Set(ix.entry(k, seq), seq)
	}
}

func (ix *Index) remove(keys []string, seq uint64) {
	for _, k := range keys {
		ix.tree.Delete(ix.entry(k, seq))
	}
}

// touched says whether a change of some fields can change the keys. A partial filter may
// look at any field, so such an index is always touched.
func (ix *Index) touched(changed func(root string) bool) bool {
	if ix.partial != nil {
		return true
	}
	for _, c := range ix.columns {
		root, _, _ := strings.Cut(c.Path, ".")
		if changed(root) {
			return true
		}
	}
	return false
}

// sameButExpiry says whether two indexes differ in nothing but their expireAfterSeconds.
func (ix *Index) sameButExpiry(other *Index) bool {
	plain := *ix
	plain.expires = other.expires
	return bytes.Equal(plain.describe(), other.Spec)
}

func (ix *Index) clone() *Index {
	c := *ix
	c.tree = ix.tree.Copy()
	return &c
}

// duplicate is the error of a document that breaks uniqueness.
func (ix *Index) duplicate(ns string, doc bson.Raw) error {
	pattern, val := kit.D{}, kit.D{}
	text := ""
	d, err := value.Decode(doc, ix.need)
	if err != nil {
		return mongoerr.New(mongoerr.InvalidBSON, "%s", err)
	}
	for i, c := range ix.columns {
		v := bsonkit.Get(&d, c.Path)
		if v == bsonkit.Missing {
			v = nil
		}
		raw, err := value.EncodeValue(v)
		if err != nil {
			return err
		}
		if i > 0 {
			text += ", "
		}
		text += c.Path + ": " + query.Text(raw)
		val = append(val, kit.E{Key: c.Path, Value: raw})
		pattern = append(pattern, kit.E{Key: c.Path, Value: direction(c)})
	}
	e := mongoerr.New(mongoerr.DuplicateKey, "E11000 duplicate key error collection: %s index: %s dup key: { %s }", ns, ix.Name, text)
	if e.KeyPattern, err = value.Encode(pattern); err != nil {
		return err
	}
	e.KeyValue, err = value.Encode(val)
	if err != nil {
		return err
	}
	return e
}

func direction(c bsonkit.Column) int32 {
	if c.Reverse {
		return -1
	}
	return 1
}
