package localmongo_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/localmongo"
)

// failNext makes the next commands of some names fail as data says.
func failNext(t *testing.T, client *mongo.Client, times int, data bson.D) {
	t.Helper()
	err := client.Database("admin").RunCommand(t.Context(), bson.D{
		{Key: "configureFailPoint", Value: "failCommand"},
		{Key: "mode", Value: bson.D{{Key: "times", Value: times}}},
		{Key: "data", Value: data},
	}).Err()
	if err != nil {
		t.Fatal(err)
	}
}

func serverError(t *testing.T, err error, code int, labels ...string) {
	t.Helper()
	se, ok := errors.AsType[mongo.ServerError](err)
	if !ok || !se.HasErrorCode(code) {
		t.Errorf("error is %v, want code %d", err, code)
		return
	}
	for _, l := range []string{"ResumableChangeStreamError", "RetryableWriteError", "TransientTransactionError"} {
		want := false
		for _, w := range labels {
			want = want || w == l
		}
		if se.HasErrorLabel(l) != want {
			t.Errorf("error %v: label %s is %v, want %v", err, l, !want, want)
		}
	}
}

// Driver specification, change streams: a getMore that fails with a resumable error is
// resumed once, by the driver itself.
func TestFailPointResumableGetMore(t *testing.T) {
	_, client := connect(t, localmongo.Options{})
	coll := client.Database("d").Collection("c")
	cs, err := coll.Watch(t.Context(), mongo.Pipeline{})
	if err != nil {
		t.Fatal(err)
	}
	defer cs.Close(context.Background())
	failNext(t, client, 1, parse(t, `{"failCommands": ["getMore"], "errorCode": 11602, "closeConnection": false}`))
	if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	if !cs.Next(t.Context()) {
		t.Fatal(cs.Err())
	}
	failNext(t, client, 1, parse(t, `{"failCommands": ["getMore"], "errorCode": 280}`))
	if cs.Next(t.Context()) {
		t.Fatalf("event: %s", cs.Current)
	}
	serverError(t, cs.Err(), 280)
}

// Driver specification, change streams: labels decide, whatever the code.
func TestFailPointLabels(t *testing.T) {
	_, client := connect(t, localmongo.Options{})
	coll := client.Database("d").Collection("c")
	for _, c := range []struct {
		data   string
		code   int
		labels []string
	}{
		{`{"failCommands": ["aggregate"], "errorCode": 10107}`, 10107, []string{"ResumableChangeStreamError"}},
		{`{"failCommands": ["aggregate"], "errorCode": 8000}`, 8000, nil},
		{`{"failCommands": ["aggregate"], "errorCode": 280, "errorLabels": ["ResumableChangeStreamError"]}`, 280, []string{"ResumableChangeStreamError"}},
		{`{"failCommands": ["aggregate"], "errorCode": 10107, "errorLabels": []}`, 10107, nil},
	} {
		failNext(t, client, 2, parse(t, c.data))
		cs, err := coll.Watch(t.Context(), mongo.Pipeline{})
		if err == nil {
			_ = cs.Close(t.Context())
		}
		serverError(t, err, c.code, c.labels...)
		if err := client.Database("admin").RunCommand(t.Context(), parse(t, `{"configureFailPoint": "failCommand", "mode": "off"}`)).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// Driver specification, retryable writes: the write is tried again and happens once.
func TestFailPointRetryableWrite(t *testing.T) {
	s, client := connect(t, localmongo.Options{})
	coll := client.Database("d").Collection("c")
	for i, data := range []string{
		`{"failCommands": ["insert"], "closeConnection": true}`,
		`{"failCommands": ["insert"], "errorCode": 10107}`,
		`{"failCommands": ["insert"], "errorCode": 91, "errorLabels": ["RetryableWriteError"]}`,
	} {
		failNext(t, client, 1, parse(t, data))
		if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: i}}); err != nil {
			t.Errorf("%s: %v", data, err)
		}
	}
	failNext(t, client, 2, parse(t, `{"failCommands": ["insert"], "errorCode": 10107}`))
	_, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 9}})
	serverError(t, err, 10107, "RetryableWriteError")
	failNext(t, client, 1, parse(t, `{"failCommands": ["update"], "writeConcernError": {"code": 64, "errmsg": "slow"}}`))
	_, err = coll.UpdateOne(t.Context(), bson.D{{Key: "_id", Value: 0}}, parse(t, `{"$set": {"x": 1}}`))
	if we, ok := errors.AsType[mongo.WriteException](err); !ok || we.WriteConcernError == nil || we.WriteConcernError.Code != 64 {
		t.Errorf("write concern error: %v", err)
	}
	if n, err := coll.CountDocuments(t.Context(), parse(t, `{"x": 1}`)); err != nil || n != 1 {
		t.Errorf("the write with a write concern error did not happen: %d, %v", n, err)
	}
	if s.OpenCursors() != 0 {
		t.Errorf("%d cursors are open", s.OpenCursors())
	}
}

