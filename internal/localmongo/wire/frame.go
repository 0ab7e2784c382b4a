// Package wire reads and writes the frames of the MongoDB wire protocol: OP_MSG, the
// legacy OP_QUERY that a first handshake may use, and OP_COMPRESSED around either. It
// owns the checks that keep a hostile or broken peer from costing memory or a panic. It
// does not look into documents beyond their length, and knows no command.
package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Op codes of the wire protocol.
const (
	OpReply      = 1
	OpQuery      = 2004
	OpCompressed = 2012
	OpMsg        = 2013
)

const (
	headerLen = 16
	// MaxMessage is the longest message taken or sent, the value that a MongoDB server
	// announces as maxMessageSizeBytes.
	MaxMessage = 48_000_000
	// eagerAlloc is what is allocated on the word of a header alone; a longer message
	// grows its buffer only as the bytes arrive.
	eagerAlloc = 1 << 18
)

// ErrFrame marks input that is no message of the protocol; the connection cannot go on.
var ErrFrame = errors.New("malformed message")

// Header is the start of every message. Length counts the header itself.
type Header struct {
	Length     int32
	RequestID  int32
	ResponseTo int32
	OpCode     int32
}

// ReadFrame reads one message. The body is a fresh slice that the caller owns. The error
// is io.EOF when the peer closed between messages, and wraps ErrFrame when the length
// cannot be true.
func ReadFrame(r *bufio.Reader) (Header, []byte, error) {
	var raw [headerLen]byte
	if _, err := io.ReadFull(r, raw[:1]); err != nil {
		return Header{}, nil, err
	}
	if _, err := io.ReadFull(r, raw[1:]); err != nil {
		return Header{}, nil, fmt.Errorf("read message header: %w", noEOF(err))
	}
	h := Header{
		Length:     int32(binary.LittleEndian.Uint32(raw[0:])),
		RequestID:  int32(binary.LittleEndian.Uint32(raw[4:])),
		ResponseTo: int32(binary.LittleEndian.Uint32(raw[8:])),
		OpCode:     int32(binary.LittleEndian.Uint32(raw[12:])),
	}
	if h.Length < headerLen || h.Length > MaxMessage {
		return h, nil, fmt.Errorf("%w: length %d is outside %d..%d", ErrFrame, h.Length, headerLen, MaxMessage)
	}
	body, err := readBody(r, int(h.Length)-headerLen)
	if err != nil {
		return h, nil, fmt.Errorf("read message body: %w", err)
	}
	return h, body, nil
}

// readBody reads n bytes without trusting n with more than eagerAlloc.
func readBody(r io.Reader, n int) ([]byte, error) {
	body := make([]byte, 0, min(n, eagerAlloc))
	for {
		have := len(body)
		body = body[:cap(body)]
		if _, err := io.ReadFull(r, body[have:]); err != nil {
			return nil, noEOF(err)
		}
		if len(body) == n {
			return body, nil
		}
		body = append(make([]byte, 0, min(n, 4*len(body))), body...)
	}
}

// noEOF turns the end of the stream inside a message into what it is.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func appendHeader(dst []byte, h Header) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.Length))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.RequestID))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(h.ResponseTo))
	return binary.LittleEndian.AppendUint32(dst, uint32(h.OpCode))
}
