package demo

import (
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// ending is a call with all that the check looks at.
type ending struct {
	call    *call
	doc     stored
	outcome *outcome
	got     *delivery
}

// right is how a call ends when everything works.
func right(c *call) *ending {
	at := time.UnixMilli(1_780_654_625_000).UTC()
	e := &ending{call: c, doc: stored{Session: c.session, CompletedAt: at}}
	if c.want.status == "" {
		return e
	}
	e.outcome = &outcome{Status: c.want.status, Attempts: c.want.attempts, CompletedAt: at, DurationMS: 12}
	e.event("post_call_push", c.want.status)
	if c.want.attempts == 0 {
		return e
	}
	answered := c.want.http
	e.outcome.HTTPStatus, e.outcome.Method, e.outcome.DeliveryID = &answered, c.bot.method, "d-"+c.session
	e.got = &delivery{callID: c.session, bytes: 640, sip: map[string]any{}}
	for n := range c.want.attempts {
		status := 503
		if n == c.want.attempts-1 {
			status = answered
		}
		e.got.answers = append(e.got.answers, status)
		e.logged("post_call_push")
	}
	switch c.want.link {
	case tokenLink:
		e.got.recording = PublicBaseURL + "/api/v1/public/recordings/" + c.recordingToken()
	case signedLink:
		e.got.recording = "http://localhost:9000/recordings/calls/" + c.session + ".wav?X-Amz-Date=1&X-Amz-Signature=2"
	case noLink:
	}
	return e
}

func (e *ending) event(kind, status string) {
	e.doc.Events = append(e.doc.Events, struct {
		Type   string `bson:"type"`
		Status string `bson:"status"`
	}{kind, status})
}

func (e *ending) logged(kind string) {
	e.doc.Log = append(e.doc.Log, struct {
		Type string `bson:"type"`
	}{kind})
}

func (e *ending) fault() string { return faultOf(e.call, &e.doc, e.outcome, e.got) }

func TestRightEndingsPass(t *testing.T) {
	for _, c := range planned(1, 3*len(kinds)) {
		if fault := right(c).fault(); fault != "" {
			t.Errorf("%s of %s, %+v: %s", c.session, c.bot.name, c.want, fault)
		}
	}
}

func TestWrongEndingsAreNamed(t *testing.T) {
	plan := planned(1, len(kinds))
	const (
		ordinary = 0  // ok, by token
		retried  = 3  // ok on the second attempt
		signed   = 5  // a signed link
		alone    = 6  // not to be pushed
		refused  = 8  // 422
		skipped  = 12 // no url
	)
	later := time.Now()
	other := 500
	for name, tc := range map[string]struct {
		kind  int
		spoil func(*ending)
		says  string
	}{
		"nothing written":       {ordinary, func(e *ending) { e.outcome = nil }, "no outcome"},
		"pushed unasked":        {alone, func(e *ending) { e.outcome = &outcome{Status: "ok"} }, "not to be pushed"},
		"another attempt due":   {retried, func(e *ending) { e.outcome.NextAttemptAt = &later }, "another is due"},
		"another status":        {refused, func(e *ending) { e.outcome.Status = "ok" }, "want rejected"},
		"of another result":     {ordinary, func(e *ending) { e.outcome.CompletedAt = later }, "want that of"},
		"no event":              {ordinary, func(e *ending) { e.doc.Events = nil }, "0 post_call_push events"},
		"two events":            {ordinary, func(e *ending) { e.event("post_call_push", "ok") }, "2 post_call_push events"},
		"event of another kind": {ordinary, func(e *ending) { e.doc.Events[0].Type = "hangup" }, "0 post_call_push events"},
		"fewer attempts":        {retried, func(e *ending) { e.outcome.Attempts = 1 }, "took 1 attempts"},
		"another http status":   {ordinary, func(e *ending) { e.outcome.HTTPStatus = &other }, "http_status 500"},
		"no http status":        {ordinary, func(e *ending) { e.outcome.HTTPStatus = nil }, "http_status none"},
		"another method":        {ordinary, func(e *ending) { e.outcome.Method = "GET" }, "sent by GET"},
		"a log entry too few":   {retried, func(e *ending) { e.doc.Log = e.doc.Log[1:] }, "1 integration_log"},
		"unknown to the CRM":    {ordinary, func(e *ending) { e.got = nil }, "knows no delivery"},
		"sent twice":            {ordinary, func(e *ending) { e.got.answers = append(e.got.answers, 200) }, "reached the CRM 2 times"},
		"other bytes":           {retried, func(e *ending) { e.got.changed = true }, "same bytes"},
		"another call":          {ordinary, func(e *ending) { e.got.callID = "call-9" }, `sent as "call-9"`},
		"text for an object":    {ordinary, func(e *ending) { e.got.sip = "{}" }, "want an object"},
		"another token":         {ordinary, func(e *ending) { e.got.recording += "x" }, "recording link"},
		"not signed":            {signed, func(e *ending) { e.got.recording = "http://localhost:9000/recordings/calls/1.wav" }, "recording link"},
		"skipped, but sent":     {skipped, func(e *ending) { e.got = &delivery{} }, "the CRM received it"},
	} {
		t.Run(name, func(t *testing.T) {
			e := right(plan[tc.kind])
			tc.spoil(e)
			if fault := e.fault(); !strings.Contains(fault, tc.says) {
				t.Errorf("says %q, want %q", fault, tc.says)
			}
		})
	}
}

func TestTallyCountsEachCallOnce(t *testing.T) {
	due := time.Now()
	var tally Tally
	for _, o := range []*outcome{
		nil,
		{Status: "ok", Attempts: 1},
		{Status: "ok", Attempts: 2},
		{Status: "rejected", Attempts: 1},
		{Status: "skipped"},
		{Status: "failed", Attempts: 3, NextAttemptAt: &due},
	} {
		tally.add(o)
	}
	want := Tally{Stored: 6, Pushed: 2, Rejected: 1, Failed: 1, Skipped: 1, Left: 1, Retried: 2}
	if tally != want {
		t.Errorf("got %+v, want %+v", tally, want)
	}
}

func TestOutcomeOfAnotherShapeIsAFault(t *testing.T) {
	raw, err := bson.Marshal(bson.D{{Key: "status", Value: 7}})
	if err != nil {
		t.Fatal(err)
	}
	doc := stored{Outcome: raw}
	if _, err := doc.outcome(); err == nil || !strings.Contains(err.Error(), "agreed shape") {
		t.Errorf("a number as status: %v", err)
	}
	if o, err := (&stored{}).outcome(); o != nil || err != nil {
		t.Errorf("nothing written: %+v, %v", o, err)
	}
}
