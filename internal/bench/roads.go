package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/render"
)

// maxSenders is how many requests are under way at once, on each road.
const maxSenders = 256

// road makes the road of that name, which begins with the results stored at a time.
func (o *Options) road(name string, m *meter, c *crm, from bson.Timestamp) (Runner, error) {
	if name == Watcher {
		cfg := config.Default()
		cfg.MongoURI, cfg.Database = o.URI, o.database(name)
		cfg.Start = config.Start{At: time.Unix(int64(from.T), 0)}
		cfg.Listen = "127.0.0.1:0"
		cfg.Concurrency, cfg.Partitions = maxSenders, o.Partitions
		cfg.AllowNetworks = []push.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}
		return o.NewWatcher(cfg, m.client)
	}
	opts := config.ClientOptions(o.URI, selectionTimeout)
	m.client(opts)
	client, err := mongo.Connect(opts)
	if err != nil {
		return nil, fmt.Errorf("connect to MongoDB: %w", config.RedactURI(err, o.URI))
	}
	b := byHand{
		client: client, calls: client.Database(o.database(name)).Collection(callsName), from: from, load: o.Load, crm: c,
		http: &http.Client{Transport: &http.Transport{MaxConnsPerHost: maxSenders, MaxIdleConnsPerHost: maxSenders}},
	}
	if name == Naive {
		return (*naive)(&b), nil
	}
	return (*ideal)(&b), nil
}

// byHand is what the two roads have in common that are no watcher.
type byHand struct {
	client *mongo.Client
	calls  *mongo.Collection
	from   bson.Timestamp
	load   Load
	crm    *crm
	http   *http.Client
}

// follow calls do with each event of a stream until ctx ends.
func (b *byHand) follow(ctx context.Context, pipeline mongo.Pipeline, o *options.ChangeStreamOptionsBuilder, do func(event bson.Raw)) error {
	events, err := b.calls.Watch(ctx, pipeline, o.SetStartAtOperationTime(&b.from))
	if err != nil {
		return fmt.Errorf("open the stream: %w", err)
	}
	defer events.Close(context.WithoutCancel(ctx))
	for events.Next(ctx) {
		do(events.Current)
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("read the stream: %w", events.Err())
}

// post sends the payload of a call to the CRM of its bot.
func (b *byHand) post(ctx context.Context, bot string, payload []byte) error {
	var n int
	if _, err := fmt.Sscanf(bot, "bot-%d", &n); err != nil {
		return fmt.Errorf("bot %q: %w", bot, err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, b.crm.url(b.load.destination(n)), bytes.NewReader(payload))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := b.http.Do(r)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return err
}

// outcome is what is written to a call of an attempt; the contract asks for all of it.
func outcome(url string, began time.Time) bson.D {
	now := time.Now()
	attempt := bson.D{
		{Key: "status", Value: "ok"}, {Key: "http_status", Value: 200}, {Key: "response_body", Value: `{"ok":true}`},
		{Key: "error", Value: nil}, {Key: "method", Value: "POST"}, {Key: "url", Value: url}, {Key: "attempts", Value: 1},
		{Key: "duration_ms", Value: now.Sub(began).Milliseconds()}, {Key: "pushed_at", Value: now},
	}
	event := bson.D{{Key: "type", Value: "post_call_push"}, {Key: "timestamp", Value: 61.5}, {Key: "status", Value: "ok"}, {Key: "http_status", Value: 200}}
	return bson.D{
		{Key: "$set", Value: bson.D{{Key: "post_call_push_result", Value: attempt}}},
		{Key: "$push", Value: bson.D{
			{Key: "integration_log", Value: append(bson.D{{Key: "type", Value: "post_call_push"}}, attempt...)},
			{Key: "events", Value: event},
		}},
	}
}

// close ends what a road by hand holds.
func (b *byHand) close(ctx context.Context) {
	b.http.CloseIdleConnections()
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), time.Second, errOver)
	defer cancel()
	_ = b.client.Disconnect(ctx) // nothing is left to do when it fails
}

// naive is the road that somebody writes in an afternoon: the stream looks each
// document up whole, and each call has a goroutine and an update of its own.
type naive byHand

// Run implements Runner.
func (n *naive) Run(ctx context.Context) error {
	b := (*byHand)(n)
	defer b.close(ctx)
	var sending sync.WaitGroup
	defer sending.Wait()
	failed := make(chan error, 1)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	match := mongo.Pipeline{{{Key: "$match", Value: bson.D{{Key: "updateDescription.updatedFields.completed_at", Value: bson.D{{Key: "$exists", Value: true}}}}}}}
	err := b.follow(ctx, match, options.ChangeStream().SetFullDocument(options.UpdateLookup), func(event bson.Raw) {
		var e struct {
			Call bson.M `bson:"fullDocument"`
		}
		if err := bson.Unmarshal(event, &e); err != nil || e.Call["skip_post_push"] == true {
			return
		}
		sending.Go(func() {
			if err := n.deliver(ctx, e.Call); err != nil && ctx.Err() == nil {
				select {
				case failed <- err:
				default:
				}
				cancel(err)
			}
		})
	})
	select {
	case err := <-failed:
		return err
	default:
		return err
	}
}

func (n *naive) deliver(ctx context.Context, call bson.M) error {
	b, began := (*byHand)(n), time.Now()
	bot, _ := call["bot_id"].(string)
	if err := b.post(ctx, bot, naivePayload(call)); err != nil {
		return err
	}
	_, err := b.calls.UpdateOne(ctx, bson.D{{Key: "_id", Value: call["_id"]}}, outcome(b.crm.url(0), began))
	return err
}

