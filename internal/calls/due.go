package calls

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

const (
	fieldNextAttempt = fieldResult + ".next_attempt_at"
	fieldSlot        = fieldResult + ".slot"
	fieldFirst       = fieldResult + ".first_attempt_at"
	fieldReplay      = fieldResult + ".replay_id"
	fieldAttempts    = fieldResult + ".attempts"
	fieldHold        = fieldResult + ".hold_id"
	fieldBot         = "bot_id"
	fieldCompleted   = "completed_at"
	// dueIndex serves Due: replays are apart from other attempts, and the bots that
	// are held back are stepped over in the index, so what is read grows with
	// neither. The attempts are in it for CountWaiting, which reads no document.
	dueIndex = "watcher_due"
)

// scanTimeout is for a look at all calls, where there is no index.
const scanTimeout = 10 * time.Minute

// DueCall is a call whose next attempt is due.
type DueCall struct {
	ID  bson.RawValue
	Bot bson.RawValue // bot_id as stored
	At  time.Time     // when it was due
}

// DueQuery says which due calls are looked for.
type DueQuery struct {
	Now    time.Time       // due by then
	Except []bson.RawValue // none of these bots, by bot_id as stored
	Only   []bson.RawValue // these bots alone; empty is all
	Replay bool            // those that a replay made due, instead of all others
	// FromSlot and ToSlot bound the slots, the last left out. Both 0 is all,
	// also calls that have none.
	FromSlot, ToSlot int
	Limit            int
}

func (q *DueQuery) filter() bson.D {
	replay := bson.E{Key: fieldReplay, Value: nil}
	if q.Replay {
		replay.Value = bson.D{{Key: "$gt", Value: ""}}
	}
	f := bson.D{replay}
	if len(q.Only) > 0 {
		f = append(f, bson.E{Key: fieldBot, Value: bson.D{{Key: "$in", Value: q.Only}}})
	} else if len(q.Except) > 0 {
		f = append(f, bson.E{Key: fieldBot, Value: bson.D{{Key: "$nin", Value: q.Except}}})
	}
	f = append(f, bson.E{Key: fieldNextAttempt, Value: bson.D{{Key: "$lte", Value: bson.NewDateTimeFromTime(q.Now)}}})
	if q.ToSlot > 0 {
		f = append(f, bson.E{Key: fieldSlot, Value: bson.D{{Key: "$gte", Value: q.FromSlot}, {Key: "$lt", Value: q.ToSlot}}})
	}
	return f
}

// Due returns calls whose next attempt is due, in no order. Without the index that
// EnsureIndexes creates it reads all calls, and has the time to.
func (s *Store) Due(ctx context.Context, q DueQuery) ([]DueCall, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, scanTimeout, errReadTimeout)
	defer cancel()
	cursor, err := s.coll.Find(ctx, q.filter(), options.Find().
		SetLimit(int64(q.Limit)).
		SetBatchSize(int32(min(q.Limit, 1000))). //nolint:gosec // bounded
		SetProjection(bson.D{{Key: fieldBot, Value: 1}, {Key: fieldNextAttempt, Value: 1}}))
	var due []DueCall
	err = each(ctx, cursor, err, func(raw bson.Raw) error {
		call := Decode(slices.Clone(raw))
		due = append(due, DueCall{ID: call.ID, Bot: call.Bot, At: call.Pushed.NextAttemptAt})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("find due calls: %w", err)
	}
	return due, nil
}

// CountDue returns how many calls are due, but counts no further than q.Limit,
// and since when the oldest of those counted is. It reads only entries of the
// index that EnsureIndexes creates.
func (s *Store) CountDue(ctx context.Context, q DueQuery) (n int, oldest time.Time, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readTimeout, errReadTimeout)
	defer cancel()
	cursor, err := s.coll.Aggregate(ctx, mongo.Pipeline{
		{{Key: "$match", Value: q.filter()}},
		{{Key: "$limit", Value: q.Limit}},
		{{Key: "$group", Value: bson.D{
			{Key: "_id", Value: nil},
			{Key: "n", Value: bson.D{{Key: "$sum", Value: 1}}},
			{Key: "oldest", Value: bson.D{{Key: "$min", Value: "$" + fieldNextAttempt}}},
		}}},
	})
	var found struct {
		N      int       `bson:"n"`
		Oldest time.Time `bson:"oldest"`
	}
	err = each(ctx, cursor, err, func(raw bson.Raw) error { return bson.Unmarshal(raw, &found) })
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("count due calls: %w", err)
	}
	return found.N, found.Oldest, nil // without due calls there is no group
}

// EnsureIndexes creates the index that Due needs. A missing right is an error
// like any other: the watcher works without the index, only slower.
func (s *Store) EnsureIndexes(ctx context.Context) error {
	return s.createIndex(ctx, dueIndex, mongo.IndexModel{
		Keys: bson.D{
			{Key: fieldReplay, Value: 1}, {Key: fieldBot, Value: 1},
			{Key: fieldNextAttempt, Value: 1}, {Key: fieldSlot, Value: 1}, {Key: fieldAttempts, Value: 1},
		},
		Options: options.Index().SetName(dueIndex).SetPartialFilterExpression(
			bson.D{{Key: fieldNextAttempt, Value: bson.D{{Key: "$exists", Value: true}}}}),
	})
}

func (s *Store) createIndex(ctx context.Context, name string, index mongo.IndexModel) error {
	ctx, cancel := context.WithTimeoutCause(ctx, indexTimeout, errIndexTimeout)
	defer cancel()
	if _, err := s.coll.Indexes().CreateOne(ctx, index); err != nil {
		return fmt.Errorf("create index %s: %w", name, err)
	}
	return nil
}
