package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Flag bits of OP_MSG.
const (
	flagChecksum  = 1 << 0
	flagMoreTo    = 1 << 1
	flagExhaustOK = 1 << 16
	// requiredFlags are those that a reader must understand or refuse.
	requiredFlags = 0xffff
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Request is one command as it arrived. Its documents share the memory of the frame.
type Request struct {
	ID int32
	// Body is the command document; its first element names the command.
	Body bson.Raw
	// Sequences holds the document sequences (kind 1 sections) by name, for example
	// "documents" of an insert. They count as array fields of the body.
	Sequences map[string][]bson.Raw
	// Database is set for OP_QUERY only; OP_MSG has it in the body as $db.
	Database string
	// Legacy says that the answer must be an OP_REPLY.
	Legacy bool
	// NoReply says that the client does not want an answer (moreToCome).
	NoReply bool
	// Exhaust says that the client takes several answers to this one request.
	Exhaust bool
	// Compressor is the id of the compressor that the request came in, 0 for none; the
	// answer goes out the same way.
	Compressor byte
}

// Decode reads a request out of a frame. Every error wraps ErrFrame.
func Decode(h Header, body []byte) (*Request, error) {
	switch h.OpCode {
	case OpMsg:
		return decodeMsg(h, body)
	case OpQuery:
		return decodeQuery(h, body)
	case OpCompressed:
		inner, plain, id, err := decompress(h, body)
		if err != nil {
			return nil, err
		}
		if inner.OpCode == OpCompressed {
			return nil, fmt.Errorf("%w: compressed twice", ErrFrame)
		}
		req, err := Decode(inner, plain)
		if err != nil {
			return nil, err
		}
		req.Compressor = id
		return req, nil
	default:
		return nil, fmt.Errorf("%w: op code %d", ErrFrame, h.OpCode)
	}
}

func decodeMsg(h Header, body []byte) (*Request, error) {
	if len(body) < 5 {
		return nil, fmt.Errorf("%w: OP_MSG of %d bytes", ErrFrame, len(body))
	}
	flags := binary.LittleEndian.Uint32(body)
	if unknown := flags & requiredFlags &^ (flagChecksum | flagMoreTo); unknown != 0 {
		return nil, fmt.Errorf("%w: OP_MSG flags %#x", ErrFrame, unknown)
	}
	rest := body[4:]
	if flags&flagChecksum != 0 {
		if len(rest) < 4 {
			return nil, fmt.Errorf("%w: OP_MSG without its checksum", ErrFrame)
		}
		sum := binary.LittleEndian.Uint32(rest[len(rest)-4:])
		rest = rest[:len(rest)-4]
		got := crc32.Checksum(appendHeader(nil, h), castagnoli)
		if got = crc32.Update(got, castagnoli, body[:len(body)-4]); got != sum {
			return nil, fmt.Errorf("%w: OP_MSG checksum is %#x, the bytes give %#x", ErrFrame, sum, got)
		}
	}
	req := &Request{ID: h.RequestID, NoReply: flags&flagMoreTo != 0, Exhaust: flags&flagExhaustOK != 0}
	for len(rest) > 0 {
		kind := rest[0]
		var err error
		switch kind {
		case 0:
			rest, err = req.readBody(rest[1:])
		case 1:
			rest, err = req.readSequence(rest[1:])
		default:
			err = fmt.Errorf("%w: OP_MSG section kind %d", ErrFrame, kind)
		}
		if err != nil {
			return nil, err
		}
	}
	if req.Body == nil {
		return nil, fmt.Errorf("%w: OP_MSG without a body", ErrFrame)
	}
	return req, nil
}

func (q *Request) readBody(src []byte) ([]byte, error) {
	if q.Body != nil {
		return nil, fmt.Errorf("%w: OP_MSG with two bodies", ErrFrame)
	}
	doc, rest, err := cutDocument(src)
	q.Body = doc
	return rest, err
}

func (q *Request) readSequence(src []byte) ([]byte, error) {
	if len(src) < 5 {
		return nil, fmt.Errorf("%w: document sequence of %d bytes", ErrFrame, len(src))
	}
	size := int(int32(binary.LittleEndian.Uint32(src)))
	if size < 5 || size > len(src) {
		return nil, fmt.Errorf("%w: document sequence of %d bytes in %d", ErrFrame, size, len(src))
	}
	seq, rest := src[4:size], src[size:]
	end := bytes.IndexByte(seq, 0)
	if end < 0 {
		return nil, fmt.Errorf("%w: document sequence without a name", ErrFrame)
	}
	name := string(seq[:end])
	if _, twice := q.Sequences[name]; twice {
		return nil, fmt.Errorf("%w: document sequence %q twice", ErrFrame, name)
	}
	docs := []bson.Raw{}
	for seq = seq[end+1:]; len(seq) > 0; {
		doc, after, err := cutDocument(seq)
		if err != nil {
			return nil, err
		}
		docs, seq = append(docs, doc), after
	}
	if q.Sequences == nil {
		q.Sequences = make(map[string][]bson.Raw, 1)
	}
	q.Sequences[name] = docs
	return rest, nil
}

// cutDocument takes the document that src starts with, by its own length.
func cutDocument(src []byte) (bson.Raw, []byte, error) {
	if len(src) < 5 {
		return nil, nil, fmt.Errorf("%w: document of %d bytes", ErrFrame, len(src))
	}
	n := int(int32(binary.LittleEndian.Uint32(src)))
	if n < 5 || n > len(src) || src[n-1] != 0 {
		return nil, nil, fmt.Errorf("%w: document of %d bytes in %d", ErrFrame, n, len(src))
	}
	return bson.Raw(src[:n:n]), src[n:], nil
}

// decodeQuery reads the legacy OP_QUERY, which clients use for nothing but a handshake:
// flags, the collection name, a skip and a return count, then the command.
func decodeQuery(h Header, body []byte) (*Request, error) {
	if len(body) < 4 {
		return nil, fmt.Errorf("%w: OP_QUERY of %d bytes", ErrFrame, len(body))
	}
	rest := body[4:]
	end := bytes.IndexByte(rest, 0)
	if end < 0 {
		return nil, fmt.Errorf("%w: OP_QUERY without a collection", ErrFrame)
	}
	name := string(rest[:end])
	db, ok := bytes.CutSuffix([]byte(name), []byte(".$cmd"))
	if !ok {
		return nil, fmt.Errorf("%w: OP_QUERY on %q; only commands are served", ErrFrame, name)
	}
	rest = rest[end+1:]
	if len(rest) < 8 {
		return nil, fmt.Errorf("%w: OP_QUERY cut short", ErrFrame)
	}
	doc, _, err := cutDocument(rest[8:])
	if err != nil {
		return nil, err
	}
	return &Request{ID: h.RequestID, Body: doc, Database: string(db), Legacy: true}, nil
}
