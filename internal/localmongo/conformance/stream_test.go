package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/resume"
	"github.com/cxbridge/watcher/pkg/stream"
)

// reader is an open cursor and the token it has come to.
type reader struct {
	t     *testing.T
	c     stream.Cursor
	token bson.Raw
}

func open(t *testing.T, s stream.Source, o stream.Opening) *reader {
	t.Helper()
	o.MaxAwait = 100 * time.Millisecond
	c, first, err := s.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("close the cursor: %v", err)
		}
	})
	return &reader{t, c, first.Token}
}

// next polls until there are n events, and says what they are.
func (r *reader) next(n int) string {
	r.t.Helper()
	var got []string
	deadline := time.Now().Add(patience)
	for len(got) < n {
		if time.Now().After(deadline) {
			r.t.Fatalf("only %q came", got)
		}
		b, err := r.c.Poll(r.t.Context())
		if err != nil {
			r.t.Fatal(err)
		}
		for _, ev := range b.Events {
			key := ""
			if v, err := ev.LookupErr("documentKey", "_id"); err == nil {
				key = " " + v.String()
			}
			got = append(got, ev.Lookup("operationType").StringValue()+key)
		}
		if resume.CompareTokens(b.Token, r.token) < 0 {
			r.t.Fatalf("token %s after %s", b.Token, r.token)
		}
		r.token = b.Token
	}
	return strings.ReplaceAll(strings.Join(got, ", "), `"`, "")
}

func (r *reader) want(events string) {
	r.t.Helper()
	if got := r.next(len(strings.Split(events, ", "))); got != events {
		r.t.Errorf("events are %s, want %s", got, events)
	}
}

func update(t *testing.T, coll *mongo.Collection, id, u string) {
	t.Helper()
	if _, err := coll.UpdateByID(t.Context(), id, doc(t, u)); err != nil {
		t.Fatal(err)
	}
}

// Only what stores results is an event: not the skeleton, not the dialler's fields, not
// the same completed_at again, not the outcome of a push, not an agent's call.
func TestTriggers(t *testing.T) {
	onEach(t, func(t *testing.T, db *mongo.Database) {
		coll := db.Collection("calls")
		insert(t, coll, `{"_id": "before"}`)
		r := open(t, stream.FromCollection(coll, calls.Pipeline(), nil), stream.Opening{})
		insert(t, coll, `{"_id": "a", "session_id": "s1"}`, `{"_id": "agent", "call_type": "agent", "completed_at": {"$date": "2026-06-05T12:00:00Z"}}`)
		update(t, coll, "a", `{"$set": {"cdr": {"x": 1}}}`)
		update(t, coll, "a", `{"$set": {"completed_at": {"$date": "2026-06-05T12:00:00Z"}, "status": "completed"}}`)
		update(t, coll, "a", `{"$set": {"completed_at": {"$date": "2026-06-05T12:00:00Z"}, "status": "failed"}}`)
		update(t, coll, "a", `{"$set": {"post_call_push_result": {"completed_at": {"$date": "2026-06-05T12:00:00Z"}}}, "$push": {"events": {"type": "post_call_push"}}}`)
		insert(t, coll, `{"_id": "b", "completed_at": {"$date": "2026-06-05T12:00:00Z"}}`)
		if _, err := coll.ReplaceOne(t.Context(), bson.D{{Key: "_id", Value: "b"}}, doc(t, `{"completed_at": {"$date": "2026-06-05T12:00:00Z"}, "r": 1}`)); err != nil {
			t.Fatal(err)
		}
		update(t, coll, "a", `{"$set": {"completed_at": {"$date": "2026-06-05T12:00:01Z"}}}`)
		r.want("update a, insert b, replace b, update a")
	})
}

