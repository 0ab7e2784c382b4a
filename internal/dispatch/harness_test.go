package dispatch

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/goleak"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/resume"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// road is a dispatcher on documents in memory and a scripted receiver.
type road struct {
	t      *testing.T
	d      *Dispatcher
	intake *Intake
	stop   func()

	mu       sync.Mutex
	docs     map[string]bson.M
	outcomes []calls.Outcome
	sent     map[string]int // by delivery id
	answer   func(r *push.Request, n int) push.Result
	bots     *bots.Set
	loadErr  error
	underWay map[string]int
	most     map[string]int // the highest underWay, by URL
	settled  map[string]int
	due      map[string]time.Time
	replay   map[string]string
	gone     map[string]bool           // bots
	refuses  func(*calls.Outcome) bool // outcomes that their calls do not take
	dueReads int
}

// newRoad starts a dispatcher; it must be called inside a synctest bubble.
func newRoad(t *testing.T, bot ...bson.M) *road {
	t.Helper()
	return newRoadOf(t, func(*Options) {}, bot...)
}

// newRoadOf is newRoad with other options.
func newRoadOf(t *testing.T, adjust func(*Options), bot ...bson.M) *road {
	t.Helper()
	r := &road{
		t: t, docs: make(map[string]bson.M), sent: make(map[string]int),
		underWay: make(map[string]int), most: make(map[string]int), settled: make(map[string]int), due: make(map[string]time.Time), replay: make(map[string]string),
		answer: func(*push.Request, int) push.Result { return answered(200) },
	}
	if len(bot) == 0 {
		bot = []bson.M{botOf("bot", "https://crm.example.com/hook")}
	}
	r.setBots(bot...)
	o := Options{
		Loader: r, Recorder: r, Bots: r, Sender: r, Links: r,
		Schedule:               push.Schedule{Delays: []time.Duration{30 * time.Second, 2 * time.Minute}},
		Slot:                   resume.Slot,
		Concurrency:            64,
		DestinationConcurrency: 8,
		Logger:                 slog.New(slog.NewTextHandler(io.Discard, nil)),
		Registerer:             prometheus.NewRegistry(),
	}
	adjust(&o)
	r.d = New(o)
	retrier := NewRetrier(r.d, r, o.Schedule.MaxAge, o.Logger, o.Registerer)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var both sync.WaitGroup
		both.Go(func() { _ = r.d.Run(ctx) })
		both.Go(func() { _ = retrier(ctx) })
		both.Wait()
	}()
	r.intake = r.d.Open(context.Background(), Share{}, nil)
	r.stop = func() {
		r.intake.Stop()
		<-r.intake.Idle()
		cancel()
		<-ended
	}
	return r
}

func botOf(id, url string) bson.M {
	return bson.M{"_id": id, "timezone": "UTC", "post_call_push": bson.M{
		"url": url, "token": "t-" + id, "key_mapper": bson.D{{Key: "id", Value: "{{result.call_id}}"}},
	}}
}

func (r *road) setBots(all ...bson.M) {
	var compiled []*bots.Bot
	for _, b := range all {
		compiled = append(compiled, bots.Compile(marshal(r.t, b), bots.Options{}))
	}
	r.mu.Lock()
	r.bots = bots.NewSet(compiled)
	r.mu.Unlock()
}

func marshal(t *testing.T, v any) bson.Raw {
	t.Helper()
	raw, err := bson.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func rawID(t *testing.T, id string) bson.RawValue {
	t.Helper()
	typ, data, err := bson.MarshalValue(id)
	if err != nil {
		t.Fatal(err)
	}
	return bson.RawValue{Type: typ, Value: data}
}

// store stores a result on a call, and submits its event.
func (r *road) store(id string, fields bson.M) {
	r.t.Helper()
	r.write(id, fields)
	r.submit(id)
}

func (r *road) write(id string, fields bson.M) {
	r.mu.Lock()
	defer r.mu.Unlock()
	doc, ok := r.docs[id]
	if !ok {
		doc = bson.M{"_id": id, "session_id": id, "bot_id": "bot", "completed_at": time.Now()}
		r.docs[id] = doc
	}
	maps.Copy(doc, fields)
}

func (r *road) submit(id string) {
	r.t.Helper()
	err := r.intake.Submit(context.Background(), Event{ID: rawID(r.t, id)}, func() {
		r.mu.Lock()
		r.settled[id]++
		r.mu.Unlock()
	})
	if err != nil {
		r.t.Errorf("submit %s: %v", id, err)
	}
}

func (r *road) Load(_ context.Context, q calls.Read, fn func(calls.Call) bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.loadErr != nil {
		return r.loadErr
	}
	for _, id := range q.IDs {
		if doc, ok := r.docs[id.StringValue()]; ok && !fn(calls.Decode(marshal(r.t, doc))) {
			break
		}
	}
	return nil
}

// Refresh implements Bots: the set of a road is always fresh.
func (r *road) Refresh(context.Context, []bson.RawValue) error { return nil }

// Gone implements Bots.
func (r *road) Gone(id bson.RawValue) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gone[id.StringValue()]
}

