package demo

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
)

// standIn does a watcher's work in the simplest way, so that the demo can be
// tested without one: it reads all calls over and over, and takes from the
// script what it may send. The real one is tested with the demo in cmd/demo.
type standIn struct {
	calls  *mongo.Collection
	crm    string
	http   *http.Client
	script map[string]*call
	spoil  func(c *call) bool // calls that are pushed against the script
	begun  map[string]bool
}

func (s *standIn) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			if err := s.round(ctx, g); err != nil {
				return err
			}
		}
	})
	if err := g.Wait(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil // it was stopped in the middle of something
}

// round begins to push every call that is stored and was not begun; a slow CRM
// keeps it from nothing.
func (s *standIn) round(ctx context.Context, g *errgroup.Group) error {
	cursor, err := s.calls.Find(ctx, bson.D{{Key: "completed_at", Value: bson.D{{Key: "$exists", Value: true}}}})
	if err != nil {
		return err
	}
	var docs []struct {
		Session     string    `bson:"session_id"`
		CompletedAt time.Time `bson:"completed_at"`
	}
	if err := cursor.All(ctx, &docs); err != nil {
		return err
	}
	for _, d := range docs {
		c := s.script[d.Session]
		if s.begun[d.Session] || c.want.status == "" && !s.spoil(c) {
			continue
		}
		s.begun[d.Session] = true
		g.Go(func() error { return s.push(ctx, c, d.CompletedAt) })
	}
	return nil
}

// push sends a call until its CRM takes or refuses it, and writes the outcome.
func (s *standIn) push(ctx context.Context, c *call, completed time.Time) error {
	status, code, log := "skipped", any(nil), bson.A{}
	for c.want.status != "skipped" {
		answered, err := s.send(ctx, c)
		if err != nil {
			return err
		}
		log = append(log, bson.D{{Key: "type", Value: "post_call_push"}})
		if answered != http.StatusServiceUnavailable {
			code, status = answered, cmp.Or(c.want.status, "ok")
			break
		}
	}
	_, err := s.calls.UpdateOne(ctx, bson.D{{Key: "session_id", Value: c.session}}, bson.D{
		{Key: "$set", Value: bson.D{
			{Key: "integration_log", Value: log},
			{Key: "post_call_push_result", Value: bson.D{
				{Key: "status", Value: status},
				{Key: "http_status", Value: code},
				{Key: "attempts", Value: len(log)},
				{Key: "method", Value: c.bot.method},
				{Key: "duration_ms", Value: 3},
				{Key: "delivery_id", Value: "delivery of " + c.session},
				{Key: "completed_at", Value: completed},
			}},
		}},
		{Key: "$push", Value: bson.D{{Key: "events", Value: bson.D{{Key: "type", Value: "post_call_push"}, {Key: "status", Value: status}}}}},
	})
	return err
}

