package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/pkg/backoff"
)

const (
	// look is how often the calls under way are read; what people see is at
	// most this late.
	look = 40 * time.Millisecond
	// quiet is how long a call that is not to be pushed is watched before its
	// line says so. The check at the end reads it once more.
	quiet = 600 * time.Millisecond
	// lookAt bounds how many calls one look reads.
	lookAt = 1000
)

// outcome is post_call_push_result, as far as the demo looks at it.
type outcome struct {
	Status        string     `bson:"status"`
	HTTPStatus    *int       `bson:"http_status"`
	Error         *string    `bson:"error"`
	Method        string     `bson:"method"`
	Attempts      int        `bson:"attempts"`
	DurationMS    float64    `bson:"duration_ms"`
	DeliveryID    string     `bson:"delivery_id"`
	CompletedAt   time.Time  `bson:"completed_at"`
	NextAttemptAt *time.Time `bson:"next_attempt_at"`
}

// final reports whether no other attempt is due.
func (o *outcome) final() bool { return o.NextAttemptAt == nil }

// observer watches the calls and prints a line for each as it ends. It decides
// nothing: check does, from the documents alone.
type observer struct {
	calls *mongo.Collection
	crm   *crm
	print *printer
	wait  time.Duration // without anything happening, until it goes home

	mu       sync.Mutex
	pending  []waiting // stored and not ended, oldest first
	left     int       // of all calls, those that have not ended
	happened time.Time // when a call was last stored or ended
}

// waiting is a call whose end is waited for.
type waiting struct {
	call  *call
	since time.Time
}

func newObserver(calls *mongo.Collection, c *crm, p *printer, plan []*call, wait time.Duration) *observer {
	return &observer{calls: calls, crm: c, print: p, wait: wait, left: len(plan), happened: time.Now()}
}

// stored adds a call to those that are watched.
func (a *observer) stored(c *call) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.happened = time.Now()
	a.pending = append(a.pending, waiting{c, a.happened})
}

// watch returns when every call has ended, or when nothing happened for a while.
func (a *observer) watch(ctx context.Context) error {
	for {
		if err := backoff.Sleep(ctx, look); err != nil {
			return err
		}
		if err := a.look(ctx); err != nil {
			return fmt.Errorf("look at the calls under way: %w", err)
		}
		if a.over() {
			return nil
		}
	}
}

// look prints the calls that have ended since the last look.
func (a *observer) look(ctx context.Context) error {
	a.mu.Lock()
	watched := append([]waiting(nil), a.pending[:min(len(a.pending), lookAt)]...)
	a.mu.Unlock()
	if len(watched) == 0 {
		return nil
	}
	found, err := a.outcomes(ctx, watched)
	if err != nil {
		return err
	}
	ended := make(map[*call]bool)
	for _, w := range watched {
		o, ok := found[w.call.id]
		switch {
		case ok && o.final():
			a.print.ended(w.call, o, a.crm.delivery(o.DeliveryID))
		case !ok && w.call.want.status == "" && time.Since(w.since) >= quiet:
			a.print.leftAlone(w.call)
		default:
			continue
		}
		ended[w.call] = true
	}
	a.forget(ended)
	return nil
}

// outcomes reads what stands on the calls, by their id. Calls that were not
// decided yet are not among them.
func (a *observer) outcomes(ctx context.Context, of []waiting) (map[bson.ObjectID]*outcome, error) {
	ids := make(bson.A, len(of))
	for i, w := range of {
		ids[i] = w.call.id
	}
	cursor, err := a.calls.Find(ctx,
		bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}},
		options.Find().SetProjection(bson.D{{Key: "post_call_push_result", Value: 1}}))
	if err != nil {
		return nil, err
	}
	var docs []struct {
		ID      bson.ObjectID `bson:"_id"`
		Outcome *outcome      `bson:"post_call_push_result"`
	}
	if err := cursor.All(ctx, &docs); err != nil {
		return nil, err
	}
	found := make(map[bson.ObjectID]*outcome, len(docs))
	for _, d := range docs {
		if d.Outcome != nil {
			found[d.ID] = d.Outcome
		}
	}
	return found, nil
}

// forget stops watching calls.
func (a *observer) forget(ended map[*call]bool) {
	if len(ended) == 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	kept := a.pending[:0]
	for _, w := range a.pending {
		if !ended[w.call] {
			kept = append(kept, w)
		}
	}
	clear(a.pending[len(kept):])
	a.pending = kept
	a.left -= len(ended)
	a.happened = time.Now()
}

// over reports whether there is nothing left to see.
func (a *observer) over() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.left == 0 || time.Since(a.happened) > a.wait
}
