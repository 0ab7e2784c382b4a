package query

import (
	"strings"

	"github.com/256dpi/lungo/bsonkit"
	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// Stage turns the documents of a pipeline into others. A stage that looks at one document
// at a time implements RowStage as well.
type Stage interface {
	Run(rows []value.Row) ([]value.Row, error)
}

// RowStage is a stage that change streams can use: it passes a document on, changed or
// not, or drops it.
type RowStage interface {
	Stage
	Row(row value.Row) (out value.Row, keep bool, err error)
}

// CompileStage checks one stage of a pipeline. A stage that is not supported is error
// 40324 with its name.
func CompileStage(raw bson.Raw) (Stage, error) {
	spec, err := value.Decode(raw, nil)
	if err != nil {
		return nil, mongoerr.New(mongoerr.InvalidBSON, "%s", err)
	}
	if len(spec) != 1 {
		return nil, mongoerr.New(40323, "A pipeline stage specification object must contain exactly one field.")
	}
	name, operand := spec[0].Key, spec[0].Value
	doc := value.Lookup(raw, name).Document()
	switch name {
	case "$match":
		f, err := CompileFilter(doc)
		return perRow(func(row value.Row) (value.Row, bool, error) {
			ok, err := f.MatchFields(row.Fields())
			return row, ok, err
		}), needDoc(name, operand, err)
	case "$project":
		return compileProject(doc, operand)
	case "$addFields", "$set":
		return compileAddFields(name, operand)
	case "$unset":
		return compileUnset(operand)
	case "$replaceRoot", "$replaceWith":
		return compileReplaceRoot(name, operand)
	case "$sort":
		o, err := CompileSort(doc)
		return sortStage{o}, needDoc(name, operand, err)
	case "$limit", "$skip":
		return compileSlice(name, operand)
	case "$count":
		return compileCount(operand)
	case "$group":
		return compileGroup(operand)
	case "$unwind":
		return compileUnwind(operand)
	default:
		return nil, mongoerr.New(mongoerr.UnknownStage, "Unrecognized pipeline stage name: '%s'", name)
	}
}

// needDoc adds to err that an operand must be a document.
func needDoc(name string, operand any, err error) error {
	if _, ok := operand.(kit.D); !ok {
		return mongoerr.New(15959, "the %s specification must be an object", name)
	}
	return err
}

// rowFunc is a RowStage made of a function.
type rowFunc struct {
	fn func(value.Row) (value.Row, bool, error)
}

func perRow(fn func(value.Row) (value.Row, bool, error)) Stage { return rowFunc{fn} }

func (s rowFunc) Row(row value.Row) (value.Row, bool, error) { return s.fn(row) }

func (s rowFunc) Run(rows []value.Row) ([]value.Row, error) {
	out := rows[:0]
	for _, row := range rows {
		got, keep, err := s.fn(row)
		if err != nil {
			return nil, err
		}
		if keep {
			out = append(out, got)
		}
	}
	return out, nil
}

func compileProject(doc bson.Raw, operand any) (Stage, error) {
	if err := needDoc("$project", operand, nil); err != nil {
		return nil, err
	}
	p, err := CompileProjection(doc)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return nil, mongoerr.New(51272, "Invalid $project :: caused by :: projection specification must have at least one field")
	}
	return perRow(func(row value.Row) (value.Row, bool, error) {
		out, err := p.Apply(row)
		return out, true, err
	}), nil
}

func compileAddFields(name string, operand any) (Stage, error) {
	spec, ok := operand.(kit.D)
	if !ok || len(spec) == 0 {
		return nil, mongoerr.New(40272, "%s specification stage must be an object with at least one field", name)
	}
	p := &Projection{need: value.NeedPaths()}
	if err := addComputed(p, "", spec); err != nil {
		return nil, err
	}
	return perRow(func(row value.Row) (value.Row, bool, error) {
		out, err := p.compute(row, row)
		return out, true, err
	}), nil
}

// addComputed takes nested documents of a $addFields for paths, as the server does.
func addComputed(p *Projection, prefix string, spec kit.D) error {
	for _, e := range spec {
		if e.Key == "" || strings.HasPrefix(e.Key, "$") {
			return mongoerr.New(16410, "FieldPath field names may not start with '$'. Consider using $getField or $setField: %q", e.Key)
		}
		if d, ok := e.Value.(kit.D); ok && len(d) > 0 && !strings.HasPrefix(d[0].Key, "$") {
			if err := addComputed(p, prefix+e.Key+".", d); err != nil {
				return err
			}
			continue
		}
		expr, err := CompileExpr(e.Value)
		if err != nil {
			return err
		}
		expr.addNeeds(p.need)
		p.computed = append(p.computed, computedField{path: prefix + e.Key, expr: expr})
	}
	return nil
}

