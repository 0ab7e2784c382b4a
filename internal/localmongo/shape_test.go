package localmongo_test

import (
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
)

// field returns a value of a reply as Extended JSON, "" when it is not there.
func field(t *testing.T, reply bson.Raw, path ...string) string {
	t.Helper()
	v, err := reply.LookupErr(path...)
	if err != nil {
		return ""
	}
	b, err := bson.MarshalExtJSON(bson.D{{Key: "v", Value: v}}, false, false)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[len(`{"v":`) : len(b)-1])
}

func TestHandshake(t *testing.T) {
	s := localmongotest.Start(t, localmongo.Options{ReplicaSet: "rsx"})
	c := dialRaw(t, s)
	for _, name := range []string{"hello", "isMaster"} {
		r := c.must("admin", bson.D{{Key: name, Value: 1}})
		primary := map[string]string{"hello": "isWritablePrimary", "isMaster": "ismaster"}[name]
		for path, want := range map[string]string{
			"setName": `"rsx"`, primary: "true", "secondary": "false", "me": `"` + s.Addr() + `"`, "primary": `"` + s.Addr() + `"`,
			"maxBsonObjectSize": "16777216", "maxMessageSizeBytes": "48000000", "maxWriteBatchSize": "100000",
			"logicalSessionTimeoutMinutes": "30", "minWireVersion": "0", "maxWireVersion": "25", "readOnly": "false",
		} {
			if got := field(t, r, path); got != want {
				t.Errorf("%s: %s is %s, want %s", name, path, got, want)
			}
		}
		if id := field(t, r, "electionId"); !strings.HasPrefix(id, `{"$oid":"7fffffff`) {
			t.Errorf("%s: electionId is %s", name, id)
		}
		if r.Lookup("hosts", "0").StringValue() != s.Addr() {
			t.Errorf("%s: hosts is %s", name, field(t, r, "hosts"))
		}
	}
	if got := field(t, c.must("admin", bson.D{{Key: "buildInfo", Value: 1}}), "maxBsonObjectSize"); got != "16777216" {
		t.Errorf("buildInfo: maxBsonObjectSize is %s", got)
	}
}

// watchAll opens a change stream on d.c and returns the cursor id and the reply.
func watchAll(c *rawClient, options string, batch int) (int64, bson.Raw) {
	c.t.Helper()
	r := c.must("d", bson.D{{Key: "aggregate", Value: "c"},
		{Key: "pipeline", Value: bson.A{bson.D{{Key: "$changeStream", Value: parse(c.t, options)}}}},
		{Key: "cursor", Value: bson.D{{Key: "batchSize", Value: batch}}}})
	return r.Lookup("cursor", "id").Int64(), r
}

func getMore(id int64) bson.D {
	return bson.D{{Key: "getMore", Value: id}, {Key: "collection", Value: "c"}, {Key: "maxTimeMS", Value: 50}}
}

func insertNumbers(c *rawClient, from, n int) {
	docs := bson.A{}
	for i := range n {
		docs = append(docs, bson.D{{Key: "_id", Value: from + i}})
	}
	c.must("d", bson.D{{Key: "insert", Value: "c"}, {Key: "documents", Value: docs}})
}

func count(t *testing.T, reply bson.Raw, batch string) int {
	t.Helper()
	v, err := reply.Lookup("cursor", batch).Array().Values()
	if err != nil {
		t.Fatal(err)
	}
	return len(v)
}

// The first batch holds 101 events when the client names no number, the next one the rest.
func TestFirstBatch(t *testing.T) {
	c := dialRaw(t, localmongotest.Start(t, localmongo.Options{}))
	_, open := watchAll(c, `{}`, 0)
	insertNumbers(c, 0, 230)
	r := c.must("d", bson.D{{Key: "aggregate", Value: "c"},
		{Key: "pipeline", Value: bson.A{bson.D{{Key: "$changeStream", Value: bson.D{{Key: "resumeAfter", Value: open.Lookup("cursor", "postBatchResumeToken")}}}}}},
		{Key: "cursor", Value: bson.D{}}})
	if n := count(t, r, "firstBatch"); n != 101 {
		t.Errorf("the first batch holds %d events, want 101", n)
	}
	r = c.must("d", getMore(r.Lookup("cursor", "id").Int64()))
	if n := count(t, r, "nextBatch"); n != 129 {
		t.Errorf("the second batch holds %d events, want 129", n)
	}
}

func TestPipelineUpdateEvent(t *testing.T) {
	c := dialRaw(t, localmongotest.Start(t, localmongo.Options{}))
	c.must("d", parse(t, `{"insert": "c", "documents": [{"_id": 1, "a": {"x": 1, "y": 2}, "l": [1, 2, 3], "m": [1], "gone": 1}]}`))
	id, _ := watchAll(c, `{}`, 0)
	c.must("d", parse(t, `{"update": "c", "updates": [{"q": {"_id": 1}, "u": [
		{"$set": {"a.x": 9, "sum": {"$add": [1, 2]}, "l": [1, 2], "m": [1, 5]}}, {"$unset": "gone"}]}]}`))
	ev := c.must("d", getMore(id)).Lookup("cursor", "nextBatch", "0").Document()
	want := `{"updatedFields":{"a.x":9,"m.1":5,"sum":3},"removedFields":["gone"],"truncatedArrays":[{"field":"l","newSize":2}]}`
	if got := field(t, ev, "updateDescription"); got != want || ev.Lookup("operationType").StringValue() != "update" {
		t.Errorf("event is %s\nwant updateDescription %s", ev, want)
	}
	if d := time.Since(ev.Lookup("wallTime").Time()); d < 0 || d > time.Minute {
		t.Errorf("wallTime is %v ago", d)
	}
}
