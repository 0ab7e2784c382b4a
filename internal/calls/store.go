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
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"

	"github.com/cxbridge/watcher/internal/outage"
)

// Store reads calls. It is safe for concurrent use.
type Store struct {
	coll *mongo.Collection
}

// NewStore returns the store on a calls collection.
func NewStore(coll *mongo.Collection) *Store { return &Store{coll: coll} }

// The limits of a read. A lost server must not hold a reader for ever; the
// driver retries a read once by itself.
const (
	readTimeout  = 30 * time.Second
	indexTimeout = 10 * time.Minute // building one on millions of calls
)

var errReadTimeout = errors.New("MongoDB did not answer a read in time")

// ErrUnreadable is a read that MongoDB refuses for a reason that does not pass, so
// that the same again is refused again.
var ErrUnreadable = errors.New("MongoDB refuses the read")

// Read says which calls are loaded, and how.
type Read struct {
	IDs    []bson.RawValue
	Fields []string // paths; nil is all
	// After asks for a state that is not older, as a majority of the members has it.
	// Without it the primary is asked for what it has.
	After bson.Timestamp
}

// Load reads many calls with one find and hands each to fn in any order, until
// fn returns false. A call that is gone is not handed over. The error wraps
// ErrUnreadable when trying again is of no use.
func (s *Store) Load(ctx context.Context, q Read, fn func(Call) bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readTimeout, errReadTimeout)
	defer cancel()
	err := s.load(ctx, q, fn)
	switch {
	case err == nil:
		return nil
	case outage.Passing(err):
		return fmt.Errorf("load %d calls: %w", len(q.IDs), err)
	}
	return fmt.Errorf("load %d calls: %w: %w", len(q.IDs), ErrUnreadable, err)
}

func (s *Store) load(ctx context.Context, q Read, fn func(Call) bool) error {
	coll := s.coll
	if !q.After.IsZero() {
		session, err := coll.Database().Client().StartSession(options.Session().SetCausalConsistency(true))
		if err != nil {
			return err
		}
		defer session.EndSession(ctx)
		if err := session.AdvanceOperationTime(&q.After); err != nil {
			return err
		}
		ctx = mongo.NewSessionContext(ctx, session)
		coll = coll.Clone(options.Collection().SetReadConcern(readconcern.Majority()))
	}
	cursor, err := coll.Find(ctx,
		bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: q.IDs}}}},
		options.Find().SetProjection(withTypes(projection(q.Fields))).SetBatchSize(int32(min(len(q.IDs), 1000))), //nolint:gosec // bounded
	)
	if err != nil {
		return err
	}
	defer closeCursor(ctx, cursor)
	for cursor.Next(ctx) {
		// Current is valid until the next call only.
		if !fn(Decode(slices.Clone(cursor.Current))) {
			return nil
		}
	}
	return cursor.Err()
}

func projection(fields []string) bson.D {
	d := make(bson.D, 0, len(fields))
	for _, f := range fields {
		d = append(d, bson.E{Key: f, Value: 1})
	}
	return d
}

// withTypes adds the types of the arrays that an outcome is added to: they may
// be large, and an update has to know which of them is null.
func withTypes(fields bson.D) bson.D {
	if len(fields) == 0 {
		return fields // all is read
	}
	for f, kind := range arrayTypes {
		fields = append(fields, bson.E{Key: docFieldNames[kind], Value: bson.D{{Key: "$type", Value: "$" + docFieldNames[f]}}})
	}
	return fields
}

// closeCursor reaches the server even when ctx has ended, so that no cursor
// stays open there.
func closeCursor(ctx context.Context, cursor *mongo.Cursor) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), 5*time.Second, errReadTimeout)
	defer cancel()
	_ = cursor.Close(ctx)
}

const (
	fieldNextAttempt = fieldResult + ".next_attempt_at"
	fieldSlot        = fieldResult + ".slot"
	fieldFirst       = fieldResult + ".first_attempt_at"
	fieldReplay      = fieldResult + ".replay_id"
	fieldBot         = "bot_id"
	fieldCompleted   = "completed_at"
	// dueIndex serves Due: replays are apart from other tries, and the bots that
	// are held back are stepped over in the index, so what is read grows with
	// neither.
	dueIndex = "watcher_due"
)

// DueCall is a call whose next try is due.
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

// Due returns calls whose next try is due, in no order.
func (s *Store) Due(ctx context.Context, q DueQuery) ([]DueCall, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readTimeout, errReadTimeout)
	defer cancel()
	cursor, err := s.coll.Find(ctx, q.filter(), options.Find().
		SetLimit(int64(q.Limit)).
		SetBatchSize(int32(min(q.Limit, 1000))). //nolint:gosec // bounded
		SetProjection(bson.D{{Key: fieldBot, Value: 1}, {Key: fieldNextAttempt, Value: 1}}))
	if err != nil {
		return nil, fmt.Errorf("find due calls: %w", err)
	}
	defer closeCursor(ctx, cursor)
	var due []DueCall
	for cursor.Next(ctx) {
		call := Decode(slices.Clone(cursor.Current))
		due = append(due, DueCall{ID: call.ID, Bot: call.Bot, At: call.Pushed.NextAttemptAt})
	}
	if err := cursor.Err(); err != nil {
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
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("count due calls: %w", err)
	}
	defer closeCursor(ctx, cursor)
	var found struct {
		N      int       `bson:"n"`
		Oldest time.Time `bson:"oldest"`
	}
	if cursor.Next(ctx) {
		err = cursor.Decode(&found)
	}
	if err = errors.Join(err, cursor.Err()); err != nil {
		return 0, time.Time{}, fmt.Errorf("count due calls: %w", err)
	}
	return found.N, found.Oldest, nil // without due calls there is no group
}

// EnsureIndexes creates the index that Due needs. A missing right is an error
// like any other: the watcher works without the index, only slower.
func (s *Store) EnsureIndexes(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, indexTimeout, errors.New("the index was not built in time"))
	defer cancel()
	_, err := s.coll.Indexes().CreateOne(ctx, mongo.IndexModel{
		Keys: bson.D{
			{Key: fieldReplay, Value: 1}, {Key: fieldBot, Value: 1},
			{Key: fieldNextAttempt, Value: 1}, {Key: fieldSlot, Value: 1},
		},
		Options: options.Index().SetName(dueIndex).SetPartialFilterExpression(
			bson.D{{Key: fieldNextAttempt, Value: bson.D{{Key: "$exists", Value: true}}}}),
	})
	if err != nil {
		return fmt.Errorf("create index %s: %w", dueIndex, err)
	}
	return nil
}
