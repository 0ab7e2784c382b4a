package app

import (
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/pkg/push"
)

// shape is the names of a document's fields with their BSON types, in order.
func shape(doc bson.Raw) string {
	var parts []string
	elements, err := doc.Elements()
	if err != nil {
		return err.Error()
	}
	for _, e := range elements {
		parts = append(parts, e.Key()+":"+e.Value().Type.String())
	}
	return strings.Join(parts, " ")
}

// shapeOf is the shape of a result with an answer or without, final or not.
func shapeOf(answered, failed, final bool) string {
	s := "status:string http_status:null response_body:string error:null method:string url:string " +
		"attempts:32-bit integer duration_ms:64-bit integer pushed_at:UTC datetime delivery_id:string completed_at:UTC datetime"
	if answered {
		s = strings.Replace(s, "http_status:null", "http_status:32-bit integer", 1)
	}
	if failed {
		s = strings.Replace(s, "error:null", "error:string", 1)
	}
	if !final {
		// With the next try goes what finding it and ageing it takes.
		s += " next_attempt_at:UTC datetime slot:32-bit integer first_attempt_at:UTC datetime"
	}
	return s
}

// array returns the documents of an array field.
func array(t *testing.T, doc bson.Raw, field string) []bson.Raw {
	t.Helper()
	v, ok := doc.Lookup(field).ArrayOK()
	if !ok {
		return nil
	}
	values, err := v.Values()
	if err != nil {
		t.Fatal(err)
	}
	var docs []bson.Raw
	for _, v := range values {
		docs = append(docs, v.Document())
	}
	return docs
}

// What stands on a call after each kind of answer, field by field.
func TestOutcomesOnTheCall(t *testing.T) {
	t.Parallel()
	answers := map[string]apptest.Answer{
		"accepted":   {Status: http.StatusCreated, Body: `{"id":7}`},
		"refused":    {Status: http.StatusUnprocessableEntity, Body: "no such lead"},
		"moved":      {Status: http.StatusFound, Header: map[string]string{"Location": "/elsewhere"}},
		"failing":    {Status: http.StatusServiceUnavailable, Body: "come again"},
		"hangup":     {Hangup: true},
		"two-faced":  {Body: `{"status":"error","message":"duplicate"}`},
		"long-words": {Body: strings.Repeat("é", 3000)},
	}
	names := []string{"accepted", "refused", "moved", "failing", "hangup", "long-words"}
	r := newRoad(t, names...)
	r.PutBot(apptest.Bot("two-faced", r.url("two-faced"),
		bson.E{Key: "success", Value: bson.D{{Key: "path", Value: "status"}, {Key: "equals", Value: "success"}}}))
	r.PutBot(apptest.Bot("get", r.url("get?key=secret-key"), bson.E{Key: "method", Value: "get"}))
	r.PutBot(apptest.Bot("no-url", ""))
	r.PutBot(apptest.Bot("broken", "ftp://crm.example.com/x"))
	r.crm.Answers(func(q apptest.Request) apptest.Answer { return answers[q.Path[1:]] })
	r.start()

	tests := []struct {
		bot, status      string
		code             int // 0 for no answer
		attempts, logged int
		body, errorHas   string
		method           string
	}{
		{bot: "accepted", status: "ok", code: 201, attempts: 1, logged: 1, body: `{"id":7}`, method: "POST"},
		{bot: "get", status: "ok", code: 200, attempts: 1, logged: 1, method: "GET"},
		{bot: "long-words", status: "ok", code: 200, attempts: 1, logged: 1, body: strings.Repeat("é", 2000), method: "POST"},
		{bot: "refused", status: "rejected", code: 422, attempts: 1, logged: 1, body: "no such lead", errorHas: "422", method: "POST"},
		{bot: "moved", status: "rejected", code: 302, attempts: 1, logged: 1, errorHas: "302", method: "POST"},
		{bot: "two-faced", status: "rejected", code: 200, attempts: 1, logged: 1, body: answers["two-faced"].Body, errorHas: "status", method: "POST"},
		{bot: "failing", status: "rejected", code: 503, attempts: 3, logged: 3, body: "come again", errorHas: "503", method: "POST"},
		{bot: "hangup", status: "failed", attempts: 3, logged: 3, errorHas: "", method: "POST"},
		{bot: "no-url", status: "skipped", attempts: 0, logged: 1, errorHas: "no url", method: "POST"},
		{bot: "broken", status: "failed", attempts: 0, logged: 1, errorHas: "url", method: "POST"},
	}
	stored := make(map[string]time.Time)
	for _, tt := range tests {
		stored[tt.bot] = r.Call("s-"+tt.bot, tt.bot)
	}
	for _, tt := range tests {
		t.Run(tt.bot, func(t *testing.T) {
			o := r.final("s-"+tt.bot, tt.status)
			doc := r.Doc("s-" + tt.bot)
			result := doc.Lookup("post_call_push_result").Document()
			failed := tt.status != "ok"
			if got, want := shape(result), shapeOf(tt.code != 0, failed, true); got != want {
				t.Errorf("shape of the result:\n%s\nwant\n%s", got, want)
			}
			if tt.code != 0 && (o.HTTPStatus == nil || *o.HTTPStatus != tt.code) {
				t.Errorf("http_status %v, want %d", result.Lookup("http_status"), tt.code)
			}
			if o.ResponseBody != tt.body || o.Attempts != tt.attempts || o.Method != tt.method {
				t.Errorf("%s", result)
			}
			if !strings.Contains(o.errText(), tt.errorHas) || failed && o.errText() == "" {
				t.Errorf("error %q does not hold %q", o.errText(), tt.errorHas)
			}
			if strings.Contains(doc.String(), "secret-key") || strings.Contains(doc.String(), "of-the-bot") {
				t.Errorf("a credential stands on the call: %s", doc)
			}
			if want := calls.DeliveryID(doc.Lookup("_id"), stored[tt.bot]); o.DeliveryID != want || !o.CompletedAt.Equal(stored[tt.bot]) {
				t.Errorf("delivery %s of %v, want %s of %v", o.DeliveryID, o.CompletedAt, want, stored[tt.bot])
			}
			if since := o.PushedAt.Sub(stored[tt.bot]); since < -time.Second || since > apptest.Patience {
				t.Errorf("pushed %v after the result", since)
			}
			checkLog(t, doc, result, tt.logged)
			checkEvent(t, doc, o)
		})
	}
	for _, q := range r.crm.Requests() {
		if q.Path == "/elsewhere" {
			t.Error("a redirect was followed")
		}
	}
}

