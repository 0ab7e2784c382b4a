// Package retry finds the calls that are due and puts them onto the road again.
//
// It owns the looking: when, for which partitions, and which destinations are
// left out because they take nothing now. What is due stands on the documents of
// the calls, so a restart forgets nothing and nothing waits in memory. It does
// not own the decision on a call, nor when the next attempt is due.
package retry

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/internal/outage"
	"github.com/cxbridge/watcher/internal/queue"
)

// Finder finds due calls.
type Finder interface {
	Due(ctx context.Context, q calls.DueQuery) ([]calls.DueCall, error)
	// CountDue returns how many calls are due, at most the query's limit, and
	// since when the oldest of those is; zero when there is none.
	CountDue(ctx context.Context, q calls.DueQuery) (int, time.Time, error)
}

// Options are what a Retrier is made of.
type Options struct {
	Finder Finder
	Bots   interface{ Set() *bots.Set }
	Road   *dispatch.Dispatcher
	// MaxAge is how long a delivery may take; 0 is no limit.
	MaxAge     time.Duration
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Retrier takes the calls whose next attempt is due.
type Retrier struct {
	o       Options
	metrics *metrics
	outage  *outage.Log

	mu   sync.Mutex
	next []time.Time   // when attempts are due that this process scheduled, the earliest first
	wake chan struct{} // has a token when the earliest is earlier than it was

	// Only Run touches these.
	partitions map[*dispatch.Intake]*partition
	rest       time.Duration // until the next look while a destination has more than it could take
	agedAt     time.Time     // of the last look for calls that are too old
}

// The Retrier asks the database what is due: at the moment of each attempt that this
// process scheduled itself, and as often as this for what others made due.
const (
	pollEvery  = time.Second
	quietEvery = 5 * time.Second // while nothing is due that could not be taken
	// mostNext bounds the attempts whose times are known, the earliest of all. Later ones
	// are found as those of others are.
	mostNext  = 1000
	leastRest = 50 * time.Millisecond // between two looks
	turnRest  = 5 * time.Millisecond  // between two looks that take turns among the bots
	batchSize = 512
	// A look that takes longer than slowLook is followed by a rest of slowFactor
	// times the rest of it.
	slowLook   = 2 * time.Second
	slowFactor = 4
	// ageEvery is how often the calls of destinations that are down are looked
	// through for those that have waited for too long.
	ageEvery = time.Minute
)

// classes are those of due calls.
var classes = [...]queue.Class{queue.Due, queue.Replay}

// partition is what is remembered of one intake between two looks, by class.
type partition struct {
	// served are the bots that stand back while the others have their turn.
	served [len(classes)]map[string]bson.RawValue
	// backlog are the destinations of which more is due than they had room for.
	backlog [len(classes)]map[string]bool
}

// New returns a Retrier and makes the road tell it what becomes due.
func New(o Options) *Retrier {
	r := &Retrier{
		o: o, metrics: newMetrics(o.Registerer),
		outage:     outage.New(o.Logger, "due calls cannot be read, trying again", "due calls can be read again"),
		wake:       make(chan struct{}, 1),
		partitions: make(map[*dispatch.Intake]*partition),
	}
	o.Road.OnDue(r.expect)
	return r
}

// Run takes due calls until ctx ends.
func (r *Retrier) Run(ctx context.Context) error {
	var counting sync.WaitGroup
	counting.Go(func() { r.watchBacklog(ctx) })
	defer counting.Wait()
	timer := time.NewTimer(0) // at once: a restart finds what is overdue
	defer timer.Stop()
	r.agedAt = time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-r.wake:
		}
		now := time.Now()
		seen, err := r.look(ctx, now)
		if err == nil && now.Sub(r.agedAt) >= ageEvery {
			r.agedAt = now
			err = r.submitOld(ctx, now)
		}
		switch {
		case err == nil:
			r.outage.Worked(ctx)
		case ctx.Err() == nil:
			r.metrics.errors.Inc()
			r.outage.Failed(ctx, err)
		}
		// Without an index a look reads all calls: MongoDB has the time for other
		// things in between.
		timer.Reset(max(r.pause(now, seen), slowFactor*(time.Since(now)-slowLook)))
	}
}

// look is one round over all partitions.
type look struct {
	some bool // a call was submitted
	more bool // a batch was full: others may have their turn now
	full bool // the road takes no more
	left bool // something is due, or was not looked for
}

func (r *Retrier) look(ctx context.Context, now time.Time) (look, error) {
	intakes := r.o.Road.Intakes()
	maps.DeleteFunc(r.partitions, func(in *dispatch.Intake, _ *partition) bool { return !slices.Contains(intakes, in) })
	var all look
	for _, in := range intakes {
		if r.partitions[in] == nil {
			r.partitions[in] = new(partition)
		}
		for class := range classes {
			seen, err := r.lookAt(ctx, in, class, now)
			all.some, all.more, all.full, all.left = all.some || seen.some, all.more || seen.more, all.full || seen.full, all.left || seen.left
			if err != nil || all.full {
				return all, err
			}
		}
	}
	return all, nil
}

