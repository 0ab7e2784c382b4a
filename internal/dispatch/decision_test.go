package dispatch

import (
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/pkg/push"
)

var noon = time.Date(2026, 6, 5, 12, 0, 0, 0, time.UTC)

// callOf is a call whose result was stored a minute before noon.
func callOf(t *testing.T, fields bson.M) *calls.Call {
	t.Helper()
	doc := bson.M{"_id": "c", "session_id": "c", "bot_id": "bot", "completed_at": noon.Add(-time.Minute)}
	for k, v := range fields {
		doc[k] = v
	}
	c := calls.Decode(marshal(t, doc))
	return &c
}

// pushedAs is what stands on a call of which an attempt was made.
func pushedAs(status calls.Status, fields bson.M) bson.M {
	result := bson.M{"status": string(status), "completed_at": noon.Add(-time.Minute), "attempts": 2, "pushed_at": noon.Add(-30 * time.Second)}
	for k, v := range fields {
		result[k] = v
	}
	return bson.M{"post_call_push_result": result}
}

func compiled(t *testing.T, config any) *bots.Bot {
	t.Helper()
	return bots.Compile(marshal(t, bson.M{"_id": "bot", "post_call_push": config}), bots.Options{})
}

// Every way of a call along the fork of the road.
func TestDecide(t *testing.T) {
	good := compiled(t, bson.M{"url": "https://crm.example.com", "key_mapper": bson.M{"a": "b"}})
	noURL := compiled(t, bson.M{"key_mapper": bson.M{"a": "b"}})
	broken := compiled(t, bson.M{"url": "https://crm.example.com", "key_mapper": 7})
	off := compiled(t, bson.M{"url": "https://crm.example.com", "enabled": false})
	never := compiled(t, nil)
	waits := func(since time.Duration) bson.M {
		return pushedAs(calls.StatusFailed, bson.M{"next_attempt_at": noon.Add(-since), "first_attempt_at": noon.Add(-since)})
	}
	held := &hold.Hold{ID: "h", Bot: "bot", Why: "why"}
	later := pushedAs(calls.StatusFailed, bson.M{"next_attempt_at": noon.Add(time.Hour)})
	for name, tc := range map[string]struct {
		c      candidate
		fields bson.M
		want   Action
		reason Reason
	}{
		"a new result":                     {candidate{bot: good}, nil, Deliver, NoReason},
		"its attempt is due":               {candidate{bot: good, due: true}, waits(time.Second), Deliver, NoReason},
		"due, found by its event":          {candidate{bot: good}, waits(time.Second), Skip, ReasonScheduled},
		"due later":                        {candidate{bot: good, due: true}, later, Skip, ReasonScheduled},
		"logged":                           {candidate{bot: good}, pushedAs(calls.StatusOK, nil), Skip, ReasonLogged},
		"logged, an older result":          {candidate{bot: good}, pushedAs(calls.StatusOK, bson.M{"completed_at": noon.Add(-time.Hour)}), Deliver, NoReason},
		"failed, to be pushed again":       {candidate{bot: good, policy: Policy{Repush: RepushFailed, Asked: noon}}, pushedAs(calls.StatusFailed, nil), Deliver, NoReason},
		"ok, to be pushed again":           {candidate{bot: good, policy: Policy{Repush: RepushFailed, Asked: noon}}, pushedAs(calls.StatusOK, nil), Skip, ReasonLogged},
		"all to be pushed again":           {candidate{bot: good, policy: Policy{Repush: RepushAll, Asked: noon}}, pushedAs(calls.StatusOK, nil), Deliver, NoReason},
		"pushed again already":             {candidate{bot: good, policy: Policy{Repush: RepushAll, Asked: noon.Add(-time.Hour)}}, pushedAs(calls.StatusOK, nil), Skip, ReasonLogged},
		"takes no outcome":                 {candidate{bot: good, due: true, unrecordable: true}, waits(time.Second), Skip, ReasonUnrecordable},
		"an agent's record":                {candidate{bot: good}, bson.M{"call_type": "agent"}, Skip, ReasonAgentCall},
		"no result":                        {candidate{bot: good}, bson.M{"completed_at": nil}, Skip, ReasonNoResult},
		"flagged":                          {candidate{bot: good}, bson.M{"skip_post_push": true}, Skip, ReasonSkipFlag},
		"a bot that never pushes":          {candidate{bot: never}, nil, Skip, ReasonNoConfig},
		"a bot that never was":             {candidate{}, nil, Skip, ReasonNoConfig},
		"a bot that is gone":               {candidate{botWasKnown: true}, nil, Defer, ReasonBotGone},
		"a bot that is gone, flagged":      {candidate{botWasKnown: true}, bson.M{"skip_post_push": true}, Skip, ReasonNoConfig},
		"due, a bot that is not there":     {candidate{due: true}, waits(time.Hour), Defer, ReasonBotGone},
		"due, a bot that is gone for days": {candidate{due: true, maxAge: 24 * time.Hour}, waits(25 * time.Hour), Withdraw, ReasonBotGone},
		"no url":                           {candidate{bot: noURL}, nil, Finish, ReasonNoURL},
		"unusable":                         {candidate{bot: broken}, nil, Finish, ReasonBadConfig},
		"switched off":                     {candidate{bot: off}, nil, Skip, ReasonDisabled},
		"switched off while due":           {candidate{bot: off, due: true}, waits(time.Second), Withdraw, ReasonDisabled},
		"due for days, destination down":   {candidate{bot: good, due: true, down: true, maxAge: 24 * time.Hour}, waits(25 * time.Hour), Withdraw, ReasonTooOld},
		"due for days, destination up":     {candidate{bot: good, due: true, maxAge: 24 * time.Hour}, waits(25 * time.Hour), Deliver, NoReason},
		"new, destination down":            {candidate{bot: good, down: true, maxAge: 24 * time.Hour}, nil, Deliver, NoReason},
		"new, held":                        {candidate{bot: good, hold: held}, nil, Defer, ReasonHeld},
		"due, held":                        {candidate{bot: good, due: true, hold: held}, waits(time.Second), Defer, ReasonHeld},
		"due for days, down, held":         {candidate{bot: good, due: true, hold: held, down: true, maxAge: 24 * time.Hour}, waits(25 * time.Hour), Defer, ReasonHeld},
		"due for days, down, was held":     {candidate{bot: good, due: true, down: true, paused: 2 * time.Hour, maxAge: 24 * time.Hour}, waits(25 * time.Hour), Deliver, NoReason},
		"due too long besides being held":  {candidate{bot: good, due: true, down: true, paused: time.Minute, maxAge: 24 * time.Hour}, waits(25 * time.Hour), Withdraw, ReasonTooOld},
		"logged, held":                     {candidate{bot: good, hold: held}, pushedAs(calls.StatusOK, nil), Skip, ReasonLogged},
		"switched off and held, due":       {candidate{bot: off, due: true, hold: held}, waits(time.Second), Withdraw, ReasonDisabled},
		"no url, held":                     {candidate{bot: noURL, hold: held}, nil, Finish, ReasonNoURL},
	} {
		tc.c.call = callOf(t, tc.fields)
		got := decide(tc.c, noon)
		if got.Action != tc.want || got.Reason != tc.reason {
			t.Errorf("%s: %s (%s), want %s (%s)", name, got.Action, got.Reason, tc.want, tc.reason)
		}
		if got.Reason != ReasonHeld && (got.Action == Defer) != got.Until.After(noon) {
			t.Errorf("%s: %s until %v", name, got.Action, got.Until)
		}
	}
}