// checkLog holds the entries of integration_log to the result.
func checkLog(t *testing.T, doc, result bson.Raw, entries int) {
	t.Helper()
	log := array(t, doc, "integration_log")
	if len(log) != entries {
		t.Fatalf("%d entries in integration_log, want %d: %v", len(log), entries, log)
	}
	for i, entry := range log {
		last := i == len(log)-1
		_, scheduled := entry.Lookup("next_attempt_at").DateTimeOK()
		if scheduled == last || entries > 1 && int(entry.Lookup("attempts").Int32()) != i+1 {
			t.Errorf("entry %d of %d: %s", i+1, entries, entry)
		}
	}
	last := log[len(log)-1]
	if got, want := shape(last), "type:string "+shape(result); got != want {
		t.Errorf("shape of the entry:\n%s\nwant\n%s", got, want)
	}
	elements, err := result.Elements()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range elements {
		if !last.Lookup(e.Key()).Equal(e.Value()) {
			t.Errorf("%s is %s in the entry and %s in the result", e.Key(), last.Lookup(e.Key()), e.Value())
		}
	}
	if last.Lookup("type").StringValue() != "post_call_push" {
		t.Errorf("type of the entry: %s", last)
	}
}

// checkEvent finds the one event of the push, behind those that were there.
func checkEvent(t *testing.T, doc bson.Raw, o *outcome) {
	t.Helper()
	events := array(t, doc, "events")
	if len(events) != 2 || events[0].Lookup("type").StringValue() != "call_started" {
		t.Fatalf("events: %v", events)
	}
	code := "null"
	if o.HTTPStatus != nil {
		code = "32-bit integer"
	}
	e := events[1]
	if got, want := shape(e), "type:string timestamp:double status:string http_status:"+code; got != want {
		t.Errorf("shape of the event: %s, want %s", got, want)
	}
	since := o.PushedAt.Sub(doc.Lookup("call_start_time").Time()).Seconds()
	if e.Lookup("type").StringValue() != "post_call_push" || e.Lookup("status").StringValue() != o.Status ||
		math.Abs(e.Lookup("timestamp").Double()-since) > 0.002 {
		t.Errorf("event %s, pushed %.3f s after the start", e, since)
	}
}

// While a try is scheduled, its time stands on the call, and no event yet.
func TestOutcomeWhileATryIsScheduled(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "busy")
	r.cfg.RetrySchedule = []time.Duration{time.Hour}
	r.crm.Answers(func(apptest.Request) apptest.Answer {
		return apptest.Answer{Status: 429, Header: map[string]string{"Retry-After": "7200"}}
	})
	r.start()
	r.Call("s", "busy")
	r.eventually("the first try is logged", func() error {
		if o := r.outcomeOf("s"); o == nil {
			return fmt.Errorf("nothing yet")
		}
		return nil
	})
	doc := r.Doc("s")
	result := doc.Lookup("post_call_push_result").Document()
	if got, want := shape(result), shapeOf(true, true, false); got != want {
		t.Errorf("shape:\n%s\nwant\n%s", got, want)
	}
	o := r.outcomeOf("s")
	if wait := o.NextAttemptAt.Sub(o.PushedAt); wait < 2*time.Hour || wait > 2*time.Hour+12*time.Minute {
		t.Errorf("the next try is in %v, the CRM asked for two hours", wait)
	}
	if events := array(t, doc, "events"); len(events) != 1 {
		t.Errorf("events before the outcome is final: %v", events)
	}
	if log := array(t, doc, "integration_log"); len(log) != 1 {
		t.Errorf("integration_log: %v", log)
	}
}

