package calls

import (
	"encoding/base64"
	"encoding/hex"
	"math"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/cxbridge/watcher/pkg/render"
)

// Style is how values become text for one bot. The zero value writes dates as
// ISO 8601 in UTC.
type Style struct {
	Location *time.Location // nil is UTC
	Format   TimeFormat

	most int // the length of the output from which on nothing is added; 0 is no limit
}

// room is as much of a text as is added to dst: a little more than fits, so that it
// shows that it does not.
func (s *Style) room(dst, text []byte) []byte {
	if s.most == 0 {
		return text
	}
	return text[:min(len(text), max(0, s.most-len(dst))+1)]
}

// AppendText appends the text of a value: a string as it is, an object or array
// as compact JSON, a number in digits, a date by the time format, binary in
// base64; null, a missing value and what is no value (undefined, MinKey,
// MaxKey) as "".
func (s Style) AppendText(dst []byte, v bson.RawValue) []byte {
	return s.text(dst, valueOf(v))
}

// AppendJSON appends a value as JSON, always valid: numbers stay numbers, and
// what text is the same as in AppendText is a string; key order is kept. What
// JSON cannot say (NaN, infinity, no value) is null.
func (s Style) AppendJSON(dst []byte, v bson.RawValue) []byte {
	return s.json(dst, valueOf(v), 0)
}

// appendTime appends a time in the style's zone.
func (s *Style) appendTime(dst []byte, t time.Time) []byte {
	return s.Format.Append(dst, t.In(s.zone()))
}

func (s *Style) zone() *time.Location {
	if s.Location == nil {
		return time.UTC
	}
	return s.Location
}

func (s *Style) text(dst []byte, v value) []byte {
	switch v.Type {
	case typeString, bsoncore.TypeSymbol:
		return append(dst, s.room(dst, textBytes(v))...)
	case typeDocument, typeArray:
		return s.json(dst, v, 0)
	case bsoncore.TypeDouble:
		if f, ok := v.DoubleOK(); ok {
			return appendDouble(dst, f)
		}
	case bsoncore.TypeDecimal128:
		if high, low, ok := v.Decimal128OK(); ok {
			return append(dst, bson.NewDecimal128(high, low).String()...)
		}
	default:
		if scalar, ok := s.plain(dst, v); ok {
			return scalar
		}
		return s.quotable(dst, v)
	}
	return dst
}

// plain appends what is the same in text and in JSON, or says that v is none
// of it.
func (s *Style) plain(dst []byte, v value) ([]byte, bool) {
	switch v.Type {
	case bsoncore.TypeBoolean:
		b, ok := v.BooleanOK()
		return strconv.AppendBool(dst, b), ok
	case bsoncore.TypeInt32, bsoncore.TypeInt64:
		n, ok := v.AsInt64OK()
		return strconv.AppendInt(dst, n, 10), ok
	}
	return dst, false
}

// quotable appends the text of a type that is a string in JSON.
func (s *Style) quotable(dst []byte, v value) []byte {
	switch v.Type {
	case bsoncore.TypeDateTime, bsoncore.TypeTimestamp:
		if t, ok := timeOf(v); ok {
			return s.appendTime(dst, t)
		}
	case bsoncore.TypeObjectID:
		return hex.AppendEncode(dst, v.Data)
	case bsoncore.TypeBinary:
		if _, data, ok := v.BinaryOK(); ok {
			return base64.StdEncoding.AppendEncode(dst, s.room(dst, data))
		}
	case bsoncore.TypeRegex:
		if pattern, options, ok := v.RegexOK(); ok {
			return append(append(append(append(dst, '/'), pattern...), '/'), options...)
		}
	case bsoncore.TypeJavaScript:
		if code, ok := v.JavaScriptOK(); ok {
			return append(dst, s.room(dst, []byte(code))...)
		}
	case bsoncore.TypeCodeWithScope:
		if code, _, ok := v.CodeWithScopeOK(); ok {
			return append(dst, s.room(dst, []byte(code))...)
		}
	case bsoncore.TypeDBPointer:
		if _, id, ok := v.DBPointerOK(); ok {
			return hex.AppendEncode(dst, id[:])
		}
	}
	return dst
}

// appendDouble writes the shortest text that reads back as f, without exponent
// below 1e21, so that whole numbers look like integers; from there on as
// JavaScript does.
func appendDouble(dst []byte, f float64) []byte {
	switch {
	case f == 0: // -0 too
		return append(dst, '0')
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	case math.Abs(f) < 1e21:
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	return strconv.AppendFloat(dst, f, 'e', -1, 64)
}

// maxJSONDepth bounds how deep stored values are followed; a server stores no
// more than 180 levels. It stays below render.MaxDepth.
const maxJSONDepth = 256

func (s *Style) json(dst []byte, v value, depth int) []byte {
	switch v.Type {
	case typeDocument, typeArray:
		if depth == maxJSONDepth {
			return append(dst, "null"...)
		}
		return s.container(dst, v, depth+1)
	case typeString, bsoncore.TypeSymbol:
		return render.AppendString(dst, s.room(dst, textBytes(v)))
	case bsoncore.TypeDouble, bsoncore.TypeDecimal128:
		return s.number(dst, v)
	case bsoncore.TypeDateTime, bsoncore.TypeTimestamp, bsoncore.TypeObjectID, bsoncore.TypeBinary,
		bsoncore.TypeRegex, bsoncore.TypeJavaScript, bsoncore.TypeCodeWithScope, bsoncore.TypeDBPointer:
		var buf [64]byte
		return render.AppendString(dst, s.quotable(buf[:0], v))
	}
	if scalar, ok := s.plain(dst, v); ok {
		return scalar
	}
	return append(dst, "null"...)
}

func (s *Style) container(dst []byte, v value, depth int) []byte {
	open, shut := byte('{'), byte('}')
	if v.Type == typeArray {
		open, shut = '[', ']'
	}
	dst = append(dst, open)
	first := true
	w := walk(v.Data)
	for key, item, ok := w.next(); ok; key, item, ok = w.next() {
		if s.most > 0 && len(dst) > s.most {
			break
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		if open == '{' {
			dst = append(render.AppendString(dst, key), ':')
		}
		dst = s.json(dst, item, depth)
	}
	return append(dst, shut)
}

// number appends a double or a Decimal128, whose text is a JSON number unless
// it is no finite one.
func (s *Style) number(dst []byte, v value) []byte {
	start := len(dst)
	dst = s.text(dst, v)
	if n := len(dst); n == start || !isDigit(dst[n-1]) {
		return append(dst[:start], "null"...)
	}
	return dst
}
