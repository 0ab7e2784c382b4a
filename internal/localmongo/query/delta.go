package query

import (
	"slices"
	"strconv"
	"strings"

	"github.com/256dpi/lungo/bsonkit"
	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// viable checks a modifier's path against a document before the kit does, so that the
// error has the server's code.
func (u *Update) viable(doc bsonkit.Doc, op updateOp, old bson.Raw) error {
	if strings.Contains(op.path, "$") {
		return nil // array filters; the kit checks what they resolve to
	}
	if op.op == "$unset" {
		return nil
	}
	if err := viablePath(*doc, op.path, old); err != nil {
		return err
	}
	have := bsonkit.Get(doc, op.path)
	_, isArray := have.(kit.A)
	switch op.op {
	case "$push":
		if have != missing && !isArray {
			return mongoerr.New(mongoerr.BadValue, "The field '%s' must be an array but is of type %s in document {_id: %s}", op.path, typeName(have), idText(old))
		}
	case "$addToSet", "$pull", "$pullAll", "$pop":
		if have != missing && !isArray {
			return mongoerr.New(mongoerr.BadValue, "Cannot apply %s to a non-array field. Field named '%s' has non-array type %s", op.op, op.path, typeName(have))
		}
	case "$inc", "$mul":
		if _, isNum := bsonkit.Add(int32(0), have).(bsonkit.MissingType); have != missing && isNum {
			return mongoerr.New(mongoerr.TypeMismatch, "Cannot apply %s to a value of non-numeric type. {_id: %s} has the field '%s' of non-numeric type %s", op.op, idText(old), op.path, typeName(have))
		}
	}
	return nil
}

// viablePath refuses a path through a value that cannot hold the next segment.
func viablePath(v any, path string, old bson.Raw) error {
	head, tail, more := strings.Cut(path, ".")
	switch v := v.(type) {
	case kit.D:
		for _, e := range v {
			if e.Key != head {
				continue
			}
			if !more {
				return nil
			}
			switch e.Value.(type) {
			case kit.D, kit.A:
				return viablePath(e.Value, tail, old)
			}
			return mongoerr.New(mongoerr.PathNotViable, "Cannot create field '%s' in element {%s: %s}", firstSegment(tail), head, typeName(e.Value))
		}
	case kit.A:
		i, err := strconv.Atoi(head)
		if err != nil || i < 0 {
			return mongoerr.New(mongoerr.PathNotViable, "Cannot create field '%s' in an array of {_id: %s}", head, idText(old))
		}
		if i > len(v)+maxBackfill {
			return mongoerr.New(mongoerr.BadValue, "can't backfill more than %d elements", maxBackfill)
		}
		if i < len(v) && more {
			switch v[i].(type) {
			case kit.D, kit.A:
				return viablePath(v[i], tail, old)
			}
			return mongoerr.New(mongoerr.PathNotViable, "Cannot create field '%s' in element {%s: %s}", firstSegment(tail), head, typeName(v[i]))
		}
	}
	return nil
}

func firstSegment(path string) string {
	head, _, _ := strings.Cut(path, ".")
	return head
}

func typeName(v any) string {
	if typ, ok := value.Opaque(v); ok {
		return typ.String()
	}
	_, typ := bsonkit.Inspect(v)
	return bsonkit.Type2Alias[typ]
}

// idText prints a document's _id for a message.
func idText(doc bson.Raw) string { return Text(value.Lookup(doc, "_id")) }

// Text prints a value the way server messages do.
func Text(v value.Raw) string {
	switch {
	case v.Absent():
		return "null"
	case v.Type == bson.TypeObjectID:
		return "ObjectId('" + bson.ObjectID(v.Data).Hex() + "')"
	case v.Type == bson.TypeNull:
		return "null"
	}
	d, err := value.DecodeValue(v)
	if err != nil {
		return "?"
	}
	switch d := d.(type) {
	case string:
		return strconv.Quote(d)
	case int32:
		return strconv.FormatInt(int64(d), 10)
	case int64:
		return strconv.FormatInt(d, 10)
	}
	return bson.RawValue{Type: v.Type, Value: v.Data}.String()
}

// describe turns the touched paths into what a change event says. A path whose value is
// the same as before is left out; an element of an array that was not there before is
// reported as the whole array.
func describe(paths []string, before, after bsonkit.Doc) (Delta, error) {
	var d Delta
	for _, path := range paths {
		if root := createdArray(path, before, after); root != "" {
			path = root
		}
		if d.has(path) {
			continue
		}
		was, is := bsonkit.Get(before, path), bsonkit.Get(after, path)
		if is == missing {
			if was != missing {
				d.Removed = append(d.Removed, path)
			}
			continue
		}
		now, err := value.EncodeValue(is)
		if err != nil {
			return d, mongoerr.New(mongoerr.BadValue, "%s", err)
		}
		if was != missing {
			if then, err := value.EncodeValue(was); err == nil && then.Equal(now) {
				continue
			}
		}
		d.Updated = append(d.Updated, value.Field{Key: path, Val: now})
	}
	return d, nil
}

func (d *Delta) has(path string) bool {
	return slices.ContainsFunc(d.Updated, func(f value.Field) bool { return f.Key == path })
}

// createdArray returns the path of an array around path that the update created, or "".
func createdArray(path string, before, after bsonkit.Doc) string {
	for i := range len(path) {
		if path[i] != '.' {
			continue
		}
		if _, isArray := bsonkit.Get(after, path[:i]).(kit.A); isArray && bsonkit.Get(before, path[:i]) == missing {
			return path[:i]
		}
	}
	return ""
}

// diff compares two documents, for updates by pipeline.
func diff(old, next bson.Raw) Delta {
	var d Delta
	d.documents("", old, next)
	return d
}

func (d *Delta) documents(prefix string, old, next bson.Raw) {
	for key := range value.Elements(old) {
		if value.Lookup(next, string(key)).Absent() {
			d.Removed = append(d.Removed, prefix+string(key))
		}
	}
	for key, now := range value.Elements(next) {
		d.values(prefix+string(key), value.Lookup(old, string(key)), now)
	}
}

func (d *Delta) values(path string, was, now value.Raw) {
	switch {
	case was.Equal(now):
	case was.Type == bson.TypeEmbeddedDocument && now.Type == bson.TypeEmbeddedDocument:
		d.documents(path+".", bson.Raw(was.Data), bson.Raw(now.Data))
	case was.Type == bson.TypeArray && now.Type == bson.TypeArray:
		d.arrays(path, value.RowOf(bson.Raw(was.Data)), value.RowOf(bson.Raw(now.Data)))
	default:
		d.Updated = append(d.Updated, value.Field{Key: path, Val: now})
	}
}

func (d *Delta) arrays(path string, was, now value.Row) {
	for i, f := range now {
		if i >= len(was) {
			d.Updated = append(d.Updated, value.Field{Key: path + "." + f.Key, Val: f.Val})
			continue
		}
		d.values(path+"."+f.Key, was[i].Val, f.Val)
	}
	if len(now) < len(was) {
		d.Truncated = append(d.Truncated, Truncation{Field: path, Size: int32(len(now))})
	}
}
