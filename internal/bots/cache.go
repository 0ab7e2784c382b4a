package bots

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/outage"
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
	// Secrets gets the credentials of the bots as they come, and loses them some
	// time after they are gone. Nil keeps none.
	Secrets *secret.Redactor
}

// Cache holds all bots in memory, compiled, and keeps them fresh by a change
// stream of its own. Should the stream fail, it reads all of them now and then.
type Cache struct {
	o        CacheOptions
	follower *stream.Follower
	set      atomic.Pointer[Set]
	outage   *outage.Log
	opened   bool         // the stream was open once; only the follower touches it
	freshAt  atomic.Int64 // unix nanoseconds of the last time that all was known
	retired  []retired    // only Run touches it

	mu    sync.Mutex
	all   bool                     // everything has to be read again
	dirty map[string]bson.RawValue // these have to be read again
	wake  chan struct{}
}

// The times of the cache.
const (
	refreshEvery = 5 * time.Minute // all bots, in case that the stream is silent
	cacheTimeout = 30 * time.Second
	maxCacheWait = 15 * time.Second
	maxDirty     = 500 // more changed bots at once are read with all others
)

var errCacheTimeout = errors.New("MongoDB did not return the bots in time")

// NewCache returns an empty cache; Run fills it.
func NewCache(o CacheOptions) (*Cache, error) {
	c := &Cache{
		o:      o,
		outage: outage.New(o.Logger, "bots cannot be read, trying again", "bots can be read again"),
		all:    true,
		dirty:  make(map[string]bson.RawValue),
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
		err := c.refresh(ctx)
		if err == nil {
			c.outage.Worked(ctx)
			failures = 0
			timer.Reset(refreshEvery)
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		failures++
		wait := min(200*time.Millisecond<<min(failures, 10), maxCacheWait)
		wait = wait/2 + rand.N(wait/2) //nolint:gosec // jitter
		c.outage.Failed(ctx, err)
		timer.Reset(wait)
	}
}

// refresh reads what changed, or everything.
func (c *Cache) refresh(ctx context.Context) error {
	c.mu.Lock()
	all, dirty := c.all, c.dirty
	c.all, c.dirty = false, make(map[string]bson.RawValue)
	c.mu.Unlock()
	if !all && len(dirty) == 0 {
		return nil
	}
	all = all || len(dirty) > maxDirty
	err := c.read(ctx, all, dirty)
	if err != nil {
		c.mu.Lock()
		c.all = c.all || all
		for key, id := range dirty {
			c.dirty[key] = id
		}
		c.mu.Unlock()
	}
	return err
}

func (c *Cache) read(ctx context.Context, all bool, dirty map[string]bson.RawValue) error {
	filter := bson.D{}
	if !all {
		ids := make([]bson.RawValue, 0, len(dirty))
		for _, id := range dirty {
			ids = append(ids, id)
		}
		filter = bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}}
	}
	found, err := ReadAll(ctx, c.o.Collection, filter, c.o.Compile)
	if err != nil {
		return err
	}
	next := NewSet(found)
	if !all {
		gone := make([]string, 0, len(dirty))
		for key := range dirty {
			gone = append(gone, key)
		}
		next = c.Set().with(found, gone)
	}
	c.learn(next) // before anything is said of a bot
	c.report(ctx, found)
	c.set.Store(next)
	c.freshAt.Store(time.Now().UnixNano())
	return nil
}

// report logs the bots that cannot push because of their configuration, once
// for each fault.
func (c *Cache) report(ctx context.Context, found []*Bot) {
	before := c.Set()
	for _, b := range found {
		if b.Push == nil || b.Usable() {
			continue
		}
		text := b.FaultText()
		if old := before.Bot(b.ID); old != nil && old.FaultText() == text {
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
		c.dirty[idText(e.Key)] = e.Key
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

// ReadAll reads and compiles the bots that a filter finds.
func ReadAll(ctx context.Context, coll *mongo.Collection, filter bson.D, o Options) ([]*Bot, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, cacheTimeout, errCacheTimeout)
	defer cancel()
	cursor, err := coll.Find(ctx, filter, options.Find().SetProjection(botProjection))
	if err != nil {
		return nil, fmt.Errorf("read the bots: %w", err)
	}
	defer func() { _ = cursor.Close(context.WithoutCancel(ctx)) }()
	var found []*Bot
	for cursor.Next(ctx) {
		found = append(found, Compile(cursor.Current, o))
	}
	if err := cursor.Err(); err != nil {
		return nil, fmt.Errorf("read the bots: %w", err)
	}
	return found, nil
}

// botProjection leaves the prompts and models of a bot where they are.
var botProjection = bson.D{
	{Key: "name", Value: 1}, {Key: "timezone", Value: 1},
	{Key: "auto_dispositions", Value: 1}, {Key: "post_call_push", Value: 1},
}
