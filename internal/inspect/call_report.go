package inspect

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/internal/plain"
	"github.com/cxbridge/watcher/internal/recording"
	"github.com/cxbridge/watcher/pkg/resume"
)

// inquiry is what all reports of one question share.
type inquiry struct {
	*Inspector
	ask       Ask
	now       time.Time
	positions []resume.Record
	holds     *hold.Set
	links     *recording.Linker
}

// inquiry reads what calls are told by, beside their bots.
func (i *Inspector) inquiry(ctx context.Context, ask Ask) (*inquiry, error) {
	s := &inquiry{Inspector: i, ask: ask, now: time.Now().UTC().Truncate(time.Millisecond)}
	var err error
	if s.positions, err = i.positions(ctx); err != nil {
		return nil, err
	}
	if s.holds, err = i.holds(ctx); err != nil {
		return nil, err
	}
	var doc bson.Raw
	if i.o.Settings != nil {
		doc, err = i.o.Settings.FindOne(ctx, bson.D{{Key: "_id", Value: "system"}}).Raw()
	}
	if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
		return nil, fmt.Errorf("read the settings: %w", err)
	}
	s.links, _ = recording.New(i.o.Recording.Over(doc)) // what is unusable makes the stored link
	return s, nil
}

// subject is a call under report.
type subject struct {
	*inquiry
	call  *calls.Call
	bot   *bots.Bot // nil when it has no document
	found Found
	r     *Report
}

// report reads what belongs to a call, and tells what is known of it.
func (s *inquiry) report(ctx context.Context, doc bson.Raw) (*Report, error) {
	call := calls.Decode(doc)
	bot, err := s.botOf(ctx, &call)
	if err != nil {
		return nil, err
	}
	logged, err := s.skipsOf(ctx, call.ID)
	if err != nil {
		return nil, err
	}
	return s.tell(ctx, &call, bot, logged), nil
}

// tell is the report on a call whose bot and skips were read.
func (s *inquiry) tell(ctx context.Context, call *calls.Call, bot *bots.Bot, logged []Skip) *Report {
	r := &Report{
		Now: s.now, Skips: logged, call: call, SessionID: call.SessionID, ID: calls.IDText(call.ID), DeliveryID: call.DeliveryID(), CallType: plain.Line(call.CallType, mostName),
		StartedAt: call.StartedAt, CompletedAt: call.CompletedAt, Bot: Bot{ID: call.BotID},
	}
	c := &subject{inquiry: s, call: call, bot: bot, r: r}
	c.found = c.state()
	r.State = c.found.State
	c.about()
	c.decide()
	c.outcome()
	r.Summary = c.summary()
	made := c.render()
	r.Checklist = c.checklist(ctx, made)
	if s.ask.Payload || s.ask.Bot != nil {
		r.Payload = c.payload(made)
	}
	r.Warnings = c.warnings(made)
	switch {
	case made.reason != dispatch.NoReason:
		r.refuses = made.reason.Text()
	case c.found.OnItsWay:
		r.refuses = "it is on its way: no watcher has come past it yet"
	}
	return r
}

// state is what the call is, as lists tell it.
func (c *subject) state() Found {
	var known []*bots.Bot
	if c.bot != nil {
		known = append(known, c.bot)
	}
	reasons := make(map[string]string)
	for _, skip := range c.r.Skips {
		reasons[skip.DeliveryID] = skip.Reason
	}
	sel := Selection{Bots: bots.NewSet(known), Positions: c.positions, Holds: c.holds}
	return sel.found(c.call, reasons, c.now)
}

// about fills in the bot and the hold that keeps its calls back.
func (c *subject) about() {
	b := c.bot
	if b == nil {
		return
	}
	c.r.Bot = Bot{ID: b.ID, Name: plain.Line(b.Name, mostName), Known: true}
	if b.Push != nil {
		c.r.Bot.URL, c.r.Bot.Host = b.Push.PublicURL, b.Push.Host()
	}
	if c.holds != nil {
		c.r.Hold = c.holds.For(b, c.now)
	}
}

// decide says what would be done with the call now.
func (c *subject) decide() {
	d := dispatch.Explain(c.call, c.bot, c.o.Schedule.MaxAge, c.now)
	c.r.Decision = Decision{Action: d.Action.String(), Reason: d.Reason.String(), Text: c.redact(d.Text()), Until: d.Until}
	switch {
	case d.Action != dispatch.Deliver:
	case c.r.Hold != nil:
		c.r.Decision = Decision{Action: dispatch.Defer.String(), Reason: "held", Text: "an operator holds it back: " + c.r.Hold.Why, Until: c.r.Hold.Until}
	default:
		c.r.Decision.Text = "it would be sent now"
	}
}

// redact takes what the bot knows as a secret out of a text that others wrote.
func (c *subject) redact(text string) string {
	if c.bot == nil || c.bot.Push == nil {
		return text
	}
	return c.bot.Push.Redact.Redact(text)
}

// outcome fills in what stands on the call, and every attempt.
func (c *subject) outcome() {
	c.r.Attempts = []Attempt{}
	for _, l := range c.call.Log() {
		c.r.Attempts = append(c.r.Attempts, Attempt{
			At: l.At, Status: l.Status, HTTPStatus: l.HTTPStatus, DurationMS: l.Duration.Milliseconds(), Method: l.Method, URL: publicURL(l.URL),
			Error: c.redact(l.Error), ResponseBody: c.redact(l.ResponseBody), DeliveryID: l.DeliveryID, ReplayID: l.ReplayID, Number: l.Attempts,
		})
	}
	l, ok := c.call.Result()
	if !ok {
		return
	}
	o := &Outcome{
		Status: l.Status, HTTPStatus: l.HTTPStatus, Error: c.redact(l.Error), ResponseBody: c.redact(l.ResponseBody),
		Attempts: l.Attempts, PushedAt: l.At, CompletedAt: l.CompletedAt, DeliveryID: l.DeliveryID, NextAttemptAt: l.NextAttemptAt,
		ReplayID: l.ReplayID, Final: l.NextAttemptAt.IsZero(),
		OfThisResult: !c.call.CompletedAt.IsZero() && l.CompletedAt.Equal(c.call.CompletedAt) || c.call.Pushed.ByPlatform(),
	}
	if !o.Final {
		o.NextWhy = c.nextWhy(o)
	}
	c.r.Outcome = o
}

// publicURL is a stored URL without what may be a secret, whoever stored it.
func publicURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// nextWhy says why the next attempt is when it is.
func (c *subject) nextWhy(o *Outcome) string {
	switch {
	case c.r.Hold != nil:
		return "held back by an operator: " + c.r.Hold.Why
	case o.ReplayID != "" && o.Attempts == 0:
		return "the replay " + o.ReplayID + " asked for it"
	case o.Attempts == 0:
		return plain.Line(o.Error, mostWhy)
	}
	schedule := c.o.Schedule
	if c.bot != nil && c.bot.Push != nil && c.bot.Push.MaxAttempts > 0 {
		schedule.MaxAttempts = c.bot.Push.MaxAttempts
	}
	why := fmt.Sprintf("attempt %d of at most %d", o.Attempts+1, schedule.Attempts())
	if len(schedule.Delays) == 0 {
		return why
	}
	delay := schedule.Delays[min(o.Attempts, len(schedule.Delays))-1]
	if o.NextAttemptAt.Sub(o.PushedAt) > delay+delay/2 { // jitter is half of it at most
		return why + ", later than the schedule says: the CRM asked to wait (Retry-After), or was busy or down since"
	}
	return fmt.Sprintf("%s, by the schedule: about %s after the last", why, plain.Duration(delay))
}
