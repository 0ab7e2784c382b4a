package bench

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/time/rate"
)

// minSize is the size of a call whose transcript and latency samples are empty,
// and a little more.
const minSize = 3000

// platform stores bots, calls and results as CXB API does.
type platform struct {
	load *Load
	db   *mongo.Database
	crm  *crm
}

const (
	callsName  = "calls"
	botsName   = "bots"
	storeBatch = 100
	feeders    = 8 // one cannot store 1,000 results a second one by one
)

func (p *platform) calls() *mongo.Collection { return p.db.Collection(callsName) }

// skipped reports whether call n is not pushed. The first call is never skipped.
func (p *platform) skipped(n int) bool {
	return int(float64(n)*p.load.Skipped) < int(float64(n+1)*p.load.Skipped) && n > 0
}

// pushed is how many calls are pushed.
func (p *platform) pushed() int {
	count := 0
	for n := range p.load.Calls {
		if !p.skipped(n) {
			count++
		}
	}
	return count
}

func botID(n int) string { return fmt.Sprintf("bot-%06d", n) }

// template is one key of the mapper of every bot.
type template struct{ key, text string }

// mapper is 25 keys; call_id stands first, where the CRM looks for it.
func mapper() []template {
	keys := []template{
		{"call_id", "{{result.call_id}}"},
		{"customer_id", "{{CUSTOMERID}}"},
		{"customer", "{{crm.CUSTOMERNAME}} ({{crm.segment}})"},
		{"connected", "{{result.disposition}}"},
		{"disposition", "{{analysis.DISPOSITION}}"},
		{"sub_disposition", "{{analysis.SUB_DISPOSITION}}"},
		{"remarks", "{{analysis.CALLING_REMARKS}}"},
		{"started_at", "{{result.call_start_time}}"},
		{"ended_at", "{{result.call_end_time}}"},
		{"seconds", "{{result.call_duration_seconds}}"},
		{"ended_by", "{{result.disconnected_by}}"},
		{"quality", "{{qc.overall_score}}"},
		{"phone", "{{result.caller_id}}"},
		{"source", "voice-bot"},
	}
	for n := len(keys); n < 25; n++ {
		keys = append(keys, template{fmt.Sprintf("field_%d", n), fmt.Sprintf("{{call.column_%d}}", n)})
	}
	return keys
}

// prepare stores the bots, and the calls as they are before they have a result.
func (p *platform) prepare(ctx context.Context) error {
	var keys bson.D
	for _, t := range mapper() {
		keys = append(keys, bson.E{Key: t.key, Value: t.text})
	}
	err := inBatches(0, p.load.Bots, func(from, to int) error {
		var docs []any
		for n := from; n < to; n++ {
			to := p.load.destination(n)
			docs = append(docs, bson.D{
				{Key: "_id", Value: botID(n)}, {Key: "name", Value: fmt.Sprint("Bench ", n)}, {Key: "timezone", Value: "Asia/Kolkata"},
				{Key: "post_call_push", Value: bson.D{
					{Key: "url", Value: p.crm.url(to)}, {Key: "token", Value: fmt.Sprintf("Bearer 4f3c9a71%08d", to)}, {Key: "key_mapper", Value: keys},
				}},
			})
		}
		_, err := p.db.Collection(botsName).InsertMany(ctx, docs)
		return err
	})
	if err != nil {
		return fmt.Errorf("store bots: %w", err)
	}
	err = inBatches(0, p.load.Calls, func(from, to int) error {
		var docs []any
		for n := from; n < to; n++ {
			docs = append(docs, p.call(n))
		}
		_, err := p.calls().InsertMany(ctx, docs)
		return err
	})
	if err != nil {
		return fmt.Errorf("store calls: %w", err)
	}
	return nil
}

