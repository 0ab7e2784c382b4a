package app

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/demo/apptest"
)

// shapes are values of every type that a field may wrongly have.
func shapes() map[string]any {
	deep := bson.D{{Key: "end", Value: true}}
	for range 80 {
		deep = bson.D{{Key: "d", Value: deep}}
	}
	return map[string]any{
		"null": nil, "text": "words", "empty": "", "zero": 0, "negative": int64(math.MinInt64),
		"double": math.Inf(1), "nan": math.NaN(), "bool": true,
		"object": bson.D{{Key: "a", Value: bson.D{{Key: "", Value: 1}}}}, "array": bson.A{1, "x", nil, bson.D{}},
		"date": bson.DateTime(math.MaxInt64), "objectid": bson.NewObjectID(), "binary": bson.Binary{Data: []byte{0xff, 0}},
		"decimal": bson.NewDecimal128(0x3040000000000000, 12345), "regex": bson.Regex{Pattern: "("}, "code": bson.JavaScript("f()"),
		"min": bson.MinKey{}, "timestamp": bson.Timestamp{T: 1, I: 2}, "symbol": bson.Symbol("s"), "deep": deep,
		"nul": "a\x00b", "broken": "\xff\xfe{{result.call_id}}",
	}
}

// fields are those of a call that something reads.
var fields = []string{
	"session_id", "bot_id", "stream_id", "call_type", "skip_post_push", "status", "disconnected_by",
	"connected_event", "sip_context", "crm_data", "transcript", "post_call_analysis", "qc_analysis",
	"call_start_time", "call_end_time", "call_answer_time", "created_at", "call_duration_seconds",
	"recording_url", "recording_key", "recording_access_token", "was_transferred", "transfer_at",
	"completed_at", "events", "integration_log", "post_call_push_result",
}

// nosy is a bot whose mapper reads all there is.
func nosy(url string) bson.D {
	mapper := bson.D{}
	for _, name := range []string{
		"call.name", "call.deep.path.0.x", "call.sip_headers_json", "crm.address.city", "crm.items.0", "system.current_datetime",
		"result.call_id", "result.recording_url", "result.call_duration_seconds", "result.disposition", "result.call_start_time",
		"result.call_end_time", "result.call_answer_time", "result.transcript", "result.was_transferred", "result.transfer_at",
		"analysis.DISPOSITION", "analysis.CALLING_REMARKS", "qc.overall_score", "nothing",
	} {
		mapper = append(mapper, bson.E{Key: name, Value: "{{" + name + "}}"})
	}
	return apptest.Bot("nosy", url, bson.E{Key: "key_mapper", Value: mapper})
}

