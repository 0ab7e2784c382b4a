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

var (
	errReadTimeout  = errors.New("MongoDB did not answer a read in time")
	errIndexTimeout = errors.New("the index was not built in time")
)

// ErrUnreadable is a read that MongoDB refuses for a reason that does not pass, so
// that the same again is refused again.
var ErrUnreadable = errors.New("MongoDB refuses the read")

// Read says which calls are loaded, and how.
type Read struct {
	IDs    []bson.RawValue
	Fields []string // paths; nil is all
	// After asks for a state that is not older. Zero is what the primary has now.
	After bson.Timestamp
}

// Load reads many calls with one find, as a majority of the members has them, so
// that nothing is read that a failover takes back. It hands each to fn in any order, until
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
	coll := s.coll.Clone(options.Collection().SetReadConcern(readconcern.Majority()))
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

// each hands over the documents that a question brought, each until fn returns, and
// returns the first error; err is that of the question.
func each(ctx context.Context, cursor *mongo.Cursor, err error, fn func(bson.Raw) error) error {
	if err != nil {
		return err
	}
	defer closeCursor(ctx, cursor)
	for cursor.Next(ctx) {
		if err := fn(cursor.Current); err != nil {
			return err
		}
	}
	return cursor.Err()
}

// closeCursor reaches the server even when ctx has ended, so that no cursor
// stays open there.
func closeCursor(ctx context.Context, cursor *mongo.Cursor) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), 5*time.Second, errReadTimeout)
	defer cancel()
	_ = cursor.Close(ctx)
}