// call is a call at its start.
func (p *platform) call(n int) bson.D {
	columns := bson.D{{Key: "CUSTOMERID", Value: fmt.Sprint("C-", n)}}
	for i := range 25 {
		columns = append(columns, bson.E{Key: fmt.Sprintf("column_%d", i), Value: fmt.Sprintf("value %d of %d", i, n)})
	}
	return bson.D{
		{Key: "_id", Value: sessionID(n)}, {Key: "session_id", Value: sessionID(n)}, {Key: "bot_id", Value: botID(n % p.load.Bots)},
		{Key: "caller_id", Value: fmt.Sprintf("+4480%08d", n)}, {Key: "call_direction", Value: "outgoing"},
		{Key: "call_start_time", Value: time.Now().Add(-time.Minute)}, {Key: "skip_post_push", Value: p.skipped(n)},
		{Key: "connected_event", Value: columns},
		{Key: "crm_data", Value: bson.D{{Key: "CUSTOMERNAME", Value: "Kestrel"}, {Key: "segment", Value: "gold"}}},
		{Key: "events", Value: bson.A{bson.D{{Key: "type", Value: "connected"}, {Key: "timestamp", Value: 0.0}}}},
	}
}

// result is what is stored when a call has ended. Transcript and latency samples,
// which no mapper names, bring the call to its size.
func (p *platform) result() bson.D {
	const turns = 40
	text := strings.Repeat("x", max(0, p.load.Size-minSize)/2/turns)
	transcript := make(bson.A, turns)
	for i := range transcript {
		transcript[i] = bson.D{{Key: "role", Value: [...]string{"assistant", "user"}[i%2]}, {Key: "content", Value: text}}
	}
	return bson.D{
		{Key: "status", Value: "completed"}, {Key: "disconnected_by", Value: "customer"}, {Key: "call_duration_seconds", Value: 61},
		{Key: "post_call_analysis", Value: bson.D{
			{Key: "DISPOSITION", Value: "Promise"}, {Key: "SUB_DISPOSITION", Value: "Partial"}, {Key: "CALLING_REMARKS", Value: "pays on Friday"},
		}},
		{Key: "qc_analysis", Value: bson.D{{Key: "overall_score", Value: 87}}},
		{Key: "transcript", Value: transcript},
		{Key: "latency_samples", Value: strings.Repeat("y", len(text)*turns)},
		{Key: "completed_at", Value: time.Now()},
	}
}

// sessionID is the session and the _id of call n.
func sessionID(n int) string { return fmt.Sprintf("%09d", n) }

// store stores the results of these calls in bulk, those before to.
func (p *platform) store(ctx context.Context, from, to int) error {
	err := inBatches(from, to, func(from, to int) error {
		set := bson.D{{Key: "$set", Value: p.result()}}
		var models []mongo.WriteModel
		for n := from; n < to; n++ {
			models = append(models, mongo.NewUpdateOneModel().SetFilter(bson.D{{Key: "_id", Value: sessionID(n)}}).SetUpdate(set))
		}
		_, err := p.calls().BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
		return err
	})
	if err != nil {
		return fmt.Errorf("store results: %w", err)
	}
	return nil
}

// feed stores the results of all calls but the first one by one, at the rate.
func (p *platform) feed(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := rate.NewLimiter(rate.Limit(p.load.Rate), 1)
	due := make(chan int)
	var storing sync.WaitGroup
	for range feeders {
		storing.Go(func() {
			for n := range due {
				if err := p.store(ctx, n, n+1); err != nil {
					cancel(err)
				}
				p.crm.stored(n, time.Now())
			}
		})
	}
	for n := 1; n < p.load.Calls && ctx.Err() == nil; n++ {
		if limit.Wait(ctx) == nil {
			due <- n
		}
	}
	close(due)
	storing.Wait()
	return context.Cause(ctx)
}

// written counts the calls that say that they were pushed.
func (p *platform) written(ctx context.Context) (int, error) {
	n, err := p.calls().CountDocuments(ctx, bson.D{{Key: "post_call_push_result.status", Value: "ok"}})
	if err != nil {
		return 0, fmt.Errorf("count outcomes: %w", err)
	}
	return int(n), nil
}

func inBatches(from, to int, do func(from, to int) error) error {
	for ; from < to; from += storeBatch {
		if err := do(from, min(from+storeBatch, to)); err != nil {
			return err
		}
	}
	return nil
}
