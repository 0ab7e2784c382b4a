package calls_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
)

// TestCountDue counts a few due calls among many that are not, and reads no
// more than it may.
func TestCountDue(t *testing.T) {
	server := localmongotest.Start(t, localmongo.Options{})
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	coll := client.Database("cxbridge").Collection("calls")
	store := calls.NewStore(coll)
	if err := store.EnsureIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := time.Now().Truncate(time.Millisecond)
	var docs []any
	add := func(n int, at time.Duration, more ...bson.E) {
		for range n {
			result := bson.D{{Key: "status", Value: "failed"}, {Key: "slot", Value: int32(len(docs) % 10)}}
			if at != 0 {
				result = append(result, bson.E{Key: "next_attempt_at", Value: now.Add(at)})
			}
			docs = append(docs, bson.D{
				{Key: "session_id", Value: fmt.Sprint("s-", len(docs))}, {Key: "bot_id", Value: fmt.Sprint("bot-", len(docs)%3)},
				{Key: "post_call_push_result", Value: append(result, more...)},
			})
		}
	}
	add(2000, 0) // pushed
	add(20, time.Hour)
	add(30, -time.Minute)
	add(1, -time.Hour)
	add(7, -2*time.Hour, bson.E{Key: "replay_id", Value: "r-1"})
	if _, err := coll.InsertMany(t.Context(), docs); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		query  calls.DueQuery
		n      int
		oldest time.Duration // before now; 0 for none
		most   int64         // documents or entries that may be read
	}{
		{"tries", calls.DueQuery{Limit: 100}, 31, time.Hour, 100},
		{"replays", calls.DueQuery{Limit: 100, Replay: true}, 7, 2 * time.Hour, 100},
		{"no further than the limit", calls.DueQuery{Limit: 10}, 10, -1, 30},
		{"a part of the slots", calls.DueQuery{Limit: 100, FromSlot: 0, ToSlot: 5}, -1, -1, 100},
		{"nothing", calls.DueQuery{Limit: 100, FromSlot: 50, ToSlot: 60}, 0, 0, 100},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.query.Now = now
			before := server.Examined()
			n, oldest, err := store.CountDue(t.Context(), tt.query)
			if err != nil {
				t.Fatal(err)
			}
			if read := server.Examined() - before; read > tt.most {
				t.Errorf("%d entries were read, more than %d", read, tt.most)
			}
			if tt.n >= 0 && n != tt.n || tt.n < 0 && (n == 0 || n >= 31) {
				t.Errorf("%d are due, want %d", n, tt.n)
			}
			switch {
			case tt.oldest > 0 && !oldest.Equal(now.Add(-tt.oldest)):
				t.Errorf("the oldest is from %v, want %v ago", oldest, tt.oldest)
			case tt.oldest == 0 && !oldest.IsZero():
				t.Errorf("the oldest is from %v though nothing is due", oldest)
			}
		})
	}
}
