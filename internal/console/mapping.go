package console

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/plain"
)

const (
	fillCalls = 20 // calls of a bot that are rendered
	fillKeep  = 30 * time.Second
	fillTime  = 4 * time.Second // of the time of a page
	maxFills  = 500             // bots that are kept, and keys of a bot that are shown
	maxTrial  = 256 << 10       // bytes of a document that is tried
)

var errFillTime = errors.New("reading the newest calls took longer than " + fillTime.String() + "; watcher lint --calls takes its time")

// fills are the fill rates of a bot, or why there are none.
type fills struct {
	inspect.BotFills

	Left int // keys that are not shown
	Note string

	bot *bots.Bot // as it was then
}

// fillCache keeps fill rates for fillKeep, so that a page that is looked at again and
// again reads the calls once. The zero fillCache is ready.
type fillCache struct {
	mu  sync.Mutex
	all map[string]fills
}

// of returns the fill rates of a bot. That they cannot be read is said, and is no error
// of the page.
func (f *fillCache) of(ctx context.Context, c *Console, b *bots.Bot) fills {
	f.mu.Lock()
	kept, ok := f.all[b.ID]
	f.mu.Unlock()
	if ok && kept.bot == b && time.Since(kept.At) < fillKeep {
		return kept
	}
	limited, cancel := context.WithTimeoutCause(ctx, fillTime, errFillTime)
	defer cancel()
	read, err := c.o.Answers.Fills(limited, b, fillCalls)
	switch {
	case err != nil && ctx.Err() != nil:
		return fills{Note: "They were not read: the time of this page is over."}
	case err != nil && limited.Err() != nil:
		err = errFillTime
	}
	found := fills{BotFills: read, bot: b}
	if err != nil {
		found.Note = c.o.Redact(plain.Error(err))
	}
	found.At = time.Now().UTC()
	found.Left = max(0, len(found.Keys)-maxFills)
	found.Keys = found.Keys[:len(found.Keys)-found.Left]
	f.keep(b.ID, found)
	return found
}

func (f *fillCache) keep(id string, found fills) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.all == nil || len(f.all) >= maxFills {
		f.all = make(map[string]fills) // soon read again
	}
	f.all[id] = found
}

// trial is a document that somebody tries on a call, and what came of it.
type trial struct {
	*inspect.Trial

	Document string
	Asked    string // the call, as it was typed
	Problem  string // why there is no Trial, when one was asked for
}

// try shows what a document, which is stored nowhere, makes of a call.
func (c *Console) try(ctx context.Context, r *request) (view, error) {
	b, err := c.botOf(r)
	if err != nil {
		return view{}, err
	}
	t := trial{Document: r.PostFormValue("document"), Asked: strings.TrimSpace(line(r.PostFormValue("call"), maxField))}
	if len(t.Document) > maxTrial {
		return view{}, refusal{http.StatusRequestEntityTooLarge, "The document is larger than 256 KiB."}
	}
	var document bson.Raw
	if err := bson.UnmarshalExtJSON([]byte(t.Document), false, &document); err != nil {
		t.Problem = "The document is no Extended JSON: " + line(err.Error(), maxField)
		return c.botView(ctx, b, t)
	}
	t.Trial, err = c.o.Answers.Try(ctx, b, document, t.Asked)
	unknown, missing := errors.AsType[*inspect.NotFoundError](err)
	switch {
	case missing:
		t.Problem = line(unknown.Error(), maxWhy)
	case errors.Is(err, inspect.ErrNoCalls):
		t.Problem = plain.Error(err)
	case err != nil:
		return view{}, err
	default:
		worstFirst(t.Warnings)
		t.Warnings = t.Warnings[:min(len(t.Warnings), maxWarnings)]
	}
	return c.botView(ctx, b, t)
}
