package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
)

// maxTalking bounds the calls that go on at the same time, a goroutine each. At
// MaxRate and the longest talk there are 400.
const maxTalking = 512

// platform writes calls as CXB API, the dialler and the agent desk do.
type platform struct {
	calls *mongo.Collection
	rate  float64 // calls begun in a second
}

// play begins the calls one after the other, lets each go its way and returns
// when all are stored. Stored is told of each, from several goroutines.
func (p *platform) play(ctx context.Context, plan []*call, stored func(*call)) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxTalking)
	pace := rate.NewLimiter(rate.Limit(p.rate), 1)
	for _, c := range plan {
		if err := pace.Wait(ctx); err != nil {
			return errors.Join(g.Wait(), context.Cause(ctx))
		}
		g.Go(func() error {
			if err := p.live(ctx, c); err != nil {
				return fmt.Errorf("write %s: %w", c.session, err)
			}
			stored(c)
			return nil
		})
	}
	return g.Wait()
}

// live is the life of one call in the database.
func (p *platform) live(ctx context.Context, c *call) error {
	start := time.Now().Add(-time.Duration(c.duration) * time.Second).UTC()
	begun := append(c.skeleton, bson.D{
		{Key: "created_at", Value: start},
		{Key: "call_start_time", Value: start},
		{Key: "call_answer_time", Value: start.Add(4 * time.Second)},
	}...)
	if c.agent {
		_, err := p.calls.InsertOne(ctx, append(begun, ended(c)...))
		return err
	}
	if _, err := p.calls.InsertOne(ctx, begun); err != nil {
		return err
	}
	if err := pause(ctx, c.talk/2); err != nil {
		return err
	}
	if _, err := p.calls.UpdateOne(ctx, bson.D{{Key: "stream_id", Value: c.stream}}, bson.D{{Key: "$set", Value: c.cdr}}); err != nil {
		return err
	}
	if err := pause(ctx, c.talk/2); err != nil {
		return err
	}
	_, err := p.calls.UpdateOne(ctx,
		bson.D{{Key: "session_id", Value: c.session}},
		bson.D{{Key: "$set", Value: ended(c)}},
		options.UpdateOne().SetUpsert(true))
	return err
}

// ended is what is stored when a call is over: the result and its times.
func ended(c *call) bson.D {
	now := time.Now().UTC()
	return append(c.results,
		bson.E{Key: "call_end_time", Value: now},
		bson.E{Key: "completed_at", Value: now})
}

// pause waits, but not longer than the context.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
