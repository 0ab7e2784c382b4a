package query

import (
	"strings"

	"github.com/256dpi/lungo/bsonkit"
	kit "go.mongodb.org/mongo-driver/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// groupStage is $group with the accumulators of accumulators.
type groupStage struct {
	id     *Expr
	need   *value.Need
	fields []groupField
}

type groupField struct {
	name string
	expr *Expr
	step func(acc, v any) (any, error)
	done func(acc any) any
	make func() any
}

type average struct {
	sum any
	n   int64
}

func compileGroup(operand any) (Stage, error) {
	spec, ok := operand.(kit.D)
	if !ok {
		return nil, mongoerr.New(15947, "a group's fields must be specified in an object")
	}
	g := &groupStage{need: value.NeedPaths()}
	for _, e := range spec {
		if e.Key == "_id" {
			id, err := CompileExpr(e.Value)
			if err != nil {
				return nil, err
			}
			g.id = id
			id.addNeeds(g.need)
			continue
		}
		f, err := compileAccumulator(e)
		if err != nil {
			return nil, err
		}
		f.expr.addNeeds(g.need)
		g.fields = append(g.fields, f)
	}
	if g.id == nil {
		return nil, mongoerr.New(15955, "a group specification must include an _id")
	}
	return g, nil
}

func compileAccumulator(e kit.E) (groupField, error) {
	d, ok := e.Value.(kit.D)
	if !ok || len(d) != 1 || strings.Contains(e.Key, ".") {
		return groupField{}, mongoerr.New(40234, "The field '%s' must be an accumulator object", e.Key)
	}
	expr, err := CompileExpr(d[0].Value)
	f := groupField{name: e.Key, expr: expr, done: func(acc any) any { return acc }, make: func() any { return missing }}
	if err != nil {
		return f, err
	}
	switch d[0].Key {
	case "$sum":
		f.make = func() any { return int32(0) }
		f.step = addNumber
	case "$avg":
		f.make = func() any { return average{sum: float64(0)} }
		f.step = func(acc, v any) (any, error) {
			a := acc.(average)
			if next := bsonkit.Add(a.sum, v); next != missing {
				a = average{next, a.n + 1}
			}
			return a, nil
		}
		f.done = func(acc any) any {
			a := acc.(average)
			if a.n == 0 {
				return nil
			}
			return bsonkit.Mul(a.sum, 1/float64(a.n))
		}
	case "$min", "$max":
		pick := extreme(map[string]int{"$min": -1, "$max": 1}[d[0].Key])
		f.make = func() any { return nil }
		f.step = func(acc, v any) (any, error) { return pick([]any{acc, v}) }
	case "$first":
		f.step = func(acc, v any) (any, error) {
			if acc == missing {
				acc = nilForMissing(v)
			}
			return acc, nil
		}
	case "$last":
		f.step = func(_, v any) (any, error) { return nilForMissing(v), nil }
	case "$push":
		f.make = func() any { return kit.A{} }
		f.step = appendValue
	case "$addToSet":
		f.make = func() any { return kit.A{} }
		f.step = addToSet
	case "$count":
		f.make = func() any { return int32(0) }
		f.step = func(acc, _ any) (any, error) { return bsonkit.Add(acc, int32(1)), nil }
	default:
		return f, mongoerr.New(15952, "unknown group operator '%s'", d[0].Key)
	}
	return f, nil
}

func nilForMissing(v any) any {
	if v == missing {
		return nil
	}
	return v
}

// addNumber ignores what is no number, as $sum does.
func addNumber(acc, v any) (any, error) {
	if next := bsonkit.Add(acc, v); next != missing {
		return next, nil
	}
	return acc, nil
}

func appendValue(acc, v any) (any, error) {
	if v == missing {
		return acc, nil
	}
	return append(acc.(kit.A), v), nil
}

func addToSet(acc, v any) (any, error) {
	for _, have := range acc.(kit.A) {
		if bsonkit.Compare(have, v) == 0 {
			return acc, nil
		}
	}
	return appendValue(acc, v)
}

type group struct {
	id   any
	accs []any
}

// Run groups; groups come out in the order of their first document.
func (g *groupStage) Run(rows []value.Row) ([]value.Row, error) {
	var order []*group
	byKey := map[string]*group{}
	for _, row := range rows {
		d, err := value.DecodeFields(row.Fields(), g.need)
		if err != nil {
			return nil, mongoerr.New(mongoerr.InvalidBSON, "%s", err)
		}
		id, err := g.id.Eval(d)
		if err != nil {
			return nil, err
		}
		key := string(value.AppendKey(nil, id, false))
		gr, ok := byKey[key]
		if !ok {
			gr = &group{id: nilForMissing(id)}
			for _, f := range g.fields {
				gr.accs = append(gr.accs, f.make())
			}
			byKey[key], order = gr, append(order, gr)
		}
		if err := g.add(gr, d); err != nil {
			return nil, err
		}
	}
	return g.finish(order)
}

func (g *groupStage) add(gr *group, d kit.D) error {
	for i, f := range g.fields {
		v, err := f.expr.Eval(d)
		if err != nil {
			return err
		}
		if gr.accs[i], err = f.step(gr.accs[i], v); err != nil {
			return err
		}
	}
	return nil
}

func (g *groupStage) finish(order []*group) ([]value.Row, error) {
	out := make([]value.Row, 0, len(order))
	for _, gr := range order {
		id, err := value.EncodeValue(gr.id)
		if err != nil {
			return nil, err
		}
		row := value.Row{{Key: "_id", Val: id}}
		for i, f := range g.fields {
			v, err := value.EncodeValue(nilForMissing(f.done(gr.accs[i])))
			if err != nil {
				return nil, err
			}
			row = append(row, value.Field{Key: f.name, Val: v})
		}
		out = append(out, row)
	}
	return out, nil
}
