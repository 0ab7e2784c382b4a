package bots

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/outage"
	"github.com/cxbridge/watcher/pkg/backoff"
	"github.com/cxbridge/watcher/pkg/resume"
	"github.com/cxbridge/watcher/pkg/secret"
	"github.com/cxbridge/watcher/pkg/stream"
)

// CacheOptions are what a Cache is made of.
type CacheOptions struct {
	Collection *mongo.Collection
	Compile    Options
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// AfterAll is called after all bots were read, which leaves garbage; may be nil.
	AfterAll func()
	// Secrets gets the credentials of the bots as they come, and loses them some
	// time after they are gone. Nil keeps none.
	Secrets *secret.Redactor
}

// Cache holds all bots in memory, compiled. It follows them by a change stream of
// its own, which says when to look, and reads those that a caller names by Refresh,
// as a stream may be late. Should the stream fail, all of them are read now and then.
type Cache struct {
	o        CacheOptions
	follower *stream.Follower
	set      atomic.Pointer[Set]
	outage   *outage.Log
	opened   bool         // the stream was open once; only the follower touches it
	freshAt  atomic.Int64 // unix nanoseconds of the last time that all was known
	wake     chan struct{}

	mu      sync.Mutex
	all     bool                    // everything has to be read again
	dirty   map[idKey]bson.RawValue // these have to be read again
	known   *versions
	retired []retired
}

// The times of the cache.
const (
	refreshEvery = 5 * time.Minute  // all bots, in case that the stream is silent
	maxAwait     = 10 * time.Second // of the stream, which nobody waits for
	maxDirty     = 500              // more changed bots at once are read with all others
	// oversizeEvery is how often a bot that is too large to be compiled is read for
	// the sake of a call: each time costs up to 16 MB.
	oversizeEvery = time.Second
)

// pauses is how long the cache waits after a read that failed.
var pauses = backoff.Backoff{First: 200 * time.Millisecond, Most: 15 * time.Second}

// NewCache returns an empty cache; Run fills it.
func NewCache(o CacheOptions) (*Cache, error) {
	c := &Cache{
		o:      o,
		outage: outage.New(o.Logger, "bots cannot be read, trying again", "bots can be read again"),
		all:    true,
		dirty:  make(map[idKey]bson.RawValue),
		known:  newVersions(),
		wake:   make(chan struct{}, 1),
	}
	c.set.Store(NewSet(nil))
	registerCacheMetrics(o.Registerer, c)
	var err error
	c.follower, err = stream.New(stream.Config{
		Namespace:  "watcher",
		Passing:    outage.Passing,
		Name:       "bots",
		Collection: o.Collection,
		MaxAwait:   maxAwait,
		Pipeline: mongo.Pipeline{{{Key: "$project", Value: bson.D{
			{Key: "operationType", Value: 1}, {Key: "documentKey", Value: 1}, {Key: "clusterTime", Value: 1},
		}}}},
		Logger:     o.Logger,
		Registerer: o.Registerer,
	}, (*cacheSink)(c))
	if err != nil {
		return nil, fmt.Errorf("follow the bots: %w", err)
	}
	return c, nil
}

// Set is all bots as they are known now.
func (c *Cache) Set() *Set { return c.set.Load() }

// Gone reports whether a bot of this id, as a call holds it, had a document in the
// last hour and has none now: it may have been deleted, or is being restored.
func (c *Cache) Gone(id bson.RawValue) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(calls.IDForms(id), func(form bson.RawValue) bool { return c.known.wasLost(keyOf(form), time.Now()) })
}

// Ready is nil once all bots were read.
func (c *Cache) Ready() error {
	if c.freshAt.Load() == 0 {
		return errors.New("the bots are not loaded yet")
	}
	return nil
}

// Run keeps the cache fresh until ctx ends.
func (c *Cache) Run(ctx context.Context) error {
	var following sync.WaitGroup
	following.Go(func() { _ = c.follower.Run(ctx) }) // its sink returns no error
	defer following.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		case <-timer.C:
			if failures == 0 {
				c.markAll()
			}
		}
		err := c.readMarked(ctx)
		if err == nil {
			c.outage.Worked(ctx)
			failures = 0
			timer.Reset(refreshEvery)
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		c.outage.Failed(ctx, err)
		timer.Reset(pauses.Pause(failures))
		failures++
	}
}

