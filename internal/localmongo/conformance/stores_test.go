package conformance

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"golang.org/x/sync/errgroup"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/pkg/resume"
)

var errTestOver = errors.New("the test is over")

// until polls a condition that another goroutine brings about.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func TestBotsCacheFollows(t *testing.T) {
	onEach(t, func(t *testing.T, db *mongo.Database) {
		coll := db.Collection("bots")
		insert(t, coll, `{"_id": "b1", "name": "one", "post_call_push": {"url": "https://crm.example/a", "key_mapper": {"id": "{{result.call_id}}"}}}`,
			`{"_id": {"$oid": "65f0c0ffee00000000000001"}, "name": "two"}`)
		cache, err := bots.NewCache(bots.CacheOptions{Collection: coll, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancelCause(t.Context())
		var g errgroup.Group
		g.Go(func() error { return cache.Run(ctx) })
		defer func() {
			stop(errTestOver)
			if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, errTestOver) {
				t.Error(err)
			}
		}()
		until(t, "the cache is ready", func() bool { return cache.Ready() == nil })
		if cache.Set().Len() != 2 || cache.Set().Named("65f0c0ffee00000000000001") == nil {
			t.Fatalf("%d bots are known", cache.Set().Len())
		}
		insert(t, coll, `{"_id": "b3", "name": "three"}`)
		until(t, "an inserted bot", func() bool { return cache.Set().Named("b3") != nil })
		if _, err := coll.UpdateByID(t.Context(), "b1", doc(t, `{"$set": {"post_call_push.url": "https://crm.example/b"}}`)); err != nil {
			t.Fatal(err)
		}
		until(t, "an updated bot", func() bool { return cache.Set().Named("b1").Push.URL == "https://crm.example/b" })
		if _, err := coll.ReplaceOne(t.Context(), bson.D{{Key: "_id", Value: "b1"}}, doc(t, `{"name": "bare"}`)); err != nil {
			t.Fatal(err)
		}
		until(t, "a replaced bot", func() bool { return cache.Set().Named("b1").Push == nil })
		if _, err := coll.DeleteOne(t.Context(), bson.D{{Key: "_id", Value: "b3"}}); err != nil {
			t.Fatal(err)
		}
		until(t, "a deleted bot", func() bool { return cache.Set().Named("b3") == nil })
		if err := coll.Drop(t.Context()); err != nil {
			t.Fatal(err)
		}
		until(t, "a dropped collection", func() bool { return cache.Set().Len() == 0 })
	})
}

func TestResumeStore(t *testing.T) {
	onEach(t, func(t *testing.T, db *mongo.Database) {
		store, err := resume.NewStore(db.Collection("resume"), "x")
		if err != nil {
			t.Fatal(err)
		}
		alone := resume.Partition{Index: 0, Of: 1}
		if _, ok, err := store.Record(t.Context(), alone); err != nil || ok {
			t.Fatalf("a record out of nothing: %v", err)
		}
		token := bson.Raw(mustMarshal(t, bson.D{{Key: "_data", Value: "8200000005000000062B0229296E04"}}))
		saved := resume.Position{Token: token, ClusterTime: bson.Timestamp{T: 5, I: 6}, WallTime: noon}
		origin := resume.Origin{ReplicaSet: "rs", Pipeline: "hash"}
		var fenced atomic.Bool
		hold := func(ctx context.Context, lease *resume.Lease) error {
			if err := lease.Save(ctx, saved, origin); err != nil {
				return err
			}
			// An operator's reset wins over the holder.
			if err := store.Reset(ctx, alone, resume.At(noon), resume.Reset{At: noon, By: "test"}); err != nil {
				return err
			}
			err := lease.Save(ctx, saved, origin)
			fenced.Store(errors.Is(err, resume.ErrFenced))
			<-ctx.Done()
			return nil
		}
		ctx, stop := context.WithCancelCause(t.Context())
		group, err := resume.NewGroup(resume.GroupConfig{Store: store, Owner: "me", Lease: 3 * time.Second, Beat: 100 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		var first atomic.Bool
		var g errgroup.Group
		g.Go(func() error {
			return group.Run(ctx, func(ctx context.Context, lease *resume.Lease) error {
				if first.CompareAndSwap(false, true) {
					return hold(ctx, lease)
				}
				if lease.Record().Position.ClusterTime.IsZero() {
					return errors.New("the reset position is not there")
				}
				stop(errTestOver)
				<-ctx.Done()
				return lease.Save(lease.Context(), saved, origin)
			})
		})
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		if !fenced.Load() {
			t.Error("a save after the reset is not refused")
		}
		got, ok, err := store.Record(t.Context(), alone)
		if err != nil || !ok || got.Held() || string(got.Position.Token) != string(token) || got.Position.ClusterTime != saved.ClusterTime || got.ReplicaSet != origin.ReplicaSet || got.Pipeline != origin.Pipeline {
			t.Errorf("the record is %+v, %v", got, err)
		}
		if all, err := store.Records(t.Context()); err != nil || len(all) == 0 {
			t.Errorf("records: %v, %v", all, err)
		}
	})
}

func mustMarshal(t *testing.T, v any) []byte {
	t.Helper()
	b, err := bson.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
