package query

import (
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
)

// aliasOf is the type of a value as error messages of expressions name it.
func aliasOf(v any) string {
	alias, _ := opType([]any{v})
	name, _ := alias.(string)
	return name
}

// continues says whether a byte is one of UTF-8 that goes on with a character.
func continues(b byte) bool { return b&0xC0 == 0x80 }

func opStrLenBytes(a []any) (any, error) {
	s, ok := a[0].(string)
	if !ok {
		return nil, mongoerr.New(34473, "$strLenBytes requires a string argument, found: %s", aliasOf(a[0]))
	}
	return int32(len(s)), nil //nolint:gosec // less than 16 MB
}

// opStrLenCP counts as the server does, which does not look whether the text is valid:
// every byte that does not go on with a character.
func opStrLenCP(a []any) (any, error) {
	s, ok := a[0].(string)
	if !ok {
		return nil, mongoerr.New(34471, "$strLenCP requires a string argument, found: %s", aliasOf(a[0]))
	}
	n := int32(0)
	for i := range len(s) {
		if !continues(s[i]) {
			n++
		}
	}
	return n, nil
}

// opSubstrBytes cuts bytes out of a text, and refuses to cut a character.
func opSubstrBytes(a []any) (any, error) {
	s, err := coerceToString(a[0])
	if err != nil {
		return nil, err
	}
	from, ok := toInt64(a[1])
	if !ok {
		return nil, mongoerr.New(16034, "$substrBytes:  starting index must be a numeric type (is BSON type %s)", aliasOf(a[1]))
	}
	n, ok := toInt64(a[2])
	if !ok {
		return nil, mongoerr.New(16035, "$substrBytes:  length must be a numeric type (is BSON type %s)", aliasOf(a[2]))
	}
	if from < 0 {
		return nil, mongoerr.New(50752, "$substrBytes:  starting index must be non-negative (got: %d)", from)
	}
	size := int64(len(s))
	if from >= size {
		return "", nil
	}
	if continues(s[from]) {
		return nil, mongoerr.New(28656, "$substrBytes:  Invalid range, starting index is a UTF-8 continuation byte.")
	}
	to := size
	if n >= 0 && n < size-from {
		to = from + n
	}
	if to < size && continues(s[to]) {
		return nil, mongoerr.New(28657, "$substrBytes:  Invalid range, ending index is in the middle of a UTF-8 character.")
	}
	return s[from:to], nil
}

// coerceToString is what an operator on texts makes of another value.
func coerceToString(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case int32, int64, float64, primitive.DateTime:
		text, err := opToString([]any{v})
		s, _ := text.(string)
		return s, err
	case primitive.Timestamp:
		return "Timestamp(" + strconv.FormatUint(uint64(v.T), 10) + ", " + strconv.FormatUint(uint64(v.I), 10) + ")", nil
	}
	if nullish(v) {
		return "", nil
	}
	return "", mongoerr.New(16007, "can't convert from BSON type %s to String", aliasOf(v))
}

// opIndexOfBytes finds a text in another, from a place to before another.
func opIndexOfBytes(a []any) (any, error) {
	if nullish(a[0]) {
		return nil, nil
	}
	s, ok := a[0].(string)
	if !ok {
		return nil, mongoerr.New(40091, "$indexOfBytes requires a string as the first argument, found: %s", aliasOf(a[0]))
	}
	token, ok := a[1].(string)
	if !ok {
		return nil, mongoerr.New(40092, "$indexOfBytes requires a string as the second argument, found: %s", aliasOf(a[1]))
	}
	from, to := 0, len(s)
	for i, arg := range a[2:] {
		place := [...]string{"starting index", "ending index"}[i]
		n, ok := toInt64(arg)
		if f, isDouble := arg.(float64); !ok || isDouble && f != math.Trunc(f) {
			return nil, mongoerr.New(40096, "$indexOfBytesrequires an integral %s, found a value of type: %s, with value: %v", place, aliasOf(arg), arg)
		}
		if n < 0 {
			return nil, mongoerr.New(40097, "$indexOfBytes requires a nonnegative %s, found: %d", place, n)
		}
		if i == 0 {
			from = int(min(n, int64(len(s))+1))
		} else {
			to = int(min(n, int64(len(s))))
		}
	}
	if from > to {
		return int32(-1), nil
	}
	at := strings.Index(s[from:to], token)
	if at >= 0 {
		at += from
	}
	return int32(at), nil //nolint:gosec // less than 16 MB
}

// compileLet gives names to values for one expression. The values do not see each other.
func (e *Expr) compileLet(v any) (evalFunc, error) {
	spec, ok := v.(kit.D)
	if !ok {
		return nil, mongoerr.New(16874, "$let only supports an object as its argument")
	}
	var vars, body []any
	for _, el := range spec {
		switch el.Key {
		case "vars":
			vars = []any{el.Value}
		case "in":
			body = []any{el.Value}
		default:
			return nil, mongoerr.New(16875, "Unrecognized parameter to $let: %s", el.Key)
		}
	}
	if vars == nil {
		return nil, mongoerr.New(16876, "Missing 'vars' parameter to $let")
	}
	if body == nil {
		return nil, mongoerr.New(16877, "Missing 'in' parameter to $let")
	}
	list, ok := vars[0].(kit.D)
	if !ok {
		return nil, mongoerr.New(10065, "invalid parameter: expected an object (vars)")
	}
	values, outer := make([]evalFunc, len(list)), e.known
	inner := outer
	for i, el := range list {
		if err := checkVariable(el.Key); err != nil {
			return nil, err
		}
		var err error
		if values[i], err = e.compile(el.Value); err != nil {
			return nil, err
		}
		inner = &binding{name: el.Key, outer: inner}
	}
	e.known = inner
	eval, err := e.compile(body[0])
	e.known = outer
	if err != nil {
		return nil, err
	}
	return func(in scope) (any, error) {
		within := in
		for i, el := range list {
			v, err := values[i](in)
			if err != nil {
				return nil, err
			}
			within.let = &binding{name: el.Key, value: v, outer: within.let}
		}
		return eval(within)
	}, nil
}

// checkVariable holds the rule for names that a pipeline may give.
func checkVariable(name string) error {
	first, _ := utf8.DecodeRuneInString(name)
	switch {
	case name == "CURRENT": // the server lets it be bound; nothing here needs that
		return mongoerr.New(mongoerr.FailedToParse, "binding CURRENT is not supported")
	case name == "":
		return mongoerr.New(mongoerr.FailedToParse, "empty variable names are not allowed")
	case first < utf8.RuneSelf && !unicode.IsLower(first):
		return mongoerr.New(mongoerr.FailedToParse, "'%s' starts with an invalid character for a user variable name", name)
	}
	for _, c := range name {
		if c < utf8.RuneSelf && c != '_' && !unicode.IsLetter(c) && !unicode.IsDigit(c) {
			return mongoerr.New(mongoerr.FailedToParse, "'%s' contains an invalid character for a variable name: '%c'", name, c)
		}
	}
	return nil
}
