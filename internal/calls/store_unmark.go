package calls

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// unmarkBatch is how many calls one bulk write gives back what stood on them.
const unmarkBatch = 500

// Unmark takes back what MarkDue did for a replay on the calls that were not
// attempted since, and gives each what stood on it before. It returns how many. A
// call that is attempted, stored again or marked by another replay meanwhile is
// left alone. An attempt that a watcher has begun is not stopped.
func (s *Store) Unmark(ctx context.Context, replayID string) (int, error) {
	total := 0
	var models []mongo.WriteModel
	write := func() error {
		if len(models) == 0 {
			return nil
		}
		writing, cancel := context.WithTimeoutCause(ctx, writeTimeout, errWriteTimeout)
		defer cancel()
		result, err := s.coll.BulkWrite(writing, models, options.BulkWrite().SetOrdered(false))
		if result != nil {
			total += int(result.MatchedCount)
		}
		models = models[:0]
		return err
	}
	err := s.Select(ctx, Stored{ReplayID: replayID, Due: true}, func(c Call) error {
		if c.Pushed.Attempts > 0 || c.replaces() == nil || !c.Pushed.CompletedAt.Equal(c.CompletedAt) {
			return nil
		}
		if models = append(models, unmark(&c)); len(models) < unmarkBatch {
			return nil
		}
		return write()
	})
	if err == nil {
		err = write()
	}
	if err != nil {
		return total, fmt.Errorf("take back the marks of a replay: %w", err)
	}
	return total, nil
}

// unmark is the update of a call that still is as it was read.
func unmark(c *Call) mongo.WriteModel {
	before := c.replaces()
	filter := bson.D{
		{Key: "_id", Value: c.ID}, {Key: fieldReplay, Value: c.Pushed.ReplayID},
		{Key: fieldNextAttempt, Value: rawValue(fieldOf(c.value(docPushed).Data, "next_attempt_at"))},
		{Key: fieldResult + ".attempts", Value: bson.D{{Key: "$not", Value: bson.D{{Key: "$gt", Value: 0}}}}},
	}
	update := giveBack(before)
	switch {
	case len(before) == emptyDocument: // nothing stood there
		update = bson.D{{Key: "$unset", Value: bson.D{{Key: fieldResult, Value: ""}}}}
	case before.Lookup("status").Type != 0: // another outcome did
		update = bson.D{{Key: "$set", Value: bson.D{{Key: fieldResult, Value: before}}}}
	}
	return mongo.NewUpdateOneModel().SetFilter(filter).SetUpdate(update)
}

// emptyDocument is how many bytes an empty document has.
const emptyDocument = 5

// giveBack restores the schedule of an outcome that stayed.
func giveBack(before bson.Raw) bson.D {
	set, unset := bson.D{}, bson.D{{Key: fieldReplaces, Value: ""}}
	for _, key := range []string{"attempts", "next_attempt_at", "first_attempt_at", "replay_id"} {
		if v := before.Lookup(key); v.Type != 0 {
			set = append(set, bson.E{Key: fieldResult + "." + key, Value: v})
		} else {
			unset = append(unset, bson.E{Key: fieldResult + "." + key, Value: ""})
		}
	}
	if before.Lookup("next_attempt_at").Type == 0 {
		unset = append(unset, bson.E{Key: fieldSlot, Value: ""})
	}
	return bson.D{{Key: "$set", Value: set}, {Key: "$unset", Value: unset}}
}
