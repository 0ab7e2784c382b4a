package app

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/internal/localmongo"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What stores a result comes through the stream, once; nothing else does, least
// of all what the watcher writes itself.
func TestOnlyStoredResultsComeThrough(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	w := r.start()
	ctx := t.Context()

	// One call with everything around it: one update comes through.
	must(t, r.Begin("s", "bot"))
	must(t, r.Cdr("s"))
	at, err := r.StoreResults("s")
	must(t, err)
	r.final("s", "ok")
	_, err = r.Calls.UpdateOne(ctx, bson.D{{Key: "session_id", Value: "s"}}, bson.D{{Key: "$set", Value: bson.D{{Key: "cdr_talktime", Value: 99}}}})
	must(t, err)
	_, err = r.StoreResults("s", bson.E{Key: "completed_at", Value: at}) // the same result once more
	must(t, err)

	// An insert and a replacement that hold a result.
	whole := bson.D{
		{Key: "_id", Value: "whole"}, {Key: "session_id", Value: "whole"}, {Key: "bot_id", Value: "bot"},
		{Key: "completed_at", Value: time.Now()},
	}
	_, err = r.Calls.InsertOne(ctx, whole)
	must(t, err)
	r.final("whole", "ok")
	replaced := append(whole[:3:3], bson.E{Key: "completed_at", Value: time.Now().Add(time.Millisecond)})
	_, err = r.Calls.ReplaceOne(ctx, bson.D{whole[0]}, replaced)
	must(t, err)
	r.final("whole", "ok")
	// Results of a call whose skeleton was never seen: an upsert.
	_, err = r.StoreResults("unseen", bson.E{Key: "bot_id", Value: "bot"})
	must(t, err)
	r.final("unseen", "ok")

	// The agent desk's records, whole and stored in two steps; a null.
	_, err = r.Calls.InsertOne(ctx, bson.D{
		{Key: "session_id", Value: "agent"}, {Key: "bot_id", Value: "bot"}, {Key: "call_type", Value: "agent"},
		{Key: "completed_at", Value: time.Now()},
	})
	must(t, err)
	_, err = r.StoreResults("agent-2", bson.E{Key: "bot_id", Value: "bot"}, bson.E{Key: "call_type", Value: "agent"})
	must(t, err)
	must(t, r.Begin("null", "bot"))
	_, err = r.StoreResults("null", bson.E{Key: "completed_at", Value: nil})
	must(t, err)

	// An update does not say that its call is an agent's: it comes through, and
	// is left alone.
	must(t, r.Begin("agent-3", "bot", bson.E{Key: "call_type", Value: "agent"}))
	_, err = r.StoreResults("agent-3")
	must(t, err)

	// The stream is in order: once the last call is done, all before it came.
	r.Call("last", "bot")
	r.final("last", "ok")
	r.settled(w, 6)
	for operation, want := range map[string]float64{"update": 3, "insert": 2, "replace": 1} {
		if got := w.metric("watcher_stream_events_total", "stream", "calls", "operation", operation); got != want {
			t.Errorf("%v %ss came through, want %v", got, operation, want)
		}
	}
	if got := w.metric("watcher_dispatch_skips_total", "reason", "agent_call"); got != 1 {
		t.Errorf("%v agent calls skipped, want 1", got)
	}
	if got := len(r.crm.Requests()); got != 5 {
		t.Errorf("%d requests, want 5", got)
	}
	for _, session := range []string{"agent", "agent-2", "agent-3", "null"} {
		if doc := r.Doc(session); doc.Lookup("post_call_push_result").Type != 0 || doc.Lookup("integration_log").Type != 0 {
			t.Errorf("something was written onto %s: %s", session, doc)
		}
	}
}

