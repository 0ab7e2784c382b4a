package inspect

import (
	"context"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/internal/plain"
)

// skipLog reads the skip log in its collection.
func (i *Inspector) skipLog() SkipLog {
	if i.o.Skips == nil {
		return nil
	}
	return func(ctx context.Context, deliveries []string) (map[string]string, error) {
		cursor, err := i.o.Skips.Find(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: deliveries}}}},
			options.Find().SetProjection(bson.D{{Key: "reason", Value: 1}}))
		var found []struct {
			ID     string `bson:"_id"`
			Reason string `bson:"reason"`
		}
		if err == nil {
			err = cursor.All(ctx, &found)
		}
		if err != nil {
			return nil, fmt.Errorf("read the skip log: %w", err)
		}
		reasons := make(map[string]string, len(found))
		for _, f := range found {
			reasons[f.ID] = f.Reason
		}
		return reasons, nil
	}
}

// noResult are the reasons of the skip log for what a Selection does not find, as it is
// no stored result, or none any more.
var noResult = []string{dispatch.ReasonAgentCall.String(), dispatch.ReasonNoResult.String(), dispatch.ReasonDeleted.String()}

// noResults hands over what the skip log alone knows. What has no completed_at counts
// by the time at which it was skipped.
func (i *Inspector) noResults(ctx context.Context, q *Query, set *bots.Set, read *int, fn func(*Found) error) error {
	if i.o.Skips == nil || q.ReplayID != "" || q.onlyDue() {
		return nil
	}
	filter := bson.D{{Key: "reason", Value: bson.D{{Key: "$in", Value: noResult}}}}
	if !q.Since.IsZero() {
		filter = append(filter, bson.E{Key: "at", Value: bson.D{{Key: "$gte", Value: q.Since}}})
	}
	if len(q.Sessions) > 0 {
		filter = append(filter, bson.E{Key: "session_id", Value: bson.D{{Key: "$in", Value: q.Sessions}}})
	}
	if ids := botForms(set, q.Bots); len(ids) > 0 {
		filter = append(filter, bson.E{Key: "bot_id", Value: bson.D{{Key: "$in", Value: ids}}})
	}
	cursor, err := i.o.Skips.Find(ctx, filter, options.Find().SetLimit(int64(mostRead-*read+1)))
	if err != nil {
		return fmt.Errorf("read the skip log: %w", err)
	}
	defer cursor.Close(context.WithoutCancel(ctx))
	for cursor.Next(ctx) {
		if *read == mostRead {
			return errListRead
		}
		*read++
		f := skippedEntry(cursor.Current, set)
		if at := f.Call.CompletedAt; at.Before(q.Since) || !q.Until.IsZero() && at.After(q.Until) || !q.matches(&f) {
			continue
		}
		if err := fn(&f); err != nil {
			return err
		}
	}
	return cursor.Err()
}

// skippedEntry is an entry of the skip log as if it were a call.
func skippedEntry(raw bson.Raw, set *bots.Set) Found {
	session, _ := raw.Lookup("session_id").StringValueOK()
	reason, _ := raw.Lookup("reason").StringValueOK()
	bot := copied(raw.Lookup("bot_id"))
	c := &calls.Call{ID: copied(raw.Lookup("call_id")), SessionID: session, Bot: bot, BotID: calls.IDText(bot)}
	for _, key := range []string{"completed_at", "at"} {
		if at, ok := raw.Lookup(key).TimeOK(); ok && c.CompletedAt.IsZero() {
			c.CompletedAt = at.UTC().Truncate(time.Millisecond)
		}
	}
	return Found{Call: c, Bot: set.Bot(bot), State: StateSkipped, Why: plain.Line(reason, mostWhy)}
}

// copied is a value that outlives its document.
func copied(v bson.RawValue) bson.RawValue {
	return bson.RawValue{Type: v.Type, Value: append([]byte(nil), v.Value...)}
}
