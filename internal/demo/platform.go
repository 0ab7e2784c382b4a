package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/cxbridge/watcher/internal/demo/world"
	"github.com/cxbridge/watcher/pkg/backoff"
)

// maxTalking bounds the calls that go on at the same time, a goroutine each. At
// MaxRate and the longest talk there are 400.
const maxTalking = 512

// play begins the calls one after the other, lets each go its way and returns
// when all are stored. Stored is told of each, from several goroutines.
func play(ctx context.Context, p *world.Platform, perSecond float64, plan []*call, stored func(*call)) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxTalking)
	pace := rate.NewLimiter(rate.Limit(perSecond), 1)
	for _, c := range plan {
		if err := pace.Wait(ctx); err != nil {
			return errors.Join(g.Wait(), context.Cause(ctx))
		}
		g.Go(func() error {
			if err := live(ctx, p, c); err != nil {
				return fmt.Errorf("write %s: %w", c.session, err)
			}
			stored(c)
			return nil
		})
	}
	return g.Wait()
}

// live is the life of one call in the database.
func live(ctx context.Context, p *world.Platform, c *call) error {
	start := time.Now().Add(-time.Duration(c.duration) * time.Second).UTC()
	begun := append(c.skeleton, bson.D{
		{Key: "created_at", Value: start},
		{Key: "call_start_time", Value: start},
		{Key: "call_answer_time", Value: start.Add(4 * time.Second)},
	}...)
	if c.agent {
		return p.Begin(ctx, append(begun, ended(c)...))
	}
	if err := p.Begin(ctx, begun); err != nil {
		return err
	}
	if err := backoff.Sleep(ctx, c.talk/2); err != nil {
		return err
	}
	if err := p.Cdr(ctx, c.stream, c.cdr); err != nil {
		return err
	}
	if err := backoff.Sleep(ctx, c.talk/2); err != nil {
		return err
	}
	return p.StoreResults(ctx, c.session, ended(c))
}

// ended is what is stored when a call is over: the result and its times.
func ended(c *call) bson.D {
	now := time.Now().UTC()
	return append(c.results,
		bson.E{Key: "call_end_time", Value: now},
		bson.E{Key: "completed_at", Value: now})
}
