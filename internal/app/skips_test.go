package app

import (
	"fmt"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/demo/apptest"
)

// What is not pushed and leaves nothing on the call can be looked up, once for each
// result, also after the road looked at it again.
func TestSkipLog(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	r.PutBot(apptest.Bot("off", r.url("off"), bson.E{Key: "enabled", Value: false}))
	w := r.start()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{
		"of nobody": "no_config", "of a bot that is off": "disabled", "flagged": "skip_post_push", "without a time": "no_result",
		"of an agent": "agent_call",
	}
	r.Call("of nobody", "nobody")
	r.Call("of a bot that is off", "off")
	r.Call("flagged", "bot", bson.E{Key: "skip_post_push", Value: true})
	r.Call("without a time", "bot", bson.E{Key: "completed_at", Value: "soon"})
	must(r.Begin("of an agent", "bot", bson.E{Key: "call_type", Value: "agent"}))
	_, err := r.StoreResults("of an agent")
	must(err)
	skips := r.DB.Collection("watcher_skips")
	found := func() map[string]string {
		t.Helper()
		cursor, err := skips.Find(t.Context(), bson.D{})
		must(err)
		var all []struct {
			Session string        `bson:"session_id"`
			Call    bson.RawValue `bson:"call_id"`
			Reason  string        `bson:"reason"`
			At      time.Time     `bson:"at"`
		}
		must(cursor.All(t.Context(), &all))
		got := make(map[string]string)
		for _, e := range all {
			if _, twice := got[e.Session]; twice || e.At.IsZero() || e.Call.Type == 0 {
				t.Errorf("%+v, twice: %v", e, twice)
			}
			got[e.Session] = e.Reason
		}
		return got
	}
	complete := func() error {
		if got := found(); fmt.Sprint(got) != fmt.Sprint(want) {
			return fmt.Errorf("%v, want %v", got, want)
		}
		return nil
	}
	r.eventually("all have an entry", complete)

	// Deleted between the event and the read: the name is gone with it.
	_, err = r.Calls.InsertOne(t.Context(), bson.D{{Key: "_id", Value: "gone"}, {Key: "session_id", Value: "gone"}, {Key: "completed_at", Value: time.Now()}})
	must(err)
	_, err = r.Calls.DeleteOne(t.Context(), bson.D{{Key: "_id", Value: "gone"}})
	must(err)
	r.eventually("what became of the deleted call", func() error {
		for name, reason := range found() {
			if name == "" && reason == "call_deleted" || name == "gone" && reason == "no_config" {
				want[name] = reason // the second: it was read before it was gone
				return nil
			}
		}
		return fmt.Errorf("%v", found())
	})
	r.Call("fine", "bot")
	r.final("fine", "ok")
	w.halt()
	if err := complete(); err != nil {
		t.Errorf("a call that is pushed has no entry: %v", err)
	}
	if n := w.metric("watcher_skips_written_total"); n != float64(len(want)) || w.metric("watcher_skips_dropped_total") != 0 {
		t.Errorf("%v written", n)
	}
}

// A skip log that MongoDB does not take, or does not answer for, holds up neither the
// road nor the stop.
func TestSkipLogThatCannotBeWritten(t *testing.T) {
	for name, fault := range map[string]bson.E{
		"refused": {Key: "errorCode", Value: 13}, "silent": {Key: "blockTimeMS", Value: 60_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRoad(t, "bot")
			r.fail("alwaysOn", bson.D{
				commands("update", "createIndexes"), fault, {Key: "blockConnection", Value: name == "silent"},
				{Key: "namespace", Value: r.server.Database + ".watcher_skips"},
			})
			w := r.start()
			const n = 200
			for i := range n {
				r.Call(fmt.Sprint("flagged ", i), "bot", bson.E{Key: "skip_post_push", Value: true})
				r.Call(fmt.Sprint("fine ", i), "bot")
			}
			r.once(n)
			r.settled(w, 2*n)
			if got := w.metric("watcher_dispatch_skips_total", "reason", "skip_post_push"); got != n {
				t.Errorf("%v are skipped", got)
			}
			begun := time.Now()
			w.halt()
			if took := time.Since(begun); took > 15*time.Second {
				t.Errorf("the stop took %v", took)
			}
			if got := w.metric("watcher_skips_dropped_total"); got != n || w.metric("watcher_skips_written_total") != 0 {
				t.Errorf("%v are dropped", got)
			}
			if lines := len(w.logs.find("the skip log is not written: a right is missing; --skip-log=0 switches it off")); lines > 1 || name == "refused" && lines == 0 {
				t.Errorf("%d lines of a missing right", lines)
			}
		})
	}
}

func TestSkipLogSwitchedOff(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	r.cfg.SkipLog = 0
	w := r.start()
	r.Call("flagged", "bot", bson.E{Key: "skip_post_push", Value: true})
	r.Call("fine", "bot")
	r.final("fine", "ok")
	w.halt()
	if names, err := r.DB.ListCollectionNames(t.Context(), bson.D{{Key: "name", Value: "watcher_skips"}}); err != nil || len(names) > 0 {
		t.Errorf("%v, %v", names, err)
	}
}
