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
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/cxbridge/watcher/internal/outage"
)

// Snapshot is what MarkDue has to know of a call as it was read: which result
// it held, and what stood on it of a push. It holds nothing else of the document,
// so that many of them can be kept.
type Snapshot struct {
	ID          bson.RawValue
	CompletedAt time.Time // of the present result

	unchanged bson.Raw // a filter that finds the call as long as this is so
	pushed    bool     // there is an outcome of the present result
	replaces  bson.Raw // what a mark takes the place of; empty is nothing
}

// mostCompared is how large a value is, in bytes, that a snapshot keeps for comparing.
// A time or a status is far smaller; what is not is not compared.
const mostCompared = 512

// SnapshotOf copies what MarkDue has to know of a call.
func SnapshotOf(c *Call) Snapshot {
	filter := bsoncore.NewDocumentBuilder().AppendValue("_id", c.value(docID))
	compare := func(field string, v value) {
		switch {
		case v.Type == typeMissing:
			filter.AppendNull(field) // also finds a field that is missing
		case len(v.Data) <= mostCompared:
			filter.StartDocument(field).AppendValue("$eq", v).FinishDocument() // a pattern is a value too
		}
	}
	compare(fieldCompleted, c.value(docCompletedAt))
	switch result := c.value(docPushed); result.Type {
	case typeDocument:
		for _, key := range []string{"status", "completed_at", "pushed_at"} {
			compare(fieldResult+"."+key, fieldOf(result.Data, key))
		}
	case typeMissing, bsoncore.TypeNull:
		filter.AppendNull(fieldResult)
	default: // nobody's outcome; a recorder replaces it
		filter.StartDocument(fieldResult+".completed_at").AppendDateTime("$ne", c.CompletedAt.UnixMilli()).FinishDocument()
	}
	s := Snapshot{
		CompletedAt: c.CompletedAt, unchanged: bson.Raw(filter.Build()),
		pushed: !c.CompletedAt.IsZero() && c.Pushed.CompletedAt.Equal(c.CompletedAt),
	}
	s.replaces = c.replaced(s.pushed)
	s.ID = s.unchanged.Lookup("_id")
	return s
}

// replaced is what a mark takes the place of: the schedule of an outcome that
// stays, or else also which outcome it was; nothing is an empty document. What its
// attempts said stands in the call's log. A mark over a mark that was not attempted
// takes the place of the same.
func (c *Call) replaced(stays bool) bson.Raw {
	p := &c.Pushed
	if before := c.replaces(); stays && before != nil && p.Attempts == 0 && len(before) <= mostCompared {
		return slices.Clone(before)
	}
	doc := bsoncore.NewDocumentBuilder()
	at := func(key string, t time.Time) {
		if !t.IsZero() {
			doc.AppendDateTime(key, t.UnixMilli())
		}
	}
	if !stays && p.Status != "" {
		doc.AppendString("status", string(p.Status))
		if p.DeliveryID != "" {
			doc.AppendString("delivery_id", p.DeliveryID)
		}
		at("completed_at", p.CompletedAt)
		at("pushed_at", p.PushedAt)
	}
	if stays || p.Status != "" {
		doc.AppendInt32("attempts", int32(p.Attempts)) //nolint:gosec // bounded by countOf
		at("next_attempt_at", p.NextAttemptAt)
		at("first_attempt_at", p.FirstAttemptAt)
	}
	if stays && p.ReplayID != "" {
		doc.AppendString("replay_id", p.ReplayID)
	}
	return bson.Raw(doc.Build())
}

// replaces is what the mark of a replay on the call took the place of, nil without
// such a mark. It lies in the document.
func (c *Call) replaces() bson.Raw {
	result := c.value(docPushed)
	if result.Type != typeDocument {
		return nil
	}
	if v := fieldOf(result.Data, "replaces"); v.Type == typeDocument {
		return bson.Raw(v.Data)
	}
	return nil
}

// typeMissing is the type of the zero value.
const typeMissing bsoncore.Type = 0

// Mark makes one call due for an operator.
type Mark struct {
	Snapshot
	ReplayID string
	At       time.Time // when it is due
	Slot     int
}

// fieldReplaces is what a mark took the place of, for Unmark. It is gone with the
// first attempt.
const fieldReplaces = fieldResult + ".replaces"

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

// model is the update of a call that is still what its snapshot says.
func (m *Mark) model() mongo.WriteModel {
	update := updateByID().SetFilter(m.unchanged)
	if m.pushed {
		return update.SetUpdate(bson.D{
			{Key: "$set", Value: bson.D{
				{Key: fieldNextAttempt, Value: bson.NewDateTimeFromTime(m.At)},
				{Key: fieldSlot, Value: int32(m.Slot)}, //nolint:gosec // less than 4096
				{Key: fieldReplay, Value: m.ReplayID},
				{Key: fieldReplaces, Value: m.replaces},
				{Key: fieldResult + ".attempts", Value: int32(0)},
			}},
			{Key: "$unset", Value: bson.D{{Key: fieldFirst, Value: ""}, {Key: fieldHold, Value: ""}}}, // its age begins anew
		})
	}
	fresh := Outcome{
		Transition: ToDeferred, Attempt: Attempt{Status: StatusFailed, Error: replayNote, At: time.Now()},
		CompletedAt: m.CompletedAt, DeliveryID: DeliveryID(m.ID, m.CompletedAt),
		NextAttemptAt: m.At, Slot: m.Slot, ReplayID: m.ReplayID,
	}
	result := bsoncore.BuildDocumentElement(nil, fieldResult, fresh.fields(), bsoncore.AppendDocumentElement(nil, "replaces", m.replaces))
	return update.SetUpdate((&change{set: result}).update())
}
