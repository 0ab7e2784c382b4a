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

// bulk is a bulkWrite command: writes of all kinds on several collections. It is run on
// the admin database and answers with a cursor over the single results.
type bulk struct {
	*call
	spaces  []bson.Raw
	ordered bool
	quiet   bool // errorsOnly

	inserted, matched, modified, upserted, deleted, failed int32
	results                                                []bson.Raw
}

func (c *call) bulkWrite() (kit.D, error) {
	b := &bulk{call: c, spaces: c.args.docs("nsInfo"), ordered: c.args.flag("ordered", true), quiet: c.args.flag("errorsOnly", false)}
	ops := c.args.docs("ops")
	size := int64(-1)
	if opts := c.args.doc("cursor"); opts != nil {
		size = newArgs("cursor", opts, nil).size("batchSize", -1)
	}
	emptyOnly(c.args, "let")
	if err := c.args.done(); err != nil {
		return nil, err
	}
	if c.db != "admin" {
		return nil, mongoerr.New(mongoerr.Unauthorized, "bulkWrite may only be run against the admin database.")
	}
	if len(ops) == 0 || len(ops) > maxBatch {
		return nil, mongoerr.New(mongoerr.InvalidLength, "Write batch sizes must be between 1 and %d. Got %d operations.", maxBatch, len(ops))
	}
	for i, op := range ops {
		if err := b.one(i, op); err != nil {
			more, fatal := b.fail(i, err)
			if fatal != nil {
				return nil, fatal
			}
			if !more {
				break
			}
		}
	}
	d := c.openCursor("admin.$cmd.bulkWrite", b.results, size, false)
	d = append(d, reply("nErrors", b.failed, "nInserted", b.inserted, "nMatched", b.matched,
		"nModified", b.modified, "nUpserted", b.upserted, "nDeleted", b.deleted)...)
	return c.written(d), nil
}

func (b *bulk) fail(i int, err error) (more bool, fatal error) {
	e, ok := errors.AsType[*mongoerr.Error](err)
	if !ok || b.inTxn || ofCommand(e.Code) {
		return false, err
	}
	b.failed++
	d := reply("ok", float64(0), "idx", int32(i), "code", e.Code)
	if e.KeyPattern != nil {
		d = append(d, reply("keyPattern", e.KeyPattern, "keyValue", e.KeyValue)...)
	}
	d = append(d, reply("errmsg", e.Message, "n", int32(0), "nModified", int32(0))...)
	return !b.ordered, b.result(d)
}

func (b *bulk) result(d kit.D) error {
	raw, err := value.Encode(d)
	b.results = append(b.results, raw)
	return err
}

// one runs one write: its first field says what it is and on which of the namespaces.
func (b *bulk) one(i int, op bson.Raw) error {
	kind := stageName(op)
	a := newArgs("bulkWrite.ops", op, nil)
	at, ok := a.number(kind)
	if !ok || at < 0 || at >= int64(len(b.spaces)) {
		return mongoerr.New(mongoerr.BadValue, "BulkWrite ops entry %d has an invalid nsInfo index.", i)
	}
	space := newArgs("bulkWrite.nsInfo", b.spaces[at], nil)
	db, coll, err := splitNS(space.str("ns"))
	if err != nil {
		return err
	}
	target := *b.call
	target.db = db
	switch kind {
	case "insert":
		return b.insertOne(i, &target, coll, a)
	case "update":
		return b.updateOne(i, &target, coll, a)
	case "delete":
		return b.deleteOne(i, &target, coll, a)
	}
	return mongoerr.New(mongoerr.FailedToParse, "unknown bulkWrite operation '%s'", kind)
}

func (b *bulk) insertOne(i int, c *call, coll string, a *args) error {
	doc := a.doc("document")
	if err := a.done(); err != nil {
		return err
	}
	ready, err := store.PrepareInsert(doc, store.NewID)
	if err != nil {
		return err
	}
	if err := c.do(func(tx *store.Tx) error { return tx.Insert(c.db, coll, ready) }); err != nil {
		return err
	}
	b.inserted++
	if b.quiet {
		return nil
	}
	return b.result(reply("ok", float64(1), "idx", int32(i), "n", int32(1)))
}

func (b *bulk) updateOne(i int, c *call, coll string, a *args) error {
	sel, err := c.selection(a, coll, "filter", "sort")
	if err != nil {
		return err
	}
	multi, upsert := a.flag("multi", false), a.flag("upsert", false)
	emptyOnly(a, "constants")
	u, err := query.CompileUpdate(a.get("updateMods"), a.docs("arrayFilters"))
	if err != nil {
		return err
	}
	if multi && u.IsReplacement() {
		return mongoerr.New(mongoerr.FailedToParse, "multi update is not supported for replacement-style update")
	}
	if err := a.done(); err != nil {
		return err
	}
	var ch store.Change
	err = c.do(func(tx *store.Tx) (err error) {
		ch, err = tx.Update(c.db, coll, sel, u, multi, upsert)
		return err
	})
	if err != nil {
		return err
	}
	d := reply("ok", float64(1), "idx", int32(i), "n", int32(ch.Matched), "nModified", int32(ch.Modified))
	if ch.Upserted.Absent() {
		b.matched += int32(ch.Matched)
	} else {
		b.upserted++
		d = append(d, kit.E{Key: "upserted", Value: reply("_id", ch.Upserted)})
	}
	b.modified += int32(ch.Modified)
	if b.quiet {
		return nil
	}
	return b.result(d)
}

func (b *bulk) deleteOne(i int, c *call, coll string, a *args) error {
	sel, err := c.selection(a, coll, "filter", "")
	if err != nil {
		return err
	}
	if !a.flag("multi", false) {
		sel.Limit = 1
	}
	if err := a.done(); err != nil {
		return err
	}
	var gone []bson.Raw
	err = c.do(func(tx *store.Tx) (err error) {
		gone, err = tx.Delete(c.db, coll, sel)
		return err
	})
	if err != nil {
		return err
	}
	b.deleted += int32(len(gone))
	if b.quiet {
		return nil
	}
	return b.result(reply("ok", float64(1), "idx", int32(i), "n", int32(len(gone))))
}
