package apptest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/pkg/backoff"
)

// Ledger follows the calls by a change stream of its own, and so knows at which
// resume token each result was stored.
type Ledger struct {
	p *Platform

	mu     sync.Mutex
	stored map[string]string // text of a call's id to the token of its newest result
	err    error
}

// NewLedger begins to follow, until the end of the test, through whatever
// happens to the database.
func NewLedger(t testing.TB, p *Platform) *Ledger {
	t.Helper()
	l := &Ledger{p: p, stored: make(map[string]string)}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(t.Context()))
	stream, err := p.Calls.Watch(ctx, mongo.Pipeline{})
	if err != nil {
		cancel(nil)
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.follow(ctx, stream)
	}()
	t.Cleanup(func() {
		cancel(errors.New("the test is over"))
		<-done
	})
	return l
}

// follow reads until ctx ends, or the history is gone.
func (l *Ledger) follow(ctx context.Context, stream *mongo.ChangeStream) {
	for {
		for stream.Next(ctx) {
			l.keep(stream.Current)
		}
		token := slices.Clone(stream.ResumeToken())
		_ = stream.Close(context.WithoutCancel(ctx))
		var err error
		reopened := func() bool {
			stream, err = l.p.Calls.Watch(ctx, mongo.Pipeline{}, options.ChangeStream().SetStartAfter(token))
			refused, ok := errors.AsType[mongo.ServerError](err)
			return err == nil || ok && refused.HasErrorCode(historyLost)
		}
		if !Poll(ctx, reopened) {
			return
		}
		if err != nil {
			l.mu.Lock()
			l.err = err
			l.mu.Unlock()
			return
		}
	}
}

const historyLost = 286

func (l *Ledger) keep(event bson.Raw) {
	set := event.Lookup("updateDescription", "updatedFields", "completed_at")
	if set.Type == 0 {
		set = event.Lookup("fullDocument", "completed_at")
	}
	if set.Type == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stored[event.Lookup("documentKey", "_id").String()] = event.Lookup("_id", "_data").StringValue()
}

func (l *Ledger) token(id bson.RawValue) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stored[id.String()], l.err
}

// Check compares the saved position of a name with the calls: no result that is
// not settled may have been stored at or before it. It returns how many results
// are not settled.
func (l *Ledger) Check(ctx context.Context, name string) (unsettled int, err error) {
	// The position first: a call that is settled meanwhile does no harm.
	record, err := l.p.DB.Collection("watcher_resume").FindOne(ctx, bson.D{{Key: "_id", Value: name}}).Raw()
	if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
		return 0, fmt.Errorf("read the position: %w", err)
	}
	saved, _ := record.Lookup("token", "_data").StringValueOK()
	cursor, err := l.p.Calls.Find(ctx, bson.D{
		{Key: "completed_at", Value: bson.D{{Key: "$exists", Value: true}}},
		{Key: "$expr", Value: bson.D{{Key: "$ne", Value: bson.A{"$completed_at", "$post_call_push_result.completed_at"}}}},
	})
	if err != nil {
		return 0, fmt.Errorf("find the calls that are not settled: %w", err)
	}
	var docs []bson.Raw
	if err := cursor.All(ctx, &docs); err != nil {
		return 0, fmt.Errorf("find the calls that are not settled: %w", err)
	}
	for _, doc := range docs {
		id := doc.Lookup("_id")
		var token string
		Poll(ctx, func() bool { token, err = l.token(id); return token != "" || err != nil })
		switch {
		case err != nil:
			return 0, fmt.Errorf("follow the calls: %w", err)
		case token == "":
			return 0, fmt.Errorf("the result of %s did not come through", id)
		case token <= saved:
			return 0, fmt.Errorf("the saved position %s is past the result of %s at %s, which is not settled: %s", saved, id, token, doc)
		}
	}
	return len(docs), nil
}

// Repeated is what a restart repeated: requests that no logged attempt answers for.
type Repeated struct {
	Requests   int // in all
	Deliveries int
	Extra      int // requests beyond the attempts that are logged
}

// Compare holds the requests against the calls: every call with a result has a
// delivery, and all requests of a delivery have the same bytes.
func Compare(ctx context.Context, p *Platform, requests []Request) (Repeated, error) {
	first := make(map[string]*Request)
	count := make(map[string]int)
	for i := range requests {
		r := &requests[i]
		count[r.Delivery]++
		f := first[r.Delivery]
		if f == nil {
			first[r.Delivery] = r
			continue
		}
		if r.Method != f.Method || r.Path != f.Path || r.Query != f.Query || string(r.Body) != string(f.Body) {
			return Repeated{}, fmt.Errorf("delivery %s came with other bytes:\n%s\n%s", r.Delivery, f.Body, r.Body)
		}
	}
	cursor, err := p.Calls.Find(ctx, bson.D{{Key: "post_call_push_result.delivery_id", Value: bson.D{{Key: "$exists", Value: true}}}})
	if err != nil {
		return Repeated{}, fmt.Errorf("read the outcomes: %w", err)
	}
	logged := make(map[string]int)
	for cursor.Next(ctx) {
		result := cursor.Current.Lookup("post_call_push_result").Document()
		id, attempts := result.Lookup("delivery_id").StringValue(), int(result.Lookup("attempts").AsInt64())
		if attempts > count[id] {
			return Repeated{}, fmt.Errorf("delivery %s has %d attempts logged and came %d times", id, attempts, count[id])
		}
		logged[id] = attempts
	}
	if err := cursor.Err(); err != nil {
		return Repeated{}, fmt.Errorf("read the outcomes: %w", err)
	}
	r := Repeated{Requests: len(requests), Deliveries: len(count)}
	for id, n := range count {
		r.Extra += n - logged[id]
	}
	return r, nil
}

// Feed stores the results of calls of some bots in turn, one after the other,
// until stop ends. It goes on through whatever happens to the database, and
// returns how many it stored.
func (p *Platform) Feed(stop context.Context, pause time.Duration, bots ...string) (int, error) {
	n := 0
	for ; backoff.Sleep(stop, pause) == nil; n++ {
		session := fmt.Sprintf("fed-%05d", n)
		if err := p.insist(func() error {
			_, err := p.StoreResults(session,
				bson.E{Key: "bot_id", Value: bots[n%len(bots)]},
				bson.E{Key: "connected_event", Value: bson.D{{Key: "name", Value: "Asha " + session}}},
				bson.E{Key: "call_start_time", Value: time.Now().Add(-CallStart)})
			return err
		}); err != nil {
			return n, fmt.Errorf("store %s: %w", session, err)
		}
	}
	return n, nil
}

// insist repeats what MongoDB is away for, for as long as the test may run.
func (p *Platform) insist(do func() error) error {
	for {
		err := do()
		if err == nil || p.t.Context().Err() != nil {
			return err
		}
	}
}

// NotLogged returns an error when the outcome of a request's delivery stands on
// its call already, with no other attempt scheduled: then it must not come again.
func (p *Platform) NotLogged(r Request) error {
	var n int64
	err := p.insist(func() (err error) {
		n, err = p.Calls.CountDocuments(p.t.Context(), bson.D{
			{Key: "post_call_push_result.delivery_id", Value: r.Delivery},
			{Key: "post_call_push_result.next_attempt_at", Value: bson.D{{Key: "$exists", Value: false}}},
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("look up delivery %s: %w", r.Delivery, err)
	}
	if n > 0 {
		return fmt.Errorf("delivery %s came for the %d. time, after its outcome was logged", r.Delivery, r.Number)
	}
	return nil
}