// send makes one request with the least that the CRM looks at.
func (s *standIn) send(ctx context.Context, c *call) (int, error) {
	fields := map[string]any{c.bot.callKey: c.session, c.bot.linkKey: right(c).link(), "patient_id": "P1"}
	if c.want.attempts == 2 {
		fields["policy"] = oldPolicy + "1"
	}
	if c.want.http == 422 {
		fields["patient_id"] = ""
	}
	if c.bot.sipKey != "" {
		fields[c.bot.sipKey] = map[string]any{"X-Campaign-Id": "nov-26"}
	}
	var body []byte
	target := s.crm + c.bot.path
	if c.bot.method == http.MethodGet {
		query := url.Values{}
		for k, v := range fields {
			query.Set(k, fmt.Sprint(v))
		}
		target += "?" + query.Encode()
	} else {
		body, _ = json.Marshal(fields)
	}
	r, err := http.NewRequestWithContext(ctx, c.bot.method, target, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("Idempotency-Key", "delivery of "+c.session)
	resp, err := s.http.Do(r)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// link is the recording link that the CRM has to be sent.
func (e *ending) link() string {
	if e.got == nil {
		return ""
	}
	return e.got.recording
}

// stage is a demo on a database of its own, with a stand-in for the watcher.
func stage(t *testing.T, o Options, spoil func(*call) bool) (*Demo, *standIn) {
	t.Helper()
	server := localmongotest.Start(t, localmongo.Options{})
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	o.DB = client.Database("cxbridge")
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := &standIn{
		calls:  d.platform.Calls,
		crm:    d.CRMURL(),
		http:   &http.Client{Transport: &http.Transport{}},
		script: map[string]*call{},
		spoil:  spoil,
		begun:  map[string]bool{},
	}
	t.Cleanup(s.http.CloseIdleConnections)
	return d, s
}

// together runs a demo with its stand-in, which knows the script: the calls of
// a seed are the same, but for their ids.
func together(t *testing.T, ctx context.Context, d *Demo, s *standIn) (Summary, error) {
	t.Helper()
	script := newScript(d.o.Seed, d.bots)
	for n := range d.o.Calls {
		c := script.next(n + 1)
		s.script[c.session] = c
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx) }()
	sum, err := d.Run(ctx, "")
	stop()
	if err := <-ended; err != nil {
		t.Errorf("the stand-in: %v", err)
	}
	return sum, err
}

func obedient(*call) bool { return false }

func TestDemoIsRightWhenEveryCallIs(t *testing.T) {
	var out strings.Builder
	d, s := stage(t, Options{Out: &out, Calls: 30, Rate: 200}, obedient)
	sum, err := together(t, t.Context(), d, s)
	if err != nil {
		t.Fatal(err)
	}
	if !sum.OK() || sum.Stored != 30 {
		t.Errorf("%d calls, wrong: %q", sum.Stored, sum.Wrong)
	}
	if sum.Pushed == 0 || sum.Rejected < 2 || sum.Skipped == 0 || sum.Left < 3 || sum.Retried == 0 {
		t.Errorf("not every ending was seen: %+v", sum.Tally)
	}
	for n := range 30 {
		session := fmt.Sprintf("  call-%04d  ", n+1)
		if got := strings.Count(out.String(), session); got != 1 {
			t.Errorf("%d lines of%s, want one", got, session)
		}
	}
	if !strings.Contains(out.String(), "all 30 calls ended as they should") || !strings.Contains(out.String(), "What the CRM received  call-0003") {
		t.Errorf("no closing:\n%s", out.String())
	}
}

func TestDemoNoticesACallThatWasNotToBePushed(t *testing.T) {
	d, s := stage(t, Options{Out: io.Discard, Calls: len(kinds), Rate: 200}, func(c *call) bool { return c.want.why == "skip_post_push" })
	sum, err := together(t, t.Context(), d, s)
	if err != nil {
		t.Fatal(err)
	}
	if len(sum.Wrong) != 1 || !strings.Contains(sum.Wrong[0], "was not to be pushed (skip_post_push)") {
		t.Errorf("wrong: %q", sum.Wrong)
	}
}

func TestDemoEndsWhenNothingHappens(t *testing.T) {
	d, s := stage(t, Options{Out: io.Discard, Calls: 3, Rate: 200, Wait: 500 * time.Millisecond}, obedient)
	s.calls = s.calls.Database().Collection("elsewhere") // a watcher that sees nothing
	sum, err := together(t, t.Context(), d, s)
	if err != nil {
		t.Fatal(err)
	}
	if len(sum.Wrong) != 3 || !strings.Contains(sum.Wrong[0], "call-0001 has no outcome, want ok") {
		t.Errorf("wrong: %q", sum.Wrong)
	}
}

// signal is a writer that tells when a text was written.
type signal struct {
	text string
	seen chan struct{}
	once sync.Once
}

func (s *signal) Write(p []byte) (int, error) {
	if strings.Contains(string(p), s.text) {
		s.once.Do(func() { close(s.seen) })
	}
	return len(p), nil
}

func TestDemoThatIsKeptEndsWithItsContext(t *testing.T) {
	told := &signal{text: "Ctrl-C", seen: make(chan struct{})}
	d, s := stage(t, Options{Out: told, Calls: 2, Rate: 200, Keep: true}, obedient)
	ctx, interrupt := context.WithCancel(t.Context())
	go func() {
		<-told.seen
		interrupt()
	}()
	sum, err := together(t, ctx, d, s)
	if err != nil || !sum.OK() || sum.Stored != 2 {
		t.Errorf("%+v, %v", sum, err)
	}
}

func TestDemoThatIsInterruptedSaysSo(t *testing.T) {
	began := &signal{text: "call-0001", seen: make(chan struct{})}
	d, s := stage(t, Options{Out: began, Calls: 1000, Rate: 5}, obedient)
	ctx, interrupt := context.WithCancel(t.Context())
	go func() {
		<-began.seen
		interrupt()
	}()
	if _, err := together(t, ctx, d, s); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

func TestCallsAreWrittenAsThePlatformWritesThem(t *testing.T) {
	d, s := stage(t, Options{Out: io.Discard, Calls: len(kinds), Rate: 500}, obedient)
	stream, err := s.calls.Watch(t.Context(), mongo.Pipeline{})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close(context.Background())
	if _, err := together(t, t.Context(), d, s); err != nil {
		t.Fatal(err)
	}
	inserted, ended := 0, 0
	for ended < len(kinds) && stream.Next(t.Context()) {
		var e struct {
			Operation string `bson:"operationType"`
			Full      bson.M `bson:"fullDocument"`
			Update    struct {
				Fields bson.M `bson:"updatedFields"`
			} `bson:"updateDescription"`
		}
		if err := stream.Decode(&e); err != nil {
			t.Fatal(err)
		}
		switch {
		case e.Operation == "insert":
			inserted++
			if _, ok := e.Full["completed_at"]; ok {
				ended++
				if e.Full["call_type"] != "agent" {
					t.Errorf("inserted with its results: %v", e.Full["session_id"])
				}
			}
		case e.Update.Fields["completed_at"] != nil:
			ended++
			if e.Update.Fields["disconnected_by"] == nil || e.Update.Fields["call_duration_seconds"] == nil {
				t.Errorf("completed without the results: %v", e.Update.Fields)
			}
		}
	}
	if inserted != len(kinds) || ended != len(kinds) {
		t.Errorf("%d inserted and %d completed, want %d each", inserted, ended, len(kinds))
	}
}

func TestOptionsThatCannotBeUsed(t *testing.T) {
	client, err := mongo.Connect() // to nothing: it is not used
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Disconnect(t.Context()) }()
	db := client.Database("cxbridge")
	for name, o := range map[string]Options{
		"no database":    {Out: io.Discard, Calls: 1, Rate: 1},
		"no writer":      {DB: db, Calls: 1, Rate: 1},
		"no calls":       {DB: db, Out: io.Discard, Rate: 1},
		"negative calls": {DB: db, Out: io.Discard, Calls: -1, Rate: 1},
		"too many":       {DB: db, Out: io.Discard, Calls: MaxCalls + 1, Rate: 1},
		"no rate":        {DB: db, Out: io.Discard, Calls: 1},
		"negative rate":  {DB: db, Out: io.Discard, Calls: 1, Rate: -1},
		"too fast":       {DB: db, Out: io.Discard, Calls: 1, Rate: MaxRate + 1},
		"no number":      {DB: db, Out: io.Discard, Calls: 1, Rate: math.NaN()},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := New(Options{DB: db, Out: io.Discard, Calls: MaxCalls, Rate: MaxRate}); err != nil {
		t.Errorf("the most that there may be: %v", err)
	}
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}