// A result that is stored anew is a new delivery, also while tries of the old
// one are due.
func TestResultStoredAnew(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	r.cfg.RetrySchedule = []time.Duration{time.Hour}
	down := true
	r.crm.Answers(func(apptest.Request) apptest.Answer {
		if down {
			down = false
			return apptest.Answer{Status: 503}
		}
		return apptest.Answer{}
	})
	r.start()
	first := r.Call("s", "bot")
	r.eventually("a try is scheduled", func() error {
		if o := r.outcomeOf("s"); o == nil || o.NextAttemptAt == nil {
			return fmt.Errorf("have %v", o)
		}
		return nil
	})
	second, err := r.StoreResults("s", bson.E{Key: "completed_at", Value: first.Add(time.Second)},
		bson.E{Key: "post_call_analysis", Value: bson.D{{Key: "DISPOSITION", Value: "Corrected"}}})
	must(t, err)
	_ = second
	o := r.final("s", "ok")
	requests := r.crm.Requests()
	if len(requests) != 2 || requests[0].Delivery == requests[1].Delivery || !strings.Contains(string(requests[1].Body), "Corrected") {
		t.Fatalf("requests: %+v", requests)
	}
	if o.Attempts != 1 || o.DeliveryID != requests[1].Delivery || !o.CompletedAt.Equal(first.Add(time.Second)) {
		t.Errorf("the outcome is not of the new result: %+v", o)
	}
	if log := array(t, r.Doc("s"), "integration_log"); len(log) != 2 {
		t.Errorf("integration_log: %v", log)
	}
	if events := array(t, r.Doc("s"), "events"); len(events) != 2 {
		t.Errorf("events: %v", events)
	}
}

// Bots are added, changed and removed while the watcher runs. No bot is older than
// the call that is pushed with it, and a call whose bot is gone waits for it.
func TestBotsChangeWhileRunning(t *testing.T) {
	t.Parallel()
	r := newRoad(t)
	w := r.start()
	known := func(id, url string) {
		r.eventually("the cache has bot "+id+" with "+url, func() error {
			bot := w.bots.Set().Named(id)
			switch {
			case url == "" && bot == nil, url != "" && bot != nil && bot.Push != nil && bot.Push.URL == url:
				return nil
			}
			return fmt.Errorf("have %+v", bot)
		})
	}
	oid := bson.NewObjectID()
	r.Call("before", oid)
	r.settled(w, 1)
	r.PutBot(apptest.Bot(oid, r.url("one")))
	known(oid.Hex(), r.url("one"))
	r.Call("added", oid)
	r.final("added", "ok")
	r.PutBot(apptest.Bot(oid, r.url("two"), bson.E{Key: "key_mapper", Value: bson.D{{Key: "quality", Value: "{{qc.overall_score}}"}}}))
	known(oid.Hex(), r.url("two"))
	// The new mapper needs a field of the call that was not read before; the call
	// has the other form of the bot's id.
	r.Call("changed", oid.Hex(), bson.E{Key: "qc_analysis", Value: bson.D{{Key: "overall_score", Value: 93}}})
	r.final("changed", "ok")
	_, err := r.Bots.DeleteOne(t.Context(), bson.D{{Key: "_id", Value: oid}})
	must(t, err)
	known(oid.Hex(), "")
	r.Call("removed", oid)
	r.eventually("the call waits for its bot", func() error {
		if o := r.outcomeOf("removed"); o == nil || o.NextAttemptAt == nil || o.Attempts != 0 {
			return fmt.Errorf("outcome %+v", o)
		}
		return nil
	})
	if one, two := r.crm.At("/one"), r.crm.At("/two"); len(one) != 1 || len(two) != 1 || !strings.Contains(string(two[0].Body), "93") {
		t.Errorf("%d requests to the first place, %v to the second", len(one), two)
	}
	if doc := r.Doc("before"); doc.Lookup("post_call_push_result").Type != 0 {
		t.Errorf("a call of no bot: %s", doc)
	}
	if got := w.metric("watcher_dispatch_skips_total", "reason", "no_config"); got != 1 {
		t.Errorf("%v calls without a bot, want 1", got)
	}
}

