package localmongo

import (
	"context"
	"errors"
	"time"

	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/query"
	"github.com/cxbridge/watcher/internal/localmongo/store"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

const (
	// maxEvent is the largest event: a document of 16 MiB and 16 KiB around it.
	maxEvent = query.MaxDocument + 16<<10
	// readAhead is how many entries of the history are looked at under one lock.
	readAhead = 256
)

// errAwaited ends a getMore that waited as long as it was asked to.
var errAwaited = errors.New("maxTimeMS of the getMore passed")

// changeStream is the state of one change stream: a place in the shared history.
type changeStream struct {
	scope  store.Scope
	stages []query.RowStage
	lookUp bool

	pos uint64
	// from is the time to start at; it may lie ahead.
	from store.Timestamp
	// half says that the first event of the entry at pos was handed out already and its
	// invalidate was not.
	half bool
	// resume is the token to find again before events are handed out; nil when found, or
	// when the stream began at a time.
	resume *store.Token
	// uncovered says that the start lies before the history. The first pull fails.
	uncovered bool
	// token is the post-batch resume token, which never goes back.
	token store.Token
	over  bool
	// failed is an error that was met behind events of the same batch; the next pull ends
	// with it.
	failed error
}

// batch is what one pull from a change stream gives.
type batch struct {
	events kit.A
	token  store.Token
	over   bool      // the stream has ended with this batch
	due    time.Time // when the next event may be shown, with Server.DelayStreams
}

// openStream answers an aggregate that begins with $changeStream.
func (c *call) openStream(scope store.Scope, ns string, spec value.Raw, stages []bson.Raw, size int64) (kit.D, error) {
	c.stream = true
	cs, err := c.parseStream(scope, spec)
	if err != nil {
		return nil, err
	}
	for _, raw := range stages {
		st, err := query.CompileStage(raw)
		if err != nil {
			return nil, err
		}
		rs, ok := st.(query.RowStage)
		if !ok {
			return nil, mongoerr.New(mongoerr.IllegalOperation, "%s is not permitted in a $changeStream pipeline", stageName(raw))
		}
		cs.stages = append(cs.stages, rs)
	}
	cur := &cursor{ns: ns, stream: cs}
	b := batch{events: kit.A{}, token: cs.token}
	if size != 0 {
		if b, err = c.pull(cur, size); err != nil {
			return nil, err
		}
	}
	var id int64
	if !b.over {
		c.cursors.add(cur)
		id = cur.id
	}
	return reply("cursor", reply("firstBatch", b.events, "postBatchResumeToken", b.token.Doc(), "id", id, "ns", ns)), nil
}

// parseStream reads the options of $changeStream and finds the place to start.
func (c *call) parseStream(scope store.Scope, spec value.Raw) (*changeStream, error) {
	if spec.Type != bson.TypeEmbeddedDocument {
		return nil, mongoerr.New(50808, "$changeStream stage expects a document as argument.")
	}
	a := newArgs("$changeStream", bson.Raw(spec.Data), nil)
	cs := &changeStream{scope: scope}
	if a.flag("allChangesForCluster", false) {
		if c.db != "admin" || scope.Coll != "" {
			return nil, mongoerr.New(mongoerr.InvalidOptions, "A $changeStream with 'allChangesForCluster:true' may only be opened on the 'admin' database, and with no collection name")
		}
		cs.scope = store.Scope{}
	}
	switch mode := a.str("fullDocument"); mode {
	case "", "default":
	case "updateLookup":
		cs.lookUp = true
	default:
		a.fail(mongoerr.New(mongoerr.BadValue, "fullDocument mode '%s' is not supported", mode))
	}
	if mode := a.str("fullDocumentBeforeChange"); mode != "" && mode != "off" {
		a.fail(mongoerr.New(mongoerr.BadValue, "fullDocumentBeforeChange mode '%s' is not supported", mode))
	}
	if a.flag("showExpandedEvents", false) {
		a.fail(mongoerr.New(mongoerr.BadValue, "showExpandedEvents is not supported"))
	}
	resume, after := a.doc("resumeAfter"), a.doc("startAfter")
	at, hasAt := a.timestamp("startAtOperationTime")
	if err := a.done(); err != nil {
		return nil, err
	}
	starts := 0
	for _, given := range []bool{resume != nil, after != nil, hasAt} {
		if given {
			starts++
		}
	}
	if starts > 1 {
		return nil, mongoerr.New(mongoerr.TwoResumeOptions, "Only one type of resume option is allowed, but multiple were found.")
	}
	switch {
	case hasAt:
		cs.startAt(c.store, store.Timestamp(at))
	case starts == 0:
		end, now := c.store.History.End()
		cs.pos, cs.token = end, store.HighWater(now.Next())
	case resume != nil:
		return cs, cs.startFrom(c.store, resume, true, c.opts.LaxResume)
	default:
		return cs, cs.startFrom(c.store, after, false, c.opts.LaxResume)
	}
	return cs, nil
}

func (cs *changeStream) startAt(s *store.Store, t store.Timestamp) {
	var covered bool
	cs.pos, covered = s.History.Seek(t)
	cs.uncovered, cs.from = !covered, t
	cs.token = store.HighWater(t)
}

// startFrom starts at a token. isResumeAfter is false for startAfter, which alone may go
// on after an invalidate.
func (cs *changeStream) startFrom(s *store.Store, doc bson.Raw, isResumeAfter, lax bool) error {
	v := value.Lookup(doc, "_data")
	if v.Type != bson.TypeString {
		return mongoerr.New(mongoerr.BadResumeToken, "Bad resume token: _data of missing or of wrong type. Expected string, got %s", doc)
	}
	data, err := value.DecodeValue(v)
	if err != nil {
		return err
	}
	t, err := store.ParseToken(data.(string))
	if err != nil {
		return err
	}
	if t.Invalidate && isResumeAfter {
		return mongoerr.New(mongoerr.InvalidResumeToken, "Attempting to resume a change stream using 'resumeAfter' is not allowed from an invalidate notification.")
	}
	cs.startAt(s, t.Time)
	cs.token = t
	if lax {
		cs.uncovered = false
	}
	if t.Event {
		cs.resume = &t
	}
	return nil
}

// nextEvents pulls from a stream until there is something, or ctx ends.
func (c *call) nextEvents(ctx context.Context, cur *cursor, n int64) (batch, error) {
	for {
		_, _, stepped := c.faults.topology()
		_, _, wait, _ := c.store.History.Read(cur.stream.pos, 0)
		if !c.faults.primary() {
			return batch{}, interrupted()
		}
		b, err := c.pull(cur, n)
		if err != nil {
			c.cursors.remove(cur.id)
			return b, err
		}
		if len(b.events) > 0 || b.over {
			return b, nil
		}
		var due <-chan time.Time
		if !b.due.IsZero() {
			due = time.After(time.Until(b.due))
		}
		select {
		case <-wait:
		case <-due:
		case <-stepped:
		case <-cur.killed:
			return b, mongoerr.New(mongoerr.CursorKilled, "operation was interrupted because the cursor was killed")
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errAwaited) {
				return b, nil
			}
			return b, &closeConnection{}
		}
	}
}

