package localmongo_test

import (
	"context"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
)

func TestDriverTransaction(t *testing.T) {
	_, client := connect(t, localmongo.Options{})
	ctx := t.Context()
	coll := client.Database("d").Collection("c")
	if _, err := coll.InsertOne(ctx, bson.D{{Key: "_id", Value: 0}}); err != nil {
		t.Fatal(err)
	}
	cs, err := coll.Watch(ctx, mongo.Pipeline{})
	if err != nil {
		t.Fatal(err)
	}
	defer cs.Close(context.Background())
	sess, err := client.StartSession()
	if err != nil {
		t.Fatal(err)
	}
	defer sess.EndSession(ctx)
	_, err = sess.WithTransaction(ctx, func(ctx context.Context) (any, error) {
		for i := range 3 {
			if _, err := coll.InsertOne(ctx, bson.D{{Key: "_id", Value: i + 1}}); err != nil {
				return nil, err
			}
		}
		if n, err := coll.CountDocuments(ctx, bson.D{}); err != nil || n != 4 {
			t.Errorf("inside: %d documents, %v", n, err)
		}
		if n, err := coll.CountDocuments(t.Context(), bson.D{}); err != nil || n != 1 {
			t.Errorf("outside: %d documents, %v", n, err)
		}
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var times []bson.Timestamp
	for range 3 {
		if !cs.Next(ctx) {
			t.Fatal(cs.Err())
		}
		var ev struct {
			ClusterTime bson.Timestamp `bson:"clusterTime"`
			TxnNumber   int64          `bson:"txnNumber"`
		}
		if err := cs.Decode(&ev); err != nil || ev.TxnNumber == 0 {
			t.Errorf("event %s: %v", cs.Current, err)
		}
		times = append(times, ev.ClusterTime)
	}
	if times[0] != times[2] {
		t.Errorf("events of one transaction have the times %v", times)
	}
	if err := sess.StartTransaction(); err != nil {
		t.Fatal(err)
	}
	inside := mongo.NewSessionContext(ctx, sess)
	if _, err := coll.InsertOne(inside, bson.D{{Key: "_id", Value: 9}}); err != nil {
		t.Fatal(err)
	}
	if err := sess.AbortTransaction(ctx); err != nil {
		t.Fatal(err)
	}
	if n, err := coll.CountDocuments(ctx, bson.D{}); err != nil || n != 4 {
		t.Errorf("after an abort: %d documents, %v", n, err)
	}
}

// Two transactions on one document: one of them is told to try again, and does.
func TestDriverTransactionConflict(t *testing.T) {
	_, client := connect(t, localmongo.Options{})
	ctx := t.Context()
	coll := client.Database("d").Collection("c")
	if _, err := coll.InsertOne(ctx, bson.D{{Key: "_id", Value: 1}, {Key: "n", Value: 0}}); err != nil {
		t.Fatal(err)
	}
	inc := bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}}
	sess, err := client.StartSession()
	if err != nil {
		t.Fatal(err)
	}
	defer sess.EndSession(ctx)
	tries := 0
	_, err = sess.WithTransaction(ctx, func(ctx context.Context) (any, error) {
		tries++
		if _, err := coll.UpdateByID(ctx, 1, inc); err != nil {
			return nil, err
		}
		if tries == 1 { // meanwhile, outside
			if _, err := coll.UpdateByID(t.Context(), 1, inc); err != nil {
				return nil, err
			}
		}
		return nil, nil
	})
	if err != nil || tries != 2 {
		t.Fatalf("%d tries, %v", tries, err)
	}
	var doc struct{ N int }
	if err := coll.FindOne(ctx, bson.D{}).Decode(&doc); err != nil || doc.N != 2 {
		t.Errorf("n is %d, want 2: %v", doc.N, err)
	}
}

