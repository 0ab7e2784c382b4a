package inspect

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/internal/plain"
	"github.com/cxbridge/watcher/pkg/render"
)

// The names of the checklist, in its order: what has to be so for a push that is
// worth something.
const (
	CheckAnalysis  = "analysis"  // there is a post-call analysis, or an auto disposition
	CheckRecording = "recording" // the recording link opens
	CheckTaken     = "taken"     // the CRM accepted the payload
	CheckFilled    = "filled"    // every mapped field has a value
	CheckBraces    = "braces"    // no placeholder is left in the payload
	CheckVisible   = "visible"   // a failure stands in integration_log
)

// verdict is one line; nil says that it does not apply, or is not known yet.
func verdict(name string, ok *bool, format string, args ...any) Check {
	return Check{Name: name, OK: ok, Text: plain.Line(fmt.Sprintf(format, args...), mostWhy)}
}

func yes(ok bool) *bool { return &ok }

// checklist is that of the platform's guide to the push.
func (c *subject) checklist(ctx context.Context, made *rendered) []Check {
	return []Check{
		c.checkAnalysis(), c.checkRecording(ctx), c.checkTaken(),
		c.checkFilled(made), c.checkBraces(made), c.checkVisible(),
	}
}

func (c *subject) checkAnalysis() Check {
	name := render.Name{Namespace: calls.NamespaceAnalysis, Field: "DISPOSITION"}
	stored := c.call.Raw.Lookup("post_call_analysis")
	fields, _ := stored.DocumentOK()
	own, _ := fields.Lookup(name.Field).StringValueOK()
	var text []byte
	if c.bot != nil {
		text, _ = dispatch.Variables(c.call, c.bot, dispatch.PrepareEnv{AnalysisSeeds: c.o.AnalysisKeys}).AppendText(nil, name)
	}
	elements, _ := fields.Elements()
	switch {
	case own != "":
		return verdict(CheckAnalysis, yes(true), "analysis with the disposition %q", own)
	case len(text) > 0:
		return verdict(CheckAnalysis, yes(true), "auto disposition %q", text)
	case len(elements) > 0:
		return verdict(CheckAnalysis, yes(true), "analysis with %d fields, but without a DISPOSITION", len(elements))
	}
	return verdict(CheckAnalysis, yes(false), "neither an analysis nor an auto disposition")
}

func (c *subject) checkRecording(ctx context.Context) Check {
	link := c.links.Link(c.call)
	switch {
	case link == "":
		return verdict(CheckRecording, nil, "the call has no recording")
	case c.ask.Link == nil:
		v := verdict(CheckRecording, nil, "not looked at: %s", MaskLink(link))
		v.Link = true
		return v
	}
	status, err := c.ask.Link.Reach(ctx, link)
	switch {
	case err != nil:
		return verdict(CheckRecording, yes(false), "%s: %v", MaskLink(link), err)
	case status >= http.StatusMultipleChoices:
		return verdict(CheckRecording, yes(false), "%s answers %d", MaskLink(link), status)
	}
	return verdict(CheckRecording, yes(true), "%s answers %d", MaskLink(link), status)
}

func (c *subject) checkTaken() Check {
	o := c.r.Outcome
	switch {
	case c.r.State == StateSkipped:
		return verdict(CheckTaken, nil, "nothing was sent")
	case o == nil || !o.OfThisResult || !o.Final && o.Attempts == 0:
		return verdict(CheckTaken, yes(false), "it was not sent yet")
	case o.Status == calls.StatusOK && c.call.Pushed.ByPlatform():
		return verdict(CheckTaken, yes(true), "the platform pushed it")
	case o.Status == calls.StatusOK:
		return verdict(CheckTaken, yes(true), "the CRM answered %d", o.HTTPStatus)
	case !o.Final:
		return verdict(CheckTaken, yes(false), "not yet: %s", c.why(o))
	}
	return verdict(CheckTaken, yes(false), "%s", c.why(o))
}

func (c *subject) checkFilled(made *rendered) Check {
	switch n := len(made.empty); {
	case made.shown == nil:
		return verdict(CheckFilled, nil, "nothing would be sent now")
	case n > mostKeys:
		return verdict(CheckFilled, yes(false), "empty as it would be sent now: %s and more", strings.Join(made.empty[:mostKeys], ", "))
	case n > 0:
		return verdict(CheckFilled, yes(false), "empty as it would be sent now: %s", strings.Join(made.empty, ", "))
	}
	return verdict(CheckFilled, yes(true), "every mapped field has a value")
}

func (c *subject) checkBraces(made *rendered) Check {
	if made.shown == nil {
		return verdict(CheckBraces, nil, "nothing would be sent now")
	}
	for _, p := range made.parts {
		if strings.Contains(p.value, "{{") {
			return verdict(CheckBraces, yes(false), `"{{" stands in the value of %s: it is the call's own text, or a token that is not closed`, p.key)
		}
	}
	return verdict(CheckBraces, yes(true), "no placeholder is left")
}

func (c *subject) checkVisible() Check {
	o := c.r.Outcome
	if o == nil || !o.OfThisResult || o.Attempts == 0 || o.Status != calls.StatusFailed && o.Status != calls.StatusRejected {
		return verdict(CheckVisible, nil, "no attempt failed")
	}
	for i := range c.r.Attempts {
		if a := &c.r.Attempts[i]; a.DeliveryID == o.DeliveryID {
			return verdict(CheckVisible, yes(true), "integration_log holds %s", plain.Count(len(c.r.Attempts), "attempt"))
		}
	}
	return verdict(CheckVisible, yes(false), "integration_log holds no attempt of it")
}
