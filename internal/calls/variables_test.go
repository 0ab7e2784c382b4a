package calls_test

import (
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/render"
)

func TestStoredNamespaces(t *testing.T) {
	checkRenderings(t, calls.Env{}, []rendering{
		{"nested values", `{"crm_data":{"address":{"city":"Pune","pin":411001},"items":[{"sku":"A"},{"sku":"B"}],"n":null,"e":""}}`, map[string]string{
			"{{crm.address}}":        `{"city":"Pune","pin":411001}`,
			"at {{crm.address}}":     `"at {\"city\":\"Pune\",\"pin\":411001}"`,
			"{{crm.address.city}}":   `"Pune"`,
			"{{address.city}}":       `"Pune"`,
			"{{crm.items}}":          `[{"sku":"A"},{"sku":"B"}]`,
			"{{crm.items.1.sku}}":    `"B"`,
			"{{crm.items.1}}":        `{"sku":"B"}`,
			"{{crm.items.2.sku}}":    `""`,
			"{{crm.items.01.sku}}":   `""`,
			"{{crm.items.-1}}":       `""`,
			"{{crm.items.sku}}":      `""`,
			"{{crm.address.city.x}}": `""`,
			"{{crm.n}}":              `""`,
			"{{crm.n.x}}":            `""`,
		}},
		{"a stored key with dots wins", `{"crm_data":{"a":{"b":{"c":"path"},"b.c":"half"},"a.b":{"c":"longer"},"a.b.c":"whole","x":{"y":"path"},"x.y":"key","p.q":"scalar","p":{"q":{"r":"deep"}},"":{"z":"empty head"}}}`, map[string]string{
			"{{crm.a.b.c}}": `"whole"`,
			"{{crm.a.b}}":   `{"c":"longer"}`,
			"{{crm.x.y}}":   `"key"`,
			"{{crm.p.q}}":   `"scalar"`,
			"{{crm.p.q.r}}": `"deep"`,
			"{{crm..z}}":    `"empty head"`,
		}},
		{"the longest stored key wins", `{"crm_data":{"a":{"b.c":"half"},"a.b":{"c":"longer"}}}`, map[string]string{"{{crm.a.b.c}}": `"longer"`}},
		{"a null exists and does not fall back", `{"crm_data":{"x":null},"connected_event":{"x":"call"}}`, map[string]string{
			"{{x}}": `""`, "{{crm.x}}": `""`, "{{call.x}}": `"call"`,
		}},
		{"no object, no fields: text", `{"connected_event":"{\"x\":1}","crm_data":"x"}`, map[string]string{"{{call.x}}": `""`, "{{crm.0}}": `""`}},
		{"no object, no fields: null", `{"connected_event":null,"crm_data":null}`, map[string]string{"{{call.x}}": `""`}},
		{"no object, no fields: array", `{"connected_event":[{"x":1}],"crm_data":["a"]}`, map[string]string{"{{call.0.x}}": `""`, "{{crm.0}}": `""`, "{{0}}": `""`}},
		{"missing", `{}`, map[string]string{"{{call.x}}": `""`, "{{crm.x}}": `""`, "{{analysis.x}}": `""`, "{{qc.x}}": `""`, "{{call.sip_header_x}}": `""`, "{{call.sip_headers_json}}": `""`}},
		{"values are not rendered again", `{"connected_event":{"x":"{{call.y}}","y":"boom"}}`, map[string]string{"{{call.x}}": `"{{call.y}}"`}},
		{"text that is JSON", `{"connected_event":{"o":"{\"a\": 1.10}","l":"[1, 2]","n":"42"}}`, map[string]string{
			"{{call.o}}": `{"a":1.10}`, "{{call.l}}": `[1,2]`, "{{call.n}}": `"42"`,
		}},
	})
}

