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

// Stored says which stored results are looked for. Empty lists are all.
type Stored struct {
	From, To time.Time       // of completed_at, both included
	Bots     []bson.RawValue // by bot_id as stored
	Sessions []string        // by session_id
	ReplayID string          // only those that this replay made due, "" for all
}

func (q *Stored) filter() bson.D {
	f := bson.D{{Key: fieldCompleted, Value: bson.D{
		{Key: "$gte", Value: bson.NewDateTimeFromTime(q.From)},
		{Key: "$lte", Value: bson.NewDateTimeFromTime(q.To)},
	}}}
	if len(q.Bots) > 0 {
		f = append(f, bson.E{Key: fieldBot, Value: bson.D{{Key: "$in", Value: q.Bots}}})
	}
	if len(q.Sessions) > 0 {
		f = append(f, bson.E{Key: fieldSession, Value: bson.D{{Key: "$in", Value: q.Sessions}}})
	}
	if q.ReplayID != "" {
		f = append(f, bson.E{Key: fieldReplay, Value: q.ReplayID})
	}
	return f
}

const (
	fieldSession = "session_id"
	// selectBatch is how many calls one answer of Select brings: what takes them
	// may be slow, and a cursor that nobody asks for ten minutes is gone.
	selectBatch = 1000
)

// DecisionFields are what Select reads of a call: enough to decide on it and to
// know what became of it, and nothing that can be large.
var DecisionFields = []string{
	"_id", fieldSession, fieldBot, fieldCompleted, "call_type", "skip_post_push",
	fieldResult + ".status", fieldResult + ".delivery_id", fieldResult + ".completed_at", fieldResult + ".pushed_at",
	fieldResult + ".attempts", fieldNextAttempt, fieldReplay,
}

// Select hands over every call whose stored result is looked for, with its
// DecisionFields, in no order. It stops at the first error of fn and returns
// it. It works without an index on completed_at, by reading the collection.
func (s *Store) Select(ctx context.Context, q Stored, fn func(Call) error) error {
	cursor, err := s.coll.Find(ctx, q.filter(),
		options.Find().SetProjection(projection(DecisionFields)).SetBatchSize(selectBatch))
	if err != nil {
		return fmt.Errorf("find the calls of a time: %w", err)
	}
	defer closeCursor(ctx, cursor)
	for cursor.Next(ctx) {
		if err := fn(Decode(slices.Clone(cursor.Current))); err != nil {
			return err
		}
	}
	if err := cursor.Err(); err != nil {
		return fmt.Errorf("find the calls of a time: %w", err)
	}
	return nil
}

// TimeIndex is the index that Select is quick with, as a shell takes it.
const TimeIndex = "{completed_at: 1}"

// HasTimeIndex reports whether an index begins with completed_at.
func (s *Store) HasTimeIndex(ctx context.Context) (bool, error) {
	return s.hasIndex(ctx, func(keys bson.Raw) bool {
		first, err := keys.IndexErr(0)
		return err == nil && first.Key() == fieldCompleted
	})
}

// HasDueIndex reports whether the index that EnsureIndexes creates is there.
func (s *Store) HasDueIndex(ctx context.Context) (bool, error) {
	return s.hasIndex(ctx, func(keys bson.Raw) bool {
		_, err := keys.LookupErr(fieldNextAttempt)
		return err == nil
	})
}

func (s *Store) hasIndex(ctx context.Context, is func(keys bson.Raw) bool) (bool, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readTimeout, errReadTimeout)
	defer cancel()
	all, err := s.coll.Indexes().ListSpecifications(ctx)
	if err != nil {
		return false, fmt.Errorf("list the indexes of the calls: %w", err)
	}
	return slices.ContainsFunc(all, func(i mongo.IndexSpecification) bool { return is(i.KeysDocument) }), nil
}

// Sighting is a call as it was read: what must still be so when it is marked.
// It holds nothing of the document, so that many of them can be kept.
type Sighting struct {
	ID          bson.RawValue
	CompletedAt time.Time // of the present result
	PushedOf    time.Time // completed_at of the result that was pushed last; zero for none
	PushedAt    time.Time // when that was
}

// Sight takes down what MarkDue has to know of a call.
func Sight(c *Call) Sighting {
	s := Sighting{ID: c.ID, CompletedAt: c.CompletedAt, PushedOf: c.Pushed.CompletedAt, PushedAt: c.Pushed.PushedAt}
	s.ID.Value = slices.Clone(c.ID.Value) // else it holds the document
	return s
}

// Mark makes one call due for an operator.
type Mark struct {
	Sighting
	ReplayID string
	At       time.Time // when it is due
	Slot     int
}

// replayNote stands as the error of a result that was never pushed, until it is.
const replayNote = "not tried yet: a replay asked for it"

// MarkDue makes calls due, with one bulk write, and returns how many it marked.
// A call that was stored again or pushed since it was read is left alone. Marking
// twice does no harm.
func (s *Store) MarkDue(ctx context.Context, marks []Mark) (int, error) {
	if len(marks) == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, writeTimeout, errWriteTimeout)
	defer cancel()
	models := make([]mongo.WriteModel, len(marks))
	for i := range marks {
		models[i] = marks[i].model()
	}
	result, err := s.coll.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
	if err != nil {
		return 0, fmt.Errorf("mark %d calls as due: %w", len(marks), err)
	}
	return int(result.MatchedCount), nil
}

func (m *Mark) model() mongo.WriteModel {
	completed := bson.NewDateTimeFromTime(m.CompletedAt)
	filter := bson.D{{Key: "_id", Value: m.ID}, {Key: fieldCompleted, Value: completed}}
	if m.PushedOf.Equal(m.CompletedAt) {
		var pushed any // null also finds a field that is missing
		if !m.PushedAt.IsZero() {
			pushed = bson.NewDateTimeFromTime(m.PushedAt)
		}
		filter = append(filter,
			bson.E{Key: fieldResult + ".completed_at", Value: completed},
			bson.E{Key: fieldResult + ".pushed_at", Value: pushed})
		return mongo.NewUpdateOneModel().SetFilter(filter).SetUpdate(bson.D{
			{Key: "$set", Value: bson.D{
				{Key: fieldNextAttempt, Value: bson.NewDateTimeFromTime(m.At)},
				{Key: fieldSlot, Value: int32(m.Slot)}, //nolint:gosec // less than 4096
				{Key: fieldReplay, Value: m.ReplayID},
				{Key: fieldResult + ".attempts", Value: int32(0)},
			}},
			{Key: "$unset", Value: bson.D{{Key: fieldFirst, Value: ""}}}, // its age begins anew
		})
	}
	fresh := Outcome{
		Transition: ToDeferred, Attempt: Attempt{Status: StatusFailed, Error: replayNote, At: time.Now()},
		CompletedAt: m.CompletedAt, DeliveryID: DeliveryID(m.ID, m.CompletedAt),
		NextAttemptAt: m.At, Slot: m.Slot, ReplayID: m.ReplayID,
	}
	filter = append(filter, bson.E{Key: fieldResult + ".completed_at", Value: bson.D{{Key: "$ne", Value: completed}}})
	return mongo.NewUpdateOneModel().SetFilter(filter).
		SetUpdate(bson.D{{Key: "$set", Value: bson.D{{Key: fieldResult, Value: fresh.logged()}}}})
}
