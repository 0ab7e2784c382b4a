// Package dispatch is the one place where an event becomes a push: it loads
// the call, decides, waits for the destination's turn, sends, and hands the
// outcome over to be written. road.go is the path of one call, top to bottom.
//
// It owns the order of these steps and the decision. It does not render, send or
// write itself, who goes next is package queue's, and it keeps nothing that the
// call document does not also say.
package dispatch

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/semaphore"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/internal/outage"
	"github.com/cxbridge/watcher/internal/queue"
	"github.com/cxbridge/watcher/pkg/push"
)

// Loader reads calls.
type Loader interface {
	Load(ctx context.Context, q calls.Read, fn func(calls.Call) bool) error
}

// Recorder writes outcomes. It calls done once: with true when the outcome stands
// on the call, with false when the call takes nothing of it.
type Recorder interface {
	Record(o calls.Outcome, done func(written bool))
}

// Bots gives the bots.
type Bots interface {
	// Set is all bots as they are known now.
	Set() *bots.Set
	// Refresh makes what Set says of these bots not older than this call of it.
	Refresh(ctx context.Context, ids []bson.RawValue) error
	// Gone reports whether this bot had a document once and has none now.
	Gone(id bson.RawValue) bool
}

// Sender makes one attempt.
type Sender interface {
	Send(ctx context.Context, r *push.Request) push.Result
}

// Links makes the recording link of a call, with the settings as they are now.
type Links interface {
	Link(call *calls.Call) string
}

// Skips keeps why a result is not pushed when nothing on its call says so.
type Skips interface {
	Add(call *calls.Call, reason string)
}

// Options are what a Dispatcher is made of.
type Options struct {
	Loader   Loader
	Recorder Recorder
	Bots     Bots
	Sender   Sender
	Links    Links
	Skips    Skips // nil: not kept

	Schedule push.Schedule
	Env      PrepareEnv // the deployment's part of a request
	// Slot places a call among the partitions.
	Slot func(id bson.RawValue) int

	Concurrency            int // attempts at once
	DestinationConcurrency int // of these, to one destination
	// Connections is how many attempts there may be at once with those to destinations
	// that are not known to answer, which run beside Concurrency. 0 is no limit of its own.
	Connections int
	// Memory is how many bytes of loaded calls and rendered payloads are held at once;
	// 0 is DefaultMemory. Each find needs 16 MiB of it.
	Memory int64

	// TopBots is how many of the worst and how many of the busiest bots and hosts have
	// metrics of their own. 0: no metric has a bot or a host.
	TopBots int

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// The limits of what is held in memory at once. Events are small until their
// calls are loaded; calls and payloads are counted in bytes.
const (
	pendingPerSlot  = 48       // calls for each slot of --concurrency
	minPending      = 2048     // calls that may be pending with few slots too
	replyBytes      = 16 << 20 // MongoDB's largest reply to a find
	loadBatch       = 64       // calls in one find
	loaders         = 2
	renderers       = 4  // payloads rendered at once
	unprovenPart    = 2  // one part in: lanes not known to answer that may send beside the slots
	waitingPart     = 2  // one part in: calls that may wait in the lanes
	waitingBytePart = 75 // percent of Options.Memory that the lanes may hold
)

// DefaultMemory is Options.Memory where nothing is said: eight of the largest calls.
const DefaultMemory = 128 << 20

// Dispatcher takes calls by id and sees each of them through one attempt.
type Dispatcher struct {
	o       Options
	logger  *slog.Logger
	metrics *metrics
	queue   *queue.Queue
	holds   atomic.Pointer[holding]
	recent  memory
	skipped skipCounts
	loading *outage.Log
	apart   *outage.Log // batches that MongoDB refuses to read

	incoming  chan *item
	pending   *semaphore.Weighted // items
	bytes     *semaphore.Weighted // of loaded calls and payloads
	rendering chan struct{}

	mu       sync.Mutex
	inFlight map[string]*item
	flow     flow
	intakes  map[*Intake]struct{}
	refused  refusals
	onDue    func(at time.Time)

	work sync.WaitGroup // attempts under way, and items that wait to be loaded again
}

// New returns a Dispatcher. It does nothing before Run.
func New(o Options) *Dispatcher {
	limit := max(o.Concurrency*pendingPerSlot, minPending)
	o.Memory = cmp.Or(o.Memory, DefaultMemory)
	unproven := limit / unprovenPart
	if o.Connections > 0 {
		unproven = min(unproven, max(o.Connections-o.Concurrency, 1))
	}
	d := &Dispatcher{
		o:         o,
		logger:    o.Logger,
		loading:   outage.New(o.Logger, "calls cannot be read, trying again", "calls can be read again"),
		apart:     outage.New(o.Logger, "MongoDB refuses to read some calls together, reading them apart", "calls can be read together again"),
		metrics:   newMetrics(o.Registerer, o.TopBots),
		incoming:  make(chan *item, loaders*loadBatch), // so that one find can take what came during the last
		pending:   semaphore.NewWeighted(int64(limit)),
		bytes:     semaphore.NewWeighted(o.Memory),
		rendering: make(chan struct{}, renderers),
		inFlight:  make(map[string]*item),
		intakes:   make(map[*Intake]struct{}),
		onDue:     func(time.Time) {},
	}
	d.holds.Store(&holding{set: new(hold.Set)})
	d.queue = queue.New(queue.Options{
		Slots: o.Concurrency, PerLane: o.DestinationConcurrency, Unproven: unproven,
		Room: limit / waitingPart, RoomCost: o.Memory / 100 * waitingBytePart, Registerer: o.Registerer,
	})
	o.Registerer.MustRegister(prometheus.CollectorFunc(d.collectFlow))
	return d
}

// OnDue sets who is told of each time at which a call will be due, and of the
// present when a partition is opened. Set it before Run; f must not block.
func (d *Dispatcher) OnDue(f func(at time.Time)) { d.onDue = f }

// Queue is who goes next.
func (d *Dispatcher) Queue() *queue.Queue { return d.queue }

// Run works until ctx ends and no attempt is under way any more. End the
// intakes first: what they still hold then is let go.
func (d *Dispatcher) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	for range loaders {
		loops.Go(func() { d.loadLoop(ctx) })
	}
	loops.Go(func() { d.queue.Run(ctx) })
	loops.Wait()
	d.work.Wait()
	return nil
}
