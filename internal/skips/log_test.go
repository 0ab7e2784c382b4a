package skips_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.uber.org/goleak"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
	"github.com/cxbridge/watcher/internal/skips"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errOver = errors.New("the test is over")

// patience is far longer than what is waited for takes.
const patience = 90 * time.Second

// written is a log at work on a collection.
type written struct {
	*skips.Log
	t    *testing.T
	coll *mongo.Collection
	reg  *prometheus.Registry
	text *safeBuffer
	stop func()
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func collection(t *testing.T, d localmongotest.Deployment) *mongo.Collection {
	t.Helper()
	return d.Connect(t, options.Client().SetAppName("skips")).Database(d.Database).Collection("watcher_skips")
}

func newLog(t *testing.T, coll *mongo.Collection, keep time.Duration) *written {
	w := &written{t: t, coll: coll, reg: prometheus.NewRegistry(), text: &safeBuffer{}}
	w.Log = skips.New(skips.Options{Collection: coll, Keep: keep, Logger: slog.New(slog.NewTextHandler(w.text, nil)), Registerer: w.reg})
	return w
}

func (w *written) run() {
	ctx, cancel := context.WithCancelCause(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel(errOver)
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(w.stop)
}

func (w *written) metric(name string) float64 {
	w.t.Helper()
	families, err := w.reg.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "watcher_skips_"+name+"_total" {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	w.t.Fatalf("there is no metric of what is %s", name)
	return 0
}

func (w *written) eventually(what string, ok func() bool) {
	w.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-end:
			w.t.Fatalf("%s: in vain; log:\n%s", what, w.text)
		}
	}
}

func call(t *testing.T, doc bson.D) *calls.Call {
	t.Helper()
	raw, err := bson.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	c := calls.Decode(raw)
	return &c
}

var noon = time.Date(2026, 6, 5, 12, 0, 0, 0, time.UTC)

func numbered(t *testing.T, n int) *calls.Call {
	return call(t, bson.D{{Key: "_id", Value: fmt.Sprint("call ", n)}, {Key: "completed_at", Value: noon}})
}

func TestOneEntryForEachResult(t *testing.T) {
	localmongotest.OnEach(t, localmongo.Options{}, func(t *testing.T, d localmongotest.Deployment) {
		w := newLog(t, collection(t, d), time.Hour)
		oid, bot := bson.NewObjectID(), bson.NewObjectID()
		one := call(t, bson.D{{Key: "_id", Value: oid}, {Key: "session_id", Value: strings.Repeat("s", 5000)}, {Key: "bot_id", Value: bot}, {Key: "completed_at", Value: noon}})
		again := call(t, bson.D{{Key: "_id", Value: oid}, {Key: "session_id", Value: "s"}, {Key: "bot_id", Value: bot}, {Key: "completed_at", Value: noon.Add(time.Hour)}})
		none := call(t, bson.D{{Key: "_id", Value: oid}, {Key: "bot_id", Value: strings.Repeat("b", 2000)}})
		odd := call(t, bson.D{{Key: "_id", Value: "odd"}, {Key: "bot_id", Value: bson.D{{Key: "$where", Value: 1}}}})
		w.Add(one, "no_config")
		w.Add(one, "disabled") // looked at once more
		w.Add(again, "skip_post_push")
		w.Add(none, "no_result")
		w.Add(none, "no_result")
		w.Add(odd, "no_result")
		w.run()
		w.stop() // writes what waits
		if n := w.metric("written"); n != 6 || w.metric("dropped") != 0 {
			t.Errorf("%v written, %v dropped\n%s", n, w.metric("dropped"), w.text)
		}
		found, err := skips.OfCall(t.Context(), w.coll, one.ID)
		if err != nil || len(found) != 3 {
			t.Fatalf("%d entries, want one for each result and one for none: %+v, %v", len(found), found, err)
		}
		e, err := skips.OfDelivery(t.Context(), w.coll, one.DeliveryID())
		if err != nil || e == nil || e.Reason != "disabled" || e.Bot.ObjectID() != bot || !e.CompletedAt.Equal(noon) || len(e.SessionID) > 256 || e.At.IsZero() {
			t.Errorf("%+v, %v", e, err)
		}
		for _, e := range found {
			if e.Reason == "no_result" && (e.Bot.Type != bson.TypeString || len(e.Bot.StringValue()) > 256 || !e.CompletedAt.IsZero()) {
				t.Errorf("a large id stays large: %+v", e)
			}
		}
		if found, err = skips.OfCall(t.Context(), w.coll, odd.ID); err != nil || len(found) != 1 || found[0].Bot.Type != bson.TypeString {
			t.Errorf("an id that is a query: %+v, %v", found, err)
		}
		if e, err := skips.OfDelivery(t.Context(), w.coll, "nothing"); e != nil || err != nil {
			t.Errorf("%+v, %v", e, err)
		}
	})
}

// expiry is after how many seconds entries are dropped.
func expiry(t *testing.T, coll *mongo.Collection) (seconds int32, keys []string) {
	t.Helper()
	all, err := coll.Indexes().ListSpecifications(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range all {
		keys = append(keys, spec.KeysDocument.String())
		if spec.ExpireAfterSeconds != nil {
			seconds = *spec.ExpireAfterSeconds
		}
	}
	return seconds, keys
}

func TestEntriesAreDroppedAfterTheTimeThatIsSet(t *testing.T) {
	localmongotest.OnEach(t, localmongo.Options{}, func(t *testing.T, d localmongotest.Deployment) {
		coll := collection(t, d)
		for _, keep := range []time.Duration{7 * 24 * time.Hour, 7 * 24 * time.Hour, time.Hour} {
			w := newLog(t, coll, keep)
			w.Add(numbered(t, 1), "no_config")
			w.run()
			w.stop()
			if seconds, keys := expiry(t, coll); time.Duration(seconds)*time.Second != keep || len(keys) != 4 || strings.Contains(w.text.String(), "level=WARN") {
				t.Errorf("%v: %d s, indexes %v\n%s", keep, seconds, keys, w.text)
			}
		}
	})
}

// fails sets the fail point of a localmongo.
func fails(t *testing.T, coll *mongo.Collection, code int, commands ...string) {
	t.Helper()
	mode := "alwaysOn"
	if code == 0 {
		mode = "off"
	}
	err := coll.Database().Client().Database("admin").RunCommand(t.Context(), bson.D{
		{Key: "configureFailPoint", Value: "failCommand"}, {Key: "mode", Value: mode},
		{Key: "data", Value: bson.D{{Key: "failCommands", Value: commands}, {Key: "errorCode", Value: code}, {Key: "appName", Value: "skips"}}},
	}).Err()
	if err != nil {
		t.Fatal(err)
	}
}

// A right that is missing is told once; entries are dropped until it is given.
func TestMissingRights(t *testing.T) {
	for _, command := range []string{"update", "createIndexes"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			w := newLog(t, collection(t, localmongotest.Local(t, localmongo.Options{})), time.Hour)
			fails(t, w.coll, 13, command)
			w.run()
			for n := range 3 {
				w.Add(numbered(t, n), "no_config")
				w.eventually("it is dropped", func() bool { return w.metric("dropped") == float64(n+1) })
			}
			if n := strings.Count(w.text.String(), "a right is missing"); n != 1 || strings.Count(w.text.String(), "\n") != 1 {
				t.Errorf("told %d times:\n%s", n, w.text)
			}
			fails(t, w.coll, 0)
			w.Add(numbered(t, 9), "no_config")
			w.eventually("it is written", func() bool { return w.metric("written") == 1 })
		})
	}
}

