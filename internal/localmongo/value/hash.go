package value

import (
	"crypto/md5" //nolint:gosec // MongoDB's hashed keys are MD5 by definition
	"encoding/binary"
	"hash"
	"math"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Hash is the 64-bit number that a hashed index of MongoDB and $toHashedIndexKey make of
// a value: the first eight bytes of an MD5 over a seed of 0, the canonical type of the
// value, and its bytes. Numbers are reduced to 64-bit integers first, so 3 and 3.0 have
// the same hash.
func Hash(v Raw) int64 {
	h := md5.New() //nolint:gosec // as above
	h.Write([]byte{0, 0, 0, 0})
	hashValue(h, v, nil)
	return int64(binary.LittleEndian.Uint64(h.Sum(nil)))
}

// hashValue adds a value, with the name of its field when it is inside another one.
func hashValue(h hash.Hash, v Raw, name []byte) {
	h.Write(binary.LittleEndian.AppendUint32(nil, uint32(canonicalType(v.Type))))
	if name != nil {
		h.Write(append(name[:len(name):len(name)], 0))
	}
	switch v.Type {
	case bson.TypeEmbeddedDocument, bson.TypeArray:
		for key, kid := range Elements(bson.Raw(v.Data)) {
			hashValue(h, kid, append([]byte{}, key...))
		}
		hashValue(h, Raw{}, []byte{})
	case bson.TypeInt32, bson.TypeInt64, bson.TypeDouble, bson.TypeDecimal128:
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(asLong(v))))
	default:
		h.Write(v.Data)
	}
}

// asLong reduces a number as the server does: towards zero, limited to the range, NaN 0.
func asLong(v Raw) int64 {
	val, err := decodeValue(v, nil)
	if err != nil {
		return 0
	}
	switch n := val.(type) {
	case int32:
		return int64(n)
	case int64:
		return n
	case float64:
		switch {
		case math.IsNaN(n):
			return 0
		case n >= 1<<63:
			return math.MaxInt64
		case n < -1<<63:
			return math.MinInt64
		}
		return int64(n)
	default:
		return decimalLong(val)
	}
}

// canonicalType is the class number that MongoDB orders and hashes types by.
func canonicalType(t bson.Type) int32 {
	switch t {
	case bson.TypeMinKey:
		return -1
	case bson.TypeMaxKey:
		return 127
	case bson.TypeNull:
		return 5
	case bson.TypeInt32, bson.TypeInt64, bson.TypeDouble, bson.TypeDecimal128:
		return 10
	case bson.TypeString, bson.TypeSymbol:
		return 15
	case bson.TypeEmbeddedDocument:
		return 20
	case bson.TypeArray:
		return 25
	case bson.TypeBinary:
		return 30
	case bson.TypeObjectID:
		return 35
	case bson.TypeBoolean:
		return 40
	case bson.TypeDateTime:
		return 45
	case bson.TypeTimestamp:
		return 47
	case bson.TypeRegex:
		return 50
	case bson.TypeDBPointer:
		return 55
	case bson.TypeJavaScript:
		return 60
	case bson.TypeCodeWithScope:
		return 65
	default: // end of object and undefined
		return 0
	}
}
