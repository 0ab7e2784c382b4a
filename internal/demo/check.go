package demo

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/demo/world"
)

// Tally counts calls by what became of them.
type Tally struct {
	Stored   int // results stored
	Pushed   int // the CRM took it
	Rejected int // the CRM refused it
	Failed   int // the CRM gave no answer
	Skipped  int // logged on the call as skipped
	Left     int // left alone: not to be pushed, nothing written
	Retried  int // of those pushed, rejected or failed: with more than one attempt
}

// Summary is what became of all calls.
type Summary struct {
	Tally
	Elapsed time.Duration // from the first call to the last check
	Wrong   []string      // one sentence for each call that did not end as it should

	byBot map[*bot]*Tally
}

// OK reports whether every call ended as it should.
func (s *Summary) OK() bool { return len(s.Wrong) == 0 }

// example is one call to be shown in full.
type example struct {
	call    *call
	request world.Request
	outcome bson.Raw
}

// stored is a call's document, as far as it is checked.
type stored struct {
	Session string   `bson:"session_id"`
	Outcome bson.Raw `bson:"post_call_push_result"`
	Log     []struct {
		Type string `bson:"type"`
	} `bson:"integration_log"`
	Events []struct {
		Type   string `bson:"type"`
		Status string `bson:"status"`
	} `bson:"events"`
	CompletedAt time.Time `bson:"completed_at"`
}

// check reads every call once more and compares it, and what the CRM received,
// with what had to become of it. It returns the example to show, which may be nil.
func check(ctx context.Context, calls *mongo.Collection, c *crm, plan []*call) (Summary, *example, error) {
	sum := Summary{byBot: make(map[*bot]*Tally)}
	docs, err := readAll(ctx, calls, len(plan))
	if err != nil {
		return sum, nil, fmt.Errorf("read the calls at the end: %w", err)
	}
	var shown *example
	delivered := 0
	for _, p := range plan {
		doc, ok := docs[p.session]
		if !ok {
			sum.wrong(p, "is not in the database")
			continue
		}
		delete(docs, p.session)
		o, err := doc.outcome()
		if err != nil {
			sum.wrong(p, "has an outcome that %v", err)
			continue
		}
		sum.count(p.bot, o)
		var d *delivery
		if o != nil {
			d = c.delivery(o.DeliveryID)
		}
		if d != nil {
			delivered++
		}
		if fault := faultOf(p, doc, o, d); fault != "" {
			sum.wrong(p, "%s", fault)
			continue
		}
		if r, ok := c.example(p.session); ok && (shown == nil || p.showcase && !shown.call.showcase) {
			shown = &example{p, r, doc.Outcome}
		}
	}
	for session := range docs {
		sum.Wrong = append(sum.Wrong, fmt.Sprintf("%s is in the database, but nobody called", session))
	}
	if n, strays := c.counts(); n != delivered || strays > 0 {
		sum.Wrong = append(sum.Wrong, fmt.Sprintf("the CRM received %d deliveries that no call tells of, and %d stray requests", n-delivered, strays))
	}
	return sum, shown, nil
}

// readAll reads the calls by session. A session that is there twice is told by
// the count of the documents.
func readAll(ctx context.Context, calls *mongo.Collection, want int) (map[string]*stored, error) {
	cursor, err := calls.Find(ctx, bson.D{}, options.Find().SetProjection(bson.D{
		{Key: "session_id", Value: 1}, {Key: "completed_at", Value: 1}, {Key: "post_call_push_result", Value: 1},
		{Key: "integration_log", Value: 1}, {Key: "events", Value: 1},
	}))
	if err != nil {
		return nil, err
	}
	defer cursor.Close(context.WithoutCancel(ctx))
	docs := make(map[string]*stored, want)
	for n := 0; cursor.Next(ctx); n++ {
		var doc stored
		if err := cursor.Decode(&doc); err != nil {
			return nil, err
		}
		key := doc.Session
		if docs[key] != nil {
			key = fmt.Sprintf("%s (another document, %d)", key, n)
		}
		docs[key] = &doc
	}
	return docs, cursor.Err()
}

// outcome is nil when nothing was written.
func (s *stored) outcome() (*outcome, error) {
	if len(s.Outcome) == 0 {
		return nil, nil
	}
	var o outcome
	if err := bson.Unmarshal(s.Outcome, &o); err != nil {
		return nil, fmt.Errorf("is not of the agreed shape: %w", err)
	}
	return &o, nil
}

