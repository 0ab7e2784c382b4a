package value

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"strconv"

	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// opaqueSubtype and opaqueMagic mark a binary that stands for a value of a type the kits
// do not know (min and max key, code, symbol, undefined, database pointer). It keeps such
// values whole through an update; queries that name one are refused before.
const (
	opaqueSubtype = 0x7f
	opaqueMagic   = "localmongo\x00opaque\x00"
)

// Need says which fields of a document are to be decoded: all of them when nil or when
// it has no children.
type Need struct {
	kids map[string]*Need
	all  bool
}

// NeedPaths returns the need for some dotted paths. An empty list needs nothing.
func NeedPaths(paths ...string) *Need {
	n := &Need{kids: map[string]*Need{}}
	for _, p := range paths {
		n.Add(p)
	}
	return n
}

// Add widens the need by a dotted path. A path that is needed whole stays whole.
func (n *Need) Add(path string) {
	for {
		head, tail, more := cutDot(path)
		kid, known := n.kids[head]
		if known && kid == nil {
			return
		}
		if !more {
			n.kids[head] = nil
			return
		}
		if !known {
			kid = &Need{kids: map[string]*Need{}}
			n.kids[head] = kid
		}
		n, path = kid, tail
	}
}

// AddAll widens the need to the whole document.
func (n *Need) AddAll() { n.all = true }

// Has reports whether a top-level field is needed.
func (n *Need) Has(root string) bool {
	if n == nil || n.all {
		return true
	}
	_, ok := n.kids[root]
	return ok
}

// byIndex says whether some child is an array index, so that positions matter.
func (n *Need) byIndex() bool {
	for k := range n.kids {
		if k != "" && k[0] >= '0' && k[0] <= '9' {
			return true
		}
	}
	return false
}

func cutDot(path string) (string, string, bool) {
	for i := range len(path) {
		if path[i] == '.' {
			return path[:i], path[i+1:], true
		}
	}
	return path, "", false
}

// Decode turns the needed fields of a document into the kits' form, in document order.
func Decode(doc bson.Raw, need *Need) (kit.D, error) {
	return DecodeFields(Elements(doc), need)
}

// DecodeFields is Decode for fields that are not (or not yet) one document.
func DecodeFields(fields iter.Seq2[[]byte, Raw], need *Need) (kit.D, error) {
	d := kit.D{}
	for key, v := range fields {
		var sub *Need
		if need != nil && !need.all {
			var wanted bool
			if sub, wanted = need.kids[string(key)]; !wanted {
				continue
			}
		}
		val, err := decodeValue(v, sub)
		if err != nil {
			return nil, fmt.Errorf("field %q: %w", key, err)
		}
		d = append(d, kit.E{Key: string(key), Value: val})
	}
	return d, nil
}

func decodeArray(doc []byte, need *Need) (kit.A, error) {
	if need != nil && need.byIndex() {
		need = nil
	}
	rest, err := inside(doc)
	if err != nil {
		return nil, err
	}
	a := kit.A{}
	for len(rest) > 0 {
		var v Raw
		if _, v, rest, err = element(rest); err != nil {
			return nil, err
		}
		val, err := decodeValue(v, need)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", len(a), err)
		}
		a = append(a, val)
	}
	return a, nil
}

// DecodeValue turns one value into the kits' form.
func DecodeValue(v Raw) (any, error) { return decodeValue(v, nil) }

func decodeValue(v Raw, need *Need) (any, error) {
	b := v.Data
	switch v.Type {
	case bson.TypeEmbeddedDocument:
		return Decode(bson.Raw(b), need)
	case bson.TypeArray:
		return decodeArray(b, need)
	case bson.TypeDouble:
		return math.Float64frombits(binary.LittleEndian.Uint64(b)), nil
	case bson.TypeString:
		return string(b[4 : len(b)-1]), nil
	case bson.TypeBinary:
		return primitive.Binary{Subtype: b[4], Data: bytes.Clone(b[5:])}, nil
	case bson.TypeObjectID:
		return primitive.ObjectID(b), nil
	case bson.TypeBoolean:
		return b[0] == 1, nil
	case bson.TypeDateTime:
		return primitive.DateTime(binary.LittleEndian.Uint64(b)), nil
	case bson.TypeNull:
		return nil, nil
	case bson.TypeRegex:
		pattern, options, _ := bytes.Cut(b[:len(b)-1], []byte{0})
		return primitive.Regex{Pattern: string(pattern), Options: string(options)}, nil
	case bson.TypeInt32:
		return int32(binary.LittleEndian.Uint32(b)), nil
	case bson.TypeTimestamp:
		return primitive.Timestamp{I: binary.LittleEndian.Uint32(b), T: binary.LittleEndian.Uint32(b[4:])}, nil
	case bson.TypeInt64:
		return int64(binary.LittleEndian.Uint64(b)), nil
	case bson.TypeDecimal128:
		return primitive.NewDecimal128(binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b)), nil
	default:
		data := append([]byte(opaqueMagic), byte(v.Type))
		return primitive.Binary{Subtype: opaqueSubtype, Data: append(data, b...)}, nil
	}
}

