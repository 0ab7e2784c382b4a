package localmongo

import (
	"errors"

	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/query"
	"github.com/cxbridge/watcher/internal/localmongo/store"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// maxBatch is how many writes one command may hold.
const maxBatch = 100_000

// writeErrors collects the failures of the writes of one command.
type writeErrors struct {
	ordered bool
	list    kit.A
}

// add notes a failure. It returns the error itself when it is not one of a single write.
// more says whether the writes after it are still to be tried.
func (w *writeErrors) add(index int, err error) (more bool, fatal error) {
	e, ok := errors.AsType[*mongoerr.Error](err)
	if !ok || ofCommand(e.Code) {
		return false, err
	}
	d := reply("index", int32(index), "code", e.Code)
	if e.KeyPattern != nil {
		d = append(d, reply("keyPattern", e.KeyPattern, "keyValue", e.KeyValue)...)
	}
	w.list = append(w.list, append(d, kit.E{Key: "errmsg", Value: e.Message}))
	return !w.ordered, nil
}

// ofCommand says whether an error is one of the whole command and not of a single write.
func ofCommand(code int32) bool {
	switch code {
	case mongoerr.OperationNotSupportedInTxn, mongoerr.InvalidNamespace, mongoerr.IllegalOperation, mongoerr.InterruptedAtShutdown:
		return true
	}
	return false
}

// each runs the writes of one command one after the other.
func (w *writeErrors) each(n int, write func(i int) error) error {
	if n == 0 || n > maxBatch {
		return mongoerr.New(mongoerr.InvalidLength, "Write batch sizes must be between 1 and %d. Got %d operations.", maxBatch, n)
	}
	for i := range n {
		if err := write(i); err != nil {
			more, fatal := w.add(i, err)
			if fatal != nil {
				return fatal
			}
			if !more {
				return nil
			}
		}
	}
	return nil
}

func (c *call) insert() (kit.D, error) {
	coll, err := c.collection()
	if err != nil {
		return nil, err
	}
	docs := c.args.docs("documents")
	w := writeErrors{ordered: c.args.flag("ordered", true)}
	if err := c.args.done(); err != nil {
		return nil, err
	}
	ready := make([]bson.Raw, len(docs))
	failed := make([]error, len(docs))
	for i, doc := range docs {
		ready[i], failed[i] = store.PrepareInsert(doc, store.NewID)
	}
	n := 0
	err = c.do(func(tx *store.Tx) error {
		return w.each(len(docs), func(i int) error {
			if failed[i] != nil {
				return failed[i]
			}
			if err := tx.Insert(c.db, coll, ready[i]); err != nil {
				return err
			}
			n++
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return c.writeReply(reply("n", int32(n)), nil, w), nil
}

// writeReply puts the answer of a write command together.
func (c *call) writeReply(d kit.D, upserted kit.A, w writeErrors) kit.D {
	if len(upserted) > 0 {
		d = append(d, kit.E{Key: "upserted", Value: upserted})
	}
	if len(w.list) > 0 {
		d = append(d, kit.E{Key: "writeErrors", Value: w.list})
	}
	return c.written(d)
}

// updateSpec is one parsed update of a command.
type updateSpec struct {
	sel           store.Selection
	update        *query.Update
	multi, upsert bool
}

func (c *call) parseUpdate(coll string, raw bson.Raw) (updateSpec, error) {
	a := newArgs("update.updates", raw, nil)
	var u updateSpec
	var err error
	if u.sel, err = c.selection(a, coll, "q", "sort"); err != nil {
		return u, err
	}
	u.multi, u.upsert = a.flag("multi", false), a.flag("upsert", false)
	emptyOnly(a, "c")
	if u.update, err = query.CompileUpdate(a.get("u"), a.docs("arrayFilters")); err != nil {
		return u, err
	}
	if u.multi && u.update.IsReplacement() {
		return u, mongoerr.New(mongoerr.FailedToParse, "multi update is not supported for replacement-style update")
	}
	return u, a.done()
}

func (c *call) update() (kit.D, error) {
	coll, err := c.collection()
	if err != nil {
		return nil, err
	}
	list := c.args.docs("updates")
	w := writeErrors{ordered: c.args.flag("ordered", true)}
	emptyOnly(c.args, "let")
	if err := c.args.done(); err != nil {
		return nil, err
	}
	var n, modified int64
	var upserted kit.A
	err = w.each(len(list), func(i int) error {
		u, err := c.parseUpdate(coll, list[i])
		if err != nil {
			return err
		}
		return c.do(func(tx *store.Tx) error {
			ch, err := tx.Update(c.db, coll, u.sel, u.update, u.multi, u.upsert)
			if err != nil {
				return err
			}
			n, modified = n+ch.Matched, modified+ch.Modified
			if !ch.Upserted.Absent() {
				upserted = append(upserted, reply("index", int32(i), "_id", ch.Upserted))
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return c.writeReply(reply("n", int32(n), "nModified", int32(modified)), upserted, w), nil
}

func (c *call) delete() (kit.D, error) {
	coll, err := c.collection()
	if err != nil {
		return nil, err
	}
	list := c.args.docs("deletes")
	w := writeErrors{ordered: c.args.flag("ordered", true)}
	emptyOnly(c.args, "let")
	if err := c.args.done(); err != nil {
		return nil, err
	}
	n := 0
	err = w.each(len(list), func(i int) error {
		a := newArgs("delete.deletes", list[i], nil)
		sel, err := c.selection(a, coll, "q", "")
		if err != nil {
			return err
		}
		limit := a.size("limit", -1)
		if limit != 0 && limit != 1 {
			a.fail(mongoerr.New(mongoerr.FailedToParse, "The limit field in delete objects must be 0 or 1. Got %d", limit))
		}
		sel.Limit = limit
		if err := a.done(); err != nil {
			return err
		}
		return c.do(func(tx *store.Tx) error {
			gone, err := tx.Delete(c.db, coll, sel)
			n += len(gone)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return c.writeReply(reply("n", int32(n)), nil, w), nil
}

func (c *call) findAndModify() (kit.D, error) {
	coll, err := c.collection()
	if err != nil {
		return nil, err
	}
	a := c.args
	sel, err := c.selection(a, coll, "query", "sort")
	if err != nil {
		return nil, err
	}
	remove, isNew, upsert := a.flag("remove", false), a.flag("new", false), a.flag("upsert", false)
	u := a.get("update")
	filters := a.docs("arrayFilters")
	fields := a.doc("fields")
	if fields == nil {
		fields = a.doc("projection")
	}
	var project *query.Projection
	if fields != nil {
		if project, err = query.CompileProjection(fields); err != nil {
			return nil, err
		}
	}
	if err := a.done(); err != nil {
		return nil, err
	}
	if remove == !u.Absent() || remove && (isNew || upsert) {
		return nil, mongoerr.New(mongoerr.FailedToParse, "Either an update or remove=true must be specified, and remove goes with neither new nor upsert")
	}
	if remove {
		return c.findAndRemove(coll, sel, project)
	}
	update, err := query.CompileUpdate(u, filters)
	if err != nil {
		return nil, err
	}
	var ch store.Change
	err = c.do(func(tx *store.Tx) (err error) {
		ch, err = tx.Update(c.db, coll, sel, update, false, upsert)
		return err
	})
	if err != nil {
		return nil, err
	}
	doc := ch.Before
	if isNew {
		doc = ch.After
	}
	last := reply("n", int32(ch.Matched), "updatedExisting", ch.Before != nil)
	if !ch.Upserted.Absent() {
		last = append(last, kit.E{Key: "upserted", Value: ch.Upserted})
	}
	return modified(last, doc, project)
}

func (c *call) findAndRemove(coll string, sel store.Selection, project *query.Projection) (kit.D, error) {
	sel.Limit = 1
	var gone []bson.Raw
	err := c.do(func(tx *store.Tx) (err error) {
		gone, err = tx.Delete(c.db, coll, sel)
		return err
	})
	if err != nil {
		return nil, err
	}
	var doc bson.Raw
	if len(gone) > 0 {
		doc = gone[0]
	}
	return modified(reply("n", int32(len(gone))), doc, project)
}

// modified is the answer of a findAndModify.
func modified(last kit.D, doc bson.Raw, project *query.Projection) (kit.D, error) {
	if doc == nil {
		return reply("lastErrorObject", last, "value", nil), nil
	}
	if project != nil {
		row, err := project.Apply(value.RowOf(doc))
		if err != nil {
			return nil, err
		}
		doc = row.Document()
	}
	return reply("lastErrorObject", last, "value", doc), nil
}