func TestTransactionRules(t *testing.T) {
	s, _ := connect(t, localmongo.Options{})
	c := dialRaw(t, s)
	c.must("d", parse(t, `{"create": "c"}`))
	lsid := bson.E{Key: "lsid", Value: bson.D{{Key: "id", Value: bson.Binary{Subtype: 4, Data: make([]byte, 16)}}}}
	in := func(number int64, start bool, cmd string) bson.D {
		d := append(parse(t, cmd), lsid, bson.E{Key: "txnNumber", Value: number}, bson.E{Key: "autocommit", Value: false})
		if start {
			d = append(d, bson.E{Key: "startTransaction", Value: true})
		}
		return d
	}
	insert := `{"insert": "c", "documents": [{"_id": 1}]}`
	for _, step := range []struct {
		what string
		cmd  bson.D
		db   string
		code string
	}{
		{"go on without a start", in(1, false, insert), "d", "251"},
		{"start", in(2, true, insert), "d", ""},
		{"a command that is not allowed", in(2, false, `{"listCollections": 1}`), "d", "263"},
		{"start again", in(3, true, insert), "d", ""},
		{"commit", in(3, false, `{"commitTransaction": 1}`), "admin", ""},
		{"commit again", in(3, false, `{"commitTransaction": 1}`), "admin", ""},
		{"go on after the commit", in(3, false, insert), "d", "251"},
		{"a new collection", in(4, true, `{"insert": "other", "documents": [{"_id": 1}]}`), "d", "263"},
		{"commit after an error", in(4, false, `{"commitTransaction": 1}`), "admin", "251"},
		{"a duplicate", in(5, true, insert), "d", ""},
		{"commit of it", in(5, false, `{"commitTransaction": 1}`), "admin", "251"},
		{"a change stream", in(6, true, `{"aggregate": "c", "pipeline": [{"$changeStream": {}}], "cursor": {}}`), "d", "263"},
		{"abort", in(7, true, insert), "d", ""},
	} {
		r := c.do(step.db, step.cmd)
		if got := field(t, r, "code"); got != step.code && !(step.what == "a duplicate" || step.what == "abort") {
			t.Errorf("%s: %s, want code %q", step.what, r, step.code)
		}
	}
	if r := c.do("d", append(parse(t, insert), bson.E{Key: "txnNumber", Value: int64(1)})); field(t, r, "code") != "72" {
		t.Errorf("a transaction number without a session: %s", r)
	}
	c.must("admin", bson.D{{Key: "endSessions", Value: bson.A{lsid.Value}}})
}

