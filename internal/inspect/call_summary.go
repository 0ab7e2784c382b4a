package inspect

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/internal/plain"
)

// summary is one sentence: what became of the call, and why.
func (c *subject) summary() string {
	o := c.r.Outcome
	switch c.r.State {
	case StateHeld:
		return fmt.Sprintf("Held back since %s by %s: %s.", stamp(c.r.Hold.From), plain.Line(c.r.Hold.By, mostName), plain.Line(c.r.Hold.Why, mostWhy))
	case StateDue:
		return c.dueSummary()
	case StateMissing:
		return "Never pushed, and nothing says why: the saved position is past it. " + c.positionText()
	case StateSkipped:
		return c.skippedSummary()
	default: // an outcome
	}
	switch {
	case c.call.Pushed.ByPlatform():
		return fmt.Sprintf("Pushed by the platform itself, before there was a watcher: %s.", o.Status)
	case o.Status == calls.StatusOK:
		return fmt.Sprintf("Pushed: the CRM answered %d at %s, on attempt %d.", o.HTTPStatus, stamp(o.PushedAt), o.Attempts)
	case o.Status == calls.StatusRejected:
		return fmt.Sprintf("The CRM did not accept it, after %s: %s. No other follows.", plain.Count(o.Attempts, "attempt"), c.why(o))
	default:
		return fmt.Sprintf("It failed, after %s: %s. No other follows.", plain.Count(o.Attempts, "attempt"), c.why(o))
	}
}

func (c *subject) dueSummary() string {
	o := c.r.Outcome
	if c.found.OnItsWay {
		return "On its way: no watcher has come past it yet. " + c.positionText()
	}
	if !o.OfThisResult {
		return fmt.Sprintf("An attempt of an earlier result is due at %s; the present one is sent then.", stamp(o.NextAttemptAt))
	}
	when := "at " + stamp(o.NextAttemptAt)
	if !o.NextAttemptAt.After(c.now) {
		when = "now, since " + stamp(o.NextAttemptAt)
	}
	if o.Attempts == 0 {
		return fmt.Sprintf("Its first attempt is due %s: %s.", when, plain.Line(o.NextWhy, mostWhy))
	}
	return fmt.Sprintf("Attempt %d is due %s; the last: %s.", o.Attempts+1, when, c.why(o))
}

func (c *subject) skippedSummary() string {
	if c.found.Outcome {
		return "Not pushed: " + cmp.Or(c.why(c.r.Outcome), "skipped") + "."
	}
	for _, skip := range c.r.Skips {
		if skip.DeliveryID == c.r.DeliveryID && c.r.DeliveryID != "" {
			return fmt.Sprintf("Not pushed: %s (%s), decided at %s.", dispatch.ReasonText(skip.Reason), skip.Reason, stamp(skip.At))
		}
	}
	return fmt.Sprintf("Not pushed, as it stands now: %s (%s).", c.r.Decision.Text, c.r.Decision.Reason)
}

// why is the error of an outcome on one line.
func (c *subject) why(o *Outcome) string {
	text := o.Error
	if text == "" && o.HTTPStatus != 0 {
		text = fmt.Sprintf("the CRM answered %d", o.HTTPStatus)
	}
	if o.ResponseBody != "" && !strings.Contains(text, o.ResponseBody) {
		text += ": " + o.ResponseBody
	}
	return plain.Line(text, mostWhy)
}

// positionText says how far the saved positions are.
func (c *subject) positionText() string {
	var oldest time.Time
	for i := range c.positions {
		p := &c.positions[i]
		if !p.Member && !p.Position.IsZero() && p.Partition.Owns(c.call.ID) && (oldest.IsZero() || p.Position.Time().Before(oldest)) {
			oldest = p.Position.Time()
		}
	}
	if oldest.IsZero() {
		return fmt.Sprintf("No position is saved under the name %q.", c.o.Name)
	}
	return fmt.Sprintf("It stands at %s.", stamp(oldest))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// mostWarnings is how many warnings a report has.
const mostWarnings = 20

// warnings are what is odd about the call or its bot.
func (c *subject) warnings(made *rendered) []string {
	all := []string{}
	warn := func(format string, args ...any) { all = append(all, plain.Line(fmt.Sprintf(format, args...), mostWhy)) }
	if v := c.call.Raw.Lookup("skip_post_push"); v.Type != 0 && v.Type != bson.TypeBoolean && v.Type != bson.TypeNull {
		warn("skip_post_push is %s and counts as %v; the platform writes true or false", valueText(v), c.call.SkipPostPush)
	}
	switch v := c.call.Raw.Lookup("completed_at"); {
	case v.Type == 0 || v.Type == bson.TypeNull || v.Type == bson.TypeDateTime:
	case c.call.CompletedAt.IsZero():
		warn("completed_at is %s, which is no time: there is no result", valueText(v))
	default:
		warn("completed_at is %s and counts as %s; the platform writes a date", valueText(v), stamp(c.call.CompletedAt))
	}
	for _, field := range []string{"integration_log", "events"} {
		if v := c.call.Raw.Lookup(field); v.Type != 0 && v.Type != bson.TypeArray && v.Type != bson.TypeNull {
			warn("%s is %s and no array: what is pushed is not added to it", field, valueText(v))
		}
	}
	if v := c.call.Raw.Lookup("post_call_push_result"); v.Type != 0 && v.Type != bson.TypeEmbeddedDocument && v.Type != bson.TypeNull {
		warn("post_call_push_result is %s and no object: it is nobody's outcome", valueText(v))
	}
	c.botWarnings(warn)
	for _, text := range made.warnings {
		warn("%s", text)
	}
	if len(all) > mostWarnings {
		all = append(all[:mostWarnings], "... and more")
	}
	return all
}

func (c *subject) botWarnings(warn func(string, ...any)) {
	switch {
	case c.call.Bot.Type == 0 || c.call.BotID == "":
		warn("the call names no bot")
	case c.bot == nil:
		warn("there is no bot %s", c.call.BotID)
	default:
		for i := range c.bot.Warnings {
			if w := &c.bot.Warnings[i]; w.Level != bots.LevelInfo {
				warn("bot: %s %s", w.Key, w.Message)
			}
		}
	}
}

// valueText is a stored value in a few words.
func valueText(v bson.RawValue) string {
	switch v.Type {
	case bson.TypeEmbeddedDocument:
		return "an object"
	case bson.TypeArray:
		return "an array"
	case bson.TypeString:
		return fmt.Sprintf("the text %q", plain.Line(v.StringValue(), 60))
	default:
		return plain.Line(v.Type.String()+" "+v.String(), 80)
	}
}