// Calls with every field of every wrong type: each ends as an outcome, as
// nothing to do, or as a line in the log, and the stream goes on.
func TestCallsOfAnyShape(t *testing.T) {
	t.Parallel()
	r := newRoad(t)
	r.PutBot(nosy(r.url("nosy")))
	w := r.start()
	var docs []any
	for kind, v := range shapes() {
		for _, field := range fields {
			doc := bson.D{
				{Key: "_id", Value: field + " is " + kind}, {Key: "session_id", Value: field + " is " + kind},
				{Key: "bot_id", Value: "nosy"}, {Key: "completed_at", Value: time.Now()},
				{Key: "events", Value: bson.A{}},
			}
			docs = append(docs, replaced(doc, field, v))
		}
		// The id itself; an array, a regular expression or undefined cannot be one.
		switch kind {
		case "array", "regex":
		default:
			docs = append(docs, bson.D{{Key: "_id", Value: v}, {Key: "bot_id", Value: "nosy"}, {Key: "completed_at", Value: time.Now()}})
		}
	}
	// Fields that come twice, have no name, or hold everything at once.
	docs = append(docs,
		bson.D{{Key: "_id", Value: "twice"}, {Key: "bot_id", Value: "nosy"}, {Key: "completed_at", Value: time.Now()}, {Key: "bot_id", Value: 7}, {Key: "", Value: 1}},
		bson.D{{Key: "_id", Value: "dots"}, {Key: "bot_id", Value: "nosy"}, {Key: "completed_at", Value: time.Now()}, {Key: "crm_data", Value: bson.D{{Key: "a.b", Value: 1}, {Key: "$c", Value: 2}}}},
	)
	for i := 0; i < len(docs); i += 100 {
		_, err := r.Calls.InsertMany(t.Context(), docs[i:min(i+100, len(docs))])
		must(t, err)
	}
	r.Call("last", "nosy")
	r.final("last", "ok")
	r.settled(w, float64(len(docs)-2*len(fields))) // some have no completed_at, or are an agent's

	// What may stand on a call afterwards; where nothing does, there is a reason.
	cursor, err := r.Calls.Find(t.Context(), bson.D{})
	must(t, err)
	pushed, unreadable := 0, 0
	for cursor.Next(t.Context()) {
		doc := cursor.Current
		status, _ := doc.Lookup("post_call_push_result", "status").StringValueOK()
		switch name := doc.Lookup("_id").String(); {
		case status == "ok":
			pushed++
		case slices.Contains([]bson.Type{bson.TypeJavaScript, bson.TypeSymbol, bson.TypeMinKey}, doc.Lookup("_id").Type):
			// localmongo cannot look for these, so they stand for whatever a
			// MongoDB refuses to read.
			unreadable++
		case strings.Contains(name, "completed_at is"), strings.Contains(name, "bot_id is"), strings.Contains(name, "skip_post_push is"):
		default:
			t.Errorf("%s: status %q on %s", name, status, cut(doc.String(), 300))
		}
	}
	must(t, cursor.Err())
	if pushed < len(docs)-3*len(shapes()) {
		t.Errorf("%d of %d calls were pushed", pushed, len(docs))
	}
	if lines := w.logs.find("call cannot be read and is not pushed"); unreadable == 0 || len(lines) != unreadable ||
		w.metric("watcher_dispatch_skips_total", "reason", "call_unreadable") != float64(unreadable) {
		t.Errorf("%d calls cannot be read, %v", unreadable, lines)
	}
	if n := w.metric("watcher_dispatch_load_errors_total"); n > 100 { // each of the three fails 14 times alone or among others
		t.Errorf("%v reads failed", n)
	}
	if w.metric("watcher_calls_outcomes_written_total", "part", "nothing") != 0 {
		t.Error("some outcomes could not be written at all")
	}
}

func cut(s string, n int) string { return s[:min(n, len(s))] }

func replaced(d bson.D, key string, v any) bson.D {
	for i := range d {
		if d[i].Key == key {
			d[i].Value = v
			return d
		}
	}
	return append(d, bson.E{Key: key, Value: v})
}

// Documents that are nearly full take less of the outcome, and one that takes
// nothing ends as a log line and a metric; the others go on meanwhile.
func TestFullDocuments(t *testing.T) {
	t.Parallel()
	const most = 16 << 20
	r := newRoad(t)
	r.PutBot(nosy(r.url("nosy")))
	r.crm.Answers(func(apptest.Request) apptest.Answer {
		return apptest.Answer{Body: strings.Repeat("words ", 1000)}
	})
	w := r.start()
	// room is what a document has left for the outcome: 2,000 characters of the
	// answer stand in the result and in the log entry.
	for name, room := range map[string]int{"all": most - 15_000_000, "result": 4000, "short": 900, "nothing": 100} {
		doc := bson.D{
			{Key: "_id", Value: name}, {Key: "session_id", Value: name}, {Key: "bot_id", Value: "nosy"},
			{Key: "events", Value: bson.A{}}, {Key: "completed_at", Value: time.Now()}, {Key: "latency_samples", Value: ""},
		}
		raw, err := bson.Marshal(doc)
		must(t, err)
		_, err = r.Calls.InsertOne(t.Context(), replaced(doc, "latency_samples", strings.Repeat("x", most-len(raw)-room)))
		must(t, err)
	}
	r.Call("last", "nosy")
	r.final("last", "ok")
	r.settled(w, 5)
	for _, part := range []string{"result", "short", "nothing"} {
		if got := w.metric("watcher_calls_outcomes_written_total", "part", part); got != 1 {
			t.Errorf("%v outcomes were written as %q, want 1", got, part)
		}
	}
	for _, name := range []string{"all", "result", "short"} {
		if o := r.outcomeOf(name); o == nil || o.Status != "ok" {
			t.Errorf("%s: outcome %+v", name, o)
		}
	}
	if lines := w.logs.find("outcome cannot be written onto its call"); len(lines) != 1 || lines[0]["outcome"] != "ok" {
		t.Errorf("log of the outcome that is nowhere else: %v", lines)
	}
	if got := len(r.crm.Requests()); got != 5 {
		t.Errorf("%d requests for 5 calls", got)
	}
}