// Documents, history and tokens must outlive the server.
func TestRestartWithData(t *testing.T) {
	dir := t.TempDir()
	run := func() (*localmongo.Server, func()) {
		t.Helper()
		s, err := localmongo.New(localmongo.Options{DataDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		return s, func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	s, stop := run()
	client := dial(t, s)
	coll := client.Database("d").Collection("c")
	cs, err := coll.Watch(t.Context(), mongo.Pipeline{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	if !cs.Next(t.Context()) {
		t.Fatal(cs.Err())
	}
	token := cs.ResumeToken()
	_ = cs.Close(t.Context())
	if _, err := coll.UpdateByID(t.Context(), 1, parse(t, `{"$set": {"a.b": 2}}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := localmongo.New(localmongo.Options{DataDir: dir}); err == nil {
		t.Error("two servers on one directory")
	}
	if err := client.Disconnect(t.Context()); err != nil {
		t.Error(err)
	}
	stop()

	s, stop = run()
	t.Cleanup(stop)
	client = dial(t, s)
	coll = client.Database("d").Collection("c")
	cs, err = coll.Watch(t.Context(), mongo.Pipeline{}, options.ChangeStream().SetResumeAfter(token))
	if err != nil {
		t.Fatal(err)
	}
	defer cs.Close(context.Background())
	if !cs.Next(t.Context()) {
		t.Fatal(cs.Err())
	}
	if got := field(t, cs.Current, "updateDescription", "updatedFields"); got != `{"a.b":2}` {
		t.Errorf("the update that came before the restart is %s", got)
	}
	if n, err := coll.CountDocuments(t.Context(), parse(t, `{"a.b": 2}`)); err != nil || n != 1 {
		t.Errorf("%d documents, %v", n, err)
	}
}

// The oplog's first and last entries bound the time that can be resumed over.
func TestOplogWindow(t *testing.T) {
	s, client := connect(t, localmongo.Options{HistoryEvents: 10})
	coll := client.Database("d").Collection("c")
	for i := range 30 {
		if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: i}}); err != nil {
			t.Fatal(err)
		}
	}
	end := func(order int) bson.Timestamp {
		t.Helper()
		var doc struct {
			TS bson.Timestamp `bson:"ts"`
		}
		err := client.Database("local").Collection("oplog.rs").FindOne(t.Context(), bson.D{},
			options.FindOne().SetSort(bson.D{{Key: "$natural", Value: order}}).SetProjection(bson.D{{Key: "ts", Value: 1}})).Decode(&doc)
		if err != nil {
			t.Fatal(err)
		}
		return doc.TS
	}
	first, last := end(1), end(-1)
	if last != s.ClusterTime() || first.Compare(last) >= 0 || last.T == first.T && last.I-first.I != 9 {
		t.Errorf("window from %v to %v, now %v", first, last, s.ClusterTime())
	}
	before := bson.Timestamp{T: first.T, I: first.I - 1}
	_, err := coll.Watch(t.Context(), mongo.Pipeline{}, options.ChangeStream().SetStartAtOperationTime(&before))
	serverError(t, err, 286)
	cs, err := coll.Watch(t.Context(), mongo.Pipeline{}, options.ChangeStream().SetStartAtOperationTime(&first))
	if err != nil || !cs.Next(t.Context()) {
		t.Fatalf("start at the first entry: %v", err)
	}
	_ = cs.Close(t.Context())
}

// An idle collection's token moves on with the noop of an idle server, and a getMore
// waits as long as it is told.
func TestIdleStreamMovesOn(t *testing.T) {
	s, client := connect(t, localmongo.Options{NoopInterval: -1})
	cs, err := client.Database("d").Collection("c").Watch(t.Context(), mongo.Pipeline{}, options.ChangeStream().SetMaxAwaitTime(60*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer cs.Close(context.Background())
	last := ""
	for i := range 3 {
		s.Tick()
		start := time.Now()
		if cs.TryNext(t.Context()) || cs.Err() != nil {
			t.Fatalf("event %s, %v", cs.Current, cs.Err())
		}
		if took := time.Since(start); i > 0 && took < 50*time.Millisecond {
			t.Errorf("the getMore came back after %v", took)
		}
		if now := cs.ResumeToken().Lookup("_data").StringValue(); now <= last {
			t.Errorf("token %s after %s", now, last)
		} else {
			last = now
		}
	}
}

// A stream that starts at a time ahead shows nothing before it.
func TestStartAhead(t *testing.T) {
	s, client := connect(t, localmongo.Options{})
	ahead := s.ClusterTime()
	ahead.I += 5 // counted within this second, or past by the next one
	coll := client.Database("d").Collection("c")
	cs, err := coll.Watch(t.Context(), mongo.Pipeline{}, options.ChangeStream().SetStartAtOperationTime(&ahead))
	if err != nil {
		t.Fatal(err)
	}
	defer cs.Close(context.Background())
	for i := range 10 {
		if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: i}}); err != nil {
			t.Fatal(err)
		}
	}
	if !cs.Next(t.Context()) {
		t.Fatal(cs.Err())
	}
	var first struct {
		ClusterTime bson.Timestamp `bson:"clusterTime"`
	}
	if err := cs.Decode(&first); err != nil || first.ClusterTime.Compare(ahead) < 0 {
		t.Errorf("the first event is of %v, the start is %v: %v", first.ClusterTime, ahead, err)
	}
}

func TestConcerns(t *testing.T) {
	s, _ := connect(t, localmongo.Options{})
	c := dialRaw(t, s)
	for concern, code := range map[string]string{`{"w": 1}`: "", `{"w": "majority", "wtimeout": 5}`: "", `{}`: "", `{"w": 3}`: "100"} {
		r := c.must("d", append(parse(t, `{"insert": "c", "documents": [{}]}`), bson.E{Key: "writeConcern", Value: parse(t, concern)}))
		if got := field(t, r, "writeConcernError", "code"); got != code {
			t.Errorf("%s: %s", concern, r)
		}
	}
	if r := c.do("d", parse(t, `{"find": "c", "readConcern": {"level": "snapshot", "atClusterTime": {"$timestamp": {"t": 1, "i": 1}}}}`)); field(t, r, "code") != "72" {
		t.Errorf("read of the past: %s", r)
	}
}

func TestDriverCompression(t *testing.T) {
	s, _ := connect(t, localmongo.Options{})
	client := dial(t, s, options.Client().SetCompressors([]string{"zlib"}))
	coll := client.Database("d").Collection("c")
	if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}, {Key: "pad", Value: make([]byte, 100_000)}}); err != nil {
		t.Fatal(err)
	}
	var doc struct{ Pad []byte }
	if err := coll.FindOne(t.Context(), bson.D{}).Decode(&doc); err != nil || len(doc.Pad) != 100_000 {
		t.Errorf("%d bytes came back, %v", len(doc.Pad), err)
	}
}

// A server at the address of one that is gone must not be taken for an older state of it,
// however many elections the other one has had.
func TestSuccessorAtTheSameAddress(t *testing.T) {
	first, err := localmongo.New(localmongo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- first.Run(ctx) }()
	client := dial(t, first)
	for range 3 {
		first.StepDown(0)
		first.StepUp()
	}
	if err := client.Ping(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	localmongotest.Start(t, localmongo.Options{Addr: first.Addr()})
	limit, over := context.WithTimeout(t.Context(), 90*time.Second)
	defer over()
	for { // until the connections to the first server are used up
		_, err := client.Database("d").Collection("c").InsertOne(limit, bson.D{})
		if err == nil {
			break
		}
		if !mongo.IsNetworkError(err) || limit.Err() != nil {
			t.Fatalf("write to the second server: %v", err)
		}
	}
}