// lookAt takes one batch of one partition and class. Bots that are held, or whose
// lane is full or blocked, are left out, so that their backlog is neither read nor
// in the way of others. After a batch that was full, those that were in it stand
// back until all others had their turn: a backlog that drains quickly may not hide
// the rest either.
func (r *Retrier) lookAt(ctx context.Context, in *dispatch.Intake, class int, now time.Time) (look, error) {
	p, set := r.partitions[in], r.o.Bots.Set()
	rooms := r.o.Road.Queue().Rooms(classes[class])
	q := query(in, classes[class], now)
	q.Except = set.IDsOf(func(b *bots.Bot) bool { return r.o.Road.Held(b) || noRoom(rooms, b) })
	for _, id := range p.served[class] {
		q.Except = append(q.Except, calls.IDForms(id)...)
	}
	due, err := r.o.Finder.Due(ctx, q)
	if err != nil {
		return look{left: true}, err
	}
	full := len(due) == batchSize
	seen := look{more: full || len(p.served[class]) > 0, left: len(due) > 0 || len(q.Except) > 0}
	if !full || p.served[class] == nil {
		p.served[class] = make(map[string]bson.RawValue)
	}
	backlog := make(map[string]bool)
	for key := range p.backlog[class] {
		if room, known := rooms[key]; known && room.Jobs == 0 && !room.Blocked {
			backlog[key] = true // it is full still
		}
	}
	p.backlog[class] = backlog
	for _, found := range due {
		bot := set.Bot(found.Bot)
		if full {
			p.served[class][string(append([]byte{byte(found.Bot.Type)}, found.Bot.Value...))] = found.Bot
		}
		fits := useRoom(rooms, bot)
		if (!fits || full) && bot != nil && bot.Push != nil {
			backlog[bot.Push.Destination] = true
		}
		if !fits {
			continue
		}
		ok, err := in.SubmitDue(ctx, dispatch.Event{ID: found.ID})
		if !ok {
			seen.full = true
			return seen, stoppedIsFine(err)
		}
		seen.some = true
	}
	return seen, nil
}

// query asks for the due calls of a partition.
func query(in *dispatch.Intake, class queue.Class, now time.Time) calls.DueQuery {
	share := in.Share()
	return calls.DueQuery{Now: now, Replay: class == queue.Replay, Limit: batchSize, FromSlot: share.From, ToSlot: share.To}
}

func stoppedIsFine(err error) error {
	if err == dispatch.ErrStopped { //nolint:errorlint // it is returned as it is
		return nil
	}
	return err
}

// noRoom reports whether the destination of a bot has no room.
func noRoom(rooms map[string]queue.Room, b *bots.Bot) bool {
	if b.Push == nil {
		return false
	}
	room, known := rooms[b.Push.Destination]
	return known && room.Jobs == 0
}

// useRoom counts the room for one call of a bot. What has no room now is not
// even loaded.
func useRoom(rooms map[string]queue.Room, b *bots.Bot) bool {
	if b == nil || b.Push == nil {
		return true // it is settled without a lane
	}
	room, known := rooms[b.Push.Destination]
	if !known {
		room.Jobs = queue.FirstRoom
	}
	if room.Jobs <= 0 {
		return false
	}
	room.Jobs--
	rooms[b.Push.Destination] = room
	return true
}

// submitOld submits the calls of destinations that are down which have been due for
// longer than all attempts of a delivery may take: the decision on them is to
// withdraw them. Nothing else would look at them: a blocked lane takes only a
// probe now and then. Those of destinations that answer, also after a long stop
// of the watcher itself, get their attempt. The time for which an operator held
// their bot does not count.
func (r *Retrier) submitOld(ctx context.Context, now time.Time) error {
	down := r.o.Road.Queue().DownKeys()
	if r.o.MaxAge <= 0 || len(down) == 0 {
		return nil
	}
	set := r.o.Bots.Set()
	only := set.IDsOf(func(b *bots.Bot) bool { return b.Push != nil && down[b.Push.Destination] && !r.o.Road.Held(b) })
	if len(only) == 0 {
		return nil
	}
	for _, in := range r.o.Road.Intakes() {
		for _, class := range classes {
			// What was due this long ago was first attempted even earlier.
			q := query(in, class, now.Add(-r.o.MaxAge))
			q.Only = only
			due, err := r.o.Finder.Due(ctx, q)
			if err != nil {
				return err
			}
			for _, found := range due {
				if paused := r.o.Road.Paused(set.Bot(found.Bot), found.At, now); now.Sub(found.At)-paused <= r.o.MaxAge {
					continue
				}
				if ok, err := in.SubmitDue(ctx, dispatch.Event{ID: found.ID}); !ok {
					return stoppedIsFine(err)
				}
			}
		}
	}
	return nil
}

// expect notes an attempt that this process scheduled.
func (r *Retrier) expect(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i, _ := slices.BinarySearchFunc(r.next, at, time.Time.Compare)
	if i < len(r.next) && r.next[i].Sub(at) < leastRest {
		return // the look for that one finds this one
	}
	r.next = slices.Insert(r.next, i, at)
	r.next = r.next[:min(len(r.next), mostNext)]
	if i == 0 && time.Until(at) < quietEvery {
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

// pause is how long the Retrier may rest. Where a destination could not take all
// that is due, it looks again soon; where nothing can be taken, it does not.
func (r *Retrier) pause(now time.Time, seen look) time.Duration {
	r.rest = min(2*max(r.rest, leastRest), pollEvery)
	if seen.some {
		r.rest = leastRest
	}
	switch {
	case seen.full:
		return pollEvery
	case seen.more:
		return turnRest
	}
	rest := quietEvery
	if seen.left {
		rest = pollEvery
	}
	for _, p := range r.partitions {
		for class := range classes {
			if len(p.backlog[class]) > 0 {
				rest = r.rest
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	over := slices.IndexFunc(r.next, func(at time.Time) bool { return at.After(now) })
	if over < 0 {
		over = len(r.next)
	}
	r.next = slices.Delete(r.next, 0, over)
	if len(r.next) > 0 {
		rest = min(rest, r.next[0].Sub(now))
	}
	return max(rest, leastRest)
}
