package store

import (
	"slices"
	"strings"

	"github.com/256dpi/lungo/mongokit"
	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"

	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// interval is a range of keys of one column, low included, high not. A key is never the
// beginning of another one, so "above k" is written as after(k); put behind the keys of
// the columns before, that is also above all entries of an index that begin so. Bounds
// may be wider than the query: every document found is matched again.
type interval struct{ lo, hi string }

// top is above every key.
const top = "\xff"

// bounds is what a query says about one field: sorted intervals that do not overlap.
type bounds struct {
	list []interval
	// points says that every interval is a single value.
	points bool
	// weak says that the bounds only take values out ($ne, $nin), so that they are no
	// reason to use an index unless a later column has better ones.
	weak bool
	// met says that the bounds come from two conditions, which on an array may be met by
	// two different elements.
	met bool
	// values are the points, for checking a partial index's filter.
	values []any
}

func everything() bounds { return bounds{list: []interval{{"", top}}, weak: true} }

// fieldBounds reads the bounds of every field out of a query, through $and.
func fieldBounds(q kit.D) map[string]bounds {
	out := map[string]bounds{}
	collectBounds(q, out)
	return out
}

func collectBounds(q kit.D, out map[string]bounds) {
	for _, e := range q {
		if e.Key == "$and" {
			for _, item := range e.Value.(kit.A) {
				collectBounds(item.(kit.D), out)
			}
			continue
		}
		if strings.HasPrefix(e.Key, "$") {
			continue
		}
		b, ok := conditionBounds(e.Value)
		if !ok {
			continue
		}
		if have, twice := out[e.Key]; twice {
			b = intersect(have, b)
		}
		out[e.Key] = b
	}
}

func conditionBounds(v any) (bounds, bool) {
	ops, ok := v.(kit.D)
	if !ok || len(ops) == 0 || !strings.HasPrefix(ops[0].Key, "$") {
		return point(v)
	}
	all, found := everything(), false
	for _, op := range ops {
		b, ok := operatorBounds(op)
		if !ok {
			continue
		}
		if found {
			b = intersect(all, b)
		}
		all, found = b, true
	}
	return all, found
}

func operatorBounds(op kit.E) (bounds, bool) {
	switch op.Key {
	case "$eq":
		return point(op.Value)
	case "$in":
		return points(op.Value)
	case "$ne":
		b, ok := point(op.Value)
		return complement(b), ok
	case "$nin":
		b, ok := points(op.Value)
		return complement(b), ok
	case "$exists":
		b := everything()
		return b, true
	case "$gt", "$gte", "$lt", "$lte":
		return ranged(op)
	}
	return bounds{}, false
}

// plain says whether a value stands in an index as it is. Arrays stand there by their
// elements, and a regular expression is no value.
func plain(v any) bool {
	switch v.(type) {
	case kit.A, primitive.Regex:
		return false
	}
	return true
}

func point(v any) (bounds, bool) {
	if !plain(v) {
		return bounds{}, false
	}
	return bounds{list: []interval{exactly(v)}, points: true, values: []any{v}}, true
}

func exactly(v any) interval {
	k := string(value.AppendKey(nil, v, false))
	return interval{k, after(k)}
}

func points(v any) (bounds, bool) {
	list, ok := v.(kit.A)
	if !ok {
		return bounds{}, false
	}
	b := bounds{points: true, list: make([]interval, 0, len(list)), values: list}
	for _, item := range list {
		if !plain(item) {
			return bounds{}, false
		}
		b.list = append(b.list, exactly(item))
	}
	slices.SortFunc(b.list, func(x, y interval) int { return strings.Compare(x.lo, y.lo) })
	b.list = slices.Compact(b.list)
	return b, true
}

func complement(b bounds) bounds {
	out := bounds{weak: true}
	at := ""
	for _, iv := range b.list {
		out.list = append(out.list, interval{at, iv.lo})
		at = iv.hi
	}
	out.list = append(out.list, interval{at, top})
	return out
}

// ranged bounds a comparison to the values of the operand's class, as comparisons do not
// reach across classes.
func ranged(op kit.E) (bounds, bool) {
	if !plain(op.Value) {
		return bounds{}, false
	}
	k := string(value.AppendKey(nil, op.Value, false))
	iv := interval{string(value.ClassLow(op.Value)), string(value.ClassHigh(op.Value))}
	switch op.Key {
	case "$gt":
		iv.lo = after(k)
	case "$gte":
		iv.lo = k
	case "$lt":
		iv.hi = k
	case "$lte":
		iv.hi = after(k)
	}
	return bounds{list: []interval{iv}}, true
}

func intersect(a, b bounds) bounds {
	out := bounds{points: a.points || b.points, weak: a.weak && b.weak, met: true, values: a.values}
	if !a.points || b.points && len(b.values) < len(a.values) {
		out.values = b.values
	}
	for i, j := 0, 0; i < len(a.list) && j < len(b.list); {
		lo, hi := max(a.list[i].lo, b.list[j].lo), min(a.list[i].hi, b.list[j].hi)
		if lo < hi {
			out.list = append(out.list, interval{lo, hi})
		}
		if a.list[i].hi < b.list[j].hi {
			i++
		} else {
			j++
		}
	}
	return out
}

// descending turns the bounds over for a column in descending order. The result may be
// wider by one key at the low end.
func (b bounds) descending() bounds {
	out := b
	out.list = make([]interval, len(b.list))
	for i, iv := range b.list {
		lo := inverted(iv.hi)
		if b.points {
			lo = inverted(iv.lo)
		}
		out.list[len(b.list)-1-i] = interval{lo, after(inverted(iv.lo))}
	}
	return out
}

func inverted(s string) string {
	k := []byte(s)
	value.Invert(k)
	return string(k)
}

// after is the least string above every string that begins with s.
func after(s string) string {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] != 0xff {
			return s[:i] + string([]byte{s[i] + 1})
		}
	}
	return top + top
}

// implies says whether a query's bounds allow no document that a partial index leaves
// out: every field that the index's filter names must be bound to values that fit it.
func implies(filter kit.D, have map[string]bounds) bool {
	for _, e := range filter {
		if e.Key == "$and" {
			for _, item := range e.Value.(kit.A) {
				if !implies(item.(kit.D), have) {
					return false
				}
			}
			continue
		}
		b, ok := have[e.Key]
		if !ok || strings.HasPrefix(e.Key, "$") {
			return false
		}
		if !impliesField(e, b) {
			return false
		}
	}
	return true
}

// excludesNull says whether a value within the bounds cannot be null, and so the field is
// there.
func (b bounds) excludesNull() bool {
	null := exactly(nil)
	return !b.weak && len(b.list) > 0 && b.list[0].lo >= null.hi
}

func impliesField(cond kit.E, b bounds) bool {
	if b.points {
		for _, v := range b.values {
			doc, q := kit.D{}, kit.D{{Key: "f", Value: cond.Value}}
			if v != nil {
				doc = kit.D{{Key: "f", Value: v}}
			}
			if ok, err := mongokit.Match(&doc, &q); err != nil || !ok {
				return false
			}
		}
		return true
	}
	d, ok := cond.Value.(kit.D)
	if !ok || b.weak || len(d) != 1 || d[0].Key != "$exists" || d[0].Value != true {
		return false
	}
	return b.excludesNull()
}