func TestFailPointModesAndApps(t *testing.T) {
	s, client := connect(t, localmongo.Options{})
	named := dial(t, s, options.Client().SetAppName("victim").SetRetryReads(false))
	admin := client.Database("admin")
	cmd := parse(t, `{"configureFailPoint": "failCommand", "mode": {"skip": 1}, "data": {"failCommands": ["find"], "errorCode": 8000, "appName": "victim"}}`)
	if err := admin.RunCommand(t.Context(), cmd).Err(); err != nil {
		t.Fatal(err)
	}
	findOne := func(c *mongo.Client) error {
		err := c.Database("d").Collection("c").FindOne(t.Context(), bson.D{}).Err()
		if errors.Is(err, mongo.ErrNoDocuments) {
			return nil
		}
		return err
	}
	if err := errors.Join(findOne(named), findOne(client)); err != nil {
		t.Errorf("skipped, or another application: %v", err)
	}
	for range 2 {
		serverError(t, findOne(named), 8000)
	}
	if err := admin.RunCommand(t.Context(), parse(t, `{"configureFailPoint": "failCommand", "mode": "off"}`)).Err(); err != nil {
		t.Fatal(err)
	}
	if err := findOne(named); err != nil {
		t.Errorf("switched off: %v", err)
	}
	for namespace, code := range map[string]int{"d.other": 0, "d.c": 8000} {
		cmd := fmt.Sprintf(`{"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": {"failCommands": ["find"], "errorCode": 8000, "namespace": %q}}`, namespace)
		if err := admin.RunCommand(t.Context(), parse(t, cmd)).Err(); err != nil {
			t.Fatal(err)
		}
		if err := findOne(named); code == 0 && err != nil {
			t.Errorf("of another collection: %v", err)
		} else if code != 0 {
			serverError(t, err, code)
		}
	}
	if err := admin.RunCommand(t.Context(), parse(t, `{"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": {"failCommands": ["find"], "blockConnection": true, "blockTimeMS": 10000}}`)).Err(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	err := named.Database("d").Collection("c").FindOne(ctx, bson.D{}).Err()
	if !mongo.IsTimeout(err) || time.Since(start) > 5*time.Second {
		t.Errorf("blocked find: %v after %v", err, time.Since(start))
	}
	for _, bad := range []string{
		`{"configureFailPoint": "other", "mode": "off"}`,
		`{"configureFailPoint": "failCommand", "mode": "sometimes"}`,
		`{"configureFailPoint": "failCommand", "mode": "off", "data": {"nope": 1}}`,
	} {
		if err := admin.RunCommand(t.Context(), parse(t, bad)).Err(); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

// The answer to a write is lost with its connection; the driver asks again, and the
// server must not write twice.
func TestLostAnswerIsNotWrittenTwice(t *testing.T) {
	s, client := connect(t, localmongo.Options{})
	coll := client.Database("d").Collection("c")
	if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}, {Key: "n", Value: 0}}); err != nil {
		t.Fatal(err)
	}
	c := dialRaw(t, s)
	lsid := bson.D{{Key: "id", Value: bson.Binary{Subtype: 4, Data: make([]byte, 16)}}}
	inc := func(number int64) bson.D {
		return append(parse(t, `{"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$inc": {"n": 1}}}]}`),
			bson.E{Key: "lsid", Value: lsid}, bson.E{Key: "txnNumber", Value: number})
	}
	first := c.must("d", inc(1))
	c2 := dialRaw(t, s)
	again := c2.must("d", inc(1))
	if field(t, first, "nModified") != "1" || field(t, again, "nModified") != "1" {
		t.Errorf("answers differ: %s, %s", first, again)
	}
	c2.must("d", inc(2))
	if got := field(t, c2.do("d", inc(1)), "code"); got != "225" {
		t.Errorf("an older number has code %s, want 225", got)
	}
	var doc struct{ N int }
	if err := coll.FindOne(t.Context(), bson.D{}).Decode(&doc); err != nil || doc.N != 2 {
		t.Errorf("n is %d, want 2: %v", doc.N, err)
	}
}

