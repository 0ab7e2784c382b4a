// Package dispatch is the one place where an event becomes a push: it loads
// the call, decides, waits for the destination's turn, sends, and hands the
// outcome over to be written.
//
// It owns the order of these steps and everything that is shared between
// destinations. It does not render, send or write itself, and it keeps nothing
// that the call document does not also say.
package dispatch

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/semaphore"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/outage"
	"github.com/cxbridge/watcher/pkg/push"
)

// Loader reads calls.
type Loader interface {
	Load(ctx context.Context, ids []bson.RawValue, fields []string, fn func(calls.Call)) error
	Due(ctx context.Context, q calls.DueQuery) ([]calls.DueCall, error)
}

// Recorder writes outcomes. It calls done once the outcome stands on the call,
// or cannot be made to.
type Recorder interface {
	Record(o calls.Outcome, done func())
}

// Bots gives the bots as they are now.
type Bots interface {
	Set() *bots.Set
}

// Sender makes one attempt.
type Sender interface {
	Send(ctx context.Context, r *push.Request) push.Result
}

// Links makes the recording link of a call, with the settings as they are now.
type Links interface {
	Link(call *calls.Call) string
}

// Options are what a Dispatcher is made of.
type Options struct {
	Loader   Loader
	Recorder Recorder
	Bots     Bots
	Sender   Sender
	Links    Links
	Backlog  Backlog // nil: due calls are not counted

	Schedule push.Schedule
	Env      PrepareEnv // the deployment's part of a request
	// Slot places a call among the partitions.
	Slot func(id bson.RawValue) int

	Concurrency            int
	DestinationConcurrency int

	// BotLabel is how many bots have metrics of their own; the others share one
	// label. 0: no metric has a bot.
	BotLabel int

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Dispatcher takes calls by id and sees each of them through one try.
type Dispatcher struct {
	o       Options
	logger  *slog.Logger
	metrics *metrics
	lanes   *lanes
	recent  memory
	skipped skipCounts

	loading *outage.Log
	seeking *outage.Log

	incoming chan *item
	pending  *semaphore.Weighted // items
	bytes    *semaphore.Weighted // of loaded calls

	mu       sync.Mutex
	inFlight map[string]*item
	flow     flow
	intakes  map[*Intake]struct{}
	nextDue  time.Time     // the earliest try that this process scheduled
	dueWake  chan struct{} // has a token when nextDue moved forward
	dueRest  time.Duration // until it looks again for those that could not take all; only the retrier touches it

	work sync.WaitGroup // attempts under way
}

// The limits of what is held in memory at once.
const (
	pendingPerSlot = 16        // events for each slot: small until they are loaded
	minPending     = 1024      // events that may wait with few slots too
	maxBytes       = 256 << 20 // of loaded calls: MongoDB's largest, 16 times
	loadBatch      = 64        // calls in one find
	loaders        = 2
)

// New returns a Dispatcher. It does nothing before Run.
func New(o Options) *Dispatcher {
	limit := int64(max(o.Concurrency*pendingPerSlot, minPending))
	d := &Dispatcher{
		o:        o,
		logger:   o.Logger,
		skipped:  newSkipCounts(),
		loading:  outage.New(o.Logger, "calls cannot be read, trying again", "calls can be read again"),
		seeking:  outage.New(o.Logger, "due calls cannot be read, trying again", "due calls can be read again"),
		metrics:  newMetrics(o.Registerer, o.BotLabel),
		incoming: make(chan *item, loaders*loadBatch), // so that one find can take what came during the last
		pending:  semaphore.NewWeighted(limit),
		bytes:    semaphore.NewWeighted(maxBytes),
		inFlight: make(map[string]*item),
		intakes:  make(map[*Intake]struct{}),
		dueWake:  make(chan struct{}, 1),
	}
	d.o.Env.Render.Missed = d.metrics.missed
	d.lanes = newLanes(o.Concurrency, o.DestinationConcurrency, int(limit/4*3), d.metrics, d.launch)
	o.Registerer.MustRegister(flowCollector{d}, laneCollector{d.lanes})
	return d
}

// Run works until ctx ends and no attempt is under way any more. End the
// intakes first: what they still hold then is let go.
func (d *Dispatcher) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	for range loaders {
		loops.Go(func() { d.loadLoop(ctx) })
	}
	loops.Go(func() { d.dueLoop(ctx) })
	loops.Go(func() { d.watchBacklog(ctx) })
	loops.Wait()
	d.lanes.close()
	d.work.Wait()
	return nil
}

// item is a call on its way through one try.
type item struct {
	intake *Intake
	id     bson.RawValue
	key    string // the id as a map key
	from   source
	end    ending // as it stands when the item is let go
	class  class
	again  Again
	old    bool  // looked up only to be given up, should it be too old
	bytes  int64 // held of the byte limit
	held   int64 // held of the count limit
	done   []func()
	next   *item // the same call once more, for afterwards
}

// delivery is a call that waits for its turn, or is being sent.
type delivery struct {
	*item
	call *calls.Call
	bot  *bots.Bot
	lane *lane
	at   time.Time // when it came to its lane
}

// claim makes an item the only one of its call. When there is one already,
// this one goes after it, together with others that came meanwhile.
func (d *Dispatcher) claim(it *item) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flow.take(it)
	first, busy := d.inFlight[it.key]
	if !busy {
		d.inFlight[it.key] = it
		return true
	}
	last := first
	for ; last.next != nil; last = last.next {
		if n := last.next; n.intake == it.intake {
			n.done = append(n.done, it.done...)
			n.held += it.held
			n.class = min(n.class, it.class)
			n.again = n.again.and(it.again)
			return false
		}
	}
	last.next = it
	return false
}

// finish ends an item: its event is settled.
func (d *Dispatcher) finish(it *item) {
	for _, done := range it.done {
		done()
	}
	d.forget(it)
}

// forget lets go of an item, settled or not; the next one of the same call
// takes its place.
func (d *Dispatcher) forget(it *item) {
	d.mu.Lock()
	d.flow.end(it)
	next := it.next
	if next != nil {
		d.inFlight[it.key] = next
	} else {
		delete(d.inFlight, it.key)
	}
	d.mu.Unlock()
	if it.bytes > 0 {
		d.bytes.Release(it.bytes)
	}
	d.pending.Release(it.held)
	it.intake.release(it.held)
	if next != nil {
		d.work.Go(func() { d.enqueue(next) })
	}
}

// enqueue hands an item to the loaders.
func (d *Dispatcher) enqueue(it *item) {
	select {
	case d.incoming <- it:
	case <-it.intake.stopped:
		d.forget(it)
	}
}

// idKey makes a map key of an id; the type keeps "x" and ObjectId apart.
func idKey(id bson.RawValue) string {
	return string(append([]byte{byte(id.Type)}, id.Value...))
}