// Opaque says whether a decoded value stands for a type that the kits do not know.
func Opaque(v any) (bson.Type, bool) {
	b, ok := v.(primitive.Binary)
	if !ok || b.Subtype != opaqueSubtype || !bytes.HasPrefix(b.Data, []byte(opaqueMagic)) || len(b.Data) == len(opaqueMagic) {
		return 0, false
	}
	return bson.Type(b.Data[len(opaqueMagic)]), true
}

// Encode turns a document of the kits into bytes.
func Encode(d kit.D) (bson.Raw, error) {
	return AppendDocument(make([]byte, 0, 256), d)
}

// AppendDocument appends the bytes of a document to dst.
func AppendDocument(dst []byte, d kit.D) ([]byte, error) {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	var err error
	for _, e := range d {
		if dst, err = AppendField(dst, e.Key, e.Value); err != nil {
			return nil, err
		}
	}
	return Close(dst, start), nil
}

// Open starts a document in dst and returns where, for Close.
func Open(dst []byte) (int, []byte) { return len(dst), append(dst, 0, 0, 0, 0) }

// Close ends the document that started at start.
func Close(dst []byte, start int) []byte {
	dst = append(dst, 0)
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(dst)-start))
	return dst
}

// AppendRaw appends a field whose value is already bytes.
func AppendRaw(dst []byte, key string, v Raw) []byte {
	dst = append(dst, byte(v.Type))
	dst = append(dst, key...)
	dst = append(dst, 0)
	return append(dst, v.Data...)
}

// AppendField appends a field of a document: type, key, value.
func AppendField(dst []byte, key string, v any) ([]byte, error) {
	at := len(dst)
	dst = append(dst, 0)
	dst = append(dst, key...)
	dst = append(dst, 0)
	typ, dst, err := appendValue(dst, v)
	if err != nil {
		return nil, fmt.Errorf("field %q: %w", key, err)
	}
	dst[at] = byte(typ)
	return dst, nil
}

// EncodeValue turns one value of the kits into bytes.
func EncodeValue(v any) (Raw, error) {
	typ, data, err := appendValue(nil, v)
	return Raw{Type: typ, Data: data}, err
}

func appendValue(dst []byte, v any) (bson.Type, []byte, error) {
	switch v := v.(type) {
	case kit.D:
		dst, err := AppendDocument(dst, v)
		return bson.TypeEmbeddedDocument, dst, err
	case kit.A:
		dst, err := appendArray(dst, v)
		return bson.TypeArray, dst, err
	case float64:
		return bson.TypeDouble, binary.LittleEndian.AppendUint64(dst, math.Float64bits(v)), nil
	case string:
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(v)+1))
		return bson.TypeString, append(append(dst, v...), 0), nil
	case primitive.Binary:
		return appendBinary(dst, v)
	case primitive.ObjectID:
		return bson.TypeObjectID, append(dst, v[:]...), nil
	case bool:
		if v {
			return bson.TypeBoolean, append(dst, 1), nil
		}
		return bson.TypeBoolean, append(dst, 0), nil
	case primitive.DateTime:
		return bson.TypeDateTime, binary.LittleEndian.AppendUint64(dst, uint64(v)), nil
	case nil, primitive.Null:
		return bson.TypeNull, dst, nil
	case primitive.Regex:
		dst = append(append(dst, v.Pattern...), 0)
		return bson.TypeRegex, append(append(dst, v.Options...), 0), nil
	case int32:
		return bson.TypeInt32, binary.LittleEndian.AppendUint32(dst, uint32(v)), nil
	case primitive.Timestamp:
		dst = binary.LittleEndian.AppendUint32(dst, v.I)
		return bson.TypeTimestamp, binary.LittleEndian.AppendUint32(dst, v.T), nil
	case int64:
		return bson.TypeInt64, binary.LittleEndian.AppendUint64(dst, uint64(v)), nil
	case int:
		return bson.TypeInt64, binary.LittleEndian.AppendUint64(dst, uint64(v)), nil
	case primitive.Decimal128:
		high, low := v.GetBytes()
		dst = binary.LittleEndian.AppendUint64(dst, low)
		return bson.TypeDecimal128, binary.LittleEndian.AppendUint64(dst, high), nil
	case Raw:
		return v.Type, append(dst, v.Data...), nil
	case bson.Raw:
		return bson.TypeEmbeddedDocument, append(dst, v...), nil
	default:
		return 0, nil, fmt.Errorf("no BSON for %T", v)
	}
}

func appendArray(dst []byte, a kit.A) ([]byte, error) {
	start, dst := Open(dst)
	var name [8]byte
	var err error
	for i, v := range a {
		if dst, err = AppendField(dst, string(strconv.AppendInt(name[:0], int64(i), 10)), v); err != nil {
			return nil, err
		}
	}
	return Close(dst, start), nil
}

func appendBinary(dst []byte, v primitive.Binary) (bson.Type, []byte, error) {
	if typ, ok := Opaque(v); ok {
		return typ, append(dst, v.Data[len(opaqueMagic)+1:]...), nil
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(v.Data)))
	dst = append(dst, v.Subtype)
	return bson.TypeBinary, append(dst, v.Data...), nil
}
