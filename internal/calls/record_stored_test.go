package calls_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
)

// desk is a calls collection on a server of its own.
type desk struct {
	t      *testing.T
	server *localmongo.Server
	coll   *mongo.Collection
	store  *calls.Store
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	server := localmongotest.Start(t, localmongo.Options{})
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	coll := client.Database("cxbridge").Collection("calls")
	return &desk{t: t, server: server, coll: coll, store: calls.NewStore(coll)}
}

func (d *desk) insert(docs ...any) {
	d.t.Helper()
	if _, err := d.coll.InsertMany(d.t.Context(), docs); err != nil {
		d.t.Fatal(err)
	}
}

// fail makes the next commands of a name fail; see the driver tests' failCommand.
func (d *desk) fail(command string, times int, how ...bson.E) {
	d.t.Helper()
	data := append(bson.D{{Key: "failCommands", Value: bson.A{command}}}, how...)
	err := d.coll.Database().Client().Database("admin").RunCommand(d.t.Context(), bson.D{
		{Key: "configureFailPoint", Value: "failCommand"},
		{Key: "mode", Value: bson.D{{Key: "times", Value: times}}},
		{Key: "data", Value: data},
	}).Err()
	if err != nil {
		d.t.Fatal(err)
	}
}

// record writes outcomes with a recorder of its own and waits until each is done.
// It returns how often each was.
func (d *desk) record(outcomes ...calls.Outcome) []int {
	d.t.Helper()
	r := calls.NewRecorder(d.coll, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	var mu sync.Mutex
	done := make([]int, len(outcomes))
	for i, o := range outcomes {
		r.Record(o, func(bool) {
			mu.Lock()
			defer mu.Unlock()
			done[i]++
		})
	}
	r.Close()
	if err := r.Run(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
	return done
}

func marshal(t *testing.T, v any) bson.Raw {
	t.Helper()
	raw, err := bson.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func idOf(t *testing.T, id any) bson.RawValue {
	t.Helper()
	kind, data, err := bson.MarshalValue(id)
	if err != nil {
		t.Fatal(err)
	}
	return bson.RawValue{Type: kind, Value: data}
}

var recordedAt = time.Date(2026, 6, 5, 10, 17, 5, 123e6, time.UTC)

func finalOutcome(t *testing.T, id any) calls.Outcome {
	return calls.Outcome{
		ID: idOf(t, id), CompletedAt: recordedAt.Add(-time.Second), DeliveryID: fmt.Sprint("delivery of ", id),
		Attempt: calls.Attempt{
			Status: calls.StatusOK, HTTPStatus: 200, ResponseBody: "thanks", Method: "POST", URL: "https://crm.example.com/x",
			Duration: 12 * time.Millisecond, At: recordedAt,
		},
		Attempts: 1, SinceStart: 91.5,
	}
}

// lengths are how many entries stand in a call's log and events.
func (d *desk) lengths(id any) (log, events int) {
	d.t.Helper()
	doc, err := d.coll.FindOne(d.t.Context(), bson.D{{Key: "_id", Value: id}}).Raw()
	if err != nil {
		d.t.Fatal(err)
	}
	count := func(field string) int {
		a, ok := doc.Lookup(field).ArrayOK()
		if !ok {
			return 0
		}
		values, err := a.Values()
		if err != nil {
			d.t.Fatal(err)
		}
		return len(values)
	}
	return count("integration_log"), count("events")
}

// Whatever becomes of the answer of a write, an outcome stands on its call once.
func TestEachOutcomeIsWrittenOnce(t *testing.T) {
	t.Parallel()
	faults := map[string][]bson.E{
		"closed connection":    {{Key: "closeConnection", Value: true}},
		"NotWritablePrimary":   {{Key: "errorCode", Value: 10107}, {Key: "errorLabels", Value: bson.A{"RetryableWriteError"}}},
		"Unauthorized":         {{Key: "errorCode", Value: 13}},
		"ExceededTimeLimit":    {{Key: "errorCode", Value: 262}},
		"write concern":        {{Key: "writeConcernError", Value: bson.D{{Key: "code", Value: 64}, {Key: "errmsg", Value: "waiting for replication timed out"}}}},
		"write concern, retry": {{Key: "writeConcernError", Value: bson.D{{Key: "code", Value: 50}, {Key: "errmsg", Value: "too slow"}, {Key: "errorLabels", Value: bson.A{"RetryableWriteError"}}}}},
	}
	for name, how := range faults {
		for _, times := range []int{1, 3} {
			t.Run(fmt.Sprint(name, " ", times), func(t *testing.T) {
				t.Parallel()
				d := newDesk(t)
				var outcomes []calls.Outcome
				for i := range 20 {
					doc := bson.D{{Key: "_id", Value: i}, {Key: "events", Value: bson.A{}}}
					o := finalOutcome(t, i)
					switch i % 4 {
					case 1: // another attempt is scheduled: no event
						o.Transition, o.Status, o.NextAttemptAt = calls.ToRetry, calls.StatusRejected, recordedAt.Add(time.Hour)
					case 2: // deferred, attempted before
						o.Transition, o.Status, o.NextAttemptAt = calls.ToDeferred, calls.StatusRejected, recordedAt.Add(time.Hour)
						doc, o.Seen = append(doc, due(recordedAt)), calls.Decode(marshal(t, bson.D{due(recordedAt)})).Pushed
					case 3: // not sent any more
						o.Transition, o.Status, o.Error = calls.ToWithdrawn, calls.StatusRejected, "not attempted again: disabled"
						doc, o.Seen = append(doc, due(recordedAt)), calls.Decode(marshal(t, bson.D{due(recordedAt)})).Pushed
					}
					d.insert(doc)
					outcomes = append(outcomes, o)
				}
				d.fail("update", times, how...)
				for i, n := range d.record(outcomes...) {
					if n != 1 {
						t.Errorf("outcome %d was done %d times", i, n)
					}
					wantLog, wantEvents := []int{1, 1, 0, 0}[i%4], []int{1, 0, 0, 1}[i%4]
					if log, events := d.lengths(i); log != wantLog || events != wantEvents {
						t.Errorf("call %d has %d log entries and %d events, want %d and %d", i, log, events, wantLog, wantEvents)
					}
				}
			})
		}
	}
}

func due(at time.Time) bson.E {
	return bson.E{Key: "post_call_push_result", Value: bson.D{
		{Key: "status", Value: "rejected"}, {Key: "attempts", Value: 1}, {Key: "pushed_at", Value: at.Add(-time.Hour)},
		{Key: "next_attempt_at", Value: at}, {Key: "slot", Value: 1},
	}}
}

// Many outcomes are few writes, and a call that refuses its own does not hold up
// the others of the same write.
func TestOutcomesAreWrittenTogether(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	var outcomes []calls.Outcome
	for i := range 300 {
		doc := bson.D{{Key: "_id", Value: i}}
		switch i {
		case 7:
			doc = append(doc, bson.E{Key: "events", Value: "no list"})
		case 8:
			doc = append(doc, bson.E{Key: "integration_log", Value: bson.D{}})
		case 9:
			doc = append(doc, bson.E{Key: "post_call_push_result", Value: "words"})
		}
		if i != 10 { // gone
			d.insert(doc)
		}
		outcomes = append(outcomes, finalOutcome(t, i))
	}
	reg := prometheus.NewRegistry()
	r := calls.NewRecorder(d.coll, slog.New(slog.DiscardHandler), reg)
	var done sync.WaitGroup
	done.Add(len(outcomes))
	for _, o := range outcomes {
		r.Record(o, func(bool) { done.Done() })
	}
	r.Close()
	if err := r.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	done.Wait()
	if n := samples(t, reg, "watcher_calls_write_outcomes"); n > 5 {
		t.Errorf("%d bulk writes for %d outcomes", n, len(outcomes))
	}
	for i := range 300 {
		if i == 10 {
			continue
		}
		wantLog, wantEvents := 1, 1
		switch i {
		case 7:
			wantEvents = 0
		case 8:
			wantLog, wantEvents = 0, 0
		}
		if log, events := d.lengths(i); log != wantLog || events != wantEvents {
			t.Errorf("call %d has %d log entries and %d events", i, log, events)
		}
	}
}

func samples(t *testing.T, reg *prometheus.Registry, name string) uint64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// A log or events that are null, on every call of some platforms, take one update
// like any other, and nothing of the outcome is left out.
func TestArraysThatAreNull(t *testing.T) {
	t.Parallel()
	for name, doc := range map[string]bson.D{
		"log":    {{Key: "_id", Value: 1}, {Key: "integration_log", Value: nil}},
		"events": {{Key: "_id", Value: 1}, {Key: "events", Value: nil}},
		"both":   {{Key: "_id", Value: 1}, {Key: "events", Value: nil}, {Key: "integration_log", Value: nil}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			d.insert(append(doc, bson.E{Key: "completed_at", Value: recordedAt}))
			for _, fields := range [][]string{{"completed_at"}, nil} {
				d.write(bson.D{{Key: "$set", Value: doc[1:]}, {Key: "$unset", Value: bson.D{{Key: "post_call_push_result", Value: ""}}}})
				var call calls.Call
				err := d.store.Load(t.Context(), calls.Read{IDs: []bson.RawValue{idOf(t, 1)}, Fields: fields}, func(c calls.Call) bool {
					call = c
					return true
				})
				if err != nil {
					t.Fatal(err)
				}
				reg := d.recordWith(calls.Delivered(&call, calls.Attempt{Status: calls.StatusOK, At: recordedAt}))
				if n := samples(t, reg, "watcher_calls_write_outcomes"); n != 1 {
					t.Errorf("%d writes", n)
				}
				if log, events := d.lengths(1); log == 0 || events == 0 {
					t.Errorf("%d log entries and %d events", log, events)
				}
			}
		})
	}
}

// write updates all calls.
func (d *desk) write(update bson.D) {
	d.t.Helper()
	if _, err := d.coll.UpdateMany(d.t.Context(), bson.D{}, update); err != nil {
		d.t.Fatal(err)
	}
}

// recordWith writes outcomes, and returns what that counted.
func (d *desk) recordWith(outcomes ...calls.Outcome) *prometheus.Registry {
	d.t.Helper()
	reg := prometheus.NewRegistry()
	r := calls.NewRecorder(d.coll, slog.New(slog.DiscardHandler), reg)
	for _, o := range outcomes {
		r.Record(o, func(bool) {})
	}
	r.Close()
	if err := r.Run(d.t.Context()); err != nil {
		d.t.Fatal(err)
	}
	return reg
}

// Documents that refuse their outcomes, for reasons that nobody listed, hold up no
// other, and each is given up once.
func TestDocumentsThatRefuseTheirOutcomesHoldUpNobody(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	// Parallel arrays cannot be indexed: code 171.
	_, err := d.coll.Indexes().CreateOne(t.Context(), mongo.IndexModel{
		Keys: bson.D{{Key: "transcript.role", Value: 1}, {Key: "integration_log.status", Value: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	const poisoned = 12 // three for each writer
	r := calls.NewRecorder(d.coll, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { _ = r.Run(ctx) })
	defer run.Wait()
	defer cancel()
	done := make(chan string, 100)
	for i := range poisoned {
		id := fmt.Sprint("bad", i)
		d.insert(bson.D{{Key: "_id", Value: id}, {Key: "transcript", Value: bson.A{
			bson.D{{Key: "role", Value: "user"}}, bson.D{{Key: "role", Value: "bot"}},
		}}})
		r.Record(finalOutcome(t, id), func(bool) { done <- id })
	}
	d.insert(bson.D{{Key: "_id", Value: "good"}})
	r.Record(finalOutcome(t, "good"), func(bool) { done <- "good" })
	for range poisoned + 1 {
		select {
		case <-done:
		case <-time.After(90 * time.Second):
			t.Fatal("an outcome is neither written nor given up")
		}
	}
	if log, events := d.lengths("good"); log != 1 || events != 1 {
		t.Errorf("the other call has %d log entries and %d events", log, events)
	}
}

// An outcome that no server takes as a whole, here for its size, is written with
// less, and the others of its bulk as they are.
func TestAnOutcomeThatIsTooLargeForTheDriver(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	var outcomes []calls.Outcome
	for i := range 20 {
		d.insert(bson.D{{Key: "_id", Value: i}})
		outcomes = append(outcomes, finalOutcome(t, i))
	}
	outcomes[7].DeliveryID = strings.Repeat("x", 50<<20)
	for i, n := range d.record(outcomes...) {
		log, _ := d.lengths(i)
		if want := 1; n != 1 || i != 7 && log != want {
			t.Errorf("outcome %d was done %d times and has %d log entries", i, n, log)
		}
	}
}

// Whoever wrote last: an ok is the truth about its result. Another replica may
// have scheduled an attempt meanwhile, given the call up, or a replay may have
// marked it.
func TestAnOKIsNotOverruledByWhatCameMeanwhile(t *testing.T) {
	t.Parallel()
	for name, between := range map[string]func(*calls.Outcome){
		"an attempt is scheduled": func(o *calls.Outcome) {
			o.Transition, o.NextAttemptAt = calls.ToRetry, recordedAt.Add(-time.Minute)
		},
		"the last attempt failed": func(*calls.Outcome) {},
		"a replay marked it": func(o *calls.Outcome) {
			o.Transition, o.NextAttemptAt, o.ReplayID = calls.ToDeferred, recordedAt.Add(-time.Minute), "r"
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			d.insert(bson.D{{Key: "_id", Value: 1}, {Key: "completed_at", Value: recordedAt.Add(-time.Second)}})
			ok := finalOutcome(t, 1)
			other := ok
			other.Status, other.Error, other.At = calls.StatusFailed, "no answer", recordedAt.Add(-time.Millisecond)
			between(&other)
			d.record(other)
			d.record(ok)
			d.record(ok) // its acknowledgement was lost
			due, err := d.store.Due(t.Context(), calls.DueQuery{Now: recordedAt, Limit: 10})
			if err != nil || len(due) != 0 {
				t.Errorf("due: %v, %v", due, err)
			}
			doc, err := d.coll.FindOne(t.Context(), bson.D{{Key: "_id", Value: 1}}).Raw()
			if err != nil {
				t.Fatal(err)
			}
			if got := doc.Lookup("post_call_push_result", "status").StringValue(); got != "ok" {
				t.Errorf("the call says %s", got)
			}
			if n := strings.Count(doc.Lookup("integration_log").String(), `"status": "ok"`); n != 1 {
				t.Errorf("the ok is logged %d times", n)
			}
			d.record(other) // and later still, what was held back
			if doc, _ := d.coll.FindOne(t.Context(), bson.D{{Key: "_id", Value: 1}}).Raw(); doc.Lookup("post_call_push_result", "status").StringValue() != "ok" {
				t.Error("a late failure stands over the ok")
			}
		})
	}
}

// A call that is due and takes no outcome is due no more: that makes its document
// smaller.
func TestADueCallThatIsFullIsNotDueAnyMore(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	doc := bson.D{{Key: "_id", Value: 1}, due(recordedAt), {Key: "filler", Value: ""}}
	doc[2].Value = strings.Repeat("x", 16<<20-len(marshal(t, doc))-1)
	d.insert(doc)
	o := finalOutcome(t, 1)
	o.Seen = calls.Decode(marshal(t, bson.D{due(recordedAt)})).Pushed
	d.record(o)
	if due, err := d.store.Due(t.Context(), calls.DueQuery{Now: recordedAt.Add(time.Hour), Limit: 10}); err != nil || len(due) != 0 {
		t.Errorf("due: %v, %v", due, err)
	}
}

// A recorder that is told to end while MongoDB is away ends, and says nothing is
// done that is not.
func TestRecorderEndsWithoutMongoDB(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.insert(bson.D{{Key: "_id", Value: 1}})
	d.fail("update", 1000, bson.E{Key: "errorCode", Value: 13})
	r := calls.NewRecorder(d.coll, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	r.Record(finalOutcome(t, 1), func(bool) { t.Error("done, though nothing was written") })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

// An outcome that a replica could not write while it was cut off, and that comes
// when another has pushed the call: what stands there stays, and the log has both.
func TestLateOutcomeReplacesNothing(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.insert(bson.D{{Key: "_id", Value: 1}}, bson.D{{Key: "_id", Value: 2}})
	for id := 1; id <= 2; id++ {
		ok := finalOutcome(t, id)
		late := ok
		late.Transition = calls.ToRetry
		late.Status, late.At, late.NextAttemptAt = calls.StatusFailed, recordedAt.Add(-2*time.Second), recordedAt.Add(time.Minute)
		if id == 2 { // and the result of the late one was stored anew meanwhile
			late.CompletedAt = late.CompletedAt.Add(-time.Minute)
		}
		d.record(ok)
		if id == 2 {
			d.fail("update", 1, bson.E{Key: "closeConnection", Value: true}) // nor when it is repeated
		}
		if done := d.record(late); done[0] != 1 {
			t.Errorf("done %d times", done[0])
		}
		doc, err := d.coll.FindOne(t.Context(), bson.D{{Key: "_id", Value: id}}).Raw()
		if err != nil {
			t.Fatal(err)
		}
		result := doc.Lookup("post_call_push_result").Document()
		if result.Lookup("status").StringValue() != "ok" || result.Lookup("next_attempt_at").Type != 0 {
			t.Errorf("the late outcome stands on the call: %s", result)
		}
		if log, events := d.lengths(id); log != 2 || events != 1 {
			t.Errorf("%d log entries and %d events", log, events)
		}
	}
	// The next attempt of the same result finds what it read.
	again := finalOutcome(t, 1)
	again.Seen = calls.Pushed{CompletedAt: again.CompletedAt, PushedAt: again.At}
	again.At, again.Attempts = recordedAt.Add(time.Minute), 2
	d.record(again)
	if log, events := d.lengths(1); log != 3 || events != 2 {
		t.Errorf("%d log entries and %d events", log, events)
	}
}
