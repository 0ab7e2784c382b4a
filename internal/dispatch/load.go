package dispatch

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/outage"
	"github.com/cxbridge/watcher/pkg/backoff"
)

var loadPause = backoff.Backoff{First: 100 * time.Millisecond, Most: 10 * time.Second}

// A read that is older than its event is made again, each time later and from a
// majority that has seen the event; after rereads the call is taken as it is.
const rereads = 6

// A call whose read is refused for a reason that nobody knows is read again so
// often, for some seconds: it may be the server, and holds up nobody meanwhile.
const maxRefused = 6

var rereadPause = backoff.Backoff{First: 100 * time.Millisecond, Most: 5 * time.Second}

// loadLoop reads the calls that wait, many with one find: what came while one
// find was under way makes the next.
func (d *Dispatcher) loadLoop(ctx context.Context) {
	batch := make([]*item, 0, loadBatch)
	for {
		batch = batch[:0]
		select {
		case it := <-d.incoming:
			batch = append(batch, it)
		case <-ctx.Done():
			return
		}
	more:
		for len(batch) < loadBatch {
			select {
			case it := <-d.incoming:
				batch = append(batch, it)
			default:
				break more
			}
		}
		if !d.load(ctx, batch, false) {
			return
		}
	}
}

// load reads a batch, in as many finds as the memory asks for, and decides on
// each call. It tries until ctx ends, and then lets go of the rest. whole reads
// all fields.
func (d *Dispatcher) load(ctx context.Context, batch []*item, whole bool) bool {
	for failures := 0; len(batch) > 0; {
		// A bot that changes with each read names other fields each time.
		whole = whole || batch[0].reloads > 3
		l := &loading{d: d, whole: whole, found: make(map[string]*found, len(batch))}
		err := l.read(ctx, batch)
		if err == nil {
			d.loading.Worked(ctx)
			if len(batch) > 1 {
				d.apart.Worked(ctx)
			}
			batch, failures = l.decide(ctx, batch), 0
			continue
		}
		l.unload()
		switch {
		case ctx.Err() != nil:
			d.releaseAll(batch)
			return false
		case errors.Is(err, calls.ErrUnreadable):
			return d.loadApart(ctx, batch, whole, err)
		}
		d.metrics.loadErrors.Inc()
		d.loading.Failed(ctx, err, slog.Int("calls", len(batch)))
		if backoff.Sleep(ctx, loadPause.Pause(failures)) != nil {
			d.releaseAll(batch)
			return false
		}
		failures++
	}
	return true
}

// loadApart finds the call that MongoDB refuses to read, so that it does not hold
// up the others: each half is read alone, and so on; one call alone then without naming
// fields, and one that is refused even so is given up, with a line in the log.
func (d *Dispatcher) loadApart(ctx context.Context, batch []*item, whole bool, refused error) bool {
	d.metrics.loadErrors.Inc()
	if len(batch) == 1 && whole {
		it := batch[0]
		if it.refusals < maxRefused {
			it.refusals++
			d.loadLater(it, loadPause.Pause(it.refusals))
			return true
		}
		d.logger.Error("call cannot be read and is not pushed", "call_id", it.event.ID.String(), "error", refused)
		d.settle(it, Decision{Action: Skip, Reason: ReasonUnreadable}, nil)
		return true
	}
	if len(batch) == 1 {
		return d.load(ctx, batch, true)
	}
	d.apart.Failed(ctx, refused, slog.Int("calls", len(batch)))
	half := len(batch) / 2
	if !d.load(ctx, batch[:half], false) {
		d.releaseAll(batch[half:])
		return false
	}
	return d.load(ctx, batch[half:], false)
}

// loading is one find and what it brought.
type loading struct {
	d     *Dispatcher
	whole bool
	set   *bots.Set // before the find: the fields that its mappers name were read
	found map[string]*found
	left  int64 // bytes that were taken for the reply and are not used
	held  int64 // bytes that the calls found hold
	full  bool  // it ended early: there is no room for more
}

// found is a call that was read.
type found struct {
	call calls.Call
	bot  *bots.Bot // as it was before the find
}

