package dispatch

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/render"
)

var storedAt = time.Date(2026, 6, 5, 10, 17, 5, 0, time.UTC)

func prepareCall(t testing.TB, fields bson.M) *calls.Call {
	t.Helper()
	doc := bson.M{"_id": "call-1", "session_id": "s-1", "completed_at": storedAt, "connected_event": bson.M{"NAME": "R & é"}, "recording_url": "stored"}
	for k, v := range fields {
		doc[k] = v
	}
	raw, err := bson.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	call := calls.Decode(raw)
	return &call
}

func prepareBot(t testing.TB, push any) *bots.Bot {
	t.Helper()
	raw, err := bson.Marshal(bson.M{"_id": "b", "timezone": "Asia/Kolkata", "post_call_push": push})
	if err != nil {
		t.Fatal(err)
	}
	return bots.Compile(raw, bots.Options{})
}

func TestSkipReason(t *testing.T) {
	good := bson.M{"url": "https://crm.example.com", "key_mapper": bson.M{"a": "1"}}
	with := func(more bson.M) bson.M {
		p := bson.M{}
		for k, v := range good {
			p[k] = v
		}
		for k, v := range more {
			p[k] = v
		}
		return p
	}
	for _, tt := range []struct {
		name string
		call bson.M
		push any
		want Reason
	}{
		{"a push", nil, good, NoReason},
		{"agent", bson.M{"call_type": "agent"}, good, ReasonAgentCall},
		{"another call type", bson.M{"call_type": "outbound"}, good, NoReason},
		{"no result", bson.M{"completed_at": nil}, good, ReasonNoResult},
		{"no configuration", nil, nil, ReasonNoConfig},
		{"disabled", nil, with(bson.M{"enabled": false}), ReasonDisabled},
		{"flagged", bson.M{"skip_post_push": true}, good, ReasonSkipFlag},
		{"flag that is false", bson.M{"skip_post_push": false}, good, NoReason},
		{"flag that is text", bson.M{"skip_post_push": "true"}, good, ReasonSkipFlag},
		{"flag that says nothing", bson.M{"skip_post_push": "maybe"}, good, NoReason},
		{"no url", nil, with(bson.M{"url": ""}), ReasonNoURL},
		{"empty configuration", nil, bson.M{}, ReasonNoURL},
		{"bad mapper", nil, with(bson.M{"key_mapper": "x"}), ReasonBadConfig},
		{"configuration that is no object", nil, "x", ReasonBadConfig},
		{"url that is no text", nil, with(bson.M{"url": 5}), ReasonBadConfig},

		// of two, the first decides
		{"agent without result", bson.M{"call_type": "agent", "completed_at": nil}, nil, ReasonAgentCall},
		{"no result, no configuration", bson.M{"completed_at": nil}, nil, ReasonNoResult},
		{"flagged, no configuration", bson.M{"skip_post_push": true}, nil, ReasonNoConfig},
		{"flagged and disabled", bson.M{"skip_post_push": true}, with(bson.M{"enabled": false}), ReasonDisabled},
		{"flagged without url", bson.M{"skip_post_push": true}, with(bson.M{"url": nil}), ReasonSkipFlag},
		{"disabled and bad", nil, with(bson.M{"enabled": false, "key_mapper": 1}), ReasonDisabled},
		{"no url and bad", nil, with(bson.M{"url": nil, "key_mapper": 1}), ReasonNoURL},
	} {
		if got := SkipReason(prepareCall(t, tt.call), prepareBot(t, tt.push)); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	if got := SkipReason(prepareCall(t, nil), nil); got != ReasonNoConfig {
		t.Errorf("no bot: %q", got)
	}
}

func TestPreparePost(t *testing.T) {
	call := prepareCall(t, nil)
	bot := prepareBot(t, bson.M{
		"url": "https://crm.example.com/hook?src=cxb", "token": "tok-123", "timeout_seconds": 4, "signing_secret": "signing-secret",
		"success": bson.M{"path": "ok", "equals": true}, "retry_when": bson.M{"status": 403}, "auth": bson.M{"type": "query", "params": bson.M{"k": "v"}},
		"key_mapper": bson.D{{Key: "n", Value: "{{NAME}}"}, {Key: "r", Value: "{{result.recording_url}}"}, {Key: "u", Value: "{{nope}}"}, {Key: "t", Value: "{{system.current_time}}"}},
	})
	r := prepared(t, call, bot, PrepareEnv{UserAgent: "watcher/1", RecordingURL: "https://rec"})
	if r.Method != http.MethodPost || r.URL != "https://crm.example.com/hook?src=cxb" {
		t.Errorf("%s %s", r.Method, r.URL)
	}
	if got, want := string(r.Body), `{"n":"R & é","r":"https://rec","u":"","t":"03:47 PM IST"}`; got != want {
		t.Errorf("body %s, want %s", got, want)
	}
	id := calls.DeliveryID(call.ID, storedAt)
	for name, want := range map[string]string{"Authorization": "tok-123", "Content-Type": "application/json", "User-Agent": "watcher/1", "Idempotency-Key": id} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if len(r.Header) != 4 {
		t.Errorf("headers: %v", r.Header)
	}
	if r.DeliveryID != id || r.Timeout != 4*time.Second || r.SigningSecret.Reveal() != "signing-secret" || r.Success == nil || len(r.RetryWhen) != 1 || r.Auth == nil {
		t.Errorf("%+v", r)
	}
	if got := r.Redact.Redact("an echo of signing-secret"); strings.Contains(got, "signing-secret") {
		t.Errorf("not redacted: %s", got)
	}
}

func TestPrepareGet(t *testing.T) {
	mapper := bson.D{{Key: "id", Value: "{{result.call_id}}"}, {Key: "o", Value: bson.M{"a": 1}}, {Key: "n", Value: "{{NAME}}"}, {Key: "src", Value: "own"}}
	const added = "id=s-1&o=%7B%22a%22%3A1%7D&n=R%20%26%20%C3%A9&src=own"
	for url, want := range map[string]string{
		"https://crm.example.com":              "https://crm.example.com?" + added,
		"https://crm.example.com/x":            "https://crm.example.com/x?" + added,
		"https://crm.example.com/x?":           "https://crm.example.com/x?" + added,
		"https://crm.example.com/x?src=cxb":    "https://crm.example.com/x?src=cxb&" + added,
		"https://crm.example.com/x?src=cxb&":   "https://crm.example.com/x?src=cxb&" + added,
		"https://crm.example.com/x?src=cxb#no": "https://crm.example.com/x?src=cxb&" + added,
	} {
		r := prepared(t, prepareCall(t, nil), prepareBot(t, bson.M{"url": url, "method": "get", "key_mapper": mapper}), PrepareEnv{})
		if r.Method != http.MethodGet || r.URL != want || r.Body != nil {
			t.Errorf("%s:\n got %s\nwant %s", url, r.URL, want)
		}
		if r.Header.Get("Content-Type") != "" || r.Header.Get("Idempotency-Key") == "" {
			t.Errorf("headers: %v", r.Header)
		}
	}
	r := prepared(t, prepareCall(t, nil), prepareBot(t, bson.M{"url": "https://crm.example.com/x?a=1", "method": "get"}), PrepareEnv{})
	if r.URL != "https://crm.example.com/x?a=1" {
		t.Errorf("without a mapper: %s", r.URL)
	}
}

func TestTheBotsOwnHeaderWins(t *testing.T) {
	bot := prepareBot(t, bson.M{"url": "https://crm.example.com", "headers": bson.M{
		"content-TYPE": "application/vnd.x+json", "user-agent": "own/1", "idempotency-key": "own-key",
	}})
	r := prepared(t, prepareCall(t, nil), bot, PrepareEnv{UserAgent: "watcher/1"})
	for name, want := range map[string]string{"Content-Type": "application/vnd.x+json", "User-Agent": "own/1", "Idempotency-Key": "own-key"} {
		if got := r.Header[name]; len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if len(r.Header) != 3 || len(bot.Push.Header) != 3 {
		t.Errorf("%v, the bot's %v", r.Header, bot.Push.Header)
	}
}

func TestPrepareIsPure(t *testing.T) {
	bot := prepareBot(t, bson.M{"url": "https://crm.example.com", "token": "t", "key_mapper": bson.M{"d": "{{system.current_datetime}}"}})
	call := prepareCall(t, nil)
	first := prepared(t, call, bot, PrepareEnv{})
	first.Header.Set("X-Changed", "1")
	if again := prepared(t, call, bot, PrepareEnv{}); string(again.Body) != string(first.Body) || again.Header.Get("X-Changed") != "" {
		t.Errorf("%s, then %s with %v", first.Body, again.Body, again.Header)
	}
	if want := `{"d":"05 June 2026, 03:47 PM IST"}`; string(first.Body) != want {
		t.Errorf("the clock is that of the result: %s, want %s", first.Body, want)
	}
	later := prepared(t, call, bot, PrepareEnv{Now: storedAt.Add(24 * time.Hour)})
	if want := `{"d":"06 June 2026, 03:47 PM IST"}`; string(later.Body) != want {
		t.Errorf("another clock: %s, want %s", later.Body, want)
	}
	literal := prepared(t, call, prepareBot(t, bson.M{"url": "https://x.example", "key_mapper": bson.M{"a": "{{nope}}"}}), PrepareEnv{Render: render.Options{KeepUnresolved: true}})
	if want := `{"a":"{{nope}}"}`; string(literal.Body) != want {
		t.Errorf("literal: %s", literal.Body)
	}
}

func prepared(tb testing.TB, call *calls.Call, bot *bots.Bot, env PrepareEnv) *push.Request {
	tb.Helper()
	r, err := Prepare(call, bot, env)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// A payload that would be too large is given up while it is made: 2,000 keys of
// 1 MB each would be 2 GB.
func TestPrepareGivesUpOnALargePayload(t *testing.T) {
	call := prepareCall(t, bson.M{"transcript": bson.A{bson.M{"role": "user", "content": strings.Repeat("\x01", 1<<20)}}})
	mapper := bson.M{}
	for i := range 2000 {
		mapper[strconv.Itoa(i)] = "{{result.transcript}}"
	}
	for _, method := range []string{"POST", "GET"} {
		bot := prepareBot(t, bson.M{"url": "https://crm.example.com/x", "method": method, "key_mapper": mapper})
		r, err := Prepare(call, bot, PrepareEnv{})
		if !errors.Is(err, render.ErrTooLarge) || len(r.Body) > 0 || len(r.URL) > 100 {
			t.Errorf("%s: %v, a body of %d bytes, an address of %d", method, err, len(r.Body), len(r.URL))
		}
	}
}

// BenchmarkPrepare renders a call of watcher bench, as it is loaded for its mapper of
// 25 keys, also in a goroutine of its own, as each attempt has.
func BenchmarkPrepare(b *testing.B) {
	mapper := bson.D{}
	for _, text := range []string{
		"{{result.call_id}}", "{{CUSTOMERID}}", "{{crm.CUSTOMERNAME}} ({{crm.segment}})", "{{result.disposition}}",
		"{{analysis.DISPOSITION}}", "{{analysis.SUB_DISPOSITION}}", "{{analysis.CALLING_REMARKS}}",
		"{{result.call_start_time}}", "{{result.call_end_time}}", "{{result.call_duration_seconds}}",
		"{{result.disconnected_by}}", "{{qc.overall_score}}", "{{result.caller_id}}", "voice-bot",
	} {
		mapper = append(mapper, bson.E{Key: fmt.Sprint("key_", len(mapper)), Value: text})
	}
	columns := bson.D{{Key: "CUSTOMERID", Value: "C-4711"}}
	for n := len(mapper); n < 25; n++ {
		mapper = append(mapper, bson.E{Key: fmt.Sprint("field_", n), Value: fmt.Sprintf("{{call.column_%d}}", n)})
		columns = append(columns, bson.E{Key: fmt.Sprint("column_", n), Value: fmt.Sprintf("value %d of 4711", n)})
	}
	bot := prepareBot(b, bson.M{"url": "https://crm.example.com", "token": "t", "key_mapper": mapper})
	raw, err := bson.Marshal(bson.D{
		{Key: "_id", Value: "000004711"}, {Key: "session_id", Value: "000004711"}, {Key: "bot_id", Value: "bot-000001"},
		{Key: "caller_id", Value: "+448000004711"}, {Key: "call_start_time", Value: storedAt.Add(-time.Minute)},
		{Key: "skip_post_push", Value: false}, {Key: "connected_event", Value: columns},
		{Key: "crm_data", Value: bson.D{{Key: "CUSTOMERNAME", Value: "Kestrel"}, {Key: "segment", Value: "gold"}}},
		{Key: "disconnected_by", Value: "customer"}, {Key: "call_duration_seconds", Value: 61},
		{Key: "post_call_analysis", Value: bson.D{
			{Key: "DISPOSITION", Value: "Promise"}, {Key: "SUB_DISPOSITION", Value: "Partial"}, {Key: "CALLING_REMARKS", Value: "pays on Friday"},
		}},
		{Key: "qc_analysis", Value: bson.D{{Key: "overall_score", Value: 87}}}, {Key: "completed_at", Value: storedAt},
	})
	if err != nil {
		b.Fatal(err)
	}
	call := calls.Decode(raw)
	env := PrepareEnv{UserAgent: "watcher/1"}
	prepare := func() {
		if r, err := Prepare(&call, bot, env); err != nil || len(r.Body) == 0 {
			b.Error(err, "or no body")
		}
	}
	b.Run("here", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			prepare()
		}
	})
	b.Run("goroutine", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var wait sync.WaitGroup
			wait.Go(func() {
				growStack()
				prepare()
			})
			wait.Wait()
		}
	})
}
