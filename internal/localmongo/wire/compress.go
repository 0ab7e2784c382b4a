package wire

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
)

// Compressor ids of OP_COMPRESSED. Snappy (1) and zstd (3) are not served; a client uses
// only what the handshake agreed on, and the handshake agrees on zlib.
const (
	compressorNone = 0
	compressorZlib = 2
	// CompressorName is what a handshake may agree on.
	CompressorName = "zlib"
)

// decompress unwraps an OP_COMPRESSED message. The announced length bounds the work: one
// byte more than announced, or less, is an error, so a small message cannot unfold into
// a large one.
func decompress(h Header, body []byte) (Header, []byte, byte, error) {
	if len(body) < 9 {
		return h, nil, 0, fmt.Errorf("%w: OP_COMPRESSED of %d bytes", ErrFrame, len(body))
	}
	op := int32(binary.LittleEndian.Uint32(body))
	size := int32(binary.LittleEndian.Uint32(body[4:]))
	id, packed := body[8], body[9:]
	if size < 0 || size > MaxMessage-headerLen {
		return h, nil, 0, fmt.Errorf("%w: OP_COMPRESSED announces %d bytes", ErrFrame, size)
	}
	inner := Header{Length: size + headerLen, RequestID: h.RequestID, ResponseTo: h.ResponseTo, OpCode: op}
	switch id {
	case compressorNone:
		if len(packed) != int(size) {
			return h, nil, 0, fmt.Errorf("%w: OP_COMPRESSED announces %d bytes and holds %d", ErrFrame, size, len(packed))
		}
		return inner, packed, id, nil
	case compressorZlib:
		plain, err := inflate(packed, int(size))
		return inner, plain, id, err
	default:
		return h, nil, 0, fmt.Errorf("%w: compressor %d", ErrFrame, id)
	}
}

func inflate(packed []byte, size int) ([]byte, error) {
	zr, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("%w: OP_COMPRESSED: %w", ErrFrame, err)
	}
	var plain bytes.Buffer
	if _, err := io.Copy(&plain, io.LimitReader(zr, int64(size)+1)); err != nil {
		return nil, fmt.Errorf("%w: OP_COMPRESSED: %w", ErrFrame, err)
	}
	if plain.Len() != size {
		return nil, fmt.Errorf("%w: OP_COMPRESSED announces %d bytes and holds another number", ErrFrame, size)
	}
	return plain.Bytes(), nil
}

// compress replaces the plain message that starts at start by its compressed form.
func compress(dst []byte, start int, id byte) ([]byte, error) {
	plain := bytes.Clone(dst[start:])
	dst = dst[:start]
	h := Header{
		RequestID:  int32(binary.LittleEndian.Uint32(plain[4:])),
		ResponseTo: int32(binary.LittleEndian.Uint32(plain[8:])),
		OpCode:     OpCompressed,
	}
	op := binary.LittleEndian.Uint32(plain[12:])
	plain = plain[headerLen:]
	dst = appendHeader(dst, h)
	dst = binary.LittleEndian.AppendUint32(dst, op)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(plain)))
	dst = append(dst, id)
	var packed bytes.Buffer
	zw := zlib.NewWriter(&packed)
	if _, err := zw.Write(plain); err != nil {
		return nil, fmt.Errorf("compress reply: %w", err)
	}
	if err := zw.Close(); err != nil {
		return nil, fmt.Errorf("compress reply: %w", err)
	}
	dst = append(dst, packed.Bytes()...)
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(dst)-start))
	return dst, nil
}