// readMarked reads what changed, or everything.
func (c *Cache) readMarked(ctx context.Context) error {
	c.mu.Lock()
	all, dirty := c.all, c.dirty
	c.all, c.dirty = false, make(map[idKey]bson.RawValue)
	c.mu.Unlock()
	if !all && len(dirty) == 0 {
		return nil
	}
	var ids []bson.RawValue // nil is all
	if all = all || len(dirty) > maxDirty; !all {
		ids = slices.Collect(maps.Values(dirty))
	}
	err := c.read(ctx, ids)
	if err != nil {
		c.mu.Lock()
		c.all = c.all || all
		maps.Copy(c.dirty, dirty)
		c.mu.Unlock()
		return err
	}
	c.freshAt.Store(time.Now().UnixNano())
	if all && c.o.AfterAll != nil {
		c.o.AfterAll()
	}
	return nil
}

// Refresh reads the bots of these ids, which calls hold as bot_id, from MongoDB and
// puts what changed into the Set. A bot whose document is byte for byte what is
// known is not compiled again. After it returns nil, Set is not older than the call
// of Refresh for these ids. It is one find, and none when no id can be a bot's.
func (c *Cache) Refresh(ctx context.Context, ids []bson.RawValue) error {
	wanted := make([]bson.RawValue, 0, 3*len(ids))
	seen := make(map[idKey]bool, 3*len(ids))
	c.mu.Lock()
	for _, id := range ids {
		for _, form := range calls.IDForms(id) {
			key := keyOf(form)
			if !seen[key] && !c.known.spared(key, time.Now()) {
				wanted = append(wanted, form)
			}
			seen[key] = true
		}
	}
	c.mu.Unlock()
	if len(wanted) == 0 {
		return nil
	}
	return c.read(ctx, wanted)
}

// read reads these bots, or all for nil, and puts what changed into the Set, but
// for what a read that began later has found meanwhile.
func (c *Cache) read(ctx context.Context, ids []bson.RawValue) error {
	c.mu.Lock()
	number := c.known.begin()
	c.mu.Unlock()
	found := make(map[idKey]version)
	options := c.o.Compile.sharing()
	err := eachBot(ctx, c.o.Collection, ids, func(raw bson.Raw) {
		key, hash := keyOf(raw.Lookup("_id")), c.known.hash(raw)
		c.mu.Lock()
		b := c.known.same(key, hash)
		c.mu.Unlock()
		if b == nil {
			b = Compile(raw, options)
		}
		found[key] = version{read: number, at: time.Now(), hash: hash, bot: b}
	})
	c.mu.Lock()
	if err != nil {
		c.known.end(number)
		c.mu.Unlock()
		return err
	}
	changes := c.known.finish(number, ids, found)
	if len(changes) > 0 {
		c.learn(changes) // before anything is logged of a bot
		c.set.Store(c.Set().with(changes))
	}
	c.mu.Unlock()
	c.report(ctx, changes)
	return nil
}

// report logs the bots that cannot push because of their configuration, once
// for each fault.
func (c *Cache) report(ctx context.Context, changes map[idKey]change) {
	for _, ch := range changes {
		b := ch.after
		if b == nil || b.Push == nil || b.Usable() {
			continue
		}
		text := b.FaultText()
		if ch.before != nil && ch.before.FaultText() == text {
			continue
		}
		c.o.Logger.WarnContext(ctx, "bot cannot push", "bot_id", b.ID, "bot_name", b.Name, "faults", text)
	}
}

func (c *Cache) markAll() {
	c.mu.Lock()
	c.all = true
	c.mu.Unlock()
}

func (c *Cache) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// cacheSink is the cache as its follower sees it.
type cacheSink Cache

// Event notes which bot changed; an event without a key concerns all.
func (s *cacheSink) Event(_ context.Context, e stream.Event) error {
	c := (*Cache)(s)
	c.mu.Lock()
	if e.Key.Type == 0 {
		c.all = true
	} else {
		c.dirty[keyOf(e.Key)] = e.Key
	}
	c.mu.Unlock()
	c.poke()
	return nil
}

// Idle is first called when the stream is open: what changed between the first
// read and then was not seen. No position is kept.
func (s *cacheSink) Idle(resume.Position) {
	c := (*Cache)(s)
	if c.opened {
		return
	}
	c.opened = true
	c.markAll()
	c.poke()
}

// Gap reads everything again.
func (s *cacheSink) Gap(context.Context, stream.Gap) error {
	c := (*Cache)(s)
	c.markAll()
	c.poke()
	return nil
}