// A document that takes no outcome is not pushed once more by every look for due
// calls: its next try is not known anywhere.
func TestFullDocumentOfACallThatIsTriedAgain(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	r.cfg.RetrySchedule = []time.Duration{10 * time.Millisecond, 10 * time.Millisecond}
	r.crm.Answers(func(apptest.Request) apptest.Answer { return apptest.Answer{Status: 503} })
	w := r.start()
	_, err := r.Calls.InsertOne(t.Context(), bson.D{
		{Key: "session_id", Value: "s"}, {Key: "bot_id", Value: "bot"}, {Key: "completed_at", Value: time.Now()},
		// A string takes no fields, so the result itself cannot be replaced either
		// where the schema forbids it; here the log and the events cannot grow.
		{Key: "integration_log", Value: "not a list"}, {Key: "events", Value: 7},
	})
	must(t, err)
	o := r.final("s", "rejected")
	if o.Attempts != 3 || len(r.crm.Requests()) != 3 {
		t.Errorf("%d attempts, %d requests", o.Attempts, len(r.crm.Requests()))
	}
	r.settled(w, 1)
}

// Bots with every field of every wrong type: their calls fail or are skipped
// with a reason, and a good bot's calls go through.
func TestBotsOfAnyShape(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "good")
	var bots []any
	var ids []string
	for kind, v := range shapes() {
		for _, field := range []string{
			"post_call_push", "timezone", "auto_dispositions", "name",
			"url", "method", "headers", "token", "key_mapper", "enabled", "timeout_seconds", "max_attempts", "max_concurrency",
			"rate_limit_per_second", "time_format", "signing_secret", "success", "retry_when", "preset", "auth",
		} {
			id := field + " is " + kind
			bot := apptest.Bot(id, r.url("odd"))
			switch field {
			case "post_call_push", "timezone", "auto_dispositions", "name":
				bot = replaced(bot, field, v)
			default:
				push := bot[len(bot)-1].Value.(bson.D)
				bot[len(bot)-1].Value = replaced(push, field, v)
			}
			bots, ids = append(bots, bot), append(ids, id)
		}
	}
	_, err := r.Bots.InsertMany(t.Context(), bots)
	must(t, err)
	w := r.start()
	for _, id := range append(ids, "good") {
		must(t, func() error {
			_, err := r.StoreResults(id, bson.E{Key: "bot_id", Value: id})
			return err
		}())
	}
	r.final("good", "ok")
	r.settled(w, float64(len(ids)+1))
	var counts = make(map[string]int)
	for _, id := range ids {
		o := r.outcomeOf(id)
		switch {
		case o == nil:
			counts["nothing"]++
		case o.Status == "failed" && o.errText() == "":
			t.Errorf("%s: failed without a word", id)
		default:
			counts[o.Status]++
		}
	}
	if counts["failed"] == 0 || counts["skipped"] == 0 || counts["ok"] == 0 || counts["nothing"] > 2*len(shapes()) {
		t.Errorf("outcomes: %v", counts)
	}
	t.Log(fmt.Sprint(counts))
}