func TestSIPHeaders(t *testing.T) {
	checkRenderings(t, calls.Env{}, []rendering{
		{"both names", `{"sip_context":{"X-Campaign-ID":"77","X-Lead":"L1","X-Ünï":"u","a.b":"dots"},"connected_event":{"sip_header_other":"csv","sip_header_x_lead":"csv"}}`, map[string]string{
			"{{call.sip_header_x_campaign_id}}":  `"77"`,
			"{{call.sip_header_X-Campaign-ID}}":  `"77"`,
			"{{call.sip_header_x-campaign-id}}":  `""`,
			"{{call.sip_header_X_Campaign_ID}}":  `""`,
			"{{call.sip_header_x_campaign_id_}}": `""`,
			"{{call.sip_header_x_campaign_i}}":   `""`,
			"{{call.sip_header_x__n_}}":          `"u"`,
			"{{call.sip_header_a.b}}":            `"dots"`,
			"{{call.sip_header_a_b}}":            `"dots"`,
			"{{sip_header_x_lead}}":              `"L1"`,
			"{{crm.sip_header_x_lead}}":          `"L1"`,
			"{{call.sip_header_other}}":          `"csv"`,
			"{{call.sip_headers_json}}":          `{"X-Campaign-ID":"77","X-Lead":"L1","X-Ünï":"u","a.b":"dots"}`,
			"h={{sip_headers_json}}":             `"h={\"X-Campaign-ID\":\"77\",\"X-Lead\":\"L1\",\"X-Ünï\":\"u\",\"a.b\":\"dots\"}"`,
		}},
		{"the name as stored comes first", `{"sip_context":{"X-A":"normalised","x_a":"stored"}}`, map[string]string{"{{call.sip_header_x_a}}": `"stored"`}},
		{"empty", `{"sip_context":{}}`, map[string]string{"{{call.sip_headers_json}}": `{}`, "{{call.sip_header_}}": `""`}},
		{"no object", `{"sip_context":"X-A: 1","connected_event":{"sip_headers_json":"csv"}}`, map[string]string{"{{call.sip_headers_json}}": `"csv"`, "{{call.sip_header_x_a}}": `""`}},
	})
}

func TestSystem(t *testing.T) {
	now := time.Date(2026, 6, 5, 10, 15, 59, 0, time.UTC)
	for _, c := range []struct {
		zone string
		want map[string]string
	}{
		{"Asia/Kolkata", map[string]string{
			"{{system.current_date}}": `"05 June 2026"`, "{{current_time}}": `"03:45 PM IST"`,
			"{{call.current_datetime}}": `"05 June 2026, 03:45 PM IST"`, "{{system.timezone}}": `"Asia/Kolkata"`, "{{system.nope}}": `""`,
		}},
		{"Asia/Dubai", map[string]string{"{{system.current_time}}": `"02:15 PM +04"`}},
		{"", map[string]string{"{{system.current_datetime}}": `"05 June 2026, 10:15 AM UTC"`, "{{system.timezone}}": `"UTC"`}},
	} {
		env := calls.Env{Now: now}
		if c.zone != "" {
			env.Style.Location = zone(t, c.zone)
		}
		checkRenderings(t, env, []rendering{{"zone " + c.zone, `{"crm_data":{"timezone":"crm"}}`, c.want}})
	}
}

// resultNames are all names under result; each exists for every call.
var resultNames = []string{
	"call_id", "recording_url", "call_duration_seconds", "disconnected_by", "disposition", "status", "call_direction",
	"from_number", "caller_id", "call_start_time", "call_end_time", "call_answer_time", "transcript", "was_transferred",
	"transfer_destination", "transfer_target", "transfer_reason", "transfer_method", "transfer_at", "transfer_failed_reason",
}

