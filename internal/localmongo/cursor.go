package localmongo

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

const (
	// firstBatch is how many documents come first when the client names no number.
	firstBatch = 101
	// batchBytes bounds the documents of one answer; one document alone may be larger.
	batchBytes = 16 << 20
	// cursorTimeout is how long a cursor lives unused, as on a MongoDB server.
	cursorTimeout = 10 * time.Minute
	// awaitDefault is how long a getMore on a change stream waits when the client does
	// not say.
	awaitDefault = time.Second
)

// cursor is an open result: documents still to be handed out, or a change stream.
type cursor struct {
	id   int64
	ns   string
	docs []bson.Raw
	// stream is set for a change stream, and docs is not.
	stream *changeStream

	busy   sync.Mutex // held by the getMore that uses the cursor
	killed chan struct{}
	once   sync.Once
	used   time.Time // guarded by cursors.mu
}

func (c *cursor) kill() { c.once.Do(func() { close(c.killed) }) }

type cursors struct {
	mu   sync.Mutex
	byID map[int64]*cursor
}

func newCursors() *cursors { return &cursors{byID: map[int64]*cursor{}} }

// add gives a cursor its id and registers it. Cursors that nobody has used for long are
// dropped on the way.
func (cs *cursors) add(c *cursor) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	now := time.Now()
	for id, old := range cs.byID {
		if old.stream == nil && now.Sub(old.used) > cursorTimeout {
			old.kill()
			delete(cs.byID, id)
		}
	}
	c.killed = make(chan struct{})
	c.used = now
	for c.id == 0 || cs.byID[c.id] != nil {
		c.id = rand.Int64()
	}
	cs.byID[c.id] = c
}

func (cs *cursors) get(id int64) *cursor {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c := cs.byID[id]
	if c != nil {
		c.used = time.Now()
	}
	return c
}

func (cs *cursors) remove(id int64) bool {
	cs.mu.Lock()
	c, ok := cs.byID[id]
	delete(cs.byID, id)
	cs.mu.Unlock()
	if ok {
		c.kill()
	}
	return ok
}

func (cs *cursors) killAll(ns string) int {
	cs.mu.Lock()
	var hit []int64
	for id, c := range cs.byID {
		if ns == "" || c.ns == ns {
			hit = append(hit, id)
		}
	}
	cs.mu.Unlock()
	for _, id := range hit {
		cs.remove(id)
	}
	return len(hit)
}

func (cs *cursors) len() int {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return len(cs.byID)
}

// cut takes the next batch off a list of documents: at most n, and at most batchBytes.
func cut(docs []bson.Raw, n int64) (batch kit.A, rest []bson.Raw) {
	batch = kit.A{}
	size := 0
	for i, doc := range docs {
		size += len(doc)
		if n >= 0 && int64(i) >= n || i > 0 && size > batchBytes {
			return batch, docs[i:]
		}
		batch = append(batch, doc)
	}
	return batch, nil
}

// openCursor answers a find or an aggregate: the first batch, and a cursor if there is
// more and the client may come back for it.
func (c *call) openCursor(ns string, docs []bson.Raw, batch int64, single bool) kit.D {
	first, rest := cut(docs, batch)
	var id int64
	if len(rest) > 0 && !single {
		cur := &cursor{ns: ns, docs: rest}
		c.cursors.add(cur)
		id = cur.id
	}
	return reply("cursor", reply("firstBatch", first, "id", id, "ns", ns))
}

// listing answers a command that lists something, in one batch. A server puts the fields
// of this cursor in another order than those of a find.
func listing(ns string, docs []bson.Raw) kit.D {
	all := make(kit.A, len(docs))
	for i, doc := range docs {
		all[i] = doc
	}
	return reply("cursor", reply("id", int64(0), "ns", ns, "firstBatch", all))
}

func (c *call) getMore() (kit.D, error) {
	id, _ := c.args.number("getMore")
	coll := c.args.str("collection")
	n := c.args.size("batchSize", 0)
	await := c.args.millis("maxTimeMS", awaitDefault)
	c.args.ignore("term", "lastKnownCommittedOpTime")
	if err := c.args.done(); err != nil {
		return nil, err
	}
	cur := c.cursors.get(id)
	if cur == nil {
		c.stream = true
		return nil, noCursor(id)
	}
	c.stream = cur.stream != nil
	if cur.ns != c.db+"."+coll {
		return nil, mongoerr.New(mongoerr.Unauthorized, "Requested getMore on namespace '%s.%s', but cursor belongs to a different namespace %s", c.db, coll, cur.ns)
	}
	if !cur.busy.TryLock() {
		return nil, mongoerr.New(12051, "cursor id %d is already in use", id)
	}
	defer cur.busy.Unlock()
	if cur.stream != nil {
		return c.moreEvents(cur, n, await)
	}
	if n == 0 {
		n = -1
	}
	batch, rest := cut(cur.docs, n)
	cur.docs = rest
	if len(rest) == 0 {
		c.cursors.remove(id)
		id = 0
	}
	return reply("cursor", reply("nextBatch", batch, "id", id, "ns", cur.ns)), nil
}

func noCursor(id int64) error {
	return mongoerr.New(mongoerr.CursorNotFound, "cursor id %d not found", id)
}

// moreEvents waits for events of a change stream and answers with them.
func (c *call) moreEvents(cur *cursor, n int64, await time.Duration) (kit.D, error) {
	ctx, cancel := context.WithTimeoutCause(c.ctx, await, errAwaited)
	defer cancel()
	b, err := c.nextEvents(ctx, cur, n)
	if err != nil {
		return nil, err
	}
	id := cur.id
	if b.over {
		c.cursors.remove(id)
		id = 0
	}
	return reply("cursor", reply("nextBatch", b.events, "postBatchResumeToken", b.token.Doc(), "id", id, "ns", cur.ns)), nil
}

func (c *call) killCursors() (kit.D, error) {
	killed, missing := kit.A{}, kit.A{}
	for _, v := range value.Elements(c.args.get("cursors").Document()) {
		d, err := value.DecodeValue(v)
		id, ok := d.(int64)
		if err != nil || !ok {
			return nil, mongoerr.New(mongoerr.FailedToParse, "Field 'cursors' contains an element that is not of type long")
		}
		if c.cursors.remove(id) {
			killed = append(killed, id)
		} else {
			missing = append(missing, id)
		}
	}
	return reply("cursorsKilled", killed, "cursorsNotFound", missing, "cursorsAlive", kit.A{}, "cursorsUnknown", kit.A{}), c.args.done()
}
