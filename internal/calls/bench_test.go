package calls_test

import (
	"fmt"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/render"
)

// payload25 is a mapper as bots have them: 25 keys over all namespaces.
var payload25 = []string{
	"{{result.call_id}}", "{{result.recording_url}}", "{{result.call_duration_seconds}}", "{{result.disconnected_by}}",
	"{{result.disposition}}", "{{result.call_start_time}}", "{{result.call_end_time}}", "{{result.call_answer_time}}",
	"{{analysis.DISPOSITION}}", "{{analysis.SUB_DISPOSITION}}", "{{analysis.CALLING_REMARKS}}", "{{analysis.PTP_DATE}}",
	"{{qc.empathy_score}}", "{{qc.overall_score}}", "{{CUSTOMERID}}", "{{CUSTOMERNAME}}", "{{crm.segment}}",
	"{{call.due_amount}}", "{{call.campaign}}", "{{crm.address.city}}", "{{call.sip_header_x_lead}}",
	"Ref-{{call.CUSTOMERID}}-{{result.call_id}}", `{"amount": "{{call.due_amount}}"}`, "{{result.was_transferred}}",
	"{{system.current_datetime}}",
}

func mapper25() *render.Mapper {
	fields := make([]render.Field, len(payload25))
	for i, text := range payload25 {
		fields[i] = render.Field{Key: fmt.Sprintf("key_%d", i), Value: render.Template(text)}
	}
	return render.Compile(calls.Namespaces, fields)
}

// bigCall is a call as the store loads it: 20 campaign columns, a CRM record.
func bigCall(tb testing.TB) bson.Raw {
	start := time.Date(2026, 6, 5, 10, 15, 0, 0, time.UTC)
	event := bson.D{{Key: "CUSTOMERID", Value: "C-42"}, {Key: "CUSTOMERNAME", Value: "Rajesh"}}
	for i := range 16 {
		event = append(event, bson.E{Key: fmt.Sprintf("column_%d", i), Value: "some text of a column"})
	}
	event = append(event, bson.E{Key: "due_amount", Value: "50000"}, bson.E{Key: "campaign", Value: "June \"early\" wave"})
	raw, err := bson.Marshal(bson.D{
		{Key: "_id", Value: bson.NewObjectID()}, {Key: "session_id", Value: "sess-1001"}, {Key: "bot_id", Value: "bot-1"},
		{Key: "caller_id", Value: "+919999999999"}, {Key: "transport", Value: "livekit"},
		{Key: "connected_event", Value: event},
		{Key: "crm_data", Value: bson.D{
			{Key: "CUSTOMERNAME", Value: "Rajesh Kumar"}, {Key: "segment", Value: "gold"},
			{Key: "address", Value: bson.D{{Key: "city", Value: "Pune"}, {Key: "pin", Value: 411001}}},
		}},
		{Key: "sip_context", Value: bson.D{{Key: "X-Campaign-ID", Value: "77"}, {Key: "X-Lead", Value: "L1"}}},
		{Key: "created_at", Value: start}, {Key: "completed_at", Value: start.Add(125 * time.Second)},
		{Key: "disconnected_by", Value: "customer"}, {Key: "call_duration_seconds", Value: 125},
		{Key: "post_call_analysis", Value: bson.D{
			{Key: "DISPOSITION", Value: "PTP"}, {Key: "SUB_DISPOSITION", Value: "PTP_FULL"},
			{Key: "CALLING_REMARKS", Value: "Customer promised to pay on the 9th; asked for a reminder by SMS."},
			{Key: "PTP_DATE", Value: "2026-06-09"},
		}},
		{Key: "qc_analysis", Value: bson.D{{Key: "empathy_score", Value: 4}, {Key: "overall_score", Value: 4.5}}},
		{Key: "was_transferred", Value: false},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// BenchmarkPayload25 is from the raw document to the bytes of the body. The aim
// is 15 microseconds.
func BenchmarkPayload25(b *testing.B) {
	zone, err := time.LoadLocation("Asia/Kolkata")
	if err != nil {
		b.Fatal(err)
	}
	raw, mapper := bigCall(b), mapper25()
	env := calls.Env{
		Style: calls.Style{Location: zone}, Now: time.Date(2026, 6, 5, 10, 17, 6, 0, time.UTC),
		RecordingURL: "https://api.example.com/api/v1/public/recordings/tok",
	}
	body := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		call := calls.Decode(raw)
		body, _ = mapper.AppendJSON(body[:0], call.Variables(env), render.Options{MaxBytes: 8 << 20})
	}
	b.ReportMetric(float64(len(body)), "bytes/body")
}

func BenchmarkDecode(b *testing.B) {
	raw := bigCall(b)
	b.ReportAllocs()
	for b.Loop() {
		_ = calls.Decode(raw)
	}
}

func BenchmarkFields(b *testing.B) {
	mapper := mapper25()
	b.ReportAllocs()
	for b.Loop() {
		_ = calls.Fields(mapper)
	}
}

// BenchmarkOutcome is what is made of an outcome for its write.
func BenchmarkOutcome(b *testing.B) {
	call := calls.Decode(bigCall(b))
	o := calls.Delivered(&call, calls.Attempt{
		Status: calls.StatusOK, HTTPStatus: 200, ResponseBody: `{"ok":true}`, Method: "POST",
		URL: "https://crm.example.com/leads", At: time.Now(), Duration: 80 * time.Millisecond,
	})
	b.ReportAllocs()
	for b.Loop() {
		o.Write()
	}
}