func TestResume(t *testing.T) {
	onEach(t, func(t *testing.T, db *mongo.Database) {
		coll := db.Collection("calls")
		source := stream.FromCollection(coll, nil, nil)
		insert(t, coll, `{"_id": "before"}`)
		r := open(t, source, stream.Opening{})
		start := r.token
		insert(t, coll, `{"_id": "a"}`)
		r.want("insert a")
		after := r.token
		insert(t, coll, `{"_id": "b"}`, `{"_id": "c"}`)
		open(t, source, stream.Opening{After: start}).want("insert a, insert b, insert c")
		open(t, source, stream.Opening{After: after}).want("insert b, insert c")
		at, ok := resume.TokenTime(after)
		if !ok {
			t.Fatalf("the token %s has no time", after)
		}
		open(t, source, stream.Opening{At: at}).want("insert a, insert b, insert c")
		for i := range 3 { // the token moves with writes elsewhere too
			insert(t, db.Collection("other"), fmt.Sprintf(`{"_id": %d}`, i))
		}
		last := r.token
		until(t, "the token passes foreign writes", func() bool {
			if _, err := r.c.Poll(t.Context()); err != nil {
				t.Fatal(err)
			}
			b, err := r.c.Poll(t.Context())
			return err == nil && resume.CompareTokens(b.Token, last) > 0
		})
	})
}

func TestDropAndAgain(t *testing.T) {
	onEach(t, func(t *testing.T, db *mongo.Database) {
		coll := db.Collection("calls")
		source := stream.FromCollection(coll, nil, nil)
		insert(t, coll, `{"_id": "a"}`)
		r := open(t, source, stream.Opening{})
		start := r.token
		if err := coll.Drop(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.want("drop, invalidate")
		invalidated := r.token
		insert(t, coll, `{"_id": "b"}`)
		open(t, source, stream.Opening{After: invalidated}).want("insert b")
		open(t, source, stream.Opening{After: start}).want("drop, invalidate")
	})
}

func TestBadOpenings(t *testing.T) {
	onEach(t, func(t *testing.T, db *mongo.Database) {
		coll := db.Collection("calls")
		insert(t, coll, `{"_id": "a"}`)
		for text, code := range map[string]int{
			`{"_data": "not hex"}`:  9,
			`{"_data": "DEADBEEF"}`: 50811,
			`{}`:                    40647,
		} {
			c, _, err := stream.FromCollection(coll, nil, nil).Open(t.Context(), stream.Opening{After: mustMarshal(t, doc(t, text))})
			if err == nil {
				_, err = c.Poll(t.Context())
				_ = c.Close(t.Context())
			}
			if se, ok := errors.AsType[mongo.ServerError](err); text != `{}` && (!ok || !se.HasErrorCode(code)) {
				t.Errorf("%s: %v, want code %d", text, err, code)
			}
		}
		checkBeforeTheHistory(t, coll)
	})
}

// checkBeforeTheHistory starts a stream in 1970. An oplog that still begins with the
// initiation of its set accepts that, since nothing was ever before it; one that has
// dropped its first entries refuses it.
func checkBeforeTheHistory(t *testing.T, coll *mongo.Collection) {
	t.Helper()
	c, _, err := stream.FromCollection(coll, nil, nil).Open(t.Context(), stream.Opening{At: bson.Timestamp{T: 1, I: 1}, MaxAwait: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.WithoutCancel(t.Context())) }()
	_, err = c.Poll(t.Context())
	if err == nil && !beginsWithTheSet(t, coll.Database().Client()) {
		t.Error("a start in 1970 is accepted though the history does not begin with the set")
	}
	if se, ok := errors.AsType[mongo.ServerError](err); err != nil && (!ok || !se.HasErrorCode(286) && !se.HasErrorCode(40576)) {
		t.Errorf("start in 1970: %v", err)
	}
}

// beginsWithTheSet says whether the first entry of the oplog is that of the set's
// initiation. It is unknown behind a router, which has no oplog: then it may be.
func beginsWithTheSet(t *testing.T, client *mongo.Client) bool {
	t.Helper()
	server, err := stream.Hello(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	if server.Sharded {
		return true
	}
	first, err := client.Database("local").Collection("oplog.rs").FindOne(t.Context(), bson.D{},
		options.FindOne().SetSort(bson.D{{Key: "$natural", Value: 1}})).Raw()
	if err != nil {
		t.Fatal(err)
	}
	text, _ := first.Lookup("o", "msg").StringValueOK()
	return text == "initiating set"
}
