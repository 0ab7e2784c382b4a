package app

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/demo/apptest"
)

// BenchmarkRoad is the whole road of many calls: stored, read from the stream,
// loaded, rendered, sent to a CRM on loopback, recorded, and the position saved
// behind them. The database and the CRM run in the same process and take their
// part of the time.
func BenchmarkRoad(b *testing.B) {
	const calls, bots = 2000, 8
	r := newRoad(b)
	for i := range bots {
		r.PutBot(apptest.Bot(fmt.Sprint("bot-", i), r.url(fmt.Sprint("crm-", i)),
			bson.E{Key: "key_mapper", Value: mapperOf(25)}))
	}
	r.deps.Logger = slog.New(slog.DiscardHandler)
	w := r.start()
	settled := func() float64 { return w.metric("watcher_dispatch_outcomes_total", "final", "true") }
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		before := settled()
		docs := make([]any, 0, calls)
		for range calls {
			n++
			docs = append(docs, benchCall(n, fmt.Sprint("bot-", n%bots)))
		}
		if _, err := r.Calls.InsertMany(b.Context(), docs); err != nil {
			b.Fatal(err)
		}
		if !apptest.Poll(b.Context(), func() bool { return settled()-before >= calls }) {
			b.Fatal("not all calls are settled")
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "calls/s")
	b.ReportMetric(float64(n)/w.metric("watcher_calls_write_outcomes"), "calls/write")
}

// mapperOf is a mapper of n keys, of every namespace.
func mapperOf(n int) bson.D {
	names := []string{
		"call.name", "call.city", "crm.lead_id", "crm.owner.name", "result.call_id", "result.disposition", "result.call_duration_seconds",
		"result.call_start_time", "result.call_end_time", "result.disconnected_by", "analysis.DISPOSITION", "analysis.CALLING_REMARKS",
		"qc.overall_score", "system.current_datetime", "result.was_transferred", "result.transcript",
	}
	d := bson.D{}
	for i := range n {
		d = append(d, bson.E{Key: fmt.Sprint("mx_field_", i), Value: "{{" + names[i%len(names)] + "}}"})
	}
	return d
}

func benchCall(n int, bot string) bson.D {
	now := time.Now()
	line := func(role, text string) bson.D {
		return bson.D{{Key: "role", Value: role}, {Key: "content", Value: text}}
	}
	return bson.D{
		{Key: "session_id", Value: fmt.Sprint("bench-", n)}, {Key: "bot_id", Value: bot}, {Key: "call_type", Value: "outbound"},
		{Key: "call_start_time", Value: now.Add(-time.Minute)}, {Key: "call_end_time", Value: now},
		{Key: "connected_event", Value: bson.D{{Key: "name", Value: "Asha Rao"}, {Key: "city", Value: "Pune"}}},
		{Key: "crm_data", Value: bson.D{{Key: "lead_id", Value: n}, {Key: "owner", Value: bson.D{{Key: "name", Value: "Ravi"}}}}},
		{Key: "transcript", Value: bson.A{line("assistant", "Good morning."), line("user", "Hello, yes, I am interested."), line("assistant", "Thank you.")}},
		{Key: "post_call_analysis", Value: bson.D{{Key: "DISPOSITION", Value: "Interested"}, {Key: "CALLING_REMARKS", Value: "Call again on Friday."}}},
		{Key: "qc_analysis", Value: bson.D{{Key: "overall_score", Value: 92.5}}},
		{Key: "events", Value: bson.A{}}, {Key: "latency", Value: bson.A{0.4, 0.5, 0.6}},
		{Key: "disconnected_by", Value: "customer"}, {Key: "call_duration_seconds", Value: 60},
		{Key: "status", Value: "completed"}, {Key: "completed_at", Value: now},
	}
}
