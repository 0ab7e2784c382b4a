package value

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/big"

	"github.com/256dpi/lungo/bsonkit"
	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"
)

// Keys are byte strings that sort as bsonkit.Compare sorts the values. A key begins with
// the class of its value, so all values of a class lie between ClassLow and ClassHigh,
// and it delimits itself, so keys of several columns can be put one after the other and
// be cut apart again.
const (
	classBase = 0x10
	keyEnd    = 0x00
	keyEscape = 0xff
)

// ClassLow is a key not above any key of the class of v.
func ClassLow(v any) []byte {
	class, _ := bsonkit.Inspect(v)
	return []byte{classBase + byte(class)}
}

// ClassHigh is a key above every key of the class of v.
func ClassHigh(v any) []byte {
	class, _ := bsonkit.Inspect(v)
	return []byte{classBase + byte(class) + 1}
}

// AppendKey appends the key of a value of the kits; a missing value and null have the
// same key. With desc the bytes are turned over, so that the order is.
func AppendKey(dst []byte, v any, desc bool) []byte {
	start := len(dst)
	dst = appendKey(dst, v)
	if desc {
		Invert(dst[start:])
	}
	return dst
}

// Invert turns the bytes of a key over, in place.
func Invert(key []byte) {
	for i := range key {
		key[i] = ^key[i]
	}
}

func appendKey(dst []byte, v any) []byte {
	class, _ := bsonkit.Inspect(v)
	dst = append(dst, classBase+byte(class))
	switch v := v.(type) {
	case int32:
		return appendNumber(dst, float64(v), 0)
	case int64:
		return appendInt64(dst, v)
	case float64:
		return appendNumber(dst, v, 0)
	case primitive.Decimal128:
		return appendDecimal(dst, v)
	case string:
		return appendBytes(dst, []byte(v))
	case kit.D:
		for _, e := range v {
			dst = appendBytes(append(dst, 1), []byte(e.Key))
			dst = appendKey(dst, e.Value)
		}
		return append(dst, keyEnd)
	case kit.A:
		for _, e := range v {
			dst = appendKey(dst, e)
		}
		return append(dst, keyEnd)
	case primitive.Binary:
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(v.Data)))
		return appendBytes(append(dst, v.Subtype), v.Data)
	case primitive.ObjectID:
		return append(dst, v[:]...)
	case bool:
		if v {
			return append(dst, 1)
		}
		return append(dst, 0)
	case primitive.DateTime:
		return binary.BigEndian.AppendUint64(dst, uint64(v)^(1<<63))
	case primitive.Timestamp:
		dst = binary.BigEndian.AppendUint32(dst, v.T)
		return binary.BigEndian.AppendUint32(dst, v.I)
	case primitive.Regex:
		return appendBytes(appendBytes(dst, []byte(v.Pattern)), []byte(v.Options))
	default: // null and missing: the class says all
		return dst
	}
}

// appendBytes writes a byte string that sorts as itself and knows its end: a zero byte is
// followed by 0xff inside and by a zero at the end.
func appendBytes(dst, b []byte) []byte {
	for {
		i := bytes.IndexByte(b, 0)
		if i < 0 {
			break
		}
		dst = append(append(dst, b[:i]...), 0, keyEscape)
		b = b[i+1:]
	}
	return append(append(dst, b...), 0, keyEnd)
}

// appendNumber writes the nearest double in an order-preserving form and, for integers
// that a double cannot hold, what the rounding lost (at most 512 either way).
func appendNumber(dst []byte, f float64, lost int64) []byte {
	var bits uint64
	switch {
	case math.IsNaN(f):
		bits = 0
	case f == 0: // minus zero is zero
		bits = 1 << 63
	default:
		if bits = math.Float64bits(f); bits>>63 == 1 {
			bits = ^bits
		} else {
			bits |= 1 << 63
		}
	}
	dst = binary.BigEndian.AppendUint64(dst, bits)
	return binary.BigEndian.AppendUint16(dst, uint16(lost+0x8000))
}

func appendInt64(dst []byte, n int64) []byte {
	f := float64(n)
	if f >= 1<<63 { // rounded up past the largest int64
		return appendNumber(dst, f, n-math.MaxInt64-1)
	}
	return appendNumber(dst, f, n-int64(f))
}

// appendDecimal writes a decimal by its nearest double. Decimals that differ only beyond
// a double's precision share a key; the match on the document tells them apart, and only
// a unique index would be too strict on them.
func appendDecimal(dst []byte, d primitive.Decimal128) []byte {
	digits, exp, err := d.BigInt()
	if err != nil { // NaN and infinities, which the kits compare as zero
		return appendNumber(dst, 0, 0)
	}
	f, _ := new(big.Float).SetInt(digits).Float64()
	return appendNumber(dst, f*math.Pow10(exp), 0)
}

// KeyLen is the length of the first key in src, which AppendKey has written (turned over
// when desc).
func KeyLen(src []byte, desc bool) int {
	if !desc {
		return keyLen(src)
	}
	plain := bytes.Clone(src)
	Invert(plain)
	return keyLen(plain)
}

func keyLen(src []byte) int {
	switch bsonkit.Class(src[0] - classBase) {
	case bsonkit.Number:
		return 11
	case bsonkit.String:
		return 1 + bytesLen(src[1:])
	case bsonkit.Document:
		n := 1
		for src[n] != keyEnd {
			n++
			n += bytesLen(src[n:])
			n += keyLen(src[n:])
		}
		return n + 1
	case bsonkit.Array:
		n := 1
		for src[n] != keyEnd {
			n += keyLen(src[n:])
		}
		return n + 1
	case bsonkit.Binary:
		return 6 + bytesLen(src[6:])
	case bsonkit.ObjectID:
		return 13
	case bsonkit.Boolean:
		return 2
	case bsonkit.Date, bsonkit.Timestamp:
		return 9
	case bsonkit.Regex:
		n := 1 + bytesLen(src[1:])
		return n + bytesLen(src[n:])
	default:
		return 1
	}
}

func bytesLen(src []byte) int {
	n := 0
	for {
		n += bytes.IndexByte(src[n:], 0) + 2
		if src[n-1] == keyEnd {
			return n
		}
	}
}
