package inspect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/dispatch"
)

// Trial is what a bot document, which is stored nowhere, makes of a call.
type Trial struct {
	SessionID   string
	ID          string // _id of the call in text form
	BotID       string // of the call, which may be another's
	CompletedAt time.Time
	// Payload is that of the document; nil without one. In its Diff, Now is what the
	// stored bot would send, and Other what the document does.
	Payload  *Payload
	Reason   string // why a watcher would send nothing, in words; "" when it would
	Warnings []bots.Warning
}

// ErrNoCalls says that a bot has no call to try something on.
var ErrNoCalls = errors.New("the bot has no result of the last 90 days to try it on")

// Try renders a call with a document that may be a whole bot, its post_call_push, or
// only a key_mapper, which stands in for that of the stored bot. The call is named as
// for Inspector.Call; "" is the newest of the bot. Nothing is stored or sent. The error
// is a *NotFoundError, ErrNoCalls or MongoDB's.
func (i *Inspector) Try(ctx context.Context, b *bots.Bot, document bson.Raw, call string) (*Trial, error) {
	s, err := i.inquiry(ctx, Ask{})
	if err != nil {
		return nil, err
	}
	doc, err := i.callToTry(ctx, b, call)
	if err != nil {
		return nil, err
	}
	whole, err := i.wholeBot(ctx, b, document)
	if err != nil {
		return nil, err
	}
	decoded := calls.Decode(doc)
	tried := bots.Compile(whole, i.o.Compile)
	c := &subject{inquiry: s, call: &decoded}
	stored, made := c.renderAnyway(b), c.renderAnyway(tried)
	t := &Trial{
		SessionID: decoded.SessionID, ID: calls.IDText(decoded.ID), BotID: decoded.BotID, CompletedAt: decoded.CompletedAt, Payload: made.shown,
	}
	if made.reason != dispatch.NoReason {
		t.Reason = made.reason.Text()
	}
	if t.Payload != nil {
		t.Payload.Diff = differences(stored.parts, made.parts)
	}
	vars := dispatch.Variables(&decoded, tried, dispatch.PrepareEnv{AnalysisSeeds: i.o.AnalysisKeys})
	t.Warnings = slices.Concat(tried.Warnings, tried.Lint(vars, i.o.AnalysisKeys))
	for _, text := range made.warnings {
		t.Warnings = append(t.Warnings, bots.Warning{Level: bots.LevelError, Message: text})
	}
	return t, nil
}

// renderAnyway is renderFor that also makes what would be sent if the push were
// not switched off, or the call not one that is left out: it is the mapping that is
// tried.
func (c *subject) renderAnyway(b *bots.Bot) *rendered {
	m := c.renderFor(b)
	if slices.Contains([]dispatch.Reason{dispatch.ReasonAgentCall, dispatch.ReasonSkipFlag, dispatch.ReasonDisabled}, m.reason) &&
		b.Usable() && b.Push.HasURL {
		reason := m.reason
		c.make(m, b)
		m.reason = reason
	}
	return m
}

func (i *Inspector) callToTry(ctx context.Context, b *bots.Bot, call string) (bson.Raw, error) {
	if call != "" {
		docs, err := i.find(ctx, call)
		if err != nil {
			return nil, err
		}
		return docs[0], nil
	}
	ids, err := newest(ctx, calls.NewStore(i.o.Calls), NewestOf(b), 1)
	if err != nil {
		return nil, err
	}
	docs, err := i.read(ctx, ids, false)
	if err == nil && len(docs) == 0 {
		err = ErrNoCalls
	}
	if err != nil {
		return nil, err
	}
	return docs[0], nil
}

// wholeBot is the bot document that a document means.
func (i *Inspector) wholeBot(ctx context.Context, b *bots.Bot, document bson.Raw) (bson.Raw, error) {
	if _, err := document.LookupErr("post_call_push"); err == nil {
		return document, nil
	}
	raw, err := i.o.Bots.FindOne(ctx, bson.D{{Key: "_id", Value: b.RawID}}).Raw()
	if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
		return nil, fmt.Errorf("read the bot: %w", err)
	}
	mapper, isPush := document, false
	if inner, ok := document.Lookup("key_mapper").DocumentOK(); ok {
		mapper, isPush = inner, document.Lookup("url").Type == bson.TypeString
	}
	var whole, push bson.D
	if len(raw) > 0 {
		if err := bson.Unmarshal(raw, &whole); err != nil {
			return nil, fmt.Errorf("read the bot: %w", err)
		}
	}
	if stored, ok := raw.Lookup("post_call_push").DocumentOK(); ok {
		if err := bson.Unmarshal(stored, &push); err != nil {
			return nil, fmt.Errorf("read the bot: %w", err)
		}
	}
	var changed any = document
	if !isPush {
		changed = with(push, "key_mapper", mapper)
	}
	out, err := bson.Marshal(with(whole, "post_call_push", changed))
	if err != nil {
		return nil, fmt.Errorf("put the mapper into its bot: %w", err)
	}
	return out, nil
}

// with is a document in which a key has a value, where it stood before, else at the end.
func with(d bson.D, key string, value any) bson.D {
	for n := range d {
		if d[n].Key == key {
			d[n].Value = value
			return d
		}
	}
	return append(d, bson.E{Key: key, Value: value})
}