func TestDropAndRefuseConnections(t *testing.T) {
	s, client := connect(t, localmongo.Options{})
	coll := client.Database("d").Collection("c")
	cs, err := coll.Watch(t.Context(), mongo.Pipeline{}, options.ChangeStream().SetMaxAwaitTime(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer cs.Close(context.Background())
	got := make(chan error, 1)
	go func() {
		// The driver resumes once; when that meets the cleared pool too, it is for the
		// application to open the stream again.
		for try := 0; !cs.Next(t.Context()); try++ {
			next, err := coll.Watch(t.Context(), mongo.Pipeline{}, options.ChangeStream().SetResumeAfter(cs.ResumeToken()))
			if err == nil {
				_ = cs.Close(t.Context())
				cs = next
			} else if try == 20 {
				got <- err
				return
			}
		}
		got <- nil
	}()
	s.DropConnections()
	if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}}); err != nil {
		t.Errorf("write after the connections were dropped: %v", err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
	s.RefuseConnections(true)
	s.DropConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := client.Ping(ctx, nil); err == nil {
		t.Error("ping while connections are refused")
	}
	s.RefuseConnections(false)
	if err := client.Ping(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestFreezeAndThaw(t *testing.T) {
	s, client := connect(t, localmongo.Options{})
	if err := client.Ping(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	s.Freeze()
	s.Freeze()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := client.Ping(ctx, nil); !mongo.IsTimeout(err) {
		t.Errorf("ping of a frozen server: %v", err)
	}
	done := make(chan error, 1)
	c := dialRaw(t, s)
	go func() { _, err := c.try("admin", bson.D{{Key: "ping", Value: 1}}); done <- err }()
	s.Thaw()
	if err := <-done; err != nil {
		t.Errorf("what was held back is not answered: %v", err)
	}
	if err := client.Ping(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestStepDown(t *testing.T) {
	s, client := connect(t, localmongo.Options{})
	c := dialRaw(t, s)
	before := field(t, c.must("admin", bson.D{{Key: "hello", Value: 1}}), "electionId")
	id, _ := watchAll(c, `{}`, 0)
	waiting := dialRaw(t, s)
	interrupted := make(chan bson.Raw, 1)
	const inUse = "12051"
	go func() {
		defer close(interrupted)
		for {
			r, err := waiting.try("d", bson.D{{Key: "getMore", Value: id}, {Key: "collection", Value: "c"}, {Key: "maxTimeMS", Value: 15000}})
			if err != nil {
				return
			}
			if field(t, r, "code") != inUse {
				interrupted <- r
				return
			}
		}
	}()
	// The getMore waits when it holds its cursor: a second one is told so.
	for field(t, c.do("d", getMore(id)), "code") != inUse {
	}
	s.StepDown(0)
	r := <-interrupted
	if field(t, r, "code") != "11602" || field(t, r, "errorLabels", "0") != `"ResumableChangeStreamError"` {
		t.Errorf("waiting getMore: %s", r)
	}
	if r := c.do("d", parse(t, `{"insert": "c", "documents": [{}]}`)); field(t, r, "code") != "10107" {
		t.Errorf("write on a secondary: %s", r)
	}
	if r := c.do("d", parse(t, `{"find": "c"}`)); field(t, r, "code") != "13435" {
		t.Errorf("read on a secondary: %s", r)
	}
	hello := c.must("admin", bson.D{{Key: "hello", Value: 1}})
	if field(t, hello, "isWritablePrimary") != "false" || field(t, hello, "secondary") != "true" || field(t, hello, "primary") != "" {
		t.Errorf("hello of a secondary: %s", hello)
	}
	s.StepUp()
	hello = c.must("admin", bson.D{{Key: "hello", Value: 1}})
	if after := field(t, hello, "electionId"); after <= before || field(t, hello, "isWritablePrimary") != "true" {
		t.Errorf("electionId is %s after %s", after, before)
	}
	c.must("d", getMore(id)) // the cursor has survived
	s.StepDown(50 * time.Millisecond)
	// The driver tries a write twice, and both may fall into the gap when a connection
	// that it opened meanwhile knows of the step-down before its monitor does.
	for {
		_, err := client.Database("d").Collection("c").InsertOne(t.Context(), bson.D{})
		if err == nil {
			break
		}
		if se, ok := errors.AsType[mongo.ServerError](err); !ok || !se.HasErrorCode(10107) {
			t.Fatalf("write over an election: %v", err)
		}
	}
}

func TestLoseHistory(t *testing.T) {
	for _, lax := range []bool{false, true} {
		t.Run(fmt.Sprintf("lax %v", lax), func(t *testing.T) {
			s, client := connect(t, localmongo.Options{LaxResume: lax, NoopInterval: -1})
			coll := client.Database("d").Collection("c")
			cs, err := coll.Watch(t.Context(), mongo.Pipeline{})
			if err != nil {
				t.Fatal(err)
			}
			defer cs.Close(context.Background())
			if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}}); err != nil {
				t.Fatal(err)
			}
			if !cs.Next(t.Context()) {
				t.Fatal(cs.Err())
			}
			token, at := cs.ResumeToken(), s.ClusterTime()
			if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 2}}); err != nil {
				t.Fatal(err)
			}
			s.LoseHistory(bson.Timestamp{})
			if cs.Next(t.Context()) {
				t.Fatalf("event of a stream that fell behind: %s", cs.Current)
			}
			serverError(t, cs.Err(), 286)
			again, err := coll.Watch(t.Context(), mongo.Pipeline{}, options.ChangeStream().SetResumeAfter(token).SetMaxAwaitTime(50*time.Millisecond))
			if lax {
				if err != nil || again.TryNext(t.Context()) || again.Err() != nil {
					t.Fatalf("lost token: %v", err)
				}
				if again.ResumeToken().Lookup("_data").StringValue() <= token.Lookup("_data").StringValue() {
					t.Errorf("the post-batch token stays at %s", again.ResumeToken())
				}
				_ = again.Close(t.Context())
			} else {
				serverError(t, err, 286)
			}
			_, err = coll.Watch(t.Context(), mongo.Pipeline{}, options.ChangeStream().SetStartAtOperationTime(&at))
			serverError(t, err, 286)
		})
	}
}

