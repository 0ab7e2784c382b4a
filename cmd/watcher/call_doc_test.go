package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
)

// documented are documents as the platform and a watcher leave them, at fixed times,
// so that the same is printed each time.
func documented(t *testing.T) string {
	t.Helper()
	at := time.Date(2026, 6, 5, 10, 17, 5, 0, time.UTC)
	id := func(hex string) bson.ObjectID {
		oid, err := bson.ObjectIDFromHex(hex)
		if err != nil {
			t.Fatal(err)
		}
		return oid
	}
	refused, quiet := id("6a22a3c1f0d5b7e884c0a001"), id("6a22a3c1f0d5b7e884c0a002")
	delivery := func(oid bson.ObjectID) string {
		return calls.DeliveryID(bson.RawValue{Type: bson.TypeObjectID, Value: oid[:]}, at)
	}
	attempt := func(n, status int, after time.Duration, answer, said string) bson.D {
		return bson.D{
			{Key: "type", Value: "post_call_push"}, {Key: "status", Value: "rejected"}, {Key: "http_status", Value: status},
			{Key: "response_body", Value: said}, {Key: "error", Value: answer}, {Key: "method", Value: "POST"},
			{Key: "url", Value: "https://crm.example.com/leads"}, {Key: "attempts", Value: n}, {Key: "duration_ms", Value: 184},
			{Key: "pushed_at", Value: at.Add(after)}, {Key: "delivery_id", Value: delivery(refused)}, {Key: "completed_at", Value: at},
		}
	}
	first := attempt(1, 503, time.Second, "HTTP 503 Service Unavailable", "")
	last := attempt(2, 422, 31*time.Second, "HTTP 422 Unprocessable Entity", `{"error":"customer_id is required"}`)
	return stored(t, map[string][]any{
		"calls": {
			bson.D{
				{Key: "_id", Value: refused}, {Key: "session_id", Value: "s-20260605-0417"}, {Key: "bot_id", Value: "acme-sales"},
				{Key: "call_type", Value: "outbound"}, {Key: "completed_at", Value: at}, {Key: "disconnected_by", Value: "customer"},
				{Key: "connected_event", Value: bson.D{{Key: "CUSTOMERNAME", Value: "Asha"}, {Key: "CUSTOMER_ID", Value: "C-20417"}}},
				{Key: "post_call_analysis", Value: bson.D{{Key: "DISPOSITION", Value: "Interested"}}},
				{Key: "recording_url", Value: "https://store.example.com/recordings/0417.wav"},
				{Key: "post_call_push_result", Value: last[1:]}, {Key: "integration_log", Value: bson.A{first, last}},
			},
			bson.D{
				{Key: "_id", Value: quiet}, {Key: "session_id", Value: "s-20260605-0418"}, {Key: "bot_id", Value: "acme-survey"},
				{Key: "completed_at", Value: at}, {Key: "disconnected_by", Value: "RNR"},
			},
		},
		"bots": {
			bson.D{{Key: "_id", Value: "acme-sales"}, {Key: "name", Value: "Acme sales"}, {Key: "timezone", Value: "Asia/Kolkata"}, {Key: "post_call_push", Value: bson.D{
				{Key: "url", Value: "https://crm.example.com/leads"}, {Key: "token", Value: "Bearer 6b7d1f0a9c"}, {Key: "key_mapper", Value: bson.D{
					{Key: "customer_id", Value: "{{CUSTOMERID}}"}, {Key: "name", Value: "{{call.CUSTOMERNAME}}"}, {Key: "disposition", Value: "{{analysis.DISPOSITION}}"},
				}},
			}}},
			bson.D{{Key: "_id", Value: "acme-survey"}, {Key: "name", Value: "Acme survey"}, {Key: "timezone", Value: "Asia/Kolkata"}, {Key: "post_call_push", Value: bson.D{
				{Key: "enabled", Value: false}, {Key: "url", Value: "https://crm.example.com/surveys"}, {Key: "key_mapper", Value: bson.D{{Key: "a", Value: "b"}}},
			}}},
		},
		"watcher_skips": {bson.D{
			{Key: "_id", Value: delivery(quiet)}, {Key: "call_id", Value: quiet}, {Key: "session_id", Value: "s-20260605-0418"}, {Key: "bot_id", Value: "acme-survey"},
			{Key: "reason", Value: "disabled"}, {Key: "completed_at", Value: at}, {Key: "at", Value: at.Add(time.Second)},
		}},
	})
}

// What docs/operations.md shows is what is printed.
func TestTheDocumentedCalls(t *testing.T) {
	uri := documented(t)
	mended := file(t, "bot.json", `{"_id": "acme-sales", "timezone": "Asia/Kolkata", "post_call_push": {"url": "https://crm.example.com/leads", "token": "Bearer 6b7d1f0a9c",
		"key_mapper": {"customer_id": "{{call.CUSTOMER_ID}}", "name": "{{call.CUSTOMERNAME}}", "disposition": "{{analysis.DISPOSITION}}", "source": "voice"}}}`)
	doc, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for golden, args := range map[string][]string{
		"call-rejected.golden": {"s-20260605-0417"},
		"call-skipped.golden":  {"s-20260605-0418"},
		"call-payload.golden":  {"s-20260605-0417", "--payload", "--bot", mended},
	} {
		stdout, stderr, code := invoke(t, "", append([]string{"call", "--mongo-uri", uri, "--database", "cxbridge"}, args...)...)
		if code != 0 || stderr != "" {
			t.Fatalf("%s: exit %d, %s", golden, code, stderr)
		}
		if strings.Contains(stdout, "6b7d1f0a9c") {
			t.Errorf("%s holds a secret:\n%s", golden, stdout)
		}
		compareGolden(t, golden, stdout)
		if golden == "call-payload.golden" { // the beginning stands there already
			_, stdout, _ = strings.Cut(stdout, "\nWhat would be sent")
			stdout = "What would be sent" + stdout
		}
		if block := indented(stdout); !strings.Contains(string(doc), block) {
			t.Errorf("docs/operations.md does not show %s:\n%s", golden, block)
		}
	}
}

// indented is a text as a block of Markdown.
func indented(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if line != "\n" {
			out.WriteString("    ")
		}
		out.WriteString(line)
	}
	return out.String()
}
