package calls_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cxbridge/watcher/internal/calls"
)

func TestWhatIsLoggedOnACall(t *testing.T) {
	entry := func(n int) string {
		return fmt.Sprintf(`{"type": "post_call_push", "status": "rejected", "http_status": 503, "error": "busy", "response_body": "later", "method": "POST",
			"url": "https://crm.example/", "attempts": %d, "duration_ms": 12, "pushed_at": {"$date": "2026-06-05T10:00:00Z"}, "delivery_id": "d",
			"completed_at": {"$date": "2026-06-05T09:00:00Z"}, "next_attempt_at": {"$date": "2026-06-05T11:00:00Z"}, "replay_id": "r"}`, n)
	}
	entries := []string{`{"type": "pre_call"}`, `"odd"`, `null`}
	for n := range 170 {
		entries = append(entries, entry(n+1))
	}
	call := calls.Decode(document(t, `{"post_call_push_result": `+entry(7)+`, "integration_log": [`+strings.Join(entries, ",")+`]}`))
	at := time.Date(2026, 6, 5, 10, 0, 0, 0, time.UTC)
	want := calls.Logged{
		Attempt: calls.Attempt{
			Status: calls.StatusRejected, HTTPStatus: 503, ResponseBody: "later", Error: "busy", Method: "POST", URL: "https://crm.example/",
			Duration: 12 * time.Millisecond, At: at,
		},
		Attempts: 7, DeliveryID: "d", CompletedAt: at.Add(-time.Hour), NextAttemptAt: at.Add(time.Hour), ReplayID: "r",
	}
	if got, ok := call.Result(); !ok || got != want {
		t.Errorf("%+v", got)
	}
	log := call.Log()
	want.Attempts = 121
	if len(log) != 50 || log[0] != want || log[49].Attempts != 170 {
		t.Errorf("%d entries, %+v", len(log), log[0])
	}
	for _, doc := range []string{`{}`, `{"post_call_push_result": null, "integration_log": null}`, `{"post_call_push_result": [], "integration_log": {"a": 1}}`} {
		call := calls.Decode(document(t, doc))
		if got, ok := call.Result(); ok || got != (calls.Logged{}) || len(call.Log()) > 0 {
			t.Errorf("%s: %+v, %+v", doc, got, call.Log())
		}
	}
	call = calls.Decode(document(t, `{"post_call_push_result": {"error": "`+strings.Repeat("ä", 5000)+`", "url": 5, "attempts": -1, "http_status": "x"}}`))
	if got, ok := call.Result(); !ok || utf8.RuneCountInString(got.Error) != 2000 || got.URL != "" || got.Attempts != 0 || got.HTTPStatus != 0 {
		t.Errorf("%+v", got)
	}
}