// A stream opened with batch size 0 is refused at its first getMore.
func TestLostHistoryIsRefusedAtTheFirstPull(t *testing.T) {
	s, _ := connect(t, localmongo.Options{})
	c := dialRaw(t, s)
	_, open := watchAll(c, `{}`, 0)
	insertNumbers(c, 0, 3)
	s.LoseHistory(bson.Timestamp{})
	r := c.must("d", bson.D{{Key: "aggregate", Value: "c"},
		{Key: "pipeline", Value: bson.A{bson.D{{Key: "$changeStream", Value: bson.D{{Key: "startAfter", Value: open.Lookup("cursor", "postBatchResumeToken")}}}}}},
		{Key: "cursor", Value: bson.D{{Key: "batchSize", Value: 0}}}})
	if r := c.do("d", getMore(r.Lookup("cursor", "id").Int64())); field(t, r, "code") != "286" || field(t, r, "codeName") != `"ChangeStreamHistoryLost"` || field(t, r, "errorLabels") != "" {
		t.Errorf("first getMore: %s", r)
	}
}

func TestKillCursorsAndOversizedEvent(t *testing.T) {
	s, client := connect(t, localmongo.Options{})
	coll := client.Database("d").Collection("c")
	var started []string
	watcher := dial(t, s, options.Client().SetMonitor(&event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		started = append(started, e.CommandName)
	}}))
	cs, err := watcher.Database("d").Collection("c").Watch(t.Context(), mongo.Pipeline{})
	if err != nil {
		t.Fatal(err)
	}
	defer cs.Close(context.Background())
	if n := s.KillCursors("d.other"); n != 0 {
		t.Errorf("%d cursors of another collection were killed", n)
	}
	if n := s.KillCursors("d.c"); n != 1 {
		t.Errorf("%d cursors were killed, want 1", n)
	}
	if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	if !cs.Next(t.Context()) { // the driver resumes
		t.Fatal(cs.Err())
	}
	if fmt.Sprint(started[:4]) != "[aggregate getMore killCursors aggregate]" && fmt.Sprint(started[:3]) != "[aggregate getMore aggregate]" {
		t.Errorf("commands: %v", started)
	}
	s.OversizedEvent(1)
	if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 2}}); err != nil {
		t.Fatal(err)
	}
	if cs.Next(t.Context()) {
		t.Fatalf("event: %s", cs.Current)
	}
	serverError(t, cs.Err(), 10334)
	if n := s.OpenCursors(); n != 0 {
		t.Errorf("%d cursors are open after the error", n)
	}
}
