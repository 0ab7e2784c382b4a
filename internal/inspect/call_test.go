package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/internal/recording"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/resume"
)

// moment is when the reports of the tests are made, and stored the time of the results.
var (
	moment   = time.Date(2026, 6, 5, 12, 0, 0, 0, time.UTC)
	storedAt = moment.Add(-time.Hour)
)

// question is a report without a database.
type question struct {
	call  bson.M
	bot   bson.M // nil: it has no document
	skips []Skip
	holds []hold.Hold
	ask   Ask
}

func usualBot() bson.M {
	return bson.M{"_id": "b", "name": "Bot", "timezone": "UTC", "post_call_push": bson.M{
		"url": "https://crm.example/leads?api_key=very-secret-0815", "token": "Bearer top-secret-4711",
		"key_mapper": bson.D{{Key: "id", Value: "{{result.call_id}}"}, {Key: "who", Value: "{{call.name}}"}, {Key: "link", Value: "{{result.recording_url}}"}},
	}}
}

func usualCall(fields bson.M) bson.M {
	c := bson.M{"_id": "c", "session_id": "s", "bot_id": "b", "completed_at": storedAt, "connected_event": bson.M{"name": "Asha"}}
	for key, value := range fields {
		c[key] = value
	}
	return c
}

func outcomeOf(fields bson.M) bson.M {
	o := bson.M{
		"status": "rejected", "http_status": 503, "error": "HTTP 503 Service Unavailable", "response_body": "Bearer top-secret-4711 is busy", "attempts": 2,
		"pushed_at": storedAt.Add(time.Minute), "completed_at": storedAt, "delivery_id": "d", "url": "https://u:p@crm.example/leads?api_key=very-secret-0815",
	}
	for key, value := range fields {
		o[key] = value
	}
	return bson.M{"post_call_push_result": o, "integration_log": bson.A{bson.M{"type": "other"}, func() bson.M {
		e := bson.M{"type": "post_call_push"}
		for key, value := range o {
			e[key] = value
		}
		return e
	}()}}
}