func TestResultNamesAlwaysExist(t *testing.T) {
	// Fields of the same names elsewhere must never fill them.
	event := bson.D{}
	for _, name := range resultNames {
		event = append(event, bson.E{Key: name, Value: "wrong"})
	}
	raw, err := bson.Marshal(bson.D{{Key: "connected_event", Value: event}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range resultNames {
		want := `""`
		if name == "disposition" {
			want = `"Unknown"`
		}
		if got := payload(t, raw, calls.Env{}, "{{result."+name+"}}"); got != want {
			t.Errorf("result.%s: got %s, want %s", name, got, want)
		}
	}
	fixed := calls.FixedNames()[calls.NamespaceResult]
	slices.Sort(fixed)
	if want := slices.Sorted(slices.Values(resultNames)); !slices.Equal(fixed, want) {
		t.Errorf("fixed names: got %v, want %v", fixed, want)
	}
}

func TestResult(t *testing.T) {
	checkRenderings(t, calls.Env{RecordingURL: "https://r.example.com/x"}, []rendering{
		{"plain fields", `{"session_id":"s1","call_duration_seconds":{"$numberDouble":"125"},"disconnected_by":"customer","status":"completed","call_direction":"outgoing","from_number":"+91","caller_id":"+92","recording_url":"stored"}`, map[string]string{
			"{{result.call_id}}": `"s1"`, "{{result.call_duration_seconds}}": `"125"`, "{{result.disconnected_by}}": `"customer"`,
			"{{result.status}}": `"completed"`, "{{result.call_direction}}": `"outgoing"`, "{{result.from_number}}": `"+91"`,
			"{{result.caller_id}}": `"+92"`, "{{result.recording_url}}": `"https://r.example.com/x"`,
			`{"d": {{result.call_duration_seconds}}}`: `{"d":125}`,
			"{{call_id}}": `""`, "{{call.call_id}}": `""`, "{{result.nope}}": `""`,
		}},
		{"transfer", `{"was_transferred":true,"transfer_destination":"sales","transfer_target":"+9111","transfer_reason":"asked","transfer_method":"m","transfer_at":61.5,"transfer_failed_reason":"busy"}`, map[string]string{
			"{{result.was_transferred}}": `"yes"`, "{{result.transfer_destination}}": `"sales"`, "{{result.transfer_target}}": `"+9111"`,
			"{{result.transfer_reason}}": `"asked"`, "{{result.transfer_method}}": `"m"`, "{{result.transfer_at}}": `"61.5"`,
			"{{result.transfer_failed_reason}}": `"busy"`,
		}},
		{"not transferred", `{"was_transferred":false}`, map[string]string{"{{result.was_transferred}}": `"no"`}},
		{"transferred is null", `{"was_transferred":null}`, map[string]string{"{{result.was_transferred}}": `""`}},
		{"transferred as text", `{"was_transferred":"false"}`, map[string]string{"{{result.was_transferred}}": `"no"`}},
		{"transferred as a number", `{"was_transferred":1.0}`, map[string]string{"{{result.was_transferred}}": `"yes"`}},
		{"transferred is neither", `{"was_transferred":"perhaps"}`, map[string]string{"{{result.was_transferred}}": `""`}},
		{"transcript", `{"transcript":[{"role":"user","content":"<Hi> \"é\""}]}`, map[string]string{
			"{{result.transcript}}":           `[{"role":"user","content":"<Hi> \"é\""}]`,
			"T: {{result.transcript}}":        `"T: [{\"role\":\"user\",\"content\":\"<Hi> \\\"é\\\"\"}]"`,
			"{{result.transcript.0.content}}": `"<Hi> \"é\""`,
			"{{result.transcript.1.content}}": `""`,
			"{{transcript}}":                  `""`,
		}},
		{"transcript is text", `{"transcript":"Hi"}`, map[string]string{"{{result.transcript}}": `"Hi"`}},
		{"wrong types", `{"session_id":{"$oid":"65f0c0ffee00000000000001"},"call_duration_seconds":"12","disconnected_by":7,"status":{"a":1},"call_start_time":true,"transport":1}`, map[string]string{
			"{{result.call_id}}": `"65f0c0ffee00000000000001"`, "{{result.call_duration_seconds}}": `"12"`, "{{result.disconnected_by}}": `"7"`,
			"{{result.disposition}}": `"Unknown"`, "{{result.status}}": `{"a":1}`, "{{result.call_start_time}}": `""`,
		}},
	})
}

func TestDisposition(t *testing.T) {
	for by, want := range map[string]string{
		"customer": "Connected", "bot": "Connected", "timeout": "Connected", "error": "Failed",
		"voicemail": "Unknown", "RNR": "Unknown", "": "Unknown", "Customer": "Unknown", "no_answer": "Unknown",
	} {
		if got := payload(t, document(t, `{"disconnected_by":"`+by+`"}`), calls.Env{}, "{{result.disposition}}"); got != `"`+want+`"` {
			t.Errorf("%s: got %s, want %s", by, got, want)
		}
	}
}

func TestCallTimes(t *testing.T) {
	const s, e, a = "{{result.call_start_time}}", "{{result.call_end_time}}", "{{result.call_answer_time}}"
	times := func(start, end, answer string) map[string]string {
		return map[string]string{s: `"` + start + `"`, e: `"` + end + `"`, a: `"` + answer + `"`}
	}
	const at = "2026-06-05T15:45:0"
	env := calls.Env{Style: calls.Style{Location: zone(t, "Asia/Kolkata")}}
	checkRenderings(t, env, []rendering{
		{"order of start", `{"created_at":"2026-06-05T10:15:04Z","started_at":"2026-06-05T10:15:03Z","start_time":"2026-06-05T10:15:02Z","call_start_time":"2026-06-05T10:15:01Z"}`, times(at+"1+05:30", "", at+"1+05:30")},
		{"start falls to the next", `{"created_at":"2026-06-05T10:15:04Z","started_at":null,"start_time":"soon"}`, times(at+"4+05:30", "", at+"4+05:30")},
		{"order of end", `{"completed_at":"2026-06-05T10:15:04Z","ended_at":"2026-06-05T10:15:03Z","end_time":"2026-06-05T10:15:02Z"}`, times("", at+"2+05:30", "")},
		{"end is completed_at", `{"completed_at":{"$date":"2026-06-05T10:15:04.999Z"}}`, times("", at+"4+05:30", "")},
		{"order of answer", `{"created_at":"2026-06-05T10:15:04Z","answered_at":"2026-06-05T10:15:07Z","answer_time":"2026-06-05T10:15:06Z"}`, times(at+"4+05:30", "", at+"6+05:30")},
		{"websocket answers at the start", `{"transport":"websocket","created_at":"2026-06-05T10:15:04Z","answered_at":"2026-06-05T10:15:07Z"}`, times(at+"4+05:30", "", at+"4+05:30")},
		{"seconds and milliseconds", `{"start_time":1780654504,"end_time":{"$numberLong":"1780654505999"},"answer_time":1780654504.5}`, times(at+"4+05:30", at+"5+05:30", at+"4+05:30")},
	})
}

func TestAnalysisAndQC(t *testing.T) {
	env := calls.Env{AnalysisSeeds: []string{"PTP_DATE"}}
	checkRenderings(t, env, []rendering{
		{"stored", `{"post_call_analysis":{"DISPOSITION":"PTP","extra":{"a":[1]},"callback_confidence":0.75},"qc_analysis":{"empathy_score":4,"overall_score":4.5,"x":"y"}}`, map[string]string{
			"{{analysis.DISPOSITION}}": `"PTP"`, "{{analysis.extra}}": `{"a":[1]}`, "{{analysis.extra.a.0}}": `"1"`, "{{analysis.callback_confidence}}": `"0.75"`,
			"{{qc.empathy_score}}": `"4"`, "{{qc.overall_score}}": `"4.5"`, "{{qc.x}}": `"y"`, "{{DISPOSITION}}": `""`, "{{x}}": `""`,
		}},
		{"seeds do not fall back", `{"post_call_analysis":{"DISPOSITION":"x"},"connected_event":{"CALLING_REMARKS":"csv","callback_reason":"csv","PTP_DATE":"csv","remarks":"csv","OTHER":"csv"}}`, map[string]string{
			"{{analysis.CALLING_REMARKS}}": `""`, "{{analysis.callback_reason}}": `""`, "{{analysis.PTP_DATE}}": `""`, "{{qc.remarks}}": `""`,
			"{{analysis.OTHER}}": `"csv"`, "{{qc.OTHER}}": `"csv"`, "{{qc.callback_reason}}": `"csv"`, "{{analysis.remarks}}": `"csv"`,
		}},
		{"analysis is no object", `{"post_call_analysis":"failed","qc_analysis":[1],"transcript":[{"role":"user"}]}`, map[string]string{
			"{{analysis.DISPOSITION}}": `""`, "{{qc.empathy_score}}": `""`, "{{qc.0}}": `""`,
		}},
	})
}

func TestNames(t *testing.T) {
	call := calls.Decode(document(t, `{"post_call_analysis":{"DISPOSITION":"PTP"},"crm_data":{"a":1},"sip_context":{"X-A":"1"}}`))
	vars := call.Variables(calls.Env{AnalysisSeeds: []string{"PTP_DATE"}})
	var names []string
	for ns, fields := range vars.Names() {
		for _, field := range fields {
			name := render.Name{Namespace: ns, Field: field}
			names = append(names, name.String())
			if _, found := vars.AppendText(nil, name); found == render.Absent {
				t.Errorf("%s is listed and does not exist", name)
			}
		}
	}
	for _, want := range []string{
		"analysis.DISPOSITION", "analysis.PTP_DATE", "crm.a", "call.sip_headers_json", "call.sip_header_X-A",
		"call.sip_header_x_a", "system.timezone", "result.transcript", "qc.remarks",
	} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not listed", want)
		}
	}
	if slices.Contains(names, "crm.b") || slices.Contains(names, "call.a") {
		t.Errorf("names that do not exist are listed: %v", names)
	}
}
