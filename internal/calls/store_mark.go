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

	"github.com/cxbridge/watcher/internal/outage"
)

// Snapshot is what MarkDue has to know of a call as it was read: which result
// it held, and what stood on it of an outcome of that result. It holds nothing else
// of the document, so that many of them can be kept.
type Snapshot struct {
	ID          bson.RawValue
	CompletedAt time.Time // of the present result

	completed bson.RawValue // completed_at as stored
	pushedOf  bson.RawValue // completed_at of the outcome, as stored; nothing without an outcome of this result
	pushedAt  bson.RawValue // pushed_at of that outcome, as stored
}

// SnapshotOf copies what MarkDue has to know of a call.
func SnapshotOf(c *Call) Snapshot {
	s := Snapshot{ID: copied(rawValue(c.value(docID))), CompletedAt: c.CompletedAt, completed: copied(rawValue(c.value(docCompletedAt)))}
	if !c.CompletedAt.IsZero() && c.Pushed.CompletedAt.Equal(c.CompletedAt) {
		outcome := c.value(docPushed).Data
		s.pushedOf = copied(rawValue(fieldOf(outcome, "completed_at")))
		s.pushedAt = copied(rawValue(fieldOf(outcome, "pushed_at")))
	}
	return s
}

// copied is a value that does not hold its document.
func copied(v bson.RawValue) bson.RawValue {
	v.Value = slices.Clone(v.Value)
	return v
}

// Mark makes one call due for an operator.
type Mark struct {
	Snapshot
	ReplayID string
	At       time.Time // when it is due
	Slot     int
}

// replayNote stands as the error of a result that was never pushed, until it is.
const replayNote = "not attempted yet: a replay asked for it"

// MarkDue makes calls due, with one bulk write. It returns how many it marked, and
// how many documents refuse the mark, for example because they are as large as a
// document may be. A call that was stored again or pushed since its snapshot is
// left alone. Marking twice does no harm. After an error, marked is how many are
// known to be marked.
func (s *Store) MarkDue(ctx context.Context, marks []Mark) (marked, refused int, err error) {
	if len(marks) == 0 {
		return 0, 0, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, writeTimeout, errWriteTimeout)
	defer cancel()
	models := make([]mongo.WriteModel, len(marks))
	for i := range marks {
		models[i] = marks[i].model()
	}
	result, err := s.coll.BulkWrite(ctx, models, options.BulkWrite().SetOrdered(false))
	if result != nil {
		marked = int(result.MatchedCount)
	}
	if failed, ok := errors.AsType[mongo.BulkWriteException](err); ok && failed.WriteConcernError == nil && !outage.Passing(err) {
		return marked, len(failed.WriteErrors), nil
	}
	if err != nil {
		return marked, 0, fmt.Errorf("mark %d calls as due: %w", len(marks), err)
	}
	return marked, 0, nil
}

// model is the update of a call on which still stands what the snapshot has.
func (m *Mark) model() mongo.WriteModel {
	filter := bson.D{{Key: "_id", Value: m.ID}, {Key: fieldCompleted, Value: m.completed}}
	if m.pushedOf.IsZero() {
		fresh := Outcome{
			Status: StatusFailed, Error: replayNote, CompletedAt: m.CompletedAt, DeliveryID: DeliveryID(m.ID, m.CompletedAt),
			PushedAt: time.Now(), NextAttemptAt: m.At, Slot: m.Slot, ReplayID: m.ReplayID,
		}
		filter = append(filter, bson.E{Key: fieldResult + ".completed_at", Value: bson.D{
			{Key: "$ne", Value: bson.NewDateTimeFromTime(m.CompletedAt)}, // as a recorder writes it
		}})
		return mongo.NewUpdateOneModel().SetFilter(filter).
			SetUpdate(bson.D{{Key: "$set", Value: bson.D{{Key: fieldResult, Value: fresh.logged()}}}})
	}
	var pushedAt any // null also finds a field that is missing
	if !m.pushedAt.IsZero() {
		pushedAt = m.pushedAt
	}
	filter = append(filter,
		bson.E{Key: fieldResult + ".completed_at", Value: m.pushedOf},
		bson.E{Key: fieldResult + ".pushed_at", Value: pushedAt})
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
