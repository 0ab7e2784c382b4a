package app

import (
	"errors"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A completed_at that is a text or a number is the time that it says, for the stream and
// for the sweep of a gap; one that is neither is no result.
func TestResultsInEveryForm(t *testing.T) {
	for _, when := range []string{"live", "in a gap"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			r := newRoad(t, "bot")
			r.neverTwice()
			w := r.start()
			r.Call("before", "bot")
			r.final("before", "ok")
			if when == "in a gap" {
				w.halt()
			}
			now := time.Now().UTC()
			results := map[string]any{
				"date":             now,
				"text of Python":   now.Format("2006-01-02T15:04:05.000000+00:00"),
				"text of India":    now.In(time.FixedZone("", 19800)).Format("2006-01-02 15:04:05-0700"),
				"basic text":       now.Format("20060102T150405Z"),
				"seconds":          now.Unix(),
				"seconds, double":  float64(now.UnixMilli()) / 1000,
				"milliseconds":     now.UnixMilli(),
				"decimal":          bson.NewDecimal128(0x3040000000000000, uint64(now.UnixMilli())),
				"no time":          "soon",
				"no time at all":   true,
				"nor this, object": bson.D{{Key: "at", Value: now}},
			}
			none := []string{"no time", "no time at all", "nor this, object"}
			for name, at := range results {
				r.Call(name, "bot", bson.E{Key: "completed_at", Value: at})
			}
			if when == "in a gap" {
				r.server.LoseHistory(bson.Timestamp{})
				w = r.start()
				r.eventually("the sweep ends", func() error {
					if w.metric("watcher_app_sweeps_total", "outcome", "done") != 1 {
						return errors.New("not yet")
					}
					return nil
				})
			}
			for _, name := range none {
				delete(results, name)
			}
			for name := range results {
				r.final(name, "ok")
			}
			r.Call("after", "bot")
			r.final("after", "ok")
			r.settled(w, 1)
			for _, name := range none {
				if o := r.outcomeOf(name); o != nil {
					t.Errorf("%s: %+v", name, o)
				}
			}
			if n := len(r.crm.Requests()); n != len(results)+2 {
				t.Errorf("%d requests for %d results", n, len(results)+2)
			}
		})
	}
}
