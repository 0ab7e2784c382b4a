package localmongo

import (
	"strings"

	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/query"
	"github.com/cxbridge/watcher/internal/localmongo/store"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// findSpec is a parsed find command.
type findSpec struct {
	coll    string
	sel     store.Selection
	project *query.Projection
	batch   int64
	single  bool
}

// selection reads a filter, a hint and a sort order out of a command.
func (c *call) selection(a *args, coll, filter, sortField string) (store.Selection, error) {
	var sel store.Selection
	var err error
	if sel.Filter, err = query.CompileFilter(a.doc(filter)); err != nil {
		return sel, err
	}
	if sortField != "" {
		if doc := a.doc(sortField); doc != nil {
			if sel.Sort, err = query.CompileSort(doc); err != nil {
				return sel, err
			}
		}
	}
	a.simpleCollation()
	emptyOnly(a, "let")
	sel.Hint, err = c.hint(coll, a.get("hint"))
	return sel, err
}

// emptyOnly refuses a document that holds something.
func emptyOnly(a *args, name string) {
	if doc := a.doc(name); len(doc) > 5 {
		a.fail(mongoerr.New(mongoerr.BadValue, "%s is not supported", name))
	}
}

// hint turns a hint, a name or a key pattern, into the name of an index.
func (c *call) hint(coll string, v value.Raw) (string, error) {
	switch v.Type {
	case 0, bson.TypeNull:
		return "", nil
	case bson.TypeString:
		d, err := value.DecodeValue(v)
		if err != nil {
			return "", err
		}
		return d.(string), nil
	case bson.TypeEmbeddedDocument:
		if len(v.Data) == 5 {
			return "", nil
		}
		if !value.Lookup(bson.Raw(v.Data), "$natural").Absent() {
			return "$natural", nil
		}
		if name := c.store.IndexByKey(c.db, coll, bson.Raw(v.Data)); name != "" {
			return name, nil
		}
	}
	return "", mongoerr.New(mongoerr.BadValue, "error processing query: planner returned error :: caused by :: hint provided does not correspond to an existing index")
}

func (c *call) parseFind(a *args) (findSpec, error) {
	f := findSpec{coll: a.str("find")}
	var err error
	if f.sel, err = c.selection(a, f.coll, "filter", "sort"); err != nil {
		return f, err
	}
	if doc := a.doc("projection"); doc != nil {
		if f.project, err = query.CompileProjection(doc); err != nil {
			return f, err
		}
	}
	f.sel.Skip = a.size("skip", 0)
	limit, _ := a.number("limit")
	f.single = a.flag("singleBatch", false)
	if limit < 0 {
		limit, f.single = -limit, true
	}
	f.sel.Limit = limit
	f.batch = a.size("batchSize", firstBatch)
	for _, name := range []string{"tailable", "awaitData", "returnKey", "showRecordId", "oplogReplay"} {
		if a.flag(name, false) {
			a.fail(mongoerr.New(mongoerr.BadValue, "%s is not supported", name))
		}
	}
	if a.doc("min") != nil || a.doc("max") != nil {
		a.fail(mongoerr.New(mongoerr.BadValue, "min and max are not supported"))
	}
	return f, a.done()
}

func (c *call) find() (kit.D, error) {
	if _, err := c.collection(); err != nil {
		return nil, err
	}
	f, err := c.parseFind(c.args)
	if err != nil {
		return nil, err
	}
	docs, _, err := c.fetch(f.coll, f.sel)
	if err != nil {
		return nil, err
	}
	if len(docs) == 0 {
		if _, ok := c.store.Info(c.db, f.coll); !ok {
			return listing(c.db+"."+f.coll, nil), nil
		}
	}
	if f.project != nil {
		for i, doc := range docs {
			row, err := f.project.Apply(value.RowOf(doc))
			if err != nil {
				return nil, err
			}
			docs[i] = row.Document()
		}
	}
	return c.openCursor(c.db+"."+f.coll, docs, f.batch, f.single), nil
}

// fetch selects documents of a collection, of the history for local.oplog.rs, and inside
// a transaction of its view.
func (c *call) fetch(coll string, sel store.Selection) ([]bson.Raw, store.Stats, error) {
	if c.db == "local" && coll == "oplog.rs" {
		docs, err := c.store.Oplog(sel)
		return docs, store.Stats{}, err
	}
	if !c.inTxn {
		return c.store.Find(c.db, coll, sel, c.reads)
	}
	var docs []bson.Raw
	var st store.Stats
	err := c.do(func(tx *store.Tx) (err error) {
		docs, st, err = tx.Find(c.db, coll, sel)
		return err
	})
	return docs, st, err
}

func (c *call) count() (kit.D, error) {
	coll, err := c.collection()
	if err != nil {
		return nil, err
	}
	sel, err := c.selection(c.args, coll, "query", "")
	if err != nil {
		return nil, err
	}
	sel.Skip = c.args.size("skip", 0)
	sel.Limit = c.args.size("limit", 0)
	c.args.ignore("fields")
	if err := c.args.done(); err != nil {
		return nil, err
	}
	if len(sel.Filter.Doc()) == 0 && sel.Skip == 0 && sel.Limit == 0 {
		info, _ := c.store.Info(c.db, coll)
		return reply("n", int32(info.Count)), nil
	}
	docs, _, err := c.fetch(coll, sel)
	return reply("n", int32(len(docs))), err
}

func (c *call) distinct() (kit.D, error) {
	coll, err := c.collection()
	if err != nil {
		return nil, err
	}
	key := c.args.str("key")
	sel, err := c.selection(c.args, coll, "query", "")
	if err != nil {
		return nil, err
	}
	if err := c.args.done(); err != nil {
		return nil, err
	}
	if key == "" {
		return nil, mongoerr.New(mongoerr.BadValue, "'key' must not be empty")
	}
	docs, _, err := c.fetch(coll, sel)
	if err != nil {
		return nil, err
	}
	values, err := query.Distinct(docs, key)
	return reply("values", values), err
}

func (c *call) aggregate() (kit.D, error) {
	v := c.args.get("aggregate")
	coll := ""
	if v.Type == bson.TypeString {
		coll = c.args.str("aggregate")
	} else if n, _ := c.args.number("aggregate"); n != 1 {
		return nil, mongoerr.New(mongoerr.FailedToParse, "Invalid command format: the 'aggregate' field must specify a collection name or 1")
	}
	stages, size, err := c.parseAggregate(c.args)
	if err != nil {
		return nil, err
	}
	if len(stages) > 0 && stageName(stages[0]) == "$changeStream" {
		return c.watch(coll, stages, size)
	}
	for _, st := range stages {
		if stageName(st) == "$changeStream" {
			return nil, mongoerr.New(mongoerr.StageNotFirst, "$changeStream is only valid as the first stage in a pipeline.")
		}
	}
	if coll == "" {
		return nil, mongoerr.New(mongoerr.InvalidNamespace, "{aggregate: 1} is not valid for '%s'; a collection is required.", stageNameAt(stages))
	}
	sel, err := c.selection(c.args, coll, "", "")
	if err != nil {
		return nil, err
	}
	if err := c.args.done(); err != nil {
		return nil, err
	}
	docs, _, err := c.pipeline(coll, sel, stages)
	if err != nil {
		return nil, err
	}
	return c.openCursor(c.db+"."+coll, docs, size, false), nil
}

func stageNameAt(stages []bson.Raw) string {
	if len(stages) == 0 {
		return ""
	}
	return stageName(stages[0])
}

// parseAggregate reads the pipeline and the batch size; size is -1 for no limit.
func (c *call) parseAggregate(a *args) ([]bson.Raw, int64, error) {
	stages := a.docs("pipeline")
	opts := a.doc("cursor")
	size := int64(firstBatch)
	if opts != nil {
		o := newArgs("cursor", opts, nil)
		size = o.size("batchSize", firstBatch)
		if err := o.done(); err != nil {
			return nil, 0, err
		}
	} else if c.name == "aggregate" {
		a.fail(mongoerr.New(mongoerr.FailedToParse, "The 'cursor' option is required, except for aggregate with the explain argument"))
	}
	a.ignore("explain")
	for _, st := range stages {
		if stageName(st) == "" {
			a.fail(mongoerr.New(40323, "A pipeline stage specification object must contain exactly one field."))
		}
	}
	return stages, size, a.err
}

// watch opens a change stream on a collection, or for "" on the database.
func (c *call) watch(coll string, stages []bson.Raw, size int64) (kit.D, error) {
	c.args.simpleCollation()
	emptyOnly(c.args, "let")
	if err := c.args.done(); err != nil {
		return nil, err
	}
	if c.inTxn {
		return nil, mongoerr.New(mongoerr.OperationNotSupportedInTxn, "Operation not permitted in transaction :: caused by :: Aggregation stage $changeStream cannot run within a multi-document transaction")
	}
	ns := c.db + ".$cmd.aggregate"
	if coll != "" {
		ns = c.db + "." + coll
		if strings.HasPrefix(coll, "system.") {
			return nil, mongoerr.New(mongoerr.InvalidNamespace, "$changeStream may not be opened on the internal %s collection", ns)
		}
	}
	return c.openStream(store.Scope{DB: c.db, Coll: coll}, ns, value.Lookup(stages[0], "$changeStream"), stages[1:], size)
}

// pipeline runs the stages of an aggregate. A leading $match, and a $sort and $limit
// behind it, are given to the planner.
func (c *call) pipeline(coll string, sel store.Selection, stages []bson.Raw) ([]bson.Raw, store.Stats, error) {
	compiled := make([]query.Stage, len(stages))
	for i, raw := range stages {
		var err error
		if compiled[i], err = query.CompileStage(raw); err != nil {
			return nil, store.Stats{}, err
		}
	}
	used, err := pushDown(&sel, stages)
	if err != nil {
		return nil, store.Stats{}, err
	}
	docs, st, err := c.fetch(coll, sel)
	if err != nil || used == len(stages) {
		return docs, st, err
	}
	rows := make([]value.Row, len(docs))
	for i, doc := range docs {
		rows[i] = value.RowOf(doc)
	}
	for _, stage := range compiled[used:] {
		if rows, err = stage.Run(rows); err != nil {
			return nil, st, err
		}
	}
	out := make([]bson.Raw, len(rows))
	for i, row := range rows {
		out[i] = row.Document()
	}
	return out, st, nil
}

// pushDown moves the first stages of a pipeline into the selection and returns how many.
func pushDown(sel *store.Selection, stages []bson.Raw) (used int, err error) {
	order := []string{"$match", "$sort", "$limit"}
	for _, name := range order {
		if used == len(stages) || stageName(stages[used]) != name {
			continue
		}
		v := value.Lookup(stages[used], name)
		switch name {
		case "$match":
			sel.Filter, err = query.CompileFilter(v.Document())
		case "$sort":
			sel.Sort, err = query.CompileSort(v.Document())
		case "$limit":
			sel.Limit, _ = newArgs(name, stages[used], nil).number(name)
		}
		if err != nil {
			return used, err
		}
		used++
	}
	return used, nil
}

// explain answers with the plan and the work of a find, count, distinct or aggregate.
func (c *call) explain() (kit.D, error) {
	inner := c.args.doc("explain")
	verbosity := c.args.str("verbosity")
	if err := c.args.done(); err != nil {
		return nil, err
	}
	if inner == nil {
		return nil, mongoerr.New(mongoerr.FailedToParse, "explain needs a command")
	}
	a := newArgs(stageName(inner), inner, nil)
	a.ignore(stageName(inner))
	coll, st, n, err := c.explained(a)
	if err != nil {
		return nil, err
	}
	stage := reply("stage", "COLLSCAN")
	if st.Index != "" {
		stage = reply("stage", "FETCH", "inputStage", reply("stage", "IXSCAN", "indexName", st.Index))
	}
	d := reply("queryPlanner", reply("namespace", c.db+"."+coll, "winningPlan", stage, "rejectedPlans", kit.A{}))
	if verbosity != "queryPlanner" {
		d = append(d, kit.E{Key: "executionStats", Value: reply(
			"executionSuccess", true, "nReturned", int32(n), "totalKeysExamined", int32(st.Keys), "totalDocsExamined", int32(st.Docs))})
	}
	return d, nil
}

func (c *call) explained(a *args) (coll string, st store.Stats, n int, err error) {
	var docs []bson.Raw
	switch a.where {
	case "find":
		f, err := c.parseFind(a)
		if err != nil {
			return "", st, 0, err
		}
		docs, st, err = c.fetch(f.coll, f.sel)
		return f.coll, st, len(docs), err
	case "aggregate":
		coll = a.str("aggregate")
		stages, _, err := c.parseAggregate(a)
		if err != nil {
			return "", st, 0, err
		}
		sel, err := c.selection(a, coll, "", "")
		if err != nil {
			return "", st, 0, err
		}
		docs, st, err = c.pipeline(coll, sel, stages)
		return coll, st, len(docs), err
	case "count", "distinct":
		coll = a.str(a.where)
		sel, err := c.selection(a, coll, "query", "")
		if err != nil {
			return "", st, 0, err
		}
		docs, st, err = c.fetch(coll, sel)
		return coll, st, len(docs), err
	}
	return "", st, 0, mongoerr.New(mongoerr.CommandNotSupported, "explain of '%s' is not supported", a.where)
}
