package store

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"

	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// A resume token is the hexadecimal form of a key: cluster time, version, kind, position
// in the transaction, whether it is an invalidate, then for an event the collection's UUID
// and the document key. Tokens compare as strings in the order of the stream. A token
// without an event (a "high water mark") is below every event of its time.
const (
	tokenTimestamp = 0x82
	tokenEnd       = 0x04
	tokenZero      = 0x29
	tokenInt1      = 0x2b
	tokenInt2      = 0x2c
	tokenFalse     = 0x6e
	tokenTrue      = 0x6f
	tokenBinary    = 0x5a
	tokenObject    = 0x46
	tokenVersion   = 1
	tokenEvent     = 128
)

// Token is a parsed resume token.
type Token struct {
	Data       string
	Time       Timestamp
	Position   int
	Event      bool
	Invalidate bool
}

// HighWater is the token of a time without an event.
func HighWater(t Timestamp) Token {
	return Token{Data: encodeToken(t, 0, 0, false, nil), Time: t}
}

// Doc is the token as events and replies carry it.
func (t Token) Doc() kit.D { return kit.D{{Key: "_data", Value: t.Data}} }

// eventToken is the token of an entry, or of the invalidate that follows it.
func eventToken(e *Entry, invalidate bool) Token {
	tail := append([]byte{tokenBinary, 16, 0x04}, e.UUID[:]...)
	if !e.ID.Absent() {
		tail = append(tail, tokenObject)
		tail = appendTokenField(tail, "_id", e.ID)
		tail = append(tail, 0)
	}
	return Token{
		Data:       encodeToken(e.Time, tokenEvent, e.Position, invalidate, tail),
		Time:       e.Time,
		Position:   e.Position,
		Event:      true,
		Invalidate: invalidate,
	}
}

func encodeToken(t Timestamp, kind, position int, invalidate bool, tail []byte) string {
	b := make([]byte, 0, 64)
	b = append(b, tokenTimestamp)
	b = binary.BigEndian.AppendUint32(b, t.T)
	b = binary.BigEndian.AppendUint32(b, t.I)
	b = appendTokenInt(b, tokenVersion)
	b = appendTokenInt(b, kind)
	b = appendTokenInt(b, position)
	if invalidate {
		b = append(b, tokenTrue)
	} else {
		b = append(b, tokenFalse)
	}
	b = append(append(b, tail...), tokenEnd)
	return strings.ToUpper(hex.EncodeToString(b))
}

// appendTokenInt writes a small number so that it sorts: its width, then twice its value.
func appendTokenInt(b []byte, n int) []byte {
	switch {
	case n == 0:
		return append(b, tokenZero)
	case n < 1<<7:
		return append(b, tokenInt1, byte(n<<1))
	case n < 1<<15:
		return binary.BigEndian.AppendUint16(append(b, tokenInt2), uint16(n<<1))
	default:
		return binary.BigEndian.AppendUint32(append(b, tokenInt2+2), uint32(n)<<1)
	}
}

// appendTokenField writes the document key. Small numbers, strings and ObjectIds have the
// server's own form; any other type has one that only tells values apart.
func appendTokenField(b []byte, name string, v value.Raw) []byte {
	d, err := value.DecodeValue(v)
	if err != nil {
		return b
	}
	typed := func(canonical, lead byte) []byte {
		b = append(append(b, canonical), name...)
		return append(b, 0, lead)
	}
	switch d := d.(type) {
	case int32:
		if d >= 0 {
			b = append(append(b, 0x1e), name...)
			return appendTokenInt(append(b, 0), int(d))
		}
	case string:
		return append(append(typed(0x3c, 0x3c), strings.ReplaceAll(d, "\x00", "\x00\xff")...), 0)
	}
	if v.Type == bson.TypeObjectID {
		return append(typed(0x64, 0x64), v.Data...)
	}
	return append(typed(0x5a, byte(v.Type)), v.Data...)
}

// ParseToken reads the token that a client sends back. The errors are those of a server:
// no hex is FailedToParse, hex that is no token is 50811.
func ParseToken(data string) (Token, error) {
	b, err := hex.DecodeString(data)
	if err != nil {
		return Token{}, mongoerr.New(mongoerr.FailedToParse, "resume token string was not a valid hex string")
	}
	t := Token{Data: strings.ToUpper(data)}
	if len(b) == 0 {
		return t, badToken("empty")
	}
	if b[0] != tokenTimestamp {
		return t, mongoerr.New(mongoerr.BadKeyString, "Unknown type: %d", b[0])
	}
	if len(b) < 9 {
		return t, badToken("cut short")
	}
	t.Time = Timestamp{binary.BigEndian.Uint32(b[1:]), binary.BigEndian.Uint32(b[5:])}
	b = b[9:]
	var version, kind int
	for _, n := range []*int{&version, &kind, &t.Position} {
		if *n, b, err = readTokenInt(b); err != nil {
			return t, err
		}
	}
	if version != tokenVersion || kind != 0 && kind != tokenEvent {
		return t, badToken("unknown version")
	}
	if len(b) < 2 || b[0] != tokenFalse && b[0] != tokenTrue || b[len(b)-1] != tokenEnd {
		return t, badToken("no end")
	}
	t.Event, t.Invalidate = kind == tokenEvent, b[0] == tokenTrue
	if !t.Event && t.Data != HighWater(t.Time).Data || t.Event && (len(b) < 21 || b[1] != tokenBinary) {
		return t, badToken("wrong length")
	}
	return t, nil
}

func badToken(why string) error {
	return mongoerr.New(mongoerr.BadKeyString, "KeyString of the resume token is not valid: %s", why)
}

func readTokenInt(b []byte) (int, []byte, error) {
	width := 0
	if len(b) > 0 {
		switch b[0] {
		case tokenZero:
			return 0, b[1:], nil
		case tokenInt1, tokenInt2, tokenInt2 + 2:
			width = int(b[0]-tokenInt1) + 1
		}
	}
	if width == 0 || len(b) < 1+width {
		return 0, nil, badToken("number expected")
	}
	n := 0
	for _, c := range b[1 : 1+width] {
		n = n<<8 | int(c)
	}
	if n >>= 1; !bytes.Equal(appendTokenInt(nil, n), b[:1+width]) {
		return 0, nil, badToken("number in another form than its own") // it would not sort
	}
	return n, b[1+width:], nil
}