// pull reads what the history has now, up to n events (0 for no limit).
func (c *call) pull(cur *cursor, n int64) (batch, error) {
	cs := cur.stream
	b := batch{events: kit.A{}}
	if cs.uncovered {
		return b, historyLost("Resume of change stream was not possible, as the resume point may no longer be in the oplog.")
	}
	if cs.failed != nil {
		return b, cs.failed
	}
	size := 0
	for !cs.over {
		entries, newest, _, ok := c.store.History.Read(cs.pos, readAhead)
		if !ok {
			return b, historyLost("Error on remote shard localhost :: caused by :: the position of the change stream is no longer in the oplog")
		}
		if delay := c.faults.delay(cs.scope); delay > 0 {
			if entries, b.due = older(entries, delay); len(entries) == 0 && !b.due.IsZero() {
				break
			}
		}
		if len(entries) == 0 {
			if t := store.HighWater(newest); t.Data > cs.token.Data {
				cs.token = t
			}
			break
		}
		full, err := c.addEvents(cs, entries, &b, &size, n)
		if err != nil {
			return b, err
		}
		if full {
			break
		}
	}
	b.token, b.over = cs.token, cs.over
	return b, nil
}

// older cuts entries off that are younger than an age, and says when the first of them
// is due.
func older(entries []*store.Entry, age time.Duration) ([]*store.Entry, time.Time) {
	for i, e := range entries {
		if time.Since(e.Wall) < age {
			return entries[:i], e.Wall.Add(age)
		}
	}
	return entries, time.Time{}
}

