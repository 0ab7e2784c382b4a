package bots

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// batchTimeout is for one answer of MongoDB. What is done with its bots does not
// count, so that one that is slow to compile costs no other its read.
const batchTimeout = 30 * time.Second

var errBatchTimeout = errors.New("MongoDB did not return the bots in time")

// botProjection leaves the prompts and models of a bot where they are. A field that is
// misspelt is read to be named.
var botProjection = func() bson.D {
	fields := bson.D{{Key: "name", Value: 1}, {Key: "timezone", Value: 1}, {Key: "auto_dispositions", Value: 1}, {Key: pushKey, Value: 1}}
	for _, pair := range misspeltKeys {
		fields = append(fields, bson.E{Key: pair[0], Value: 1})
	}
	return fields
}()

// ReadAll reads and compiles all bots.
func ReadAll(ctx context.Context, coll *mongo.Collection, o Options) ([]*Bot, error) {
	var found []*Bot
	o = o.sharing()
	err := eachBot(ctx, coll, nil, func(raw bson.Raw) { found = append(found, Compile(raw, o)) })
	if err != nil {
		return nil, err
	}
	return found, nil
}

// ReadSome reads the bots of these ids and compiles them.
func ReadSome(ctx context.Context, coll *mongo.Collection, ids []bson.RawValue, o Options) ([]*Bot, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	var found []*Bot
	o = o.sharing()
	err := eachBot(ctx, coll, ids, func(raw bson.Raw) { found = append(found, Compile(raw, o)) })
	return found, err
}

// ReadDocuments reads what ReadAll reads of the bots of these ids, or of all for nil,
// without compiling it. The document is valid until fn returns.
func ReadDocuments(ctx context.Context, coll *mongo.Collection, ids []bson.RawValue, fn func(bson.Raw)) error {
	return eachBot(ctx, coll, ids, fn)
}

// eachBot reads the bots of these ids, or all for nil. The document is valid until
// fn returns.
func eachBot(ctx context.Context, coll *mongo.Collection, ids []bson.RawValue, fn func(bson.Raw)) error {
	filter := bson.D{}
	if ids != nil {
		filter = bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}}
	}
	var cursor *mongo.Cursor
	err := withinBatchTimeout(ctx, func(ctx context.Context) (err error) {
		cursor, err = coll.Find(ctx, filter, options.Find().SetProjection(botProjection))
		return err
	})
	if err != nil {
		return fmt.Errorf("read the bots: %w", err)
	}
	defer func() {
		_ = withinBatchTimeout(context.WithoutCancel(ctx), cursor.Close)
	}()
	for {
		more := false
		err := withinBatchTimeout(ctx, func(ctx context.Context) error {
			more = cursor.Next(ctx)
			return cursor.Err()
		})
		if err != nil {
			return fmt.Errorf("read the bots: %w", err)
		}
		if !more {
			return nil
		}
		fn(cursor.Current)
	}
}

func withinBatchTimeout(ctx context.Context, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, batchTimeout, errBatchTimeout)
	defer cancel()
	return fn(ctx)
}
