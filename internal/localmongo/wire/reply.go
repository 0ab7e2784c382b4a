package wire

import (
	"encoding/binary"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Reply is one answer to a request.
type Reply struct {
	ID  int32
	Doc bson.Raw
	// MoreToCome announces another answer to the same request.
	MoreToCome bool
}

// AppendReply encodes the answer to a request in the form that the request asks for.
func AppendReply(dst []byte, req *Request, reply Reply) ([]byte, error) {
	if req.Legacy {
		return appendLegacy(dst, req, reply), nil
	}
	start := len(dst)
	dst = appendHeader(dst, Header{RequestID: reply.ID, ResponseTo: req.ID, OpCode: OpMsg})
	var flags uint32
	if reply.MoreToCome {
		flags |= flagMoreTo
	}
	dst = binary.LittleEndian.AppendUint32(dst, flags)
	dst = append(dst, 0)
	dst = append(dst, reply.Doc...)
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(dst)-start))
	if req.Compressor != 0 {
		return compress(dst, start, req.Compressor)
	}
	return dst, nil
}

// appendLegacy encodes an OP_REPLY: flags (await capable), cursor 0, start 0, one document.
func appendLegacy(dst []byte, req *Request, reply Reply) []byte {
	start := len(dst)
	dst = appendHeader(dst, Header{RequestID: reply.ID, ResponseTo: req.ID, OpCode: OpReply})
	dst = binary.LittleEndian.AppendUint32(dst, 8)
	dst = binary.LittleEndian.AppendUint64(dst, 0)
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	dst = binary.LittleEndian.AppendUint32(dst, 1)
	dst = append(dst, reply.Doc...)
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(dst)-start))
	return dst
}
