package query

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/256dpi/lungo/bsonkit"
	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

func toInt64(v any) (int64, bool) {
	switch n := v.(type) {
	case int32:
		return int64(n), true
	case int64:
		return n, true
	case float64:
		return int64(n), n >= math.MinInt64 && n < math.MaxInt64
	}
	return 0, false
}

func opConcat(args []any) (any, error) {
	var out strings.Builder
	for _, v := range args {
		if nullish(v) {
			return nil, nil
		}
		s, ok := v.(string)
		if !ok {
			return nil, mongoerr.New(16702, "$concat only supports strings, not %T", v)
		}
		out.WriteString(s)
	}
	return out.String(), nil
}

func opSize(a []any) (any, error) {
	list, ok := a[0].(kit.A)
	if !ok {
		return nil, mongoerr.New(17124, "The argument to $size must be an array")
	}
	return int32(len(list)), nil
}

func opArrayElemAt(a []any) (any, error) {
	if nullish(a[0]) || nullish(a[1]) {
		return nil, nil
	}
	list, ok := a[0].(kit.A)
	i, isInt := toInt64(a[1])
	if !ok || !isInt {
		return nil, mongoerr.New(28689, "$arrayElemAt needs an array and an integer")
	}
	if i < 0 {
		i += int64(len(list))
	}
	if i < 0 || i >= int64(len(list)) {
		return missing, nil
	}
	return list[i], nil
}

func opType(a []any) (any, error) {
	if a[0] == missing {
		return "missing", nil
	}
	if typ, ok := value.Opaque(a[0]); ok {
		return typ.String(), nil
	}
	_, typ := bsonkit.Inspect(a[0])
	return bsonkit.Type2Alias[typ], nil
}

func opBSONSize(a []any) (any, error) {
	switch v := a[0].(type) {
	case kit.D:
		raw, err := value.Encode(v)
		return int32(len(raw)), err
	case nil:
		return nil, nil
	}
	if a[0] == missing {
		return nil, nil
	}
	return nil, mongoerr.New(31393, "$bsonSize requires a document input, found: %s", typeName(a[0]))
}

func opToString(a []any) (any, error) {
	switch v := a[0].(type) {
	case string:
		return v, nil
	case primitive.ObjectID:
		return v.Hex(), nil
	case int32:
		return strconv.FormatInt(int64(v), 10), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), nil
	case bool:
		return strconv.FormatBool(v), nil
	case primitive.DateTime:
		return v.Time().UTC().Format("2006-01-02T15:04:05.000Z"), nil
	case primitive.Decimal128:
		return v.String(), nil
	}
	if nullish(a[0]) {
		return nil, nil
	}
	return nil, conversion(a[0], "string")
}

func opToLong(a []any) (any, error) {
	if nullish(a[0]) {
		return nil, nil
	}
	switch v := a[0].(type) {
	case bool:
		if v {
			return int64(1), nil
		}
		return int64(0), nil
	case primitive.DateTime:
		return int64(v), nil
	case string:
		if n, err := strconv.ParseInt(v, 10, 64); err == nil {
			return n, nil
		}
	default:
		if n, ok := toInt64(v); ok {
			return n, nil
		}
	}
	return nil, conversion(a[0], "long")
}

func opToDate(a []any) (any, error) {
	if nullish(a[0]) {
		return nil, nil
	}
	switch v := a[0].(type) {
	case primitive.DateTime:
		return v, nil
	case primitive.ObjectID:
		return primitive.NewDateTimeFromTime(v.Timestamp()), nil
	case primitive.Timestamp:
		return primitive.NewDateTimeFromTime(time.Unix(int64(v.T), 0)), nil
	case int64:
		return primitive.DateTime(v), nil
	case float64:
		return primitive.DateTime(v), nil
	}
	return nil, conversion(a[0], "date")
}

// conversion is ConversionFailure.
func conversion(v any, to string) error {
	return mongoerr.New(241, "Unsupported conversion from %T to %s in $convert with no onError value", v, to)
}

func opMergeObjects(args []any) (any, error) {
	out := kit.D{}
	for _, v := range args {
		if nullish(v) {
			continue
		}
		d, ok := v.(kit.D)
		if !ok {
			return nil, mongoerr.New(40400, "$mergeObjects requires object inputs")
		}
		for _, e := range d {
			out = putField(out, e.Key, e.Value)
		}
	}
	return out, nil
}

// putField sets a top-level field without taking dots in its name for a path.
func putField(d kit.D, key string, v any) kit.D {
	for i := range d {
		if d[i].Key == key {
			d[i].Value = v
			return d
		}
	}
	return append(d, kit.E{Key: key, Value: v})
}

func opConcatArrays(args []any) (any, error) {
	out := kit.A{}
	for _, v := range args {
		if nullish(v) {
			return nil, nil
		}
		list, ok := v.(kit.A)
		if !ok {
			return nil, mongoerr.New(28664, "$concatArrays only supports arrays")
		}
		out = append(out, list...)
	}
	return out, nil
}

func opObjectToArray(a []any) (any, error) {
	if nullish(a[0]) {
		return nil, nil
	}
	d, ok := a[0].(kit.D)
	if !ok {
		return nil, mongoerr.New(40390, "$objectToArray requires a document input")
	}
	out := kit.A{}
	for _, e := range d {
		out = append(out, kit.D{{Key: "k", Value: e.Key}, {Key: "v", Value: e.Value}})
	}
	return out, nil
}

func opStrcasecmp(a []any) (any, error) {
	l, _ := a[0].(string)
	r, _ := a[1].(string)
	return int32(strings.Compare(strings.ToUpper(l), strings.ToUpper(r))), nil
}

func stringOp(fn func(string) string) func([]any) (any, error) {
	return func(a []any) (any, error) {
		if nullish(a[0]) {
			return "", nil
		}
		s, ok := a[0].(string)
		if !ok {
			return nil, mongoerr.New(16007, "can't convert from %s to String", fmt.Sprintf("%T", a[0]))
		}
		return fn(s), nil
	}
}

// extreme is $max (sign 1) or $min (sign -1) of its operands, or of the one array given.
func extreme(sign int) func([]any) (any, error) {
	return func(args []any) (any, error) {
		if len(args) == 1 {
			if list, ok := args[0].(kit.A); ok {
				args = list
			}
		}
		var best any
		for _, v := range args {
			if !nullish(v) && (best == nil || bsonkit.Compare(v, best)*sign > 0) {
				best = v
			}
		}
		return best, nil
	}
}
