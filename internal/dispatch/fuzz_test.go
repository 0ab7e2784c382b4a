package dispatch

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/render"
)

// bounded fails for a text that is longer than so many bytes, or no UTF-8.
func bounded(t *testing.T, what, text string, most int) {
	t.Helper()
	if len(text) > most || !utf8.ValidString(text) {
		t.Errorf("%s: %d bytes, %.300q", what, len(text), text)
	}
}

// Any call of any bot with any answer: decided, rendered, reported and counted, and
// all that is told of it is bounded UTF-8.
func FuzzRoad(f *testing.F) {
	plain := bson.M{"_id": "b", "name": "N", "post_call_push": bson.M{
		"url": "https://crm.example.com/x?key=1", "token": "a-token-of-the-bot", "success": bson.M{"path": "ok", "equals": true},
		"key_mapper": bson.D{{Key: "t", Value: "{{result.transcript}}"}, {Key: "r", Value: "{{result.recording_url}}"}, {Key: "s", Value: "{{call.x}} {{NAME}} {{result.call_start_time}}"}},
	}}
	get := bson.M{"_id": bson.NewObjectID(), "timezone": "Asia/Kolkata", "post_call_push": bson.M{"url": "http://crm.example.com", "method": "get", "max_attempts": 1, "key_mapper": bson.M{"a": "{{crm.a}}"}}}
	call := bson.M{"_id": "c", "session_id": "s", "bot_id": "b", "completed_at": noon, "transcript": bson.A{bson.M{"role": "user", "content": "\xff"}}, "connected_event": bson.M{"x": bson.M{"y": 1.5}}}
	due := bson.M{"_id": 7, "bot_id": "\xff\xfe", "completed_at": "2026-06-05T12:00:00Z", "post_call_push_result": bson.M{
		"status": "failed", "attempts": int64(1 << 40), "completed_at": noon, "next_attempt_at": noon, "first_attempt_at": noon, "replay_id": "r\xff",
	}, "events": nil, "integration_log": "text", "skip_post_push": "no"}
	for _, bot := range []bson.M{plain, get, {"_id": "b"}, {"_id": "b", "post_call_push": "x"}, {"_id": "b", "post_call_push": bson.M{"url": nil}}} {
		for i, c := range []bson.M{call, due} {
			rawCall, err := bson.Marshal(c)
			if err != nil {
				f.Fatal(err)
			}
			rawBot, err := bson.Marshal(bot)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(rawCall, rawBot, `{"message":"no a-token-of-the-bot"}`, 200+300*i)
		}
	}
	d := New(Options{
		Schedule: push.Schedule{Delays: []time.Duration{time.Minute}, MaxAge: time.Hour}, Concurrency: 1, DestinationConcurrency: 1, TopBots: 20,
		Logger: slog.New(slog.NewJSONHandler(io.Discard, nil)), Registerer: prometheus.NewRegistry(),
	})
	f.Fuzz(func(t *testing.T, rawCall, rawBot []byte, answer string, status int) {
		call, bot := calls.Decode(rawCall), bots.Compile(rawBot, bots.Options{})
		bounded(t, "name of the call", call.Name(), 1<<10)
		bounded(t, "id of the bot", call.BotID, 1<<10)
		for _, c := range []candidate{
			{call: &call, bot: bot}, {call: &call, bot: bot, due: true, maxAge: time.Minute, down: true},
			{call: &call, botWasKnown: true}, {call: &call, bot: bot, policy: Policy{Repush: RepushAll, Past: true}},
		} {
			fuzzOne(t, d, c, push.Result{HTTPStatus: status, Body: answer})
		}
		if _, err := d.o.Registerer.(*prometheus.Registry).Gather(); err != nil {
			t.Error(err)
		}
	})
}

// fuzzOne walks the road of one call with an answer.
func fuzzOne(t *testing.T, d *Dispatcher, c candidate, res push.Result) {
	t.Helper()
	decision := decide(c, noon)
	bounded(t, "decision", decision.Text(), 8<<10)
	var s *sent
	if decision.Action == Deliver {
		request, err := Prepare(c.call, c.bot, PrepareEnv{RecordingURL: "https://rec.example.com/?X-Amz-Signature=0123456789abcdef"})
		switch {
		case errors.Is(err, render.ErrTooLarge):
			decision = Decision{Action: Finish, Reason: ReasonTooLarge, Status: calls.StatusFailed}
		case err != nil:
			t.Fatal(err)
		default:
			s = &sent{request: request, at: noon, result: answeredBy(request, res)}
			if len(request.Body) > bots.MaxPayload || len(request.URL) > bots.MaxPayload || request.Method == http.MethodPost && !json.Valid(request.Body) {
				t.Errorf("%d bytes, %d of the address: %.300q", len(request.Body), len(request.URL), request.Body)
			}
		}
	}
	o, write := settle(c.call, c.bot, decision, s, d.o.Schedule, noon)
	it := &item{d: d, call: c.call, bot: c.bot, event: Event{ID: c.call.ID}}
	d.report(it, decision, &o)
	if !write {
		return
	}
	bounded(t, "words", words(o.HTTPStatus, o.Error), len(o.Error)+100)
	d.metrics.recorded(&o, noon)
	d.metrics.bots.recorded(c.call.BotID, &o)
	if s != nil {
		d.metrics.bots.attempted(c.bot, s.result.Class)
	}
}

// answeredBy is an answer as an attempt has it, without the network.
func answeredBy(r *push.Request, res push.Result) push.Result {
	res.Body = strings.ToValidUTF8(r.Redact.Redact(res.Body), "?") // as Send leaves it
	switch {
	case res.HTTPStatus >= 200 && res.HTTPStatus < 300:
		res.Class = push.ClassOK
	case res.HTTPStatus >= 500:
		res.Class, res.Err = push.ClassBusy, errors.New(res.Body)
	default:
		res.Class, res.Err, res.HTTPStatus = push.ClassUnknown, context.DeadlineExceeded, 0
	}
	return res
}