var tokenForm = regexp.MustCompile(`\{\{(?:([a-z]+)\.)?(\w+)\}\}`)

// naivePayload puts values into templates as one would by hand.
func naivePayload(call bson.M) []byte {
	objects := map[string]string{"": "connected_event", "call": "connected_event", "crm": "crm_data", "analysis": "post_call_analysis", "qc": "qc_analysis"}
	var out bytes.Buffer
	for i, t := range mapper() {
		text := tokenForm.ReplaceAllStringFunc(t.text, func(token string) string {
			name := tokenForm.FindStringSubmatch(token)
			if name[1] == "result" {
				return fmt.Sprint(call[strings.Replace(name[2], "call_id", "session_id", 1)])
			}
			var value any
			if object, ok := call[objects[name[1]]].(bson.D); ok {
				for _, e := range object {
					if e.Key == name[2] {
						value = e.Value
					}
				}
			}
			return fmt.Sprint(value)
		})
		value, _ := json.Marshal(text) // a string never fails
		fmt.Fprintf(&out, "%c%q:%s", "{,"[min(i, 1)], t.key, value)
	}
	return append(out.Bytes(), '}')
}

// ideal is the same work without any promise: the stream brings ids alone, calls are
// read and outcomes written in batches, by _id, and nothing is rendered.
type ideal byHand

const (
	idealFind = 64
	idealBulk = 256
)

// Run implements Runner.
func (d *ideal) Run(ctx context.Context) error {
	b := (*byHand)(d)
	defer b.close(ctx)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ids, docs, done := make(chan bson.RawValue, 4*idealFind), make(chan bson.Raw, 4*idealFind), make(chan mongo.WriteModel, 4*idealBulk)
	var working sync.WaitGroup
	defer working.Wait()
	failed := make(chan error, 1)
	part := func(run func(context.Context) error) {
		working.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				select {
				case failed <- err:
				default:
				}
				cancel(err)
			}
		})
	}
	part(func(ctx context.Context) error {
		return gather(ctx, ids, idealFind, func(batch []bson.RawValue) error { return d.find(ctx, batch, docs) })
	})
	part(func(ctx context.Context) error {
		return gather(ctx, done, idealBulk, func(batch []mongo.WriteModel) error {
			_, err := b.calls.BulkWrite(ctx, batch, options.BulkWrite().SetOrdered(false))
			return err
		})
	})
	for range maxSenders {
		part(func(ctx context.Context) error { return d.send(ctx, docs, done) })
	}
	err := b.follow(ctx, calls.Pipeline(), options.ChangeStream(), func(event bson.Raw) {
		id := event.Lookup("documentKey", "_id")
		give(ctx, ids, bson.RawValue{Type: id.Type, Value: bytes.Clone(id.Value)})
	})
	select {
	case err := <-failed:
		return err
	default:
		return err
	}
}

// find reads the calls of these ids, of each what the mapper needs.
func (d *ideal) find(ctx context.Context, ids []bson.RawValue, docs chan<- bson.Raw) error {
	var fields []render.Field
	for _, t := range mapper() {
		fields = append(fields, render.Field{Key: t.key, Value: render.Template(t.text)})
	}
	var projection bson.D
	for _, path := range calls.Fields(render.Compile(calls.Namespaces, fields)) {
		projection = append(projection, bson.E{Key: path, Value: 1})
	}
	found, err := d.calls.Find(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}}, options.Find().SetProjection(projection))
	if err != nil {
		return err
	}
	defer found.Close(context.WithoutCancel(ctx))
	for found.Next(ctx) {
		give(ctx, docs, bytes.Clone(found.Current))
	}
	return found.Err()
}

// send sends what comes until ctx ends.
func (d *ideal) send(ctx context.Context, docs <-chan bson.Raw, done chan<- mongo.WriteModel) error {
	rest := `","fields":"` + strings.Repeat("x", 700) + `"}` // as large as what is rendered
	for {
		var doc bson.Raw
		select {
		case doc = <-docs:
		case <-ctx.Done():
			return nil
		}
		if doc.Lookup("skip_post_push").Boolean() {
			continue
		}
		began := time.Now()
		payload := payloadStart + doc.Lookup("session_id").StringValue() + rest
		if err := (*byHand)(d).post(ctx, doc.Lookup("bot_id").StringValue(), []byte(payload)); err != nil {
			return err
		}
		give(ctx, done, mongo.WriteModel(mongo.NewUpdateOneModel().
			SetFilter(bson.D{{Key: "_id", Value: doc.Lookup("_id")}}).SetUpdate(outcome(d.crm.url(0), began))))
	}
}

// give sends a value unless ctx ends before.
func give[T any](ctx context.Context, to chan<- T, value T) {
	select {
	case to <- value:
	case <-ctx.Done():
	}
}

// gather calls do with what has come, at most so many at once, until ctx ends.
func gather[T any](ctx context.Context, from <-chan T, most int, do func([]T) error) error {
	for {
		var batch []T
		select {
		case first := <-from:
			batch = append(batch, first)
		case <-ctx.Done():
			return nil
		}
		for len(batch) < most && len(from) > 0 { // the only one that takes
			batch = append(batch, <-from)
		}
		if err := do(batch); err != nil {
			return err
		}
	}
}