func compileUnset(operand any) (Stage, error) {
	list, ok := operand.(kit.A)
	if !ok {
		list = kit.A{operand}
	}
	p := &Projection{tree: &projNode{}, exclude: true, need: value.NeedPaths()}
	for _, item := range list {
		path, ok := item.(string)
		if !ok || path == "" {
			return nil, mongoerr.New(31120, "$unset specification must be a string or an array of strings")
		}
		if err := p.tree.add(path); err != nil {
			return nil, err
		}
		p.hideID = p.hideID || path == "_id"
	}
	return perRow(func(row value.Row) (value.Row, bool, error) {
		out, err := p.Apply(row)
		return out, true, err
	}), nil
}

func compileReplaceRoot(name string, operand any) (Stage, error) {
	if name == "$replaceRoot" {
		d, ok := operand.(kit.D)
		if !ok || len(d) != 1 || d[0].Key != "newRoot" {
			return nil, mongoerr.New(40231, "$replaceRoot needs exactly the field newRoot")
		}
		operand = d[0].Value
	}
	expr, err := CompileExpr(operand)
	if err != nil {
		return nil, err
	}
	need := value.NeedPaths()
	expr.addNeeds(need)
	return perRow(func(row value.Row) (value.Row, bool, error) {
		v, err := evalOn(row, expr, need)
		if err != nil {
			return nil, false, err
		}
		d, ok := v.(kit.D)
		if !ok {
			return nil, false, mongoerr.New(40228, "'newRoot' expression must evaluate to an object")
		}
		raw, err := value.Encode(d)
		return value.RowOf(raw), true, err
	}), nil
}

// evalOn computes an expression on a row.
func evalOn(row value.Row, e *Expr, need *value.Need) (any, error) {
	d, err := value.DecodeFields(row.Fields(), need)
	if err != nil {
		return nil, mongoerr.New(mongoerr.InvalidBSON, "%s", err)
	}
	return e.Eval(d)
}

func compileSlice(name string, operand any) (Stage, error) {
	n, ok := toInt64(operand)
	if !ok || n < 0 || n == 0 && name == "$limit" {
		return nil, mongoerr.New(15957, "the argument of %s must be a positive number", name)
	}
	return sliceStage{skip: name == "$skip", n: n}, nil
}

type sliceStage struct {
	skip bool
	n    int64
}

func (s sliceStage) Run(rows []value.Row) ([]value.Row, error) {
	n := min(s.n, int64(len(rows)))
	if s.skip {
		return rows[n:], nil
	}
	return rows[:n], nil
}

func compileCount(operand any) (Stage, error) {
	name, ok := operand.(string)
	if !ok || name == "" || strings.ContainsAny(name, "$.") {
		return nil, mongoerr.New(40156, "the count field must be a non-empty string without $ and dots")
	}
	return countStage(name), nil
}

type countStage string

func (s countStage) Run(rows []value.Row) ([]value.Row, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	v, err := value.EncodeValue(int32(len(rows)))
	return []value.Row{{{Key: string(s), Val: v}}}, err
}

func compileUnwind(operand any) (Stage, error) {
	path, ok := operand.(string)
	if !ok || !strings.HasPrefix(path, "$") || strings.Contains(path, ".") {
		return nil, mongoerr.New(28812, "$unwind is supported on one top-level field given as a string")
	}
	return unwindStage(path[1:]), nil
}

type unwindStage string

func (s unwindStage) Run(rows []value.Row) ([]value.Row, error) {
	var out []value.Row
	for _, row := range rows {
		v := row.Get(string(s))
		switch {
		case v.Absent() || v.Type == bson.TypeNull:
		case v.Type != bson.TypeArray:
			out = append(out, row)
		default:
			for _, item := range value.Elements(v.Document()) {
				out = append(out, row.Set(string(s), item))
			}
		}
	}
	return out, nil
}

type sortStage struct{ order *Sort }

func (s sortStage) Run(rows []value.Row) ([]value.Row, error) {
	return s.order.rows(rows)
}

// Columns are the fields of the order, for the planner.
func (s *Sort) Columns() []bsonkit.Column { return s.columns }
