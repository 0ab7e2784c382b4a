package stream

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/pkg/resume"
)

// Source opens cursors on one change stream. Tests script it; FromCollection is
// the real one.
type Source interface {
	// Open opens a cursor without waiting for events. The Batch has none; it
	// has the first token and the server's time if the server sent them.
	Open(ctx context.Context, o Opening) (Cursor, Batch, error)
}

// Cursor is one open server cursor, for one goroutine.
type Cursor interface {
	// Poll asks the server once. A Batch without events and without an error
	// means that there was nothing new for as long as the server waits. A poll
	// that fails may still return events that came before the failure.
	Poll(ctx context.Context) (Batch, error)
	// Close frees the cursor on the server too.
	Close(ctx context.Context) error
}

// Opening says where and how to open. Without After and At it is now.
type Opening struct {
	After     bson.Raw       // right after this token, also that of an invalidate
	At        bson.Timestamp // the first event at or after this time
	BatchSize int32          // events in a batch at most; 0: 10,000
	MaxAwait  time.Duration  // how long the server waits for an event
	Bare      bool           // every event of the collection, its token alone, in the pipeline's stead
	Filtered  bool           // with Config.Filter
}

// Batch is the answer to one poll. All its parts are copies.
type Batch struct {
	Events     []bson.Raw
	Token      bson.Raw       // after the last event: the post-batch token
	ServerTime bson.Timestamp // the server's time of the answer, zero if unknown
	CursorID   int64          // 0: the server closed the cursor
}

// after is the position that the token of the batch says, if it is not before p.
func (b Batch) after(p resume.Position) (resume.Position, bool) {
	idle := positionOf(b.Token)
	return idle, len(b.Token) > 0 && !idle.ClusterTime.IsZero() && !idle.ClusterTime.Before(p.ClusterTime)
}

func (b Batch) size() (bytes int) {
	for _, e := range b.Events {
		bytes += len(e)
	}
	return bytes
}

// manyEvents is the batch to ask for: 3 MB of small events, copied once.
const manyEvents = 10_000

type collectionSource struct {
	coll     *mongo.Collection
	pipeline mongo.Pipeline
	filtered mongo.Pipeline // pipeline with Config.Filter

	mu       sync.Mutex
	unclosed []int64 // cursors that could not be closed while the server was silent
}

// maxUnclosed bounds the cursors that are remembered to be closed later; the server
// ends older ones itself, after ten idle minutes.
const maxUnclosed = 16

// FromCollection is the Source of a collection's events that pass a pipeline.
// The pipeline must keep _id and must let invalidate through. The filter may be nil,
// see Config.
func FromCollection(coll *mongo.Collection, pipeline mongo.Pipeline, filter bson.D) Source {
	if pipeline == nil {
		pipeline = mongo.Pipeline{}
	}
	return &collectionSource{coll: coll, pipeline: pipeline, filtered: withFilter(pipeline, filter)}
}

// withFilter puts a filter behind the stages with which a pipeline begins to drop
// events, so that it is computed for what is left, and before those that change them.
func withFilter(pipeline mongo.Pipeline, filter bson.D) mongo.Pipeline {
	if filter == nil {
		return pipeline
	}
	at := 0
	for at < len(pipeline) && len(pipeline[at]) == 1 && pipeline[at][0].Key == "$match" {
		at++
	}
	return slices.Insert(slices.Clone(pipeline), at, bson.D{{Key: "$match", Value: filter}})
}

