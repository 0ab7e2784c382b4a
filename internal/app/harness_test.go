package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.uber.org/goleak"

	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/secret"
)

// The tests of this package mostly wait, so more of them run at once than there
// are processors; -parallel still wins.
const atOnce = "8"

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", atOnce); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// road is a database, a CRM, a platform that writes calls, and a watcher.
type road struct {
	*apptest.Platform
	t      testing.TB
	server *apptest.Server
	crm    *apptest.CRM
	cfg    config.Config
	deps   Deps
	tune   func(*App) // before a watcher runs; may be nil
}

// newRoad starts everything but the watcher. The bots post to paths of the CRM.
func newRoad(t testing.TB, bots ...string) *road {
	t.Helper()
	return newRoadOn(t, localmongo.Options{}, bots...)
}

func newRoadOn(t testing.TB, opts localmongo.Options, bots ...string) *road {
	t.Helper()
	server := apptest.NewServer(t, opts)
	r := &road{t: t, server: server, crm: apptest.NewCRM(t), Platform: server.Platform()}
	r.cfg = config.Default()
	r.cfg.MongoURI, r.cfg.Database = secret.Text(server.URI), server.Database
	r.cfg.Listen = "127.0.0.1:0"
	r.cfg.AllowNetworks = []push.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}
	r.cfg.RetrySchedule = []time.Duration{40 * time.Millisecond, 80 * time.Millisecond}
	r.cfg.ShutdownGrace = 5 * time.Second
	r.deps = Deps{Version: "test", Owner: "replica-1"}
	for _, id := range bots {
		r.PutBot(apptest.Bot(id, r.url(id)))
	}
	return r
}

func (r *road) url(path string) string { return r.crm.URL + "/" + path }

// running is a watcher at work.
type running struct {
	*App
	t     testing.TB
	logs  *logs
	stop  context.CancelCauseFunc
	ended chan struct{}
	err   error // of Run, once ended is closed
}

var errStop = errors.New("the test stops the watcher")

// launch starts a watcher and does not wait for it.
func (r *road) launch() *running {
	r.t.Helper()
	w := &running{t: r.t, logs: newLogs(), ended: make(chan struct{})}
	deps := r.deps
	deps.Logger = slog.New(slog.NewJSONHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if w.App, err = New(r.cfg, deps); err != nil {
		r.t.Fatal(err)
	}
	if r.tune != nil {
		r.tune(w.App)
	}
	var ctx context.Context
	ctx, w.stop = context.WithCancelCause(context.WithoutCancel(r.t.Context()))
	go func() {
		defer close(w.ended)
		w.err = w.Run(ctx)
	}()
	r.t.Cleanup(func() {
		w.halt()
		if r.t.Failed() {
			r.t.Logf("log of the watcher:\n%s", w.logs.tail(60))
		}
	})
	return w
}

// start starts a watcher and waits until its stream is open: what is stored then
// comes through. Readiness takes a second more, for the first poll.
func (r *road) start() *running {
	r.t.Helper()
	w := r.launch()
	r.eventually("the watcher follows the calls", func() error {
		for _, line := range w.logs.find("the stream is open") {
			if line["stream"] == "calls" {
				return w.bots.Ready()
			}
		}
		return errors.New("its stream is not open")
	})
	return w
}

func (w *running) readiness() error {
	select {
	case <-w.ended:
		return fmt.Errorf("it has ended: %w", w.err)
	default:
	}
	return errors.Join(w.bots.Ready(), w.partitions.LeasesKnown(), w.partitions.CursorsOpen(), w.partitions.PollsSucceed())
}

// halt stops the watcher and waits for its end.
func (w *running) halt() {
	w.t.Helper()
	w.stop(errStop)
	<-w.ended
	if w.err != nil {
		w.t.Errorf("the watcher ended with an error: %v", w.err)
	}
}

// eventually waits until check has nothing to say.
func (r *road) eventually(what string, check func() error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), apptest.Patience)
	defer cancel()
	var last error
	if !apptest.Poll(ctx, func() bool { last = check(); return last == nil }) {
		r.t.Fatalf("%s: %v", what, last)
	}
}

