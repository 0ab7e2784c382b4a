package query

import (
	"math"
	"strings"

	"github.com/256dpi/lungo/bsonkit"
	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
)

// operator is an expression operator whose operands are all evaluated first.
type operator struct {
	least, most int
	apply       func(args []any) (any, error)
}

var operators = map[string]operator{
	"$eq":            compare(func(c int) bool { return c == 0 }),
	"$ne":            compare(func(c int) bool { return c != 0 }),
	"$gt":            compare(func(c int) bool { return c > 0 }),
	"$gte":           compare(func(c int) bool { return c >= 0 }),
	"$lt":            compare(func(c int) bool { return c < 0 }),
	"$lte":           compare(func(c int) bool { return c <= 0 }),
	"$cmp":           {2, 2, func(a []any) (any, error) { return int32(bsonkit.Compare(a[0], a[1])), nil }},
	"$not":           {1, 1, func(a []any) (any, error) { return !truthy(a[0]), nil }},
	"$in":            {2, 2, opIn},
	"$add":           {1, math.MaxInt, opAdd},
	"$subtract":      {2, 2, opSubtract},
	"$multiply":      {1, math.MaxInt, fold("$multiply", int32(1), bsonkit.Mul)},
	"$mod":           {2, 2, opMod},
	"$abs":           {1, 1, opAbs},
	"$concat":        {1, math.MaxInt, opConcat},
	"$size":          {1, 1, opSize},
	"$isArray":       {1, 1, func(a []any) (any, error) { _, ok := a[0].(kit.A); return ok, nil }},
	"$arrayElemAt":   {2, 2, opArrayElemAt},
	"$type":          {1, 1, opType},
	"$bsonSize":      {1, 1, opBSONSize},
	"$toString":      {1, 1, opToString},
	"$toLong":        {1, 1, opToLong},
	"$toDate":        {1, 1, opToDate},
	"$mergeObjects":  {1, math.MaxInt, opMergeObjects},
	"$concatArrays":  {1, math.MaxInt, opConcatArrays},
	"$objectToArray": {1, 1, opObjectToArray},
	"$strcasecmp":    {2, 2, opStrcasecmp},
	"$strLenBytes":   {1, 1, opStrLenBytes},
	"$strLenCP":      {1, 1, opStrLenCP},
	"$substrBytes":   {3, 3, opSubstrBytes},
	"$indexOfBytes":  {2, 4, opIndexOfBytes},
	"$toLower":       {1, 1, stringOp(strings.ToLower)},
	"$toUpper":       {1, 1, stringOp(strings.ToUpper)},
	"$max":           {1, math.MaxInt, extreme(1)},
	"$min":           {1, math.MaxInt, extreme(-1)},
}

func (e *Expr) compileOperator(name string, v any) (evalFunc, error) {
	switch name {
	case "$literal":
		if err := refuseOpaque(v); err != nil {
			return nil, err
		}
		return constant(v), nil
	case "$and", "$or":
		return e.compileLogic(name, v)
	case "$ifNull":
		return e.compileIfNull(v)
	case "$cond":
		return e.compileCond(v)
	case "$let":
		return e.compileLet(v)
	}
	op, ok := operators[name]
	if !ok {
		return nil, mongoerr.New(mongoerr.InvalidExpression, "Unrecognized expression '%s'", name)
	}
	list, isList := v.(kit.A)
	if !isList {
		list = kit.A{v}
	}
	if n := len(list); n < op.least || n > op.most {
		if op.least == op.most {
			return nil, mongoerr.New(16020, "Expression %s takes exactly %d arguments. %d were passed in.", name, op.most, n)
		}
		return nil, mongoerr.New(28667, "Expression %s takes at least %d arguments, and at most %d, but %d were passed in.", name, op.least, op.most, n)
	}
	evals, err := e.compileAll(list)
	if err != nil {
		return nil, err
	}
	return func(in scope) (any, error) {
		args := make([]any, len(evals))
		for i, eval := range evals {
			var err error
			if args[i], err = eval(in); err != nil {
				return nil, err
			}
		}
		return op.apply(args)
	}, nil
}

func (e *Expr) compileLogic(name string, v any) (evalFunc, error) {
	list, ok := v.(kit.A)
	if !ok {
		list = kit.A{v}
	}
	evals, err := e.compileAll(list)
	if err != nil {
		return nil, err
	}
	stop := name == "$or"
	return func(in scope) (any, error) {
		for _, eval := range evals {
			got, err := eval(in)
			if err != nil {
				return nil, err
			}
			if truthy(got) == stop {
				return stop, nil
			}
		}
		return !stop, nil
	}, nil
}