// A push that is switched off while tries are due ends them, and says so.
func TestBotDisabledWhileATryIsDue(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	r.cfg.RetrySchedule = []time.Duration{time.Second}
	r.crm.Answers(func(apptest.Request) apptest.Answer { return apptest.Answer{Status: 503} })
	w := r.start()
	r.Call("s", "bot")
	r.eventually("a try is scheduled", func() error {
		if o := r.outcomeOf("s"); o == nil || o.NextAttemptAt == nil {
			return fmt.Errorf("have %v", o)
		}
		return nil
	})
	r.PutBot(apptest.Bot("bot", r.url("bot"), bson.E{Key: "enabled", Value: false}))
	r.eventually("the cache has it", func() error {
		if w.bots.Set().Named("bot").Push.Enabled {
			return fmt.Errorf("still enabled")
		}
		return nil
	})
	o := r.final("s", "rejected")
	if !strings.Contains(o.errText(), "switched off") || len(r.crm.Requests()) != 1 || o.Attempts != 1 {
		t.Errorf("%d requests, outcome %+v: %s", len(r.crm.Requests()), o, o.errText())
	}
	if events := array(t, r.Doc("s"), "events"); len(events) != 2 {
		t.Errorf("events: %v", events)
	}
}

// Recording links follow the settings document.
func TestSettingsChangeWhileRunning(t *testing.T) {
	t.Parallel()
	r := newRoad(t)
	r.PutBot(apptest.Bot("bot", r.url("bot"), bson.E{Key: "key_mapper", Value: bson.D{{Key: "link", Value: "{{result.recording_url}}"}}}))
	store := func(endpoint string) {
		t.Helper()
		_, err := r.DB.Collection("system_settings").ReplaceOne(t.Context(), bson.D{{Key: "_id", Value: "system"}}, bson.D{
			{Key: "_id", Value: "system"},
			{Key: "minio", Value: bson.D{
				{Key: "endpoint", Value: endpoint}, {Key: "access_key", Value: "ak"}, {Key: "secret_key", Value: "hush"},
				{Key: "bucket", Value: "recordings"}, {Key: "secure", Value: false},
			}},
		}, options.Replace().SetUpsert(true))
		must(t, err)
	}
	recorded := bson.E{Key: "recording_url", Value: "http://old:9000/recordings/a/b.wav"}
	store("one:9000")
	w := r.start()
	r.Call("first", "bot", recorded)
	r.final("first", "ok")
	store("two:9000")
	must(t, w.settings.Refresh(t.Context())) // what the next look, within half a minute, does
	r.Call("second", "bot", recorded)
	r.final("second", "ok")
	links := r.crm.At("/bot")
	if !strings.Contains(string(links[0].Body), "http://one:9000/recordings/a/b.wav?X-Amz") || !strings.Contains(string(links[1].Body), "http://two:9000/recordings/a/b.wav?X-Amz") {
		t.Errorf("links: %s, %s", links[0].Body, links[1].Body)
	}
	for _, session := range []string{"first", "second"} {
		if doc := r.Doc(session).String(); strings.Contains(doc, "X-Amz") {
			t.Errorf("a signed link stands on the call: %s", doc)
		}
	}
}

// A watcher that finds no MongoDB says so, tries again and works once it is there.
func TestMongoDBAwayAtStart(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	r.cfg.MongoURI += "&serverSelectionTimeoutMS=200&connectTimeoutMS=200"
	r.server.RefuseConnections(true)
	w := r.launch()
	r.eventually("the log says that MongoDB is away", func() error {
		if len(w.logs.find("MongoDB does not answer, trying again")) == 0 {
			return fmt.Errorf("it does not")
		}
		return nil
	})
	if err := w.readiness(); err == nil {
		t.Error("ready without MongoDB")
	}
	r.server.RefuseConnections(false)
	r.eventually("the watcher is ready", w.readiness)
	r.Call("s", "bot")
	r.final("s", "ok")

	// And a signal ends one that never finds any.
	away := newRoad(t)
	away.server.RefuseConnections(true)
	away.cfg.MongoURI += "&serverSelectionTimeoutMS=200&connectTimeoutMS=200"
	begun := time.Now()
	away.launch().halt()
	if took := time.Since(begun); took > away.cfg.ShutdownGrace+disconnectTimeout {
		t.Errorf("the stop took %v", took)
	}
	away.server.RefuseConnections(false)
}