func rawOf(t failer, v any) bson.Raw {
	t.Helper()
	raw, err := bson.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func (q question) report(t failer) *Report {
	t.Helper()
	links, err := recording.New(recording.Options{PublicBaseURL: "https://api.example"})
	if err != nil {
		t.Fatal(err)
	}
	s := &inquiry{
		Inspector: New(Options{Schedule: push.DefaultSchedule(), Name: "default", UserAgent: "watcher/test"}), ask: q.ask, now: moment,
		positions: []resume.Record{{Partition: resume.Partition{Of: 1}, Position: resume.At(moment)}}, holds: hold.NewSet(q.holds), links: links,
	}
	var bot *bots.Bot
	if q.bot != nil {
		bot = bots.Compile(rawOf(t, q.bot), bots.Options{})
	}
	call := calls.Decode(rawOf(t, q.call))
	return s.tell(context.Background(), &call, bot, q.skips)
}

// due is an outcome after which an attempt is scheduled.
func due(fields bson.M, next time.Time) bson.M {
	if fields == nil {
		fields = bson.M{}
	}
	fields["next_attempt_at"] = next
	return outcomeOf(fields)
}

func TestWhatBecameOfACall(t *testing.T) {
	off := usualBot()
	off["post_call_push"].(bson.M)["enabled"] = false
	result := calls.DeliveryID(calls.StringID("c"), storedAt)
	for name, tt := range map[string]struct {
		q      question
		state  State
		action string // of the decision
		reason string
		says   string // of the summary
		next   string // of why the next attempt is when it is
	}{
		"pushed":     {question{call: usualCall(outcomeOf(bson.M{"status": "ok", "http_status": 200, "error": nil})), bot: usualBot()}, StateOK, "skip", "already_logged", "the CRM answered 200", ""},
		"refused":    {question{call: usualCall(outcomeOf(nil)), bot: usualBot()}, StateRejected, "skip", "already_logged", "after 2 attempts: HTTP 503 Service Unavailable: [redacted] is busy. No other follows", ""},
		"failed":     {question{call: usualCall(outcomeOf(bson.M{"status": "failed", "http_status": nil, "error": "no answer", "response_body": "", "attempts": 1})), bot: usualBot()}, StateFailed, "skip", "already_logged", "It failed, after 1 attempt: no answer", ""},
		"no address": {question{call: usualCall(outcomeOf(bson.M{"status": "skipped", "error": "the bot has no url", "response_body": ""})), bot: usualBot()}, StateSkipped, "skip", "already_logged", "Not pushed: the bot has no url.", ""},
		"scheduled": {
			question{call: usualCall(due(bson.M{"attempts": 1}, storedAt.Add(90*time.Second))), bot: usualBot()}, StateDue, "deliver", "", "Attempt 2 is due now",
			"attempt 2 of at most 9, by the schedule: about 30s after the last",
		},
		"later than scheduled": {
			question{call: usualCall(due(nil, moment.Add(time.Hour))), bot: usualBot()}, StateDue, "skip", "already_scheduled", "Attempt 3 is due at 2026-06-05T13:00:00Z", "Retry-After",
		},
		"asked for": {
			question{call: usualCall(due(bson.M{"attempts": 0, "replay_id": "r-1"}, moment)), bot: usualBot()}, StateDue, "deliver", "", "Its first attempt is due now", "the replay r-1 asked for it",
		},
		"deferred": {
			question{call: usualCall(due(bson.M{"attempts": 0, "error": "not attempted yet: the destination is busy"}, moment.Add(time.Minute))), bot: usualBot()}, StateDue, "skip", "already_scheduled",
			"Its first attempt is due at", "not attempted yet: the destination is busy",
		},
		"held": {
			question{call: usualCall(due(nil, storedAt)), bot: usualBot(), holds: []hold.Hold{{ID: "h-1", Bot: "b", Why: "wrong url", By: "ops", From: storedAt}}},
			StateHeld, "defer", "held", "Held back since 2026-06-05T11:00:00Z by ops: wrong url", "held back by an operator: wrong url",
		},
		"missing":         {question{call: usualCall(nil), bot: usualBot()}, StateMissing, "deliver", "", "nothing says why: the saved position is past it. It stands at 2026-06-05T12:00:00Z", ""},
		"on its way":      {question{call: usualCall(bson.M{"completed_at": moment.Add(time.Second)}), bot: usualBot()}, StateDue, "deliver", "", "no watcher has come past it yet", ""},
		"in the log":      {question{call: usualCall(nil), bot: usualBot(), skips: []Skip{{Reason: "disabled", DeliveryID: result, At: moment}}}, StateSkipped, "deliver", "", "Not pushed: the push of the bot is switched off (disabled), decided at", ""},
		"as it is now":    {question{call: usualCall(nil), bot: off}, StateSkipped, "skip", "disabled", "as it stands now: the push of the bot is switched off (disabled)", ""},
		"of another":      {question{call: usualCall(nil), bot: off, skips: []Skip{{Reason: "no_config", DeliveryID: "another", At: moment}}}, StateSkipped, "skip", "disabled", "as it stands now", ""},
		"without a bot":   {question{call: usualCall(bson.M{"bot_id": nil})}, StateSkipped, "skip", "no_config", "no push configuration (no_config)", ""},
		"not ended":       {question{call: usualCall(bson.M{"completed_at": nil}), bot: usualBot()}, StateSkipped, "skip", "no_result", "no result is stored", ""},
		"of an agent":     {question{call: usualCall(bson.M{"call_type": "agent"}), bot: usualBot()}, StateSkipped, "skip", "agent_call", "agent desk", ""},
		"by the platform": {question{call: usualCall(bson.M{"post_call_push_result": bson.M{"status": "ok"}}), bot: usualBot()}, StateOK, "skip", "already_logged", "by the platform itself", ""},
	} {
		r := tt.q.report(t)
		if r.State != tt.state || r.Decision.Action != tt.action || r.Decision.Reason != tt.reason || !strings.Contains(r.Summary, tt.says) {
			t.Errorf("%s: %s, %+v, %q", name, r.State, r.Decision, r.Summary)
		}
		if r.Outcome != nil {
			if next := r.Outcome.NextWhy; !strings.Contains(next, tt.next) || (next == "") != (tt.next == "") {
				t.Errorf("%s: the next attempt is then because %q", name, next)
			}
		}
		text, err := json.Marshal(r)
		if err != nil || strings.Contains(string(text), "secret-") || strings.Contains(string(text), "u:p@") {
			t.Errorf("%s: %v, a secret is in %s", name, err, text)
		}
	}
}

func TestWarnings(t *testing.T) {
	faulty := usualBot()
	faulty["post_call_push"].(bson.M)["method"] = "PUT"
	for name, tt := range map[string]struct {
		fields bson.M
		bot    bson.M
		want   string // the only warning; "" for none
	}{
		"nothing odd":          {nil, usualBot(), ""},
		"a flag as text":       {bson.M{"skip_post_push": "false"}, usualBot(), `skip_post_push is the text "false" and counts as false`},
		"a flag as an object":  {bson.M{"skip_post_push": bson.M{}}, usualBot(), "skip_post_push is an object and counts as false"},
		"a time as text":       {bson.M{"completed_at": "2026-06-05 11:00"}, usualBot(), `completed_at is the text "2026-06-05 11:00" and counts as 2026-06-05T11:00:00Z`},
		"no time":              {bson.M{"completed_at": "noon"}, usualBot(), `completed_at is the text "noon", which is no time: there is no result`},
		"a log that is none":   {bson.M{"integration_log": "x"}, usualBot(), `integration_log is the text "x" and no array`},
		"a log of null":        {bson.M{"integration_log": nil}, usualBot(), ""},
		"events that are none": {bson.M{"events": 5}, usualBot(), "events is "},
		"an outcome of text":   {bson.M{"post_call_push_result": "sent"}, usualBot(), "post_call_push_result is the text"},
		"no bot":               {bson.M{"bot_id": ""}, nil, "the call names no bot"},
		"a bot that is gone":   {nil, nil, "there is no bot b"},
		"a faulty bot":         {nil, faulty, "bot: post_call_push.method "},
	} {
		r := question{call: usualCall(tt.fields), bot: tt.bot}.report(t)
		if tt.want == "" && len(r.Warnings) > 0 || tt.want != "" && (len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], tt.want)) {
			t.Errorf("%s: %q", name, r.Warnings)
		}
	}
}