// Where the right to make indexes is missing, one that an operator made will do,
// whatever its name and its time.
func TestIndexOfAnOperator(t *testing.T) {
	w := newLog(t, collection(t, localmongotest.Local(t, localmongo.Options{})), time.Hour)
	_, err := w.coll.Indexes().CreateOne(t.Context(), mongo.IndexModel{
		Keys: bson.D{{Key: "at", Value: 1}}, Options: options.Index().SetName("ours").SetExpireAfterSeconds(60),
	})
	if err != nil {
		t.Fatal(err)
	}
	fails(t, w.coll, 13, "createIndexes")
	w.Add(numbered(t, 1), "no_config")
	w.run()
	w.stop()
	if w.metric("written") != 1 || !strings.Contains(w.text.String(), "keeps=1m0s asked_for=1h0m0s") {
		t.Errorf("%v written\n%s", w.metric("written"), w.text)
	}
}

// A server that hangs costs those who add nothing, and memory only up to the bound;
// the stop does not wait for it for long.
func TestServerThatHangs(t *testing.T) {
	t.Parallel()
	d := localmongotest.Local(t, localmongo.Options{})
	w := newLog(t, collection(t, d), time.Hour)
	w.Add(numbered(t, -1), "no_config")
	w.run()
	w.eventually("the first is written", func() bool { return w.metric("written") == 1 })
	d.Server.Freeze()
	const room, more = 10_000, 100
	begun := time.Now()
	for n := range room + 500 + more { // one batch may be on its way
		w.Add(numbered(t, n), "no_config")
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("adding took %v", took)
	}
	if n := w.metric("dropped"); n < more || n > 500+more {
		t.Errorf("%v are dropped", n)
	}
	begun = time.Now()
	w.stop()
	if took := time.Since(begun); took > 8*time.Second {
		t.Errorf("the stop took %v", took)
	}
	if got := w.metric("written") + w.metric("dropped"); got != room+500+more+1 {
		t.Errorf("%v are accounted for", got)
	}
	d.Server.Thaw()
}

// What fails for a reason that passes is dropped too, and told as an outage is.
func TestOutage(t *testing.T) {
	t.Parallel()
	w := newLog(t, collection(t, localmongotest.Local(t, localmongo.Options{})), time.Hour)
	fails(t, w.coll, 50, "update")
	w.run()
	w.Add(numbered(t, 1), "no_config")
	w.eventually("it is dropped", func() bool { return w.metric("dropped") == 1 })
	fails(t, w.coll, 0)
	w.Add(numbered(t, 2), "no_config")
	w.eventually("it is written", func() bool { return w.metric("written") == 1 })
	for _, says := range []string{"the skip log cannot be written", "dropped=1", "the skip log can be written again"} {
		if !strings.Contains(w.text.String(), says) {
			t.Errorf("the log does not say %q:\n%s", says, w.text)
		}
	}
	if problems, err := testutil.GatherAndLint(w.reg); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}
