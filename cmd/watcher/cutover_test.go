package main

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/config"
)

// docs/cut-over.md: from the API's own push to the watcher, away from it, and to it
// again, without a gap and without a double.
func TestCutOver(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "bot")
	lookingBack, err := parseRun(t, nil, "--start=1h")
	if err != nil {
		t.Fatal(err)
	}
	d.byAPI("api-1", "ok")
	d.byAPI("api-2", "failed")
	d.Call("switch-1", "bot") // the API's push is off, the watcher is not there yet

	stop := d.watch(func(c *config.Config) { c.Start = lookingBack.Start })
	d.Call("live-1", "bot")
	d.settled("switch-1", "ok")
	d.settled("live-1", "ok")
	d.swept()
	stop()

	d.byAPI("api-3", "ok")
	d.Call("switch-2", "bot")
	d.run("resume", "reset", "--to", "1h", "--yes")
	d.watch()
	d.Call("live-2", "bot")
	d.settled("switch-2", "ok")
	d.settled("live-2", "ok")
	d.swept()

	var pushed []string
	for _, r := range d.crm.At("/bot") {
		var payload struct {
			CallID string `json:"call_id"`
		}
		if err := json.Unmarshal(r.Body, &payload); err != nil {
			t.Error(err)
		}
		pushed = append(pushed, payload.CallID)
	}
	slices.Sort(pushed)
	if want := []string{"live-1", "live-2", "switch-1", "switch-2"}; !slices.Equal(pushed, want) {
		t.Errorf("pushed %v, want %v", pushed, want)
	}
}

// byAPI stores a result that the platform pushes by itself, as it did before there was a watcher.
func (d *desk) byAPI(session, status string) {
	d.t.Helper()
	d.Call(session, "bot")
	outcome := bson.D{{Key: "status", Value: status}, {Key: "http_status", Value: 200}, {Key: "pushed_at", Value: time.Now()}}
	_, err := d.Calls.UpdateOne(d.t.Context(), bson.D{{Key: "session_id", Value: session}},
		bson.D{{Key: "$set", Value: bson.D{{Key: "post_call_push_result", Value: outcome}}}})
	if err != nil {
		d.t.Fatal(err)
	}
}

// swept waits until a look back is over: until then no token is saved.
func (d *desk) swept() {
	d.t.Helper()
	d.eventually("the past is swept", func() error {
		if len(d.record().Position.Token) == 0 {
			return errors.New("no token is saved")
		}
		return nil
	})
}