// reader answers for recording links.
type reader struct {
	status int
	err    error
	link   string
}

func (r *reader) Reach(_ context.Context, link string) (int, error) {
	r.link = link
	return r.status, r.err
}

func checkOf(r *Report, name string) (string, string) {
	for _, c := range r.Checklist {
		if c.Name == name {
			if c.OK == nil {
				return "-", c.Text
			}
			return fmt.Sprint(*c.OK), c.Text
		}
	}
	return "", ""
}

func TestChecklist(t *testing.T) {
	recorded := bson.M{"recording_key": "k", "recording_access_token": "open-sesame-99"}
	braces := usualCall(bson.M{"connected_event": bson.M{"name": "{{x}}"}})
	visible := outcomeOf(nil)
	hidden := bson.M{"post_call_push_result": visible["post_call_push_result"], "integration_log": "x"}
	for name, tt := range map[string]struct {
		q     question
		check string
		want  string
		says  string
	}{
		"an analysis":           {question{call: usualCall(bson.M{"post_call_analysis": bson.M{"DISPOSITION": "Interested"}}), bot: usualBot()}, CheckAnalysis, "true", `"Interested"`},
		"an auto disposition":   {question{call: usualCall(bson.M{"disconnected_by": "RNR"}), bot: usualBot()}, CheckAnalysis, "true", `auto disposition "RNR"`},
		"no disposition":        {question{call: usualCall(bson.M{"post_call_analysis": bson.M{"x": 1}, "transcript": bson.A{bson.M{"role": "user"}}}), bot: usualBot()}, CheckAnalysis, "true", "without a DISPOSITION"},
		"neither":               {question{call: usualCall(bson.M{"transcript": bson.A{bson.M{"role": "user"}}}), bot: usualBot()}, CheckAnalysis, "false", "neither"},
		"no recording":          {question{call: usualCall(nil), bot: usualBot()}, CheckRecording, "-", "no recording"},
		"not looked at":         {question{call: usualCall(recorded), bot: usualBot()}, CheckRecording, "-", "/recordings/***"},
		"opens":                 {question{call: usualCall(recorded), bot: usualBot(), ask: Ask{Link: &reader{status: 206}}}, CheckRecording, "true", "answers 206"},
		"is gone":               {question{call: usualCall(recorded), bot: usualBot(), ask: Ask{Link: &reader{status: 404}}}, CheckRecording, "false", "answers 404"},
		"does not answer":       {question{call: usualCall(recorded), bot: usualBot(), ask: Ask{Link: &reader{err: errors.New("no answer in time")}}}, CheckRecording, "false", "no answer in time"},
		"accepted":              {question{call: usualCall(outcomeOf(bson.M{"status": "ok", "http_status": 201})), bot: usualBot()}, CheckTaken, "true", "201"},
		"refused":               {question{call: usualCall(outcomeOf(nil)), bot: usualBot()}, CheckTaken, "false", "HTTP 503"},
		"refused for now":       {question{call: usualCall(due(nil, moment)), bot: usualBot()}, CheckTaken, "false", "not yet: HTTP 503"},
		"never sent":            {question{call: usualCall(nil), bot: usualBot()}, CheckTaken, "false", "not sent yet"},
		"of an earlier result":  {question{call: usualCall(outcomeOf(bson.M{"status": "ok", "completed_at": storedAt.Add(-time.Hour)})), bot: usualBot()}, CheckTaken, "false", "not sent yet"},
		"all filled":            {question{call: usualCall(recorded), bot: usualBot()}, CheckFilled, "true", "every mapped field"},
		"not filled":            {question{call: usualCall(nil), bot: usualBot()}, CheckFilled, "false", "now: link"},
		"nothing to fill":       {question{call: usualCall(nil)}, CheckFilled, "-", "nothing would be sent"},
		"no braces":             {question{call: usualCall(nil), bot: usualBot()}, CheckBraces, "true", "no placeholder"},
		"braces":                {question{call: braces, bot: usualBot()}, CheckBraces, "false", "in the value of who"},
		"a failure to see":      {question{call: usualCall(visible), bot: usualBot()}, CheckVisible, "true", "holds 1 attempt"},
		"a failure that is not": {question{call: usualCall(hidden), bot: usualBot()}, CheckVisible, "false", "holds no attempt"},
		"no failure":            {question{call: usualCall(nil), bot: usualBot()}, CheckVisible, "-", "no attempt failed"},
	} {
		r := tt.q.report(t)
		if got, text := checkOf(r, tt.check); got != tt.want || !strings.Contains(text, tt.says) || strings.Contains(text, "open-sesame") || len(r.Checklist) != 6 {
			t.Errorf("%s: %s, %q", name, got, text)
		}
		if link, ok := tt.q.ask.Link.(*reader); ok && link.link != "https://api.example/api/v1/public/recordings/open-sesame-99" {
			t.Errorf("%s: asked for %q", name, link.link)
		}
	}
}