func (s *collectionSource) Open(ctx context.Context, o Opening) (Cursor, Batch, error) {
	// A session of our own shows the server's operation time. It must not be
	// causally consistent: that would make the server wait on our behalf.
	session, err := s.coll.Database().Client().StartSession(options.Session().SetCausalConsistency(false))
	if err != nil {
		return nil, Batch{}, err
	}
	pipeline := s.pipeline
	if o.Filtered {
		pipeline = s.filtered
	}
	if o.Bare {
		pipeline = mongo.Pipeline{{{Key: "$project", Value: bson.D{{Key: "_id", Value: 1}}}}}
	}
	opts := options.ChangeStream().SetBatchSize(0).SetMaxAwaitTime(o.MaxAwait)
	switch {
	case len(o.After) > 0:
		opts.SetStartAfter(o.After)
	case !o.At.IsZero():
		opts.SetStartAtOperationTime(&o.At)
	}
	cs, err := s.coll.Watch(mongo.NewSessionContext(ctx, session), pipeline, opts)
	if err != nil {
		session.EndSession(context.WithoutCancel(ctx))
		return nil, Batch{}, err
	}
	size := o.BatchSize
	if size <= 0 {
		size = manyEvents
	}
	cs.SetBatchSize(size)
	s.closeUnclosed(ctx)
	c := &driverCursor{source: s, cs: cs, session: session, id: cs.ID()}
	first := c.batch(nil)
	// The driver answers the first TryNext from the reply of the open, which is
	// empty, without asking the server. A Poll must ask, or a refusal that comes
	// with the first getMore looks like a success.
	c.ahead = cs.TryNext(ctx)
	return c, first, nil
}

type driverCursor struct {
	cs      *mongo.ChangeStream
	source  *collectionSource
	session *mongo.Session
	id      int64
	ahead   bool // the driver's current event was not returned yet
	broken  bool
}

func (c *driverCursor) Poll(ctx context.Context) (Batch, error) {
	var events []bson.Raw
	found := c.ahead || c.cs.TryNext(ctx)
	c.ahead = false
	if !found && c.cs.Err() == nil && c.cs.ID() != 0 && c.cs.ID() != c.id {
		found = c.cs.TryNext(ctx) // the driver resumed, and the first answer came from the open
	}
	if now := c.cs.ID(); now != c.id && now != 0 {
		// The driver's attempt to free the old cursor goes over what just broke.
		_ = c.source.kill(ctx, c.id)
	}
	if found {
		events = make([]bson.Raw, 0, 1+c.cs.RemainingBatchLength())
		events = append(events, resume.CloneToken(c.cs.Current))
		for c.cs.RemainingBatchLength() > 0 && c.cs.TryNext(ctx) {
			events = append(events, resume.CloneToken(c.cs.Current))
		}
	}
	if err := c.cs.Err(); err != nil {
		c.broken = true
		return c.batch(events), err
	}
	c.id = c.cs.ID()
	return c.batch(events), nil
}

func (c *driverCursor) batch(events []bson.Raw) Batch {
	b := Batch{Events: events, Token: resume.CloneToken(c.cs.ResumeToken()), CursorID: c.cs.ID()}
	if t := c.session.OperationTime(); t != nil {
		b.ServerTime = *t
	}
	return b
}

func (c *driverCursor) Close(ctx context.Context) error {
	defer c.session.EndSession(ctx)
	err := c.cs.Close(ctx)
	if !c.broken || c.id == 0 {
		return err
	}
	// A poll that was cut off leaves the cursor on the server, and the driver
	// thinks it is gone. The server's own limit would be ten minutes.
	return errors.Join(err, c.source.kill(ctx, c.id))
}

// kill frees a cursor on the server; one that is not there is no error. If the
// server does not answer, the next open asks once more.
func (s *collectionSource) kill(ctx context.Context, id int64) error {
	err := s.killAll(ctx, []int64{id})
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.unclosed = append(s.unclosed, id)
		s.unclosed = s.unclosed[max(0, len(s.unclosed)-maxUnclosed):]
	}
	return err
}

// closeUnclosed frees what kill could not, once the server answers again.
func (s *collectionSource) closeUnclosed(ctx context.Context) {
	s.mu.Lock()
	ids := s.unclosed
	s.unclosed = nil
	s.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	if err := s.killAll(ctx, ids); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.unclosed = append(ids, s.unclosed...)
	}
}

func (s *collectionSource) killAll(ctx context.Context, ids []int64) error {
	ctx, cancel := context.WithTimeoutCause(ctx, closeLimit, errStopping)
	defer cancel()
	kill := bson.D{{Key: "killCursors", Value: s.coll.Name()}, {Key: "cursors", Value: ids}}
	return s.coll.Database().RunCommand(ctx, kill).Err()
}
