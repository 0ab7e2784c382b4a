package resume

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A token is {_data: hex}: the byte 82, then 8 bytes of cluster time (seconds,
// increment, big endian), then parts that belong to the server.
const (
	tokenTimeType = 0x82
	tokenTimeLen  = 9
)

// ErrToken says that a text is not a resume token.
var ErrToken = errors.New("not a resume token")

// TokenText is the `_data` of a token, "" when it has none.
func TokenText(token bson.Raw) string {
	text, _ := token.Lookup("_data").StringValueOK()
	return text
}

// TokenTime reads the cluster time out of a token without asking a server.
func TokenTime(token bson.Raw) (bson.Timestamp, bool) {
	text := TokenText(token)
	if len(text) < 2*tokenTimeLen {
		return bson.Timestamp{}, false
	}
	var head [tokenTimeLen]byte
	if _, err := hex.Decode(head[:], []byte(text[:2*tokenTimeLen])); err != nil {
		return bson.Timestamp{}, false
	}
	if head[0] != tokenTimeType {
		return bson.Timestamp{}, false
	}
	at := bson.Timestamp{
		T: binary.BigEndian.Uint32(head[1:5]),
		I: binary.BigEndian.Uint32(head[5:9]),
	}
	return at, !at.IsZero()
}

// CompareTokens orders two tokens of one stream: their texts compare in stream
// order. A token without text is before every other.
func CompareTokens(a, b bson.Raw) int {
	return strings.Compare(TokenText(a), TokenText(b))
}

// ParseToken makes a token of the text an operator typed: the `_data` alone, or
// the whole token as Extended JSON. The error is ErrToken.
func ParseToken(text string) (bson.Raw, error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "{") {
		var token bson.Raw
		if err := bson.UnmarshalExtJSON([]byte(text), false, &token); err != nil {
			return nil, ErrToken
		}
		text = TokenText(token)
	}
	token, err := bson.Marshal(bson.D{{Key: "_data", Value: text}})
	if err != nil {
		return nil, ErrToken
	}
	if _, err := hex.DecodeString(text); err != nil {
		return nil, ErrToken
	}
	if _, ok := TokenTime(token); !ok {
		return nil, ErrToken
	}
	return token, nil
}

// CloneToken copies a token out of memory that belongs to someone else.
func CloneToken(token bson.Raw) bson.Raw {
	if len(token) == 0 {
		return nil
	}
	return append(make(bson.Raw, 0, len(token)), token...)
}

// Timestamp is the cluster time of a clock time, to whole seconds. Increment 1
// is the first of a second; 0 is not an operation's.
func Timestamp(t time.Time) bson.Timestamp {
	seconds := t.Unix()
	if seconds <= 0 || seconds > int64(^uint32(0)) {
		return bson.Timestamp{}
	}
	return bson.Timestamp{T: uint32(seconds), I: 1}
}

// ClockTime is the second of a cluster time.
func ClockTime(t bson.Timestamp) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.Unix(int64(t.T), 0).UTC()
}
