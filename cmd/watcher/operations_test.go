package main

import (
	"fmt"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/demo/apptest"
)

// waits is an outcome whose next attempt is due.
func waits(at time.Time) bson.E {
	o := outcomeOf("failed", 503, "HTTP 503 Service Unavailable", at)
	result, _ := o.Value.(bson.D)
	o.Value = append(result, bson.E{Key: "next_attempt_at", Value: at.Add(time.Minute)})
	return o
}

// The examples of the guide: one bot is stopped and keeps its calls, and a replay is
// taken back. No watcher runs, so nothing changes meanwhile.
func TestAHoldAndACancelledReplay(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	sales := apptest.Bot("acme-sales", d.crm.URL+"/leads")
	sales[1].Value = "Acme sales"
	d.PutBot(sales)
	start := time.Now().UTC().Truncate(time.Second)
	put := func(from, to int, outcome func(time.Time) bson.E) {
		for i := from; i < to; i++ {
			at := start.Add(-time.Duration(90-i) * time.Minute)
			d.Call(fmt.Sprintf("s-50%02d", i), "acme-sales", outcome(at), bson.E{Key: "completed_at", Value: at})
		}
	}
	show := func(name string, args ...string) {
		t.Helper()
		out := d.run(args...)
		fits(t, out)
		golden(t, name, shown(out, start))
	}

	put(0, 2, waits)
	show("hold_add.txt", "hold", "add", "--bot", "Acme sales", "--why", "their CRM moves, ticket 4711", "--for", "8h", "--yes")
	put(2, 57, waits)
	now := time.Now()
	_, err := d.DB.Collection("watcher_resume").UpdateOne(t.Context(), bson.D{{Key: "why", Value: "their CRM moves, ticket 4711"}}, bson.D{{Key: "$set", Value: bson.D{
		{Key: "from", Value: now.Add(-time.Hour)}, {Key: "until", Value: now.Add(7*time.Hour + 50*time.Second)},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	show("hold_list.txt", "hold", "list")
	show("hold_release.txt", "hold", "release", "--bot", "Acme sales", "--yes")

	put(60, 72, func(at time.Time) bson.E { return outcomeOf("rejected", 401, "HTTP 401 Unauthorized", at) })
	out := d.run("replay", "--since", "2h", "--bot", "Acme sales", "--status", "rejected", "--rate", "100", "--yes")
	has(t, out, "No watcher with the name default is alive", "12 calls marked")
	show("replay_cancel.txt", "replay", "cancel", replayForm.FindString(out), "--yes")
	show("replay_list.txt", "replay", "list")
}
