// Package query compiles the filters, projections, sort orders, expressions and pipeline
// stages of MongoDB commands. What a filter or an update means comes from lungo's kits;
// this package adds what the kits lack (aggregation expressions, regular expressions,
// projections through arrays), and refuses by name whatever neither knows, because a
// wrong answer is worse than an error. It keeps no documents.
package query

import (
	"errors"
	"iter"
	"maps"
	"strings"

	"github.com/256dpi/lungo/bsonkit"
	"github.com/256dpi/lungo/mongokit"
	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// Filter is a compiled query document.
type Filter struct {
	doc  kit.D
	need *value.Need
	ctx  mongokit.Context
}

// CompileFilter checks a query document and finds out which fields it reads. An operator
// that is not supported is an error of code BadValue that names it, even when no document
// would ever be compared. A nil document matches everything.
func CompileFilter(raw bson.Raw) (*Filter, error) {
	f := &Filter{need: value.NeedPaths()}
	if raw != nil {
		doc, err := value.Decode(raw, nil)
		if err != nil {
			return nil, mongoerr.New(mongoerr.InvalidBSON, "%s", err)
		}
		f.doc = doc
	}
	c := &filterCompiler{need: f.need}
	f.ctx = c.context()
	if err := c.query(f.doc); err != nil {
		return nil, err
	}
	return f, nil
}

// Match says whether a document fits.
func (f *Filter) Match(doc bson.Raw) (bool, error) { return f.MatchFields(value.Elements(doc)) }

// MatchFields is Match for a document in pieces.
func (f *Filter) MatchFields(fields iter.Seq2[[]byte, value.Raw]) (bool, error) {
	if len(f.doc) == 0 {
		return true, nil
	}
	d, err := value.DecodeFields(fields, f.need)
	if err != nil {
		return false, mongoerr.New(mongoerr.InvalidBSON, "%s", err)
	}
	return f.MatchDecoded(d)
}

// MatchDecoded is Match for a decoded document.
func (f *Filter) MatchDecoded(d kit.D) (bool, error) {
	err := mongokit.Process(f.ctx, &d, f.doc, "", true)
	if errors.Is(err, mongokit.ErrNotMatched) {
		return false, nil
	}
	if err != nil {
		return false, asBadValue(err)
	}
	return true, nil
}

// Doc is the decoded query, for the planner. It must not be changed.
func (f *Filter) Doc() kit.D { return f.doc }

// asBadValue keeps an error of ours and gives one of the kits the code BadValue.
func asBadValue(err error) error {
	if _, ok := errors.AsType[*mongoerr.Error](err); ok {
		return err
	}
	return mongoerr.New(mongoerr.BadValue, "%s", err)
}

// filterCompiler walks a query once. It puts compiled forms in the place of operands
// that would have to be compiled for every document.
type filterCompiler struct {
	need *value.Need
	ctx  mongokit.Context
}

// context is the kits' table of operators with our additions.
func (c *filterCompiler) context() mongokit.Context {
	top := maps.Clone(mongokit.TopLevelQueryOperators)
	delete(top, "$jsonSchema")
	top["$expr"] = matchExpr
	top["$comment"] = func(mongokit.Context, bsonkit.Doc, string, string, any) error { return nil }
	exp := maps.Clone(mongokit.ExpressionQueryOperators)
	exp[""] = orRegex(exp[""])
	exp["$eq"] = exp[""]
	exp["$ne"] = negate(exp[""])
	exp["$in"] = inWithRegex(exp["$in"])
	exp["$nin"] = negate(exp["$in"])
	exp["$not"] = notWithRegex(exp["$not"])
	exp["$regex"] = matchRegexOp
	exp["$options"] = func(mongokit.Context, bsonkit.Doc, string, string, any) error { return nil }
	c.ctx = mongokit.Context{TopLevel: top, Expression: exp}
	return c.ctx
}

// matchExpr is $expr; its operand was compiled by query.
func matchExpr(_ mongokit.Context, doc bsonkit.Doc, _, _ string, v any) error {
	res, err := v.(*Expr).Eval(*doc)
	if err != nil {
		return err
	}
	if !truthy(res) {
		return mongokit.ErrNotMatched
	}
	return nil
}

// query checks a document of conditions.
func (c *filterCompiler) query(doc kit.D) error {
	for i, e := range doc {
		switch {
		case e.Key == "$and" || e.Key == "$or" || e.Key == "$nor":
			if err := c.branches(e); err != nil {
				return err
			}
		case e.Key == "$expr":
			ex, err := CompileExpr(e.Value)
			if err != nil {
				return err
			}
			ex.addNeeds(c.need)
			doc[i].Value = ex
		case e.Key == "$comment":
		case strings.HasPrefix(e.Key, "$"):
			return mongoerr.New(mongoerr.BadValue, "unknown top level operator: %s", e.Key)
		default:
			c.need.Add(e.Key)
			if ops, ok := e.Value.(kit.D); ok {
				doc[i].Value = foldRegexOptions(ops)
			}
			if err := c.condition(e.Key, doc[i].Value); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *filterCompiler) branches(e kit.E) error {
	list, ok := e.Value.(kit.A)
	if !ok || len(list) == 0 {
		return mongoerr.New(mongoerr.BadValue, "%s must be a nonempty array", e.Key)
	}
	for _, item := range list {
		sub, ok := item.(kit.D)
		if !ok {
			return mongoerr.New(mongoerr.BadValue, "%s argument's entries must be objects", e.Key)
		}
		if err := c.query(sub); err != nil {
			return err
		}
	}
	return nil
}

// condition checks what a field is compared with.
func (c *filterCompiler) condition(path string, v any) error {
	ops, ok := v.(kit.D)
	if !ok || len(ops) == 0 || !strings.HasPrefix(ops[0].Key, "$") {
		return refuseOpaque(v)
	}
	for _, op := range ops {
		fn, known := c.ctx.Expression[op.Key]
		if !known || op.Key == "" {
			return mongoerr.New(mongoerr.BadValue, "unknown operator: %s", op.Key)
		}
		if err := c.operand(path, op); err != nil {
			return err
		}
		// A trial on an empty document brings up what the kit finds wrong with the operand.
		err := fn(c.ctx, &kit.D{}, op.Key, path, op.Value)
		if err != nil && !errors.Is(err, mongokit.ErrNotMatched) {
			return asBadValue(err)
		}
	}
	return nil
}

func (c *filterCompiler) operand(path string, op kit.E) error {
	switch op.Key {
	case "$not":
		if d, ok := op.Value.(kit.D); ok {
			return c.condition(path, d)
		}
	case "$elemMatch":
		d, ok := op.Value.(kit.D)
		if !ok {
			return mongoerr.New(mongoerr.BadValue, "$elemMatch needs an Object")
		}
		return c.elemMatch(path, d)
	case "$options":
		if _, ok := op.Value.(string); !ok {
			return mongoerr.New(mongoerr.BadValue, "$options has to be a string")
		}
	}
	return refuseOpaque(op.Value)
}

// elemMatch checks both forms: conditions on the element itself, and a query on it. The
// kit evaluates a query's own $and and $or on the wrong level, so those are refused.
func (c *filterCompiler) elemMatch(path string, d kit.D) error {
	for _, e := range d {
		switch {
		case e.Key == "$and" || e.Key == "$or" || e.Key == "$nor":
			return mongoerr.New(mongoerr.BadValue, "%s inside $elemMatch is not supported", e.Key)
		case strings.HasPrefix(e.Key, "$"):
			if err := c.condition(path, kit.D{e}); err != nil {
				return err
			}
		default:
			if err := c.condition(path+"."+e.Key, e.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// refuseOpaque refuses operands of the types that the kits cannot compare.
func refuseOpaque(v any) error {
	if typ, ok := value.Opaque(v); ok {
		return mongoerr.New(mongoerr.BadValue, "comparing with a value of BSON type %s is not supported", typ)
	}
	switch v := v.(type) {
	case kit.A:
		for _, item := range v {
			if err := refuseOpaque(item); err != nil {
				return err
			}
		}
	case kit.D:
		for _, e := range v {
			if err := refuseOpaque(e.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// negate turns an operator over.
func negate(op mongokit.Operator) mongokit.Operator {
	return func(ctx mongokit.Context, doc bsonkit.Doc, name, path string, v any) error {
		if name == "$ne" {
			name = "$eq"
		}
		switch err := op(ctx, doc, name, path, v); {
		case errors.Is(err, mongokit.ErrNotMatched):
			return nil
		case err != nil:
			return err
		}
		return mongokit.ErrNotMatched
	}
}

// isRegex reports an operand that is a regular expression value.
func isRegex(v any) (primitive.Regex, bool) {
	re, ok := v.(primitive.Regex)
	return re, ok
}