// outcome is post_call_push_result as docs/contract.md names its fields.
type outcome struct {
	Status        string     `bson:"status"`
	HTTPStatus    *int       `bson:"http_status"`
	ResponseBody  string     `bson:"response_body"`
	Error         *string    `bson:"error"`
	Method        string     `bson:"method"`
	URL           string     `bson:"url"`
	Attempts      int        `bson:"attempts"`
	DurationMS    int64      `bson:"duration_ms"`
	PushedAt      time.Time  `bson:"pushed_at"`
	DeliveryID    string     `bson:"delivery_id"`
	CompletedAt   time.Time  `bson:"completed_at"`
	NextAttemptAt *time.Time `bson:"next_attempt_at"`
}

func (o *outcome) errText() string {
	if o == nil || o.Error == nil {
		return ""
	}
	return *o.Error
}

// outcomeOf is the outcome that stands on a call; nil without one.
func (r *road) outcomeOf(session string) *outcome {
	r.t.Helper()
	raw, ok := r.Doc(session).Lookup("post_call_push_result").DocumentOK()
	if !ok {
		return nil
	}
	var o outcome
	if err := bson.Unmarshal(raw, &o); err != nil {
		r.t.Fatalf("post_call_push_result of %s: %v\n%s", session, err, raw)
	}
	return &o
}

// final waits for the outcome of a call of which there are no more tries.
func (r *road) final(session, status string) *outcome {
	r.t.Helper()
	var o *outcome
	r.eventually("final outcome of "+session, func() error {
		o = r.outcomeOf(session)
		if o == nil || o.Status != status || o.NextAttemptAt != nil {
			return fmt.Errorf("want %s, have %s", status, r.Doc(session).Lookup("post_call_push_result"))
		}
		return nil
	})
	return o
}

// settled waits until nothing is pending in a watcher and its position stands
// behind everything that was stored before the call of settled.
func (r *road) settled(w *running, events float64) {
	r.t.Helper()
	r.eventually(fmt.Sprintf("%v events are settled", events), func() error {
		read, pending := w.metric("watcher_stream_events_total", "stream", "calls"), w.metric("watcher_dispatch_pending_calls")
		if read < events || pending != 0 {
			return fmt.Errorf("%v events read, %v calls pending", read, pending)
		}
		return nil
	})
}

// metric is the sum of the series of a counter or gauge that have these labels,
// given as names and values in turn. Of a histogram it is the count.
func (w *running) metric(name string, labels ...string) float64 {
	w.t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	sum, found := 0.0, false
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	series:
		for _, m := range f.GetMetric() {
			have := make(map[string]string)
			for _, l := range m.GetLabel() {
				have[l.GetName()] = l.GetValue()
			}
			for pair := range slices.Chunk(labels, 2) {
				if have[pair[0]] != pair[1] {
					continue series
				}
			}
			found = true
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	if !found {
		w.t.Fatalf("there is no metric %s with %q", name, labels)
	}
	return sum
}

// logs keeps the lines of a log.
type logs struct {
	mu    sync.Mutex
	lines []string
}

func newLogs() *logs { return &logs{} }

// Write takes one line.
func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(bytes.TrimSpace(p)))
	return len(p), nil
}

// find returns the lines whose message is this, decoded.
func (l *logs) find(msg string) []map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []map[string]any
	for _, line := range l.lines {
		var attrs map[string]any
		if strings.Contains(line, msg) && json.Unmarshal([]byte(line), &attrs) == nil && attrs["msg"] == msg {
			found = append(found, attrs)
		}
	}
	return found
}

func (l *logs) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines[max(0, len(l.lines)-n):], "\n")
}