// Faults of MongoDB while calls come in: all are pushed, none twice once logged.
func TestMongoDBFaultsWhileRunning(t *testing.T) {
	faults := map[string]func(*localmongo.Server, func()){
		"dropped connections": func(s *localmongo.Server, between func()) {
			for range 5 {
				s.DropConnections()
				between()
			}
		},
		"restart": func(s *localmongo.Server, between func()) {
			s.RefuseConnections(true)
			s.DropConnections()
			between()
			s.RefuseConnections(false)
		},
		"step-down": func(s *localmongo.Server, between func()) {
			s.StepDown(0)
			between()
			s.StepUp()
		},
		"killed cursors": func(s *localmongo.Server, between func()) {
			for range 3 {
				s.KillCursors("")
				between()
			}
		},
		"silence": func(s *localmongo.Server, between func()) {
			s.Freeze()
			between()
			s.Thaw()
		},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRoad(t, "bot")
			local := r.server.Local()
			r.crm.Answers(func(q apptest.Request) apptest.Answer {
				if err := r.NotLogged(q); err != nil {
					t.Error(err)
				}
				return apptest.Answer{}
			})
			w := r.start()
			feeding, stop := context.WithCancel(t.Context())
			defer stop()
			var n int
			fed := make(chan error, 1)
			go func() {
				var err error
				n, err = r.Feed(feeding, 2*time.Millisecond, "bot")
				fed <- err
			}()
			begun := w.metric("watcher_dispatch_outcomes_total")
			r.eventually("the first outcomes are there", func() error {
				if w.metric("watcher_dispatch_outcomes_total") < begun+10 {
					return fmt.Errorf("not yet")
				}
				return nil
			})
			time.AfterFunc(time.Second, stop)
			fault(local, func() {
				select {
				case <-time.After(150 * time.Millisecond):
				case <-t.Context().Done():
				}
			})
			must(t, <-fed)
			r.allPushed(n)
			if got := len(r.crm.Requests()); got != n {
				t.Errorf("%d requests for %d calls; no attempt was cut off, so none is repeated", got, n)
			}
		})
	}
}

// The collection is dropped and made again: the stream goes on in the new one.
func TestCallsCollectionDroppedAndMadeAgain(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	w := r.start()
	r.Call("before", "bot")
	r.final("before", "ok")
	must(t, r.Calls.Drop(t.Context()))
	r.Call("at-once", "bot")
	r.final("at-once", "ok")
	r.eventually("the watcher is ready again", w.readiness)
	r.Call("after", "bot")
	r.final("after", "ok")
	if got := len(r.crm.Requests()); got != 3 {
		t.Errorf("%d requests, want 3", got)
	}
}

// Two watchers with names of their own work side by side in one process, and
// one name is worked on by one of its two replicas.
func TestTwoWatchersInOneProcess(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	r.start()
	second := *r
	second.deps.Owner = "replica-2"
	standby := second.launch()
	r.eventually("the standby knows that others hold the partition", standby.readiness)
	for i := range 20 {
		r.Call(fmt.Sprint("s", i), "bot")
	}
	for i := range 20 {
		r.final(fmt.Sprint("s", i), "ok")
	}
	if got := len(r.crm.Requests()); got != 20 {
		t.Errorf("%d requests for 20 calls", got)
	}
}

// allPushed waits until n calls have a final outcome, each with one log entry
// for its one try.
func (r *road) allPushed(n int) {
	r.t.Helper()
	done := bson.D{
		{Key: "post_call_push_result.status", Value: "ok"},
		{Key: "post_call_push_result.next_attempt_at", Value: bson.D{{Key: "$exists", Value: false}}},
	}
	r.eventually(fmt.Sprintf("%d calls are pushed", n), func() error {
		got, err := r.Calls.CountDocuments(r.t.Context(), done)
		if err == nil && got != int64(n) {
			err = fmt.Errorf("%d are", got)
		}
		return err
	})
	cursor, err := r.Calls.Find(r.t.Context(), done)
	must(r.t, err)
	for cursor.Next(r.t.Context()) {
		doc := cursor.Current
		log, _ := doc.Lookup("integration_log").Array().Values()
		events, _ := doc.Lookup("events").Array().Values()
		tries := int(doc.Lookup("post_call_push_result", "attempts").AsInt64())
		if len(log) != tries || len(events) == 0 || len(events) > 2 {
			r.t.Errorf("%d log entries and %d events for %d tries: %s", len(log), len(events), tries, doc)
		}
	}
	must(r.t, cursor.Err())
}
