package query

import (
	"strings"
	"time"

	"github.com/256dpi/lungo/bsonkit"
	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// missing is the value of a field that is not there.
var missing = bsonkit.Missing

// evalFunc computes a value from a document and the variables around the expression.
type evalFunc func(in scope) (any, error)

// scope is what an expression can see.
type scope struct {
	doc kit.D
	let *binding
}

// binding is one variable of a $let; outer has those that were there before it.
type binding struct {
	name  string
	value any
	outer *binding
}

func (b *binding) find(name string) *binding {
	for b != nil && b.name != name {
		b = b.outer
	}
	return b
}

// Expr is a compiled aggregation expression.
type Expr struct {
	eval  evalFunc
	paths []string
	whole bool
	known *binding // the variables of the $let around what is compiled, without values
}

// Eval computes the expression on a document of which the needed fields are decoded. The
// result is bsonkit.Missing when there is no value.
func (e *Expr) Eval(doc kit.D) (any, error) { return e.eval(scope{doc: doc}) }

// addNeeds adds the fields that the expression reads.
func (e *Expr) addNeeds(n *value.Need) {
	if e.whole {
		n.AddAll()
	}
	for _, p := range e.paths {
		n.Add(p)
	}
}

// CompileExpr checks an expression. An operator that is not supported is an error that
// names it.
func CompileExpr(v any) (*Expr, error) {
	e := &Expr{}
	eval, err := e.compile(v)
	e.eval = eval
	return e, err
}

func constant(v any) evalFunc { return func(scope) (any, error) { return v, nil } }

func (e *Expr) compile(v any) (evalFunc, error) {
	switch v := v.(type) {
	case string:
		if strings.HasPrefix(v, "$") {
			return e.compilePath(v)
		}
		return constant(v), nil
	case kit.D:
		if len(v) == 1 && strings.HasPrefix(v[0].Key, "$") {
			return e.compileOperator(v[0].Key, v[0].Value)
		}
		return e.compileObject(v)
	case kit.A:
		return e.compileList(v)
	default:
		if err := refuseOpaque(v); err != nil {
			return nil, err
		}
		return constant(v), nil
	}
}

// compilePath compiles "$a.b" and the system variables.
func (e *Expr) compilePath(s string) (evalFunc, error) {
	if !strings.HasPrefix(s, "$$") {
		path := s[1:]
		if path == "" || strings.HasPrefix(path, ".") || strings.HasSuffix(path, ".") {
			return nil, mongoerr.New(16872, "'%s' by itself is not a valid FieldPath", s)
		}
		e.paths = append(e.paths, path)
		return func(in scope) (any, error) { return walk(in.doc, path), nil }, nil
	}
	name, path, deep := strings.Cut(s[2:], ".")
	switch {
	case (name == "ROOT" || name == "CURRENT") && deep:
		return e.compilePath("$" + path)
	case name == "ROOT" || name == "CURRENT":
		e.whole = true
		return func(in scope) (any, error) { return in.doc, nil }, nil
	case name == "REMOVE" && !deep:
		return constant(missing), nil
	case name == "NOW" && !deep:
		return constant(primitive.NewDateTimeFromTime(time.Now())), nil
	case e.known.find(name) != nil && deep:
		return func(in scope) (any, error) { return walk(in.let.find(name).value, path), nil }, nil
	case e.known.find(name) != nil:
		return func(in scope) (any, error) { return in.let.find(name).value, nil }, nil
	}
	return nil, mongoerr.New(17276, "Use of undefined variable: %s", name)
}

// walk follows a path the way aggregation does: through arrays into every document, and
// without taking a number for an array index.
func walk(v any, path string) any {
	head, tail, more := strings.Cut(path, ".")
	switch v := v.(type) {
	case kit.D:
		for _, el := range v {
			if el.Key == head {
				if more {
					return walk(el.Value, tail)
				}
				return el.Value
			}
		}
	case kit.A:
		out := kit.A{}
		for _, item := range v {
			if got := walk(item, path); got != missing {
				out = append(out, got)
			}
		}
		return out
	}
	return missing
}

func (e *Expr) compileObject(d kit.D) (evalFunc, error) {
	evals := make([]evalFunc, len(d))
	for i, el := range d {
		if strings.HasPrefix(el.Key, "$") {
			return nil, mongoerr.New(15983, "an object representing an expression must have exactly one field: %s", el.Key)
		}
		eval, err := e.compile(el.Value)
		if err != nil {
			return nil, err
		}
		evals[i] = eval
	}
	return func(in scope) (any, error) {
		out := kit.D{}
		for i, eval := range evals {
			v, err := eval(in)
			if err != nil {
				return nil, err
			}
			if v != missing {
				out = append(out, kit.E{Key: d[i].Key, Value: v})
			}
		}
		return out, nil
	}, nil
}

func (e *Expr) compileList(a kit.A) (evalFunc, error) {
	evals, err := e.compileAll(a)
	if err != nil {
		return nil, err
	}
	return func(in scope) (any, error) {
		out := make(kit.A, len(evals))
		for i, eval := range evals {
			v, err := eval(in)
			if err != nil {
				return nil, err
			}
			if v == missing {
				v = nil
			}
			out[i] = v
		}
		return out, nil
	}, nil
}

func (e *Expr) compileAll(a kit.A) ([]evalFunc, error) {
	evals := make([]evalFunc, len(a))
	for i, v := range a {
		eval, err := e.compile(v)
		if err != nil {
			return nil, err
		}
		evals[i] = eval
	}
	return evals, nil
}

// truthy is MongoDB's truth: everything but false, null, missing and zero.
func truthy(v any) bool {
	switch v := v.(type) {
	case nil, primitive.Null, bsonkit.MissingType:
		return false
	case bool:
		return v
	case int32, int64, float64, primitive.Decimal128:
		return bsonkit.Compare(v, int32(0)) != 0
	}
	return true
}

// nullish says whether a value is null or missing.
func nullish(v any) bool {
	switch v.(type) {
	case nil, primitive.Null, bsonkit.MissingType:
		return true
	}
	return false
}