func historyLost(text string) error {
	return mongoerr.New(mongoerr.ChangeStreamHistoryLost, "%s", text)
}

// addEvents adds the events of some entries to a batch, and says whether the batch is full.
func (c *call) addEvents(cs *changeStream, entries []*store.Entry, b *batch, size *int, n int64) (bool, error) {
	for _, e := range entries {
		if e.Time.Compare(cs.from) < 0 {
			cs.pos++
			continue
		}
		for i, ev := range cs.scope.Events(e) {
			if i == 0 && cs.half {
				continue
			}
			if n > 0 && int64(len(b.events)) >= n {
				cs.half = i > 0
				return true, nil
			}
			if cs.isStart(ev) {
				continue
			}
			row, err := c.process(cs, ev)
			if err != nil {
				if len(b.events) == 0 {
					return false, err
				}
				cs.failed = err
				return true, nil
			}
			if row != nil {
				doc := row.Document()
				if *size += len(doc); len(b.events) > 0 && *size > batchBytes {
					cs.half = i > 0
					return true, nil
				}
				b.events = append(b.events, doc)
				cs.token = ev.Token
			}
			if ev.Invalidates {
				cs.over, cs.token = true, lastToken(cs, ev, row)
				return true, nil
			}
		}
		cs.half = false
		cs.pos++
	}
	return false, nil
}

// lastToken is the token that the last batch of a stream shows. A pipeline that hides the
// invalidate leaves the token of the last event that it showed, as a server does.
func lastToken(cs *changeStream, ev store.Event, row value.Row) store.Token {
	if row == nil {
		return cs.token
	}
	return ev.Token
}

// isStart says whether an event lies before the place to resume at, or is the one to
// resume after.
func (cs *changeStream) isStart(ev store.Event) bool {
	if cs.resume == nil || ev.Token.Data > cs.resume.Data {
		return false
	}
	if ev.Token.Data == cs.resume.Data {
		cs.resume = nil
	}
	return true
}

// process runs one event through the stream: the look-up and the pipeline. It returns nil
// for an event that is not shown. A token to resume after that was not met until now is
// not there.
func (c *call) process(cs *changeStream, ev store.Event) (value.Row, error) {
	if cs.resume != nil {
		return nil, mongoerr.New(mongoerr.ChangeStreamFatalError, "cannot resume stream; the resume token was not found. {_data: \"%s\"}", ev.Token.Data)
	}
	row := ev.Row
	if cs.lookUp && ev.LookUp {
		row = c.lookUp(ev)
	}
	if row.Len() > maxEvent || c.faults.isOversized() {
		return nil, mongoerr.New(mongoerr.BSONObjectTooLarge, "BSONObj size: %d is invalid. Size must be between 0 and %d(16MB) First element: _id: { _data: \"%s\" }", max(row.Len(), maxEvent+1), maxEvent, ev.Token.Data)
	}
	for _, st := range cs.stages {
		var keep bool
		var err error
		if row, keep, err = st.Row(row); err != nil || !keep {
			return nil, err
		}
	}
	id := row.Get("_id")
	if want := ev.Row.Get("_id"); !id.Equal(want) {
		return nil, mongoerr.New(mongoerr.ChangeStreamFatalError, "Encountered an event whose _id field, which contains the resume token, was modified by the pipeline. Modifying the _id field of an event makes it impossible to resume the stream from that point. Only transformations that retain the unmodified _id field are allowed. Expected: { _id: %s } but found: %s", bson.Raw(want.Data), foundID(id))
	}
	return row, nil
}

func foundID(id value.Raw) string {
	if id.Absent() {
		return "{}"
	}
	return "{ _id: " + query.Text(id) + " }"
}

// lookUp adds the newest version of the document to an update's event, in the place where
// the server has it: before ns.
func (c *call) lookUp(ev store.Event) value.Row {
	e := ev.Entry
	full := value.Raw{Type: bson.TypeNull}
	if doc := c.store.ByID(e.DB, e.Coll, e.ID); doc != nil {
		full = value.Raw{Type: bson.TypeEmbeddedDocument, Data: doc}
	}
	row := make(value.Row, 0, len(ev.Row)+1)
	for _, f := range ev.Row {
		if f.Key == "ns" {
			row = append(row, value.Field{Key: "fullDocument", Val: full})
		}
		row = append(row, f)
	}
	return row
}

func stageName(raw bson.Raw) string {
	for key := range value.Elements(raw) {
		return string(key)
	}
	return ""
}