// CountDue implements what package retry counts with.
func (r *road) CountDue(context.Context, calls.DueQuery) (int, time.Time, error) {
	return 0, time.Time{}, nil
}

func (r *road) Due(_ context.Context, q calls.DueQuery) ([]calls.DueCall, error) {
	named := make(map[string]bool)
	for _, v := range slices.Concat(q.Except, q.Only) {
		named[v.StringValue()] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dueReads++
	var due []calls.DueCall
	for id, at := range r.due {
		if len(due) == q.Limit {
			break
		}
		if at.After(q.Now) || (r.replay[id] != "") != q.Replay {
			continue
		}
		bot := r.docs[id]["bot_id"].(string)
		if named[bot] == (len(q.Only) > 0) {
			due = append(due, calls.DueCall{ID: rawID(r.t, id), Bot: rawID(r.t, bot), At: at})
		}
	}
	return due, nil
}

func (r *road) Record(o calls.Outcome, done func(bool)) {
	r.mu.Lock()
	if r.refuses != nil && r.refuses(&o) {
		r.mu.Unlock()
		done(false)
		return
	}
	doc := r.docs[o.ID.StringValue()]
	result := bson.M{
		"status": string(o.Status), "attempts": o.Attempts, "completed_at": o.CompletedAt, "delivery_id": o.DeliveryID,
	}
	if o.HoldID != "" {
		result["hold_id"] = o.HoldID
	}
	delete(r.due, o.ID.StringValue())
	if !o.Final() {
		result["next_attempt_at"] = o.NextAttemptAt
		if !o.FirstAttemptAt.IsZero() {
			result["first_attempt_at"] = o.FirstAttemptAt
		}
		r.due[o.ID.StringValue()] = o.NextAttemptAt
	}
	if doc != nil {
		doc["post_call_push_result"] = result
	}
	r.outcomes = append(r.outcomes, o)
	r.mu.Unlock()
	done(true)
}

func (r *road) Set() *bots.Set {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bots
}

func (r *road) Link(*calls.Call) string { return "" }

func (r *road) Send(ctx context.Context, req *push.Request) push.Result {
	r.mu.Lock()
	r.sent[req.DeliveryID]++
	n := r.sent[req.DeliveryID]
	r.underWay[req.URL]++
	r.most[req.URL] = max(r.most[req.URL], r.underWay[req.URL])
	answer := r.answer
	r.mu.Unlock()
	begun := time.Now()
	res := answer(req, n)
	if res.Duration > 0 {
		timer := time.NewTimer(res.Duration)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			res = push.Result{Class: push.ClassCanceled, Err: context.Cause(ctx)}
		}
	}
	res.Duration = time.Since(begun)
	r.mu.Lock()
	r.underWay[req.URL]--
	r.mu.Unlock()
	return res
}

// answered is an HTTP answer.
func answered(status int) push.Result {
	res := push.Result{HTTPStatus: status, Class: push.ClassOK}
	switch {
	case status == 429 || status >= 500 && status != 501 || status == 408 || status == 425:
		res.Class, res.Err = push.ClassBusy, fmt.Errorf("answered %d", status)
	case status >= 300:
		res.Class, res.Err = push.ClassRejected, fmt.Errorf("answered %d", status)
	}
	return res
}

func (r *road) last() calls.Outcome {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.outcomes) == 0 {
		r.t.Fatal("no outcome was recorded")
	}
	return r.outcomes[len(r.outcomes)-1]
}

func (r *road) sends() (deliveries, total int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.sent {
		total += n
	}
	return len(r.sent), total
}

func (r *road) count() map[calls.Status]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := make(map[calls.Status]int)
	for _, doc := range r.docs {
		n[calls.Decode(marshal(r.t, doc)).Pushed.Status]++
	}
	return n
}

// bubble runs a test on a fake clock.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func counter(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	m := metricOf(t, c)
	return m.GetCounter().GetValue()
}

func metricOf(t *testing.T, m prometheus.Metric) *dto.Metric {
	t.Helper()
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		t.Fatal(err)
	}
	return &out
}
