package localmongo_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
)

// send writes bytes on a connection of its own and returns what comes back until the
// server closes or is silent for a while.
func send(t testing.TB, s *localmongo.Server, b []byte) []byte {
	t.Helper()
	nc, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	_ = nc.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = nc.Write(b)
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
	out, err := io.ReadAll(nc)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("no answer and no end to %x", b[:min(len(b), 64)])
	}
	return out
}

func TestGarbageEndsTheConnection(t *testing.T) {
	s := localmongotest.Start(t, localmongo.Options{})
	for _, b := range [][]byte{
		[]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
		bytes.Repeat([]byte{0xff}, 1000),
		make([]byte, 1000),
		{1, 2, 3},
	} {
		if out := send(t, s, b); len(out) != 0 {
			t.Errorf("%x is answered with %x", b[:3], out)
		}
	}
	dialRaw(t, s).must("admin", bson.D{{Key: "ping", Value: 1}})
}

// nest wraps a document into n others.
func nest(n int) []byte {
	doc := []byte{5, 0, 0, 0, 0}
	for range n {
		outer := append([]byte{0, 0, 0, 0, byte(bson.TypeEmbeddedDocument), 'a', 0}, doc...)
		outer = append(outer, 0)
		binary.LittleEndian.PutUint32(outer, uint32(len(outer)))
		doc = outer
	}
	return doc
}

func TestBadDocumentsAreErrors(t *testing.T) {
	s := localmongotest.Start(t, localmongo.Options{})
	c := dialRaw(t, s)
	deep := bson.D{{Key: "insert", Value: "c"}, {Key: "documents", Value: bson.A{bson.Raw(nest(500))}}}
	if r := c.do("d", deep); field(t, r, "code") != "22" {
		t.Errorf("500 levels: %s", r)
	}
	c.must("d", bson.D{{Key: "insert", Value: "c"}, {Key: "documents", Value: bson.A{bson.Raw(nest(100))}}})
	for cmd, code := range map[string]string{
		`{"find": 5}`:                                                  "14",
		`{"find": ""}`:                                                 "73",
		`{"find": "c", "filter": 5}`:                                   "14",
		`{"find": "c", "filtre": {}}`:                                  "40415",
		`{"find": "c", "limit": "x"}`:                                  "14",
		`{"find": "c", "skip": -1}`:                                    "2",
		`{"find": "c", "sort": {"a": "up"}}`:                           "2",
		`{"find": "c", "hint": "nope"}`:                                "2",
		`{"find": "c", "collation": {"locale": "de"}}`:                 "2",
		`{"find": "c", "tailable": true}`:                              "2",
		`{"insert": "c"}`:                                              "16",
		`{"insert": "c", "documents": [5]}`:                            "14",
		`{"insert": "a$b", "documents": [{}]}`:                         "73",
		`{"update": "c", "updates": [{"q": {}, "u": {}, "x": 1}]}`:     "",
		`{"aggregate": "c", "pipeline": []}`:                           "9",
		`{"aggregate": "c", "pipeline": [{}], "cursor": {}}`:           "40323",
		`{"aggregate": 2, "pipeline": [], "cursor": {}}`:               "9",
		`{"aggregate": 1, "pipeline": [{"$match": {}}], "cursor": {}}`: "73",
		`{"getMore": 5, "collection": "c"}`:                            "43",
		`{"getMore": "x", "collection": "c"}`:                          "14",
		`{"killCursors": "c", "cursors": ["x"]}`:                       "9",
		`{"findAndModify": "c", "query": {}}`:                          "9",
		`{"findAndModify": "c", "remove": true, "update": {}}`:         "9",
		`{"createIndexes": "c", "indexes": []}`:                        "2",
		`{"dropIndexes": "c", "index": "_id_"}`:                        "72",
		`{"dropIndexes": "c", "index": "nope"}`:                        "27",
		`{"listIndexes": "nope"}`:                                      "26",
		`{"create": "c"}`:                                              "48",
		`{"create": "k", "capped": true}`:                              "72",
		`{"explain": {"insert": "c"}}`:                                 "115",
		`{"distinct": "c", "key": ""}`:                                 "2",
		`{"hostInfo": 1}`:                                              "59",
		`{"mapReduce": "c"}`:                                           "59",
		`{"":1}`:                                                       "59",
	} {
		r := c.do("d", parse(t, cmd))
		if got := field(t, r, "code"); got != code {
			t.Errorf("%s: %s, want code %s", cmd, r, code)
		}
	}
	for cmd, code := range map[string]string{
		`{"renameCollection": "d.nope", "to": "d.x"}`:                                                   "26",
		`{"renameCollection": "d.c", "to": "d.c"}`:                                                      "20",
		`{"renameCollection": "d", "to": "d.c"}`:                                                        "73",
		`{"getParameter": 1, "nope": 1}`:                                                                "72",
		`{"aggregate": 1, "pipeline": [{"$changeStream": {"nope": 1}}], "cursor": {}}`:                  "40415",
		`{"aggregate": 1, "pipeline": [{"$changeStream": {}}, {"$group": {"_id": 1}}], "cursor": {}}`:   "20",
		`{"aggregate": 1, "pipeline": [{"$changeStream": {"fullDocument": "required"}}], "cursor": {}}`: "2",
		`{"saslStart": 1}`: "59",
	} {
		r := c.do("admin", parse(t, cmd))
		if got := field(t, r, "code"); got != code {
			t.Errorf("%s: %s, want code %s", cmd, r, code)
		}
	}
}

// Whatever document comes as a command, the server answers or closes, and goes on.
func FuzzCommand(f *testing.F) {
	s := localmongotest.Start(f, localmongo.Options{HistoryEvents: 1000})
	for _, cmd := range []string{
		`{"insert": "c", "documents": [{"_id": 1, "a": [1, {"b": 2}]}], "$db": "d"}`,
		`{"update": "c", "updates": [{"q": {"a.b": {"$in": [1, null]}}, "u": {"$set": {"a.0": 1}, "$push": {"l": {"$each": [1], "$slice": -1}}}, "upsert": true}], "$db": "d"}`,
		`{"find": "c", "filter": {"$or": [{"a": 1}, {"$expr": {"$gt": ["$a", 1]}}]}, "sort": {"a": 1}, "projection": {"a.b": 1}, "$db": "d"}`,
		`{"aggregate": "c", "pipeline": [{"$changeStream": {"resumeAfter": {"_data": "82"}}}, {"$match": {"a": 1}}], "cursor": {}, "$db": "d"}`,
		`{"findAndModify": "c", "query": {"_id": 1}, "update": [{"$set": {"b": {"$add": ["$a", 1]}}}], "$db": "d"}`,
		`{"createIndexes": "c", "indexes": [{"key": {"a": 1, "b": -1}, "name": "x", "unique": true}], "$db": "d"}`,
		`{"hello": 1, "topologyVersion": {"processId": {"$oid": "65f0c0ffee00000000000001"}, "counter": 1}, "maxAwaitTimeMS": 1, "$db": "admin"}`,
	} {
		doc, err := bson.Marshal(parse(f, cmd))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		out := send(t, s, message(1, doc))
		if len(out) == 0 {
			return
		}
		if code, _ := bson.Raw(out[21:]).Lookup("code").Int32OK(); code == 1 {
			t.Fatalf("internal error: %s", bson.Raw(out[21:]))
		}
	})
}