func (e *Expr) compileIfNull(v any) (evalFunc, error) {
	list, ok := v.(kit.A)
	if !ok || len(list) < 2 {
		return nil, mongoerr.New(1257300, "$ifNull needs at least two arguments")
	}
	evals, err := e.compileAll(list)
	if err != nil {
		return nil, err
	}
	return func(in scope) (any, error) {
		for _, eval := range evals[:len(evals)-1] {
			if got, err := eval(in); err != nil || !nullish(got) {
				return got, err
			}
		}
		return evals[len(evals)-1](in)
	}, nil
}

func (e *Expr) compileCond(v any) (evalFunc, error) {
	list, ok := v.(kit.A)
	if d, isDoc := v.(kit.D); isDoc {
		list, ok = make(kit.A, 3), len(d) == 3
		for _, el := range d {
			switch el.Key {
			case "if":
				list[0] = el.Value
			case "then":
				list[1] = el.Value
			case "else":
				list[2] = el.Value
			default:
				ok = false
			}
		}
	}
	if !ok || len(list) != 3 {
		return nil, mongoerr.New(17080, "$cond needs if, then and else")
	}
	evals, err := e.compileAll(list)
	if err != nil {
		return nil, err
	}
	return func(in scope) (any, error) {
		got, err := evals[0](in)
		if err != nil {
			return nil, err
		}
		if truthy(got) {
			return evals[1](in)
		}
		return evals[2](in)
	}, nil
}

// compare orders values as the kits do, except that a missing value is below null, as
// aggregation has it.
func compare(ok func(int) bool) operator {
	return operator{2, 2, func(a []any) (any, error) {
		c := bsonkit.Compare(a[0], a[1])
		if c == 0 && nullish(a[0]) && nullish(a[1]) {
			switch {
			case a[0] == missing && a[1] != missing:
				c = -1
			case a[0] != missing && a[1] == missing:
				c = 1
			}
		}
		return ok(c), nil
	}}
}

func opIn(a []any) (any, error) {
	list, ok := a[1].(kit.A)
	if !ok {
		return nil, mongoerr.New(40081, "$in requires an array as a second argument")
	}
	for _, item := range list {
		if bsonkit.Compare(a[0], item) == 0 {
			return true, nil
		}
	}
	return false, nil
}

// fold combines numbers; one that is null makes the result null.
func fold(name string, start any, step func(a, b any) any) func([]any) (any, error) {
	return func(args []any) (any, error) {
		sum := start
		for _, v := range args {
			if nullish(v) {
				return nil, nil
			}
			if sum = step(sum, v); sum == missing {
				return nil, mongoerr.New(mongoerr.TypeMismatch, "%s only supports numeric types", name)
			}
		}
		return sum, nil
	}
}

// opAdd adds numbers, or milliseconds to one date.
func opAdd(args []any) (any, error) {
	date, rest := primitive.DateTime(0), make([]any, 0, len(args))
	dates := 0
	for _, v := range args {
		if d, ok := v.(primitive.DateTime); ok {
			date, dates = d, dates+1
			continue
		}
		rest = append(rest, v)
	}
	if dates > 1 {
		return nil, mongoerr.New(16612, "only one date allowed in an $add expression")
	}
	sum, err := fold("$add", int32(0), bsonkit.Add)(rest)
	if err != nil || dates == 0 || sum == nil {
		return sum, err
	}
	ms, _ := toInt64(sum)
	return date + primitive.DateTime(ms), nil
}

func opSubtract(a []any) (any, error) {
	if nullish(a[0]) || nullish(a[1]) {
		return nil, nil
	}
	from, isDate := a[0].(primitive.DateTime)
	if !isDate {
		return fold("$subtract", a[0], bsonkit.Add)([]any{bsonkit.Mul(a[1], int32(-1))})
	}
	if d, ok := a[1].(primitive.DateTime); ok {
		return int64(from - d), nil
	}
	ms, ok := toInt64(a[1])
	if !ok {
		return nil, mongoerr.New(mongoerr.TypeMismatch, "cant $subtract a %T from a Date", a[1])
	}
	return from - primitive.DateTime(ms), nil
}

func opMod(a []any) (any, error) {
	if nullish(a[0]) || nullish(a[1]) {
		return nil, nil
	}
	got := bsonkit.Mod(a[0], a[1])
	if got == missing {
		return nil, mongoerr.New(16610, "can't $mod by zero, or of a value that is not a number")
	}
	return got, nil
}

func opAbs(a []any) (any, error) {
	if nullish(a[0]) {
		return nil, nil
	}
	if n, ok := a[0].(int64); ok && n == math.MinInt64 {
		return nil, mongoerr.New(28680, "can't take $abs of long long min")
	}
	if n, ok := a[0].(int32); ok && n == math.MinInt32 {
		return -int64(n), nil
	}
	if neg := bsonkit.Mul(a[0], int32(-1)); neg == missing {
		return nil, mongoerr.New(28765, "$abs only supports numeric types, not %T", a[0])
	} else if bsonkit.Compare(a[0], int32(0)) < 0 {
		return neg, nil
	}
	return a[0], nil
}