// faultOf says what is wrong with a call; "" when it ended as it should.
func faultOf(c *call, doc *stored, o *outcome, d *delivery) string {
	w := c.want
	switch {
	case o == nil && w.status == "":
		return ""
	case o == nil:
		return fmt.Sprintf("has no outcome, want %s", w.status)
	case w.status == "":
		return fmt.Sprintf("was not to be pushed (%s), but says %s", w.why, o.Status)
	case !o.final():
		return fmt.Sprintf("is not finished: %s after attempt %d, and another is due", o.Status, o.Attempts)
	case o.Status != w.status:
		return fmt.Sprintf("ended as %s%s, want %s", o.Status, because(o), w.status)
	case !o.CompletedAt.Equal(doc.CompletedAt):
		return fmt.Sprintf("tells the outcome of the result of %v, want that of %v", o.CompletedAt, doc.CompletedAt)
	}
	if n := doc.pushEvents(o.Status); n != 1 {
		return fmt.Sprintf("has %d post_call_push events, want one", n)
	}
	if w.attempts == 0 {
		if d != nil {
			return fmt.Sprintf("is %s, but the CRM received it", o.Status)
		}
		return ""
	}
	return attemptFault(c, doc, o, d)
}

// attemptFault compares what a call says of its attempts with what the CRM saw.
func attemptFault(c *call, doc *stored, o *outcome, d *delivery) string {
	w := c.want
	switch {
	case o.Attempts != w.attempts:
		return fmt.Sprintf("took %d attempts, want %d", o.Attempts, w.attempts)
	case o.HTTPStatus == nil || *o.HTTPStatus != w.http:
		return fmt.Sprintf("has http_status %s, want %d", number(o.HTTPStatus), w.http)
	case o.Method != c.bot.method:
		return fmt.Sprintf("was sent by %s, want %s", o.Method, c.bot.method)
	case doc.logged() != w.attempts:
		return fmt.Sprintf("has %d integration_log entries, want one for each of %d attempts", doc.logged(), w.attempts)
	case d == nil:
		return fmt.Sprintf("is %s, but the CRM knows no delivery %q", o.Status, o.DeliveryID)
	case len(d.answers) != w.attempts:
		return fmt.Sprintf("reached the CRM %d times, want %d", len(d.answers), w.attempts)
	case d.changed:
		return "was not sent with the same bytes at each attempt"
	case d.callID != c.session:
		return fmt.Sprintf("was sent as %q", d.callID)
	case c.bot.sipKey != "" && !isObject(d.sip):
		return fmt.Sprintf("sent %s as %T, want an object", c.bot.sipKey, d.sip)
	}
	return linkFault(c, d.recording)
}

// linkFault says what is wrong with a recording link.
func linkFault(c *call, sent string) string {
	ok := true
	switch c.want.link {
	case noLink:
		ok = sent == ""
	case tokenLink:
		ok = sent == PublicBaseURL+"/api/v1/public/recordings/"+c.recordingToken()
	case signedLink:
		ok = strings.HasPrefix(sent, "http://"+recordingsHost+"/"+recordingsBucket+"/calls/"+c.session+".wav?") &&
			strings.Contains(sent, "X-Amz-Signature=")
	}
	if ok {
		return ""
	}
	return fmt.Sprintf("sent the recording link %q", sent)
}

func (c *call) recordingToken() string {
	for _, e := range c.results {
		if e.Key == "recording_access_token" {
			return e.Value.(string)
		}
	}
	return ""
}

// pushEvents counts the events of the push that give this status.
func (s *stored) pushEvents(status string) int {
	n := 0
	for _, e := range s.Events {
		if e.Type == "post_call_push" && e.Status == status {
			n++
		}
	}
	return n
}

func (s *stored) logged() int {
	n := 0
	for _, e := range s.Log {
		if e.Type == "post_call_push" {
			n++
		}
	}
	return n
}

func (s *Summary) wrong(c *call, format string, args ...any) {
	s.Wrong = append(s.Wrong, c.session+" "+fmt.Sprintf(format, args...))
}

// count adds a call to its bot's tally and to that of all.
func (s *Summary) count(b *bot, o *outcome) {
	if s.byBot[b] == nil {
		s.byBot[b] = &Tally{}
	}
	for _, t := range []*Tally{&s.Tally, s.byBot[b]} {
		t.add(o)
	}
}

func (t *Tally) add(o *outcome) {
	t.Stored++
	if o == nil {
		t.Left++
		return
	}
	switch o.Status {
	case "ok":
		t.Pushed++
	case "rejected":
		t.Rejected++
	case "skipped":
		t.Skipped++
	default:
		t.Failed++
	}
	if o.Attempts > 1 {
		t.Retried++
	}
}

func isObject(v any) bool {
	_, ok := v.(map[string]any)
	return ok
}

func number(n *int) string {
	if n == nil {
		return "none"
	}
	return fmt.Sprint(*n)
}

// because gives an outcome's error, if it has one.
func because(o *outcome) string {
	if o.Error == nil || *o.Error == "" {
		return ""
	}
	return " (" + *o.Error + ")"
}
