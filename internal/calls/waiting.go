package calls

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Waiting is the calls of one bot that a next attempt is scheduled for.
type Waiting struct {
	Bot     bson.RawValue `bson:"_id"` // bot_id as stored
	Calls   int           `bson:"calls"`
	Due     int           `bson:"due"`     // of them, those whose time has come
	Failing int           `bson:"failing"` // of them, those of which an attempt has failed
	Replay  int           `bson:"replay"`  // of them, those that a replay made due
	First   time.Time     `bson:"first"`   // when the first is due, or was
}

// ErrNoDueIndex says that the index which EnsureIndexes creates is not there.
var ErrNoDueIndex = errors.New("the index " + dueIndex + " is not there")

// waitingTimeout is for a look that is repeated every few seconds.
const waitingTimeout = 10 * time.Second

// CountWaiting counts the calls with a next attempt by bot_id as stored, in no order. It
// reads entries of the index that EnsureIndexes creates alone, and no more than most:
// then those of the bots that come last in its order are not counted. Without
// the index it reads nothing and the error is ErrNoDueIndex.
func (s *Store) CountWaiting(ctx context.Context, now time.Time, most int) ([]Waiting, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, waitingTimeout, errReadTimeout)
	defer cancel()
	count := func(op, field string, than any) bson.D {
		return bson.D{{Key: "$sum", Value: bson.D{{Key: "$cond", Value: bson.A{bson.D{{Key: op, Value: bson.A{"$" + field, than}}}, 1, 0}}}}}
	}
	cursor, err := s.coll.Aggregate(ctx, mongo.Pipeline{
		{{Key: "$match", Value: bson.D{{Key: fieldNextAttempt, Value: bson.D{{Key: "$gt", Value: time.UnixMilli(0)}}}}}},
		{{Key: "$limit", Value: most}},
		{{Key: "$group", Value: bson.D{
			{Key: "_id", Value: "$" + fieldBot},
			{Key: "calls", Value: bson.D{{Key: "$sum", Value: 1}}},
			{Key: "due", Value: count("$lte", fieldNextAttempt, now)},
			{Key: "failing", Value: count("$gt", fieldAttempts, 0)},
			{Key: "replay", Value: count("$gt", fieldReplay, "")},
			{Key: "first", Value: bson.D{{Key: "$min", Value: "$" + fieldNextAttempt}}},
		}}},
	}, options.Aggregate().SetHint(dueIndex))
	var all []Waiting
	err = each(ctx, cursor, err, func(raw bson.Raw) error {
		var w Waiting
		err := bson.Unmarshal(slices.Clone(raw), &w)
		all = append(all, w)
		return err
	})
	if err == nil {
		return all, nil
	}
	// The server refuses a hint to an index that is not there, or is there under another
	// name, or was not there a moment ago.
	const badValue = 2
	if failed := mongo.ServerError(nil); errors.As(err, &failed) && failed.HasErrorCode(badValue) {
		return nil, ErrNoDueIndex
	}
	if has, listErr := s.HasDueIndex(ctx); listErr == nil && !has {
		return nil, ErrNoDueIndex
	}
	return nil, fmt.Errorf("count the calls with a next attempt: %w", err)
}

// LastAttempt is what the outcome of a call says of its last attempt.
type LastAttempt struct {
	Status     Status    `bson:"status"`
	HTTPStatus int       `bson:"http_status"` // 0 without an answer
	Error      string    `bson:"error"`
	Attempts   int       `bson:"attempts"`
	At         time.Time `bson:"pushed_at"`
}

// Sample is the last attempt of one call of a bot that waits for a next one, the one
// that waits longest from now on. It is the zero value when none waits or none was
// attempted, and when what stands on the call cannot be read.
func (s *Store) Sample(ctx context.Context, bot bson.RawValue) (LastAttempt, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, waitingTimeout, errReadTimeout)
	defer cancel()
	fields := bson.D{{Key: docFieldNames[docID], Value: 0}}
	for _, name := range []string{"status", "http_status", "error", "attempts", "pushed_at"} {
		fields = append(fields, bson.E{Key: fieldResult + "." + name, Value: 1})
	}
	raw, err := s.coll.FindOne(ctx, bson.D{
		{Key: fieldReplay, Value: nil}, {Key: fieldBot, Value: bot},
		{Key: fieldNextAttempt, Value: bson.D{{Key: "$gt", Value: time.UnixMilli(0)}}},
	}, options.FindOne().SetHint(dueIndex).SetSort(bson.D{{Key: fieldNextAttempt, Value: -1}}).SetProjection(fields)).Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return LastAttempt{}, nil
	}
	if err != nil {
		return LastAttempt{}, fmt.Errorf("read a call that waits: %w", err)
	}
	var last LastAttempt
	if raw.Lookup(fieldResult).Unmarshal(&last) != nil || last.Attempts == 0 {
		return LastAttempt{}, nil
	}
	return last, nil
}