// read makes the find, and then reads the bots of what was found, so that no bot
// is older than its call. The room for the largest reply is taken before; what
// a reply does not need is given back.
func (l *loading) read(ctx context.Context, batch []*item) error {
	d := l.d
	q := calls.Read{IDs: make([]bson.RawValue, len(batch))}
	for i, it := range batch {
		q.IDs[i] = it.event.ID
		if it.rereads > 0 && it.event.At.After(q.After) {
			q.After = it.event.At
		}
	}
	l.set = d.o.Bots.Set()
	if !l.whole {
		q.Fields = l.set.Fields()
	}
	if err := d.bytes.Acquire(ctx, replyBytes); err != nil {
		return err
	}
	l.left = replyBytes
	defer func() { d.bytes.Release(l.left) }()
	if err := d.o.Loader.Load(ctx, q, l.keep); err != nil {
		return err
	}
	if err := l.readRoles(ctx, q); err != nil {
		return err
	}
	return l.refresh(ctx)
}

// keep takes a call that was read; false when there is no room for it.
func (l *loading) keep(c calls.Call) bool {
	size := int64(c.Size())
	switch {
	case size <= l.left:
		l.left -= size
	case !l.d.bytes.TryAcquire(size):
		l.full = true
		return false
	}
	l.held += size
	l.found[idKey(c.ID)] = &found{c, l.set.Bot(c.Bot)}
	return true
}

// readRoles reads those calls again, as a whole, whose auto disposition depends on
// who spoke: a transcript's roles take more of the server and of the network than
// all other fields, and few calls need them.
func (l *loading) readRoles(ctx context.Context, q calls.Read) error {
	if l.whole || calls.ReadRoles(q.Fields) {
		return nil
	}
	q.IDs = nil
	for key, f := range l.found {
		if f.bot == nil || f.bot.Push == nil || !f.bot.Push.NeedsAuto || !f.call.NeedsRoles() {
			continue
		}
		q.IDs = append(q.IDs, f.call.ID)
		l.held -= int64(f.call.Size())
		l.left += int64(f.call.Size())
		delete(l.found, key) // gone by now, or without room: as if the first read had not found it
	}
	if len(q.IDs) == 0 {
		return nil
	}
	q.Fields = append(slices.Clone(q.Fields), calls.RolesField)
	return l.d.o.Loader.Load(ctx, q, l.keep)
}

func (l *loading) refresh(ctx context.Context) error {
	var ids []bson.RawValue
	named := make(map[string]bool, len(l.found))
	for _, f := range l.found {
		id := f.call.Bot
		if key := idKey(id); id.Type != 0 && !named[key] {
			named[key] = true
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	err := l.d.o.Bots.Refresh(ctx, ids)
	if err != nil && !outage.Passing(err) { // a bot that cannot be read is what it was
		l.d.logger.WarnContext(ctx, "bots cannot be read", "error", err)
		return nil
	}
	return err
}

// unload gives back the memory of what was found.
func (l *loading) unload() {
	l.d.bytes.Release(l.held)
	l.held, l.found = 0, nil
}

// decide goes on with what was found, and returns what has to be read again: what
// had no room, and calls of which the bot has changed since.
func (l *loading) decide(ctx context.Context, batch []*item) (rest []*item) {
	d, set := l.d, l.d.o.Bots.Set()
	for _, it := range batch {
		var call *calls.Call
		var bot *bots.Bot
		changed := false
		if f := l.found[it.key]; f != nil {
			call, bot = &f.call, f.bot
			if set != l.set {
				bot = set.Bot(call.Bot)
				changed = bot != f.bot
			}
			it.bytes, it.call = int64(call.Size()), call
		}
		switch {
		case it.intake.over():
			d.release(it)
		case call == nil && l.full:
			rest = append(rest, it)
		case it.rereads < rereads && (call == nil && !it.event.CompletedAt.IsZero() ||
			call != nil && call.CompletedAt.Before(it.event.CompletedAt)):
			pause := rereadPause.Pause(it.rereads)
			it.rereads++
			d.loadLater(it, pause)
		case call == nil:
			d.settle(it, Decision{Action: Skip, Reason: ReasonDeleted}, nil)
		case !l.whole && changed:
			d.unload(it)
			it.reloads++
			rest = append(rest, it)
		default:
			it.bot = bot
			d.decide(it)
		}
	}
	if l.full && len(rest) > 0 {
		// The largest reply has room again when some of the calls are gone.
		_ = backoff.Sleep(ctx, time.Millisecond)
	}
	return rest
}
