package bots

import (
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/internal/calls"
)

// What people type, in each namespace and without one, is led to the name that says it.
func TestNearMisses(t *testing.T) {
	call := calls.Decode(raw(t, m{
		"_id": "c", "completed_at": time.Now(), "crm_data": m{"lead_id": 1, "email": "a", "owner": m{"name": "R"}},
		"connected_event": m{"customer_name": "A", "mobile_no": "9", "city": "P"},
	}))
	vars := call.Variables(calls.Env{})
	for _, tt := range []struct {
		token string
		alone string // what is suggested without a call
		with  string // and with one
	}{
		{"system.date", "system.current_date", ""},
		{"system.time", "system.current_time", ""},
		{"system.now", "system.current_datetime", ""},
		{"system.date_time", "system.current_datetime", ""},
		{"system.time_zone", "system.timezone", ""},
		{"system.currentTime", "system.current_time", ""},
		{"system.duration", "result.call_duration_seconds", ""},
		{"result.duration", "result.call_duration_seconds", ""},
		{"result.callDuration", "result.call_duration_seconds", ""},
		{"result.length", "result.call_duration_seconds", ""},
		{"result.talk_time", "result.call_duration_seconds", ""},
		{"result.date", "result.call_start_time", ""},
		{"result.time", "result.call_start_time", ""},
		{"result.start_date", "result.call_start_time", ""},
		{"result.ended_at", "result.call_end_time", ""},
		{"result.phone", "result.from_number", ""},
		{"result.number", "result.from_number", ""},
		{"result.mobile", "result.from_number", ""},
		{"result.id", "result.call_id", ""},
		{"result.session_id", "result.call_id", ""},
		{"result.audio", "result.recording_url", ""},
		{"result.recordingLink", "result.recording_url", ""},
		{"result.transcription", "result.transcript", ""},
		{"result.conversation.0.content", "result.transcript.0.content", ""},
		{"result.outcome", "result.disposition", ""},
		{"result.hangup_reason", "result.disconnected_by", ""},
		{"result.transfer", "result.was_transferred", ""},
		{"result.direction", "result.call_direction", ""},
		{"result.summary", "analysis.CALLING_REMARKS", ""},
		{"analysis.summary", "analysis.CALLING_REMARKS", ""},
		{"analysis.status", "analysis.DISPOSITION", ""},
		{"analysis.sub_status", "analysis.SUB_DISPOSITION", ""},
		{"analysis.callback", "analysis.callback_requested", ""},
		{"analysis.callback_date", "analysis.callback_preferred_time_text", ""},
		{"analysis.duration", "result.call_duration_seconds", ""},
		{"qc.score", "qc.overall_score", ""},
		{"qc.comments", "qc.remarks", ""},
		{"crm.id", "-", "crm.lead_id"},
		{"crm.mail", "-", "crm.email"},
		{"crm.ownr.name", "-", "crm.owner.name"},
		{"call.name", "-", "call.customer_name"},
		{"crm.owner_name", "-", "crm.owner.name"},
		{"owner_name", "-", "owner.name"},
		{"result.call_duration", "result.call_duration_seconds", ""},
		{"call_duration", "result.call_duration_seconds", ""},
		{"call.phone", "-", "call.mobile_no"},
		{"call.duration", "-", "result.call_duration_seconds"},
		{"call.recording", "-", "result.recording_url"},
		{"Result.call_id", "result.call_id", ""},
		{"results.duration", "result.call_duration_seconds", ""},
		{"foo.duration", "result.call_duration_seconds", ""},
		// flat names
		{"date", "current_date", ""},
		{"time", "current_time", ""},
		{"duration", "result.call_duration_seconds", ""},
		{"summary", "analysis.CALLING_REMARKS", ""},
		{"phone", "result.from_number", "mobile_no"},
		{"name", "-", "customer_name"},
		{"status", "result.status", ""},
		{"recording", "result.recording_url", ""},
		// where nothing is near
		{"result.weather", "-", ""},
		{"system.user", "-", ""},
		{"analysis.sentiment", "-", ""},
		{"qc.tone", "-", ""},
		{"crm.agent_id", "-", ""},
		{"call.loan_amount", "-", ""},
		{"pincode", "-", ""},
	} {
		want := strings.TrimPrefix(tt.alone, "-")
		check := func(how string, vars *calls.Variables, want string) {
			t.Helper()
			got := ""
			if w := lintOne(t, braces(tt.token), vars); w != nil {
				got = strings.Trim(w.Suggestion, "{}")
			}
			if got != want {
				t.Errorf("%s %s: %q, want %q", tt.token, how, got, want)
			}
		}
		check("alone", nil, want)
		if tt.with != "" {
			want = tt.with
		}
		check("with a call", vars, want)
	}
}

// A suggestion is a name that exists, and no suggestion is what was typed.
func TestPropertySuggestionsResolve(t *testing.T) {
	words := rapid.SampledFrom([]string{"call", "time", "date", "number", "id", "status", "url", "start", "callBack", "SUB", "remarks", "x", "score", ""})
	rapid.Check(t, func(t *rapid.T) {
		name := strings.Join(rapid.SliceOfN(words, 1, 4).Draw(t, "words"), rapid.SampledFrom([]string{"_", " ", "-", ""}).Draw(t, "by"))
		prefix := rapid.SampledFrom([]string{"", "system.", "result.", "analysis.", "qc.", "crm.", "call.", "other."}).Draw(t, "prefix")
		doc, err := bson.Marshal(m{"_id": "b", "post_call_push": m{"url": "https://x.example", "key_mapper": m{"k": braces(prefix + name)}}})
		if err != nil {
			t.Fatal(err)
		}
		call := calls.Decode(doc)
		vars := call.Variables(calls.Env{})
		for _, w := range Compile(doc, Options{}).Lint(nil, nil) {
			if w.Suggestion == "" {
				continue
			}
			again, err := bson.Marshal(m{"_id": "b", "post_call_push": m{"url": "https://x.example", "key_mapper": m{"k": w.Suggestion}}})
			if err != nil {
				t.Fatal(err)
			}
			for token := range Compile(again, Options{}).Push.Mapper.Tokens() {
				if _, ok := token.Resolve(vars); !ok || w.Suggestion == w.Token {
					t.Fatalf("%s: the suggestion %s resolves to nothing", w.Token, w.Suggestion)
				}
			}
		}
	})
}