func TestPayloadAndItsDifference(t *testing.T) {
	r := question{call: usualCall(nil), bot: usualBot(), ask: Ask{Payload: true}}.report(t)
	if p := r.Payload; p == nil || p.Body != `{"id":"s","who":"Asha","link":""}` || p.Diff != nil || p.Headers["Authorization"] != Masked || strings.Contains(p.URL, "secret") {
		t.Errorf("%+v", r.Payload)
	}
	other := usualBot()
	p := other["post_call_push"].(bson.M)
	p["key_mapper"] = bson.D{{Key: "id", Value: "{{result.call_id}}"}, {Key: "who", Value: "{{call.nobody}}"}, {Key: "new", Value: bson.A{1}}}
	diff := func(now, other bson.M) string {
		r := question{call: usualCall(nil), bot: now, ask: Ask{Bot: rawOf(t, other)}}.report(t)
		text, err := json.Marshal(r.Payload.Diff)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	want := `[{"key":"who","now":"\"Asha\"","other":"\"\""},{"key":"link","now":"\"\"","other":null},{"key":"new","now":null,"other":"[1]"}]`
	if got := diff(usualBot(), other); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got := diff(usualBot(), usualBot()); got != "[]" {
		t.Errorf("the same bot differs: %s", got)
	}
	p["method"], p["url"] = "GET", "https://crm.example/other"
	if got := diff(usualBot(), other); !strings.HasPrefix(got, `[{"key":"(method)","now":"POST","other":"GET"},{"key":"(url)"`) || !strings.Contains(got, `"key":"new","now":null,"other":"[1]"`) {
		t.Errorf("a query: %s", got)
	}
	if got := diff(bson.M{"_id": "b"}, usualBot()); !strings.Contains(got, `"key":"(method)","now":null,"other":"POST"`) {
		t.Errorf("nothing is sent now: %s", got)
	}
	r = question{call: usualCall(nil), bot: usualBot(), ask: Ask{Bot: rawOf(t, bson.M{"_id": "b"})}}.report(t)
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "nothing would be sent: the bot has no push configuration") {
		t.Errorf("%q", r.Warnings)
	}
}