// What is written for each decision.
func TestSettle(t *testing.T) {
	bot := compiled(t, bson.M{"url": "https://crm.example.com/in?key=1", "key_mapper": bson.M{"a": "b"}, "max_attempts": 3})
	schedule := push.Schedule{Delays: []time.Duration{time.Minute}, MaxAge: time.Hour}
	answer := func(class push.Class, status int) *sent {
		return &sent{request: &push.Request{Method: "POST"}, result: push.Result{Class: class, HTTPStatus: status}, at: noon}
	}
	due := pushedAs(calls.StatusRejected, bson.M{"next_attempt_at": noon.Add(-time.Minute), "first_attempt_at": noon.Add(-2 * time.Minute)})
	old := pushedAs(calls.StatusRejected, bson.M{"attempts": 1, "next_attempt_at": noon.Add(-time.Minute), "first_attempt_at": noon.Add(-2 * time.Hour)})
	dueHeld := pushedAs(calls.StatusRejected, bson.M{"next_attempt_at": noon.Add(-time.Minute), "hold_id": "h"})
	for name, tc := range map[string]struct {
		decision Decision
		sent     *sent
		fields   bson.M
		want     calls.Transition
		status   calls.Status
		attempts int
		text     string
		silent   bool
	}{
		"taken":             {Decision{}, answer(push.ClassOK, 200), nil, calls.ToDelivered, calls.StatusOK, 1, "", false},
		"taken at last":     {Decision{}, answer(push.ClassOK, 200), due, calls.ToDelivered, calls.StatusOK, 3, "", false},
		"refused":           {Decision{}, answer(push.ClassRejected, 404), nil, calls.ToDelivered, calls.StatusRejected, 1, "", false},
		"busy":              {Decision{}, answer(push.ClassBusy, 503), nil, calls.ToRetry, calls.StatusRejected, 1, "", false},
		"unreached":         {Decision{}, answer(push.ClassUnreached, 0), nil, calls.ToRetry, calls.StatusFailed, 1, "", false},
		"busy, the last":    {Decision{}, answer(push.ClassBusy, 503), due, calls.ToDelivered, calls.StatusRejected, 3, "", false},
		"busy, too old":     {Decision{}, answer(push.ClassBusy, 503), old, calls.ToDelivered, calls.StatusRejected, 2, "given up", false},
		"no url":            {Decision{Action: Finish, Reason: ReasonNoURL, Status: calls.StatusSkipped}, nil, nil, calls.ToFinished, calls.StatusSkipped, 0, "no url", false},
		"unusable":          {Decision{Action: Finish, Reason: ReasonBadConfig, Status: calls.StatusFailed, Detail: "a: b"}, nil, nil, calls.ToFinished, calls.StatusFailed, 0, "unusable configuration: a: b", false},
		"no room":           {Decision{Action: Defer, Reason: ReasonBusy, Until: noon.Add(time.Second)}, nil, nil, calls.ToDeferred, calls.StatusFailed, 0, "not attempted yet", false},
		"no room, due":      {Decision{Action: Defer, Reason: ReasonBusy, Until: noon.Add(time.Second)}, nil, due, calls.ToDeferred, calls.StatusFailed, 2, "", true},
		"the bot is gone":   {Decision{Action: Defer, Reason: ReasonBotGone, Until: noon.Add(time.Second)}, nil, due, calls.ToDeferred, calls.StatusFailed, 2, "bot is gone", false},
		"nothing to do":     {Decision{Action: Skip, Reason: ReasonLogged}, nil, nil, 0, "", 0, "", true},
		"held":              {Decision{Action: Defer, Reason: ReasonHeld, Until: noon, Hold: "h", Detail: "why"}, nil, nil, calls.ToDeferred, calls.StatusFailed, 0, "not attempted yet: held: why", false},
		"held, due":         {Decision{Action: Defer, Reason: ReasonHeld, Until: noon, Hold: "h", Detail: "why"}, nil, due, calls.ToDeferred, calls.StatusFailed, 2, "held: why", false},
		"held, due, known":  {Decision{Action: Defer, Reason: ReasonHeld, Until: noon, Hold: "h", Detail: "why"}, nil, dueHeld, calls.ToDeferred, calls.StatusFailed, 2, "held: why", true},
		"no room, was held": {Decision{Action: Defer, Reason: ReasonBusy, Until: noon.Add(time.Second)}, nil, dueHeld, calls.ToDeferred, calls.StatusFailed, 2, "", true},
		"old, was held":     {Decision{}, &sent{request: &push.Request{Method: "POST"}, result: push.Result{Class: push.ClassBusy, HTTPStatus: 503}, at: noon, paused: 90 * time.Minute}, old, calls.ToRetry, calls.StatusRejected, 2, "", false},
		"switched off, due": {Decision{Action: Withdraw, Reason: ReasonDisabled}, nil, due, calls.ToWithdrawn, calls.StatusRejected, 2, "not attempted again", false},
	} {
		call := callOf(t, tc.fields)
		o, write := settle(call, bot, tc.decision, tc.sent, schedule, noon)
		if write == tc.silent {
			t.Errorf("%s: written %t", name, write)
		}
		if tc.decision.Action == Skip {
			continue
		}
		if o.Transition != tc.want || o.Status != tc.status || o.Attempts != tc.attempts || !strings.Contains(o.Error, tc.text) {
			t.Errorf("%s: %d %s after %d attempts: %q", name, o.Transition, o.Status, o.Attempts, o.Error)
		}
		again := tc.want == calls.ToRetry || tc.want == calls.ToDeferred
		if o.Final() == again || o.DeliveryID != call.DeliveryID() || o.URL != "https://crm.example.com/in" || o.Method != "POST" || !o.At.Equal(noon) {
			t.Errorf("%s: %+v", name, o)
		}
	}
}