// integration_log keeps its newest 50 entries, those of others included.
func TestIntegrationLogKeepsTheNewest(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	r.start()
	var before bson.A
	for i := range 60 {
		before = append(before, bson.D{{Key: "type", Value: "pre_call_fetch"}, {Key: "n", Value: i}})
	}
	r.Call("s", "bot", bson.E{Key: "integration_log", Value: before})
	r.final("s", "ok")
	log := array(t, r.Doc("s"), "integration_log")
	if len(log) != 50 || log[0].Lookup("n").AsInt64() != 11 || log[49].Lookup("type").StringValue() != "post_call_push" {
		t.Errorf("%d entries from %s to %s", len(log), log[0], log[len(log)-1])
	}
}

// The address guard says which flag lets an address through.
func TestBlockedAddressNamesTheFlag(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	r.cfg.AllowNetworks = nil
	r.start()
	r.Call("s", "bot")
	o := r.final("s", "failed")
	if !strings.Contains(o.errText(), "--allow-network") || o.Attempts != 1 || len(r.crm.Requests()) != 0 {
		t.Errorf("error %q after %d attempts, %d requests", o.errText(), o.Attempts, len(r.crm.Requests()))
	}
}

// What is denied is not dialled though it is allowed as well.
func TestDeniedNetworkWinsOverAnAllowedOne(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	r.cfg.DenyNetworks = r.cfg.AllowNetworks
	r.start()
	r.Call("s", "bot")
	if o := r.final("s", "failed"); !strings.Contains(o.errText(), "--deny-network") || len(r.crm.Requests()) != 0 {
		t.Errorf("error %q, %d requests", o.errText(), len(r.crm.Requests()))
	}
}

// A watcher that opens what hardly anybody means to says so when it starts.
func TestOpenedNetworksAreWarnedOf(t *testing.T) {
	t.Parallel()
	const everything, clouds = "--allow-network opens every network", "--allow-network opens metadata addresses"
	for network, want := range map[string]string{"127.0.0.0/8": "", "169.254.169.254/32": clouds, "0.0.0.0/0": everything + clouds} {
		r := newRoad(t)
		r.cfg.AllowNetworks = []push.Network{{Prefix: netip.MustParsePrefix(network)}}
		logs := newLogs()
		w, err := New(r.cfg, Deps{Logger: slog.New(slog.NewJSONHandler(logs, nil))})
		if err != nil {
			t.Fatal(err)
		}
		w.cleanup()
		for _, warning := range []string{everything, clouds} {
			if got := strings.Contains(logs.tail(10), warning); got != strings.Contains(want, warning) {
				t.Errorf("%s: %q is logged: %t\n%s", network, warning, got, logs.tail(10))
			}
		}
	}
}

// A GET carries the payload as parameters beside those of the URL, a POST as JSON.
func TestRequestsAsTheCRMSeesThem(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "post")
	r.PutBot(apptest.Bot("get", r.url("get?key=k"), bson.E{Key: "method", Value: "GET"}))
	r.start()
	r.Call("s-get", "get")
	r.Call("s-post", "post")
	r.final("s-get", "ok")
	r.final("s-post", "ok")
	get, post := r.crm.At("/get"), r.crm.At("/post")
	if len(get) != 1 || len(post) != 1 {
		t.Fatalf("%d GETs, %d POSTs", len(get), len(post))
	}
	if q := get[0]; q.Method != http.MethodGet || len(q.Body) != 0 || !strings.HasPrefix(q.Query, "key=k&call_id=s-get&name=Asha%20s-get&disposition=Interested") {
		t.Errorf("%s ?%s %s", q.Method, q.Query, q.Body)
	}
	if q := post[0]; q.Method != http.MethodPost || !strings.HasPrefix(string(q.Body), `{"call_id":"s-post","name":"Asha s-post","disposition":"Interested"`) {
		t.Errorf("%s %s", q.Method, q.Body)
	}
	for _, q := range slices.Concat(get, post) {
		h := q.Header
		if h.Get("Authorization") != "Bearer of-the-bot" || h.Get("User-Agent") != "watcher/test" || q.Delivery == "" {
			t.Errorf("headers: %v", h)
		}
	}
}
