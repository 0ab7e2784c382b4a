// Package value moves between BSON bytes and the Go values that lungo's kits compute on,
// and orders values as index keys. Documents are kept as bytes everywhere in localmongo;
// only the fields that a query, a projection or an update looks at are decoded, and only
// the fields that an update touched are encoded again. It owns no semantics of queries.
package value

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// MaxDepth is how deep documents may nest. A MongoDB server stops at 180 for stored
// documents and 200 for its parser.
const MaxDepth = 180

// Raw is one undecoded value: its BSON type and its bytes without the key.
type Raw struct {
	Type bson.Type
	Data []byte
}

// Absent says whether there is no value at all, which is not the same as null.
func (v Raw) Absent() bool { return v.Type == 0 }

// Equal says whether two values have the same type and bytes, MongoDB's measure of
// whether an update changed anything.
func (v Raw) Equal(o Raw) bool { return v.Type == o.Type && bytes.Equal(v.Data, o.Data) }

// Document is the value as an embedded document or array, nil for another type.
func (v Raw) Document() bson.Raw {
	if v.Type == bson.TypeEmbeddedDocument || v.Type == bson.TypeArray {
		return bson.Raw(v.Data)
	}
	return nil
}

// element cuts the first element off the inside of a document: after the length, before
// the final zero.
func element(src []byte) (key []byte, v Raw, rest []byte, err error) {
	typ := bson.Type(src[0])
	end := bytes.IndexByte(src[1:], 0)
	if end < 0 {
		return nil, Raw{}, nil, fmt.Errorf("element of type %#x has no name", byte(typ))
	}
	key, src = src[1:1+end], src[end+2:]
	n, err := size(typ, src)
	if err != nil {
		return nil, Raw{}, nil, fmt.Errorf("field %q: %w", key, err)
	}
	return key, Raw{Type: typ, Data: src[:n:n]}, src[n:], nil
}

// size is the number of bytes that a value of a type takes at the start of src.
func size(typ bson.Type, src []byte) (int, error) {
	n, err := declaredSize(typ, src)
	if err != nil {
		return 0, err
	}
	if n < 0 || n > len(src) {
		return 0, fmt.Errorf("type %#x needs %d bytes, %d are left", byte(typ), n, len(src))
	}
	return n, nil
}

func declaredSize(typ bson.Type, src []byte) (int, error) {
	switch typ {
	case bson.TypeNull, bson.TypeUndefined, bson.TypeMinKey, bson.TypeMaxKey:
		return 0, nil
	case bson.TypeBoolean:
		return 1, nil
	case bson.TypeInt32:
		return 4, nil
	case bson.TypeDouble, bson.TypeInt64, bson.TypeDateTime, bson.TypeTimestamp:
		return 8, nil
	case bson.TypeObjectID:
		return 12, nil
	case bson.TypeDecimal128:
		return 16, nil
	case bson.TypeString, bson.TypeJavaScript, bson.TypeSymbol:
		return prefixed(src, 4, 1)
	case bson.TypeEmbeddedDocument, bson.TypeArray:
		return prefixed(src, 0, 5)
	case bson.TypeCodeWithScope:
		return prefixed(src, 0, 14)
	case bson.TypeBinary:
		return prefixed(src, 5, 0)
	case bson.TypeDBPointer:
		n, err := prefixed(src, 4, 1)
		return n + 12, err
	case bson.TypeRegex:
		first := bytes.IndexByte(src, 0)
		if first < 0 {
			return 0, fmt.Errorf("regular expression without an end")
		}
		second := bytes.IndexByte(src[first+1:], 0)
		if second < 0 {
			return 0, fmt.Errorf("regular expression without options")
		}
		return first + second + 2, nil
	default:
		return 0, fmt.Errorf("unknown BSON type %#x", byte(typ))
	}
}

// prefixed reads a 32-bit length, at least least, and adds what the length leaves out.
func prefixed(src []byte, extra, least int) (int, error) {
	if len(src) < 4 {
		return 0, fmt.Errorf("length cut short")
	}
	n := int(int32(binary.LittleEndian.Uint32(src)))
	if n < least {
		return 0, fmt.Errorf("length %d is below %d", n, least)
	}
	return n + extra, nil
}

// inside is the element list of a document.
func inside(doc []byte) ([]byte, error) {
	if len(doc) < 5 || int(int32(binary.LittleEndian.Uint32(doc))) != len(doc) || doc[len(doc)-1] != 0 {
		return nil, fmt.Errorf("document length does not fit its %d bytes", len(doc))
	}
	return doc[4 : len(doc)-1], nil
}

// Elements iterates over the fields of a document in order. It stops at the first
// malformed one; documents are validated when they arrive, so there is none.
func Elements(doc bson.Raw) iter.Seq2[[]byte, Raw] {
	return func(yield func([]byte, Raw) bool) {
		rest, err := inside(doc)
		for err == nil && len(rest) > 0 {
			var key []byte
			var v Raw
			if key, v, rest, err = element(rest); err != nil || !yield(key, v) {
				return
			}
		}
	}
}

// Lookup returns the value of a top-level field, or an absent one.
func Lookup(doc bson.Raw, name string) Raw {
	for key, v := range Elements(doc) {
		if string(key) == name {
			return v
		}
	}
	return Raw{}
}

// Validate checks that a document is well-formed BSON no deeper than MaxDepth. It
// allocates nothing unless it fails.
func Validate(doc bson.Raw) error { return validate(doc, MaxDepth) }

func validate(doc []byte, depth int) error {
	if depth == 0 {
		return fmt.Errorf("nesting is deeper than %d levels", MaxDepth)
	}
	rest, err := inside(doc)
	if err != nil {
		return err
	}
	for len(rest) > 0 {
		var key []byte
		var v Raw
		if key, v, rest, err = element(rest); err != nil {
			return err
		}
		if err := validateValue(v, depth-1); err != nil {
			return fmt.Errorf("field %q: %w", key, err)
		}
	}
	return nil
}

func validateValue(v Raw, depth int) error {
	switch v.Type {
	case bson.TypeEmbeddedDocument, bson.TypeArray:
		return validate(v.Data, depth)
	case bson.TypeString, bson.TypeJavaScript, bson.TypeSymbol:
		if v.Data[len(v.Data)-1] != 0 {
			return fmt.Errorf("string without its final zero")
		}
	case bson.TypeDBPointer:
		if v.Data[len(v.Data)-13] != 0 {
			return fmt.Errorf("string without its final zero")
		}
	case bson.TypeBoolean:
		if v.Data[0] > 1 {
			return fmt.Errorf("boolean of value %d", v.Data[0])
		}
	case bson.TypeCodeWithScope:
		n, err := size(bson.TypeString, v.Data[4:])
		if err != nil {
			return fmt.Errorf("code: %w", err)
		}
		if v.Data[4+n-1] != 0 {
			return fmt.Errorf("code without its final zero")
		}
		return validate(v.Data[4+n:], depth)
	case bson.TypeBinary:
		if v.Data[4] == 0x02 {
			return validateOldBinary(v.Data)
		}
	}
	return nil
}

// validateOldBinary checks the inner length that subtype 2 repeats.
func validateOldBinary(data []byte) error {
	outer := int(binary.LittleEndian.Uint32(data))
	if outer < 4 || int(int32(binary.LittleEndian.Uint32(data[5:]))) != outer-4 {
		return fmt.Errorf("binary of subtype 2 with a wrong inner length")
	}
	return nil
}
