package localmongo_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
)

// 200 connections write, read and watch at once; every stream sees every insert once and
// in the order of the tokens.
func TestTwoHundredConnections(t *testing.T) {
	const writers, watchers, each = 180, 20, 10
	s := localmongotest.Start(t, localmongo.Options{})
	var wg sync.WaitGroup
	errs := make(chan error, writers+watchers)
	for range watchers {
		c := dialRaw(t, s)
		id, _ := watchAll(c, `{}`, 0)
		wg.Go(func() { errs <- seeAll(c, id, writers*each) })
	}
	for w := range writers {
		c := dialRaw(t, s)
		wg.Go(func() { errs <- work(c, w, each) })
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if n := s.OpenConnections(); n != writers+watchers {
		t.Errorf("%d connections are open, want %d", n, writers+watchers)
	}
}

// work inserts documents, changes and reads them.
func work(c *rawClient, w, each int) error {
	for i := range each {
		id := fmt.Sprintf("%d-%d", w, i)
		for _, cmd := range []bson.D{
			{{Key: "insert", Value: "c"}, {Key: "documents", Value: bson.A{bson.D{{Key: "_id", Value: id}}}}},
			{{Key: "update", Value: "c"}, {Key: "updates", Value: bson.A{bson.D{{Key: "q", Value: bson.D{{Key: "_id", Value: id}}}, {Key: "u", Value: bson.D{{Key: "$set", Value: bson.D{{Key: "w", Value: w}}}}}}}}},
			{{Key: "find", Value: "c"}, {Key: "filter", Value: bson.D{{Key: "_id", Value: id}, {Key: "w", Value: w}}}},
		} {
			r, err := c.try("d", cmd)
			if err != nil {
				return fmt.Errorf("%s of %s: %w", cmd[0].Key, id, err)
			}
			if cmd[0].Key != "find" && r.Lookup("n").Int32() != 1 {
				return fmt.Errorf("%s of %s: %s", cmd[0].Key, id, r)
			}
			if _, err := r.LookupErr("cursor", "firstBatch", "0"); cmd[0].Key == "find" && err != nil {
				return fmt.Errorf("find of %s: %s", id, r)
			}
		}
	}
	return nil
}

// seeAll reads a stream until it has shown n inserts.
func seeAll(c *rawClient, id int64, n int) error {
	seen, last := map[string]bool{}, ""
	for len(seen) < n {
		r, err := c.try("d", bson.D{{Key: "getMore", Value: id}, {Key: "collection", Value: "c"}, {Key: "maxTimeMS", Value: 5000}})
		if err != nil {
			return err
		}
		events, err := r.Lookup("cursor", "nextBatch").Array().Values()
		if err != nil || len(events) == 0 {
			return fmt.Errorf("stream stopped after %d of %d inserts: %s", len(seen), n, r)
		}
		for _, v := range events {
			ev := v.Document()
			token := ev.Lookup("_id", "_data").StringValue()
			if token <= last {
				return fmt.Errorf("token %s after %s", token, last)
			}
			last = token
			if ev.Lookup("operationType").StringValue() == "insert" {
				seen[ev.Lookup("documentKey", "_id").StringValue()] = true
			}
		}
	}
	return nil
}

// A stream that nobody reads must not hold up writers or cost memory, and is told when it
// has lost its place.
func TestSlowReaderCostsNothing(t *testing.T) {
	s := localmongotest.Start(t, localmongo.Options{HistoryEvents: 1000, HistoryBytes: 4 << 20})
	c := dialRaw(t, s)
	id, _ := watchAll(c, `{}`, 0)
	before := heap()
	pad := strings.Repeat("x", 50_000)
	for i := range 2000 { // 100 MB go by
		c.must("d", bson.D{{Key: "update", Value: "c"}, {Key: "updates", Value: bson.A{bson.D{
			{Key: "q", Value: bson.D{{Key: "_id", Value: 1}}}, {Key: "u", Value: bson.D{{Key: "$set", Value: bson.D{{Key: "pad", Value: fmt.Sprint(i, pad)}}}}}, {Key: "upsert", Value: true},
		}}}})
	}
	if grown := int64(heap()) - int64(before); grown > 40<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	if r := c.do("d", getMore(id)); field(t, r, "code") != "286" {
		t.Errorf("the reader that fell behind: %s", r)
	}
	if r := c.do("d", getMore(id)); field(t, r, "code") != "43" {
		t.Errorf("and again: %s", r)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// 100,000 documents in, found by _id, and 20,000 changed, each thousand in well under a
// second of the processor: what else the machine does is not counted. The race detector
// makes it some ten times slower, so the bound is that of the requirement and not of the
// machine.
func TestThousandsOfDocuments(t *testing.T) {
	docs, updates := 100_000, 20_000
	if testing.Short() || raceEnabled {
		docs, updates = 10_000, 2_000
	}
	s, client := connect(t, localmongo.Options{})
	coll := client.Database("d").Collection("calls")
	if _, err := coll.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: bson.D{{Key: "session_id", Value: 1}}, Options: options.Index().SetUnique(true)}); err != nil {
		t.Fatal(err)
	}
	perThousand := func(what string, n int, fn func()) {
		t.Helper()
		start := processorTime(t)
		fn()
		if took := (processorTime(t) - start) / time.Duration(n/1000); took > time.Second {
			t.Errorf("%s: %v for a thousand", what, took)
		}
	}
	perThousand("insert", docs, func() {
		for i := 0; i < docs; i += 1000 {
			list := make([]any, 1000)
			for j := range list {
				list[j] = bson.D{{Key: "_id", Value: i + j}, {Key: "session_id", Value: fmt.Sprint("s", i+j)}, {Key: "n", Value: 0}}
			}
			if _, err := coll.InsertMany(t.Context(), list); err != nil {
				t.Fatal(err)
			}
		}
	})
	start := s.Examined()
	perThousand("find by _id", updates, func() {
		for i := range updates {
			if err := coll.FindOne(t.Context(), bson.D{{Key: "_id", Value: i * 3}}).Err(); err != nil && i*3 < docs {
				t.Fatal(err)
			}
		}
	})
	for _, key := range []string{"_id", "session_id"} {
		perThousand("update by "+key, updates, func() {
			var models []mongo.WriteModel
			for i := range updates {
				var k any = i
				if key == "session_id" {
					k = fmt.Sprint("s", i)
				}
				models = append(models, mongo.NewUpdateOneModel().SetFilter(bson.D{{Key: key, Value: k}}).SetUpdate(bson.D{{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}}}))
			}
			res, err := coll.BulkWrite(t.Context(), models)
			if err != nil || int(res.ModifiedCount) != updates {
				t.Fatalf("%+v, %v", res, err)
			}
		})
	}
	if n := s.Examined() - start; n > int64(3*updates) {
		t.Errorf("%d documents were looked at for %d look-ups", n, 3*updates)
	}
}

// processorTime is what this process has used.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		t.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// The server must end with nothing left behind, whatever its clients are doing.
func TestRunEndsWithClientsAtWork(t *testing.T) {
	s, err := localmongo.New(localmongo.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var clients sync.WaitGroup
	waiting := make(chan struct{})
	for range 10 {
		c := dialRaw(t, s)
		id, _ := watchAll(c, `{}`, 0)
		clients.Go(func() {
			<-waiting
			_, _ = c.try("d", bson.D{{Key: "getMore", Value: id}, {Key: "collection", Value: "c"}, {Key: "maxTimeMS", Value: 15000}})
		})
	}
	frozen := dialRaw(t, s)
	close(waiting)
	s.Freeze()
	clients.Go(func() { _, _ = frozen.try("admin", bson.D{{Key: "ping", Value: 1}}) })
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	clients.Wait()
	if n := s.OpenConnections(); n != 0 {
		t.Errorf("%d connections are open", n)
	}
}