// anything is a value of any shape.
func anything(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		switch n := rapid.IntRange(0, 11).Draw(t, "kind"); {
		case n == 0 && depth > 0:
			return rapid.SliceOfN(anything(depth-1), 0, 3).Draw(t, "array")
		case n <= 2 && depth > 0:
			return rapid.MapOfN(rapid.SampledFrom([]string{
				"status", "http_status", "error", "attempts", "completed_at", "pushed_at", "next_attempt_at", "type", "url", "delivery_id", "replay_id",
				"DISPOSITION", "duration_ms", "response_body",
			}), anything(depth-1), 0, 6).Draw(t, "object")
		case n == 3:
			return storedAt
		case n == 4:
			return rapid.Float64().Draw(t, "double")
		case n == 5:
			return rapid.Int64().Draw(t, "integer")
		case n == 6:
			return nil
		case n == 7:
			return bson.Binary{Data: []byte("\xff\x00")}
		case n == 8:
			return rapid.SampledFrom([]string{"ok", "rejected", "post_call_push", "agent", "true", "2026-06-05T11:00:00Z", "b", "\x1b[31m\n"}).Draw(t, "word")
		case n == 9:
			return strings.Repeat("long ", 2000)
		default:
			return string(rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "bytes"))
		}
	})
}

// No document makes a report fail, or grow: it says something in any case.
func TestReportOnAnyCall(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		fields := rapid.MapOfN(rapid.SampledFrom([]string{
			"_id", "session_id", "bot_id", "call_type", "skip_post_push", "completed_at", "post_call_push_result", "integration_log", "events",
			"post_call_analysis", "recording_url", "connected_event", "transcript", "disconnected_by",
		}), anything(3), 0, 10).Draw(rt, "call")
		call := usualCall(nil)
		for key, value := range fields {
			call[key] = value
		}
		q := question{call: call, ask: Ask{Payload: true, Bot: rawOf(rt, usualBot())}}
		if rapid.Bool().Draw(rt, "known") {
			q.bot = usualBot()
		}
		if rapid.Bool().Draw(rt, "held") {
			q.holds = []hold.Hold{{Bot: "b"}}
		}
		r := q.report(rt)
		text, err := json.Marshal(r)
		if err != nil || r.State == "" || r.Summary == "" || len(r.Checklist) != 6 || r.Attempts == nil || r.Warnings == nil {
			rt.Fatalf("%v: %s", err, text)
		}
		if len(text) > 300_000 || !utf8.Valid(text) || strings.ContainsAny(r.Summary, "\n\x1b") || len([]rune(r.Summary)) > 700 {
			rt.Fatalf("%d bytes, %q", len(text), r.Summary)
		}
	})
}

func TestFindingACall(t *testing.T) {
	s := newShelf(t)
	oid := bson.NewObjectID()
	s.put(t, moment)
	delivery := strings.Repeat("0a", 16)
	s.replace(t.Context(), t, "calls",
		bson.M{"_id": oid, "session_id": "twice", "bot_id": "a", "completed_at": storedAt, "post_call_push_result": bson.M{"delivery_id": delivery}},
		bson.M{"_id": "newer", "session_id": "twice", "bot_id": "a", "completed_at": storedAt.Add(time.Minute).Format(time.RFC3339)},
		bson.M{"_id": "running", "session_id": "twice", "bot_id": "a"},
		bson.M{"_id": "logged", "session_id": "x", "integration_log": bson.A{bson.M{"delivery_id": strings.Repeat("0b", 16)}}},
		bson.M{"_id": "\u00a0padded", "session_id": "y"})
	skipped, gone := strings.Repeat("0c", 16), strings.Repeat("0d", 16)
	s.replace(t.Context(), t, "skips",
		bson.M{"_id": skipped, "call_id": "logged", "reason": "disabled", "at": moment}, bson.M{"_id": gone, "call_id": "gone", "reason": "call_deleted", "at": moment})
	for text, want := range map[string]string{
		"twice": "newer " + oid.Hex() + " running", oid.Hex(): oid.Hex(), strings.ToUpper(oid.Hex()): oid.Hex(), "newer": "newer", "\u00a0padded": "\u00a0padded",
		delivery: oid.Hex(), strings.Repeat("0b", 16): "logged", skipped: "logged",
	} {
		reports, err := s.inspector().Call(t.Context(), text, Ask{})
		var ids []string
		for _, r := range reports {
			ids = append(ids, r.ID)
		}
		if got := strings.Join(ids, " "); got != want || err != nil {
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"gone", gone, "nobody", "", strings.Repeat("x", 3000)} {
		_, err := s.inspector().Call(t.Context(), text, Ask{})
		unknown, ok := errors.AsType[*NotFoundError](err)
		if !ok || strings.HasPrefix(text, "gone") != strings.Contains(err.Error(), "call_deleted") && text != gone || len(err.Error()) > 1500 {
			t.Errorf("%q: %v", text, err)
		}
		if text == gone && (len(unknown.Skips) != 1 || unknown.Skips[0].Reason != "call_deleted") {
			t.Errorf("%+v", unknown)
		}
	}
}
