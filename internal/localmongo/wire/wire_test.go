package wire_test

import (
	"bufio"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/wire"
)

func doc(t testing.TB, d bson.D) []byte {
	t.Helper()
	b, err := bson.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// frame puts a header in front of a body.
func frame(op int32, body []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(16+len(body)))
	b = append(b, 1, 0, 0, 0, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(op))
	return append(b, body...)
}

func flags(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func read(b []byte) (*wire.Request, error) {
	h, body, err := wire.ReadFrame(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		return nil, err
	}
	return wire.Decode(h, body)
}

// sequence is a kind 1 section.
func sequence(name string, docs ...[]byte) []byte {
	inner := join(append([][]byte{[]byte(name), {0}}, docs...)...)
	return join([]byte{1}, binary.LittleEndian.AppendUint32(nil, uint32(4+len(inner))), inner)
}

func TestOpMsg(t *testing.T) {
	body := doc(t, bson.D{{Key: "insert", Value: "c"}})
	one, two := doc(t, bson.D{{Key: "_id", Value: 1}}), doc(t, bson.D{{Key: "_id", Value: 2}})
	req, err := read(frame(wire.OpMsg, join(flags(1<<16|1<<1), sequence("documents", one, two), []byte{0}, body, sequence("empty"))))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(req.Body, body) || len(req.Sequences["documents"]) != 2 || !bytes.Equal(req.Sequences["documents"][1], two) ||
		len(req.Sequences["empty"]) != 0 || !req.NoReply || !req.Exhaust || req.Legacy || req.ID != 1 {
		t.Errorf("%+v", req)
	}
}

func TestOpMsgChecksum(t *testing.T) {
	msg := frame(wire.OpMsg, join(flags(1), []byte{0}, doc(t, bson.D{{Key: "ping", Value: 1}}), make([]byte, 4)))
	binary.LittleEndian.PutUint32(msg[len(msg)-4:], crc32.Checksum(msg[:len(msg)-4], crc32.MakeTable(crc32.Castagnoli)))
	if _, err := read(msg); err != nil {
		t.Errorf("right checksum: %v", err)
	}
	msg[len(msg)-1] ^= 1
	if _, err := read(msg); !errors.Is(err, wire.ErrFrame) {
		t.Errorf("wrong checksum: %v", err)
	}
}

func TestOpQueryHandshake(t *testing.T) {
	req, err := read(frame(wire.OpQuery, join(flags(4), []byte("admin.$cmd\x00"), flags(0), flags(0xffffffff), doc(t, bson.D{{Key: "isMaster", Value: 1}}))))
	if err != nil || req.Database != "admin" || !req.Legacy {
		t.Fatalf("%+v, %v", req, err)
	}
	out, err := wire.AppendReply(nil, req, wire.Reply{ID: 9, Doc: doc(t, bson.D{{Key: "ok", Value: 1}})})
	if err != nil {
		t.Fatal(err)
	}
	h, body, err := wire.ReadFrame(bufio.NewReader(bytes.NewReader(out)))
	if err != nil || h.OpCode != wire.OpReply || h.ResponseTo != 1 || h.RequestID != 9 || binary.LittleEndian.Uint32(body[16:]) != 1 {
		t.Errorf("%+v %x %v", h, body, err)
	}
}

// zlibbed is a message in OP_COMPRESSED that announces a length.
func zlibbed(t testing.TB, op int32, body []byte, announce int) []byte {
	t.Helper()
	var packed bytes.Buffer
	zw := zlib.NewWriter(&packed)
	if _, err := zw.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return frame(wire.OpCompressed, join(flags(uint32(op)), flags(uint32(announce)), []byte{2}, packed.Bytes()))
}

func TestCompressedRoundTrip(t *testing.T) {
	body := join(flags(0), []byte{0}, doc(t, bson.D{{Key: "ping", Value: strings.Repeat("x", 10_000)}}))
	req, err := read(zlibbed(t, wire.OpMsg, body, len(body)))
	if err != nil || !bytes.Equal(req.Body, body[5:]) {
		t.Fatal(err)
	}
	out, err := wire.AppendReply([]byte("before"), req, wire.Reply{Doc: req.Body})
	if err != nil {
		t.Fatal(err)
	}
	back, err := read(out[len("before"):])
	if err != nil || !bytes.Equal(back.Body, req.Body) || len(out) > 1000 {
		t.Errorf("%d bytes, %v", len(out), err)
	}
}

func TestMalformed(t *testing.T) {
	ping := doc(t, bson.D{{Key: "ping", Value: 1}})
	msg := join(flags(0), []byte{0}, ping)
	for name, b := range map[string][]byte{
		"length below the header":      {15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"negative length":              {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"length over the limit":        {0, 0x80, 0xdc, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"unknown op code":              frame(77, msg),
		"old insert":                   frame(2002, msg),
		"empty message":                frame(wire.OpMsg, nil),
		"flags only":                   frame(wire.OpMsg, flags(0)),
		"unknown required flag":        frame(wire.OpMsg, join(flags(4), []byte{0}, ping)),
		"checksum flag, no checksum":   frame(wire.OpMsg, join(flags(1), []byte{0})),
		"unknown section":              frame(wire.OpMsg, join(flags(0), []byte{9}, ping)),
		"two bodies":                   frame(wire.OpMsg, join(msg, []byte{0}, ping)),
		"document longer than message": frame(wire.OpMsg, join(flags(0), []byte{0}, []byte{200, 0, 0, 0, 0})),
		"document of negative length":  frame(wire.OpMsg, join(flags(0), []byte{0}, []byte{0xff, 0xff, 0xff, 0xff, 0})),
		"document without its end":     frame(wire.OpMsg, join(flags(0), []byte{0}, []byte{5, 0, 0, 0, 1})),
		"sequence longer than message": frame(wire.OpMsg, join(msg, []byte{1}, flags(900), []byte("x\x00"))),
		"sequence of length zero":      frame(wire.OpMsg, join(msg, []byte{1}, flags(0), []byte("x\x00"))),
		"sequence without a name":      frame(wire.OpMsg, join(msg, []byte{1}, flags(6), []byte("xy"))),
		"sequence twice":               frame(wire.OpMsg, join(msg, sequence("a"), sequence("a"))),
		"query on a collection":        frame(wire.OpQuery, join(flags(0), []byte("d.c\x00"), flags(0), flags(1), ping)),
		"query without a name":         frame(wire.OpQuery, join(flags(0), []byte("d.c"))),
		"query cut short":              frame(wire.OpQuery, join(flags(0), []byte("d.$cmd\x00"), flags(0))),
		"compressed, too short":        frame(wire.OpCompressed, flags(0)),
		"compressed, unknown way":      frame(wire.OpCompressed, join(flags(wire.OpMsg), flags(10), []byte{7}, msg)),
		"compressed, not zlib":         frame(wire.OpCompressed, join(flags(wire.OpMsg), flags(10), []byte{2}, msg)),
		"compressed, longer than told": zlibbed(t, wire.OpMsg, msg, len(msg)-1),
		"compressed, less than told":   zlibbed(t, wire.OpMsg, msg, len(msg)+1),
		"compressed, huge":             zlibbed(t, wire.OpMsg, msg, 1<<31-1),
		"compressed, negative":         zlibbed(t, wire.OpMsg, msg, -5),
		"compressed, a bomb":           zlibbed(t, wire.OpMsg, make([]byte, 30<<20), 1000),
		"compressed twice":             zlibbed(t, wire.OpCompressed, zlibbed(t, wire.OpMsg, msg, len(msg))[16:], len(zlibbed(t, wire.OpMsg, msg, len(msg)))-16),
		"not packed, wrong length":     frame(wire.OpCompressed, join(flags(wire.OpMsg), flags(10), []byte{0}, msg)),
	} {
		if _, err := read(b); !errors.Is(err, wire.ErrFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A header that lies about its length must not cost the memory that it promises.
func TestShortBodyOfALongMessage(t *testing.T) {
	lie := frame(wire.OpMsg, flags(0))
	binary.LittleEndian.PutUint32(lie, 40_000_000)
	allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := read(lie); !errors.Is(err, io.ErrUnexpectedEOF) {
				b.Fatal(err)
			}
		}
	}).AllocedBytesPerOp()
	if allocated > 1<<20 {
		t.Errorf("%d bytes are allocated", allocated)
	}
	if _, err := read(lie[:10]); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("header cut short: %v", err)
	}
	if _, err := read(nil); !errors.Is(err, io.EOF) {
		t.Errorf("nothing: %v", err)
	}
}

func FuzzFrame(f *testing.F) {
	ping := doc(f, bson.D{{Key: "ping", Value: 1}})
	msg := join(flags(0), []byte{0}, ping)
	f.Add(frame(wire.OpMsg, msg))
	f.Add(frame(wire.OpMsg, join(msg, sequence("documents", ping))))
	f.Add(frame(wire.OpQuery, join(flags(0), []byte("d.$cmd\x00"), flags(0), flags(1), ping)))
	f.Add(zlibbed(f, wire.OpMsg, msg, len(msg)))
	f.Fuzz(func(t *testing.T, b []byte) {
		req, err := read(b)
		if err != nil {
			return
		}
		if len(req.Body) < 5 {
			t.Fatalf("request without a body: %+v", req)
		}
		if _, err := wire.AppendReply(nil, req, wire.Reply{Doc: req.Body}); err != nil {
			t.Fatal(err)
		}
	})
}
