package value

import (
	"iter"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Field is one field of a Row.
type Field struct {
	Key string
	Val Raw
}

// Row is a document in pieces: its top-level fields with undecoded values. A pipeline
// works on rows, so that an event of megabytes is matched and projected without being
// put together first.
type Row []Field

// RowOf cuts a document into its fields; they share its bytes.
func RowOf(doc bson.Raw) Row {
	var r Row
	for key, v := range Elements(doc) {
		r = append(r, Field{Key: string(key), Val: v})
	}
	return r
}

// Fields iterates over the row as Elements does over a document.
func (r Row) Fields() iter.Seq2[[]byte, Raw] {
	return func(yield func([]byte, Raw) bool) {
		for _, f := range r {
			if !yield([]byte(f.Key), f.Val) {
				return
			}
		}
	}
}

// Get returns the value of a field, or an absent one.
func (r Row) Get(key string) Raw {
	for _, f := range r {
		if f.Key == key {
			return f.Val
		}
	}
	return Raw{}
}

// Set replaces the value of a field, or appends the field. It returns a new row when it
// replaces, so that a row that others see is never changed.
func (r Row) Set(key string, v Raw) Row {
	for i, f := range r {
		if f.Key == key {
			next := append(Row(nil), r...)
			next[i].Val = v
			return next
		}
	}
	return append(r[:len(r):len(r)], Field{Key: key, Val: v})
}

// Len is the size in bytes of the document that the row makes.
func (r Row) Len() int {
	n := 5
	for _, f := range r {
		n += 2 + len(f.Key) + len(f.Val.Data)
	}
	return n
}

// Append puts the document together at the end of dst.
func (r Row) Append(dst []byte) []byte {
	start, dst := Open(dst)
	for _, f := range r {
		dst = AppendRaw(dst, f.Key, f.Val)
	}
	return Close(dst, start)
}

// Document puts the row together.
func (r Row) Document() bson.Raw { return r.Append(make([]byte, 0, r.Len())) }
