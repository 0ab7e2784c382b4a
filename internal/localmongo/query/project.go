package query

import (
	"strconv"
	"strings"

	"github.com/256dpi/lungo/mongokit"
	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// Projection is a compiled projection of a find or a $project stage. Plain inclusion and
// exclusion work on bytes and reach through arrays, which the kit's projection does not;
// $slice and $elemMatch are the kit's.
type Projection struct {
	tree     *projNode
	exclude  bool
	hideID   bool
	computed []computedField
	need     *value.Need
	kit      kit.D
}

type projNode struct{ kids map[string]*projNode }

type computedField struct {
	path string
	expr *Expr
}

// CompileProjection checks a projection. It returns nil for an empty one, which changes
// nothing.
func CompileProjection(raw bson.Raw) (*Projection, error) {
	doc, err := value.Decode(raw, nil)
	if err != nil {
		return nil, mongoerr.New(mongoerr.InvalidBSON, "%s", err)
	}
	if len(doc) == 0 {
		return nil, nil
	}
	c := &projCompiler{p: &Projection{tree: &projNode{}, need: value.NeedPaths()}}
	if err := c.fields("", doc); err != nil {
		return nil, err
	}
	if c.kitOps {
		if len(c.p.computed) > 0 {
			return nil, mongoerr.New(mongoerr.BadValue, "computed fields beside $slice or $elemMatch are not supported")
		}
		c.p.kit = doc
		return c.p, nil
	}
	c.p.exclude = c.excluded > 0 && c.included == 0 && len(c.p.computed) == 0
	if c.included == 0 && c.excluded == 0 && len(c.p.computed) == 0 && c.p.hideID {
		c.p.exclude = true
	}
	if c.excluded > 0 && !c.p.exclude {
		return nil, mongoerr.New(31254, "Cannot do exclusion on field %s in inclusion projection", c.lastExcluded)
	}
	return c.p, nil
}

// projCompiler counts what it meets, for the choice between inclusion and exclusion.
type projCompiler struct {
	p                  *Projection
	included, excluded int
	lastExcluded       string
	kitOps             bool
}

func (c *projCompiler) fields(prefix string, doc kit.D) error {
	for _, e := range doc {
		if e.Key == "" || strings.HasPrefix(e.Key, "$") || strings.HasSuffix(e.Key, ".$") {
			return mongoerr.New(31325, "projection field %q is not supported", prefix+e.Key)
		}
		if err := c.field(prefix+e.Key, e.Value); err != nil {
			return err
		}
	}
	return nil
}

func (c *projCompiler) field(path string, v any) error {
	switch v := v.(type) {
	case bool, int32, int64, float64:
		return c.flag(path, truthy(v))
	case kit.D:
		if len(v) == 0 {
			return mongoerr.New(51270, "An empty sub-projection is not a valid value. Found empty object at path %s", path)
		}
		if op := v[0].Key; op == "$slice" && !isAggSlice(v[0].Value) || op == "$elemMatch" {
			c.kitOps = true
			return nil
		}
		if !strings.HasPrefix(v[0].Key, "$") {
			return c.fields(path+".", v)
		}
	}
	expr, err := CompileExpr(v)
	if err != nil {
		return err
	}
	expr.addNeeds(c.p.need)
	c.p.computed = append(c.p.computed, computedField{path: path, expr: expr})
	return nil
}

// isAggSlice tells the $slice expression, whose first operand is an array expression,
// from the projection operator, which takes numbers only.
func isAggSlice(v any) bool {
	list, ok := v.(kit.A)
	if !ok || len(list) == 0 {
		return false
	}
	_, num := toInt64(list[0])
	return !num
}

func (c *projCompiler) flag(path string, include bool) error {
	switch {
	case path == "_id" && !include:
		c.p.hideID = true
		return nil
	case path == "_id":
		c.included++
		return c.p.tree.add("_id")
	case include:
		c.included++
	default:
		c.excluded++
		c.lastExcluded = path
	}
	if c.included > 0 && c.excluded > 0 {
		return mongoerr.New(31253, "Cannot mix inclusion and exclusion: field %s", path)
	}
	return c.p.tree.add(path)
}

// add names a path. A path inside a named one, or around it, is a collision.
func (n *projNode) add(path string) error {
	head, tail, more := strings.Cut(path, ".")
	kid, known := n.kids[head]
	if known && (!more || kid.kids == nil) {
		return mongoerr.New(31249, "Path collision at %s", path)
	}
	if !known {
		kid = &projNode{}
		if n.kids == nil {
			n.kids = map[string]*projNode{}
		}
		n.kids[head] = kid
	}
	if more {
		return kid.add(tail)
	}
	return nil
}

// Apply projects a row. The result shares bytes with the row where it can.
func (p *Projection) Apply(row value.Row) (value.Row, error) {
	if p == nil {
		return row, nil
	}
	if p.kit != nil {
		return p.applyKit(row)
	}
	out := make(value.Row, 0, len(row))
	for _, f := range row {
		if v, keep := p.keep(f); keep {
			out = append(out, value.Field{Key: f.Key, Val: v})
		}
	}
	if len(p.computed) == 0 {
		return out, nil
	}
	return p.compute(row, out)
}

// keep decides on one top-level field.
func (p *Projection) keep(f value.Field) (value.Raw, bool) {
	if f.Key == "_id" && p.tree.kids["_id"] == nil {
		return f.Val, !p.hideID
	}
	kid, named := p.tree.kids[f.Key]
	if p.exclude {
		if !named {
			return f.Val, true
		}
		return kid.trim(f.Val, true)
	}
	if !named {
		return value.Raw{}, false
	}
	return kid.trim(f.Val, false)
}

// trim keeps what a node names of a value, or with drop everything else. It reports false
// when nothing is left to stand for the value.
func (n *projNode) trim(v value.Raw, drop bool) (value.Raw, bool) {
	if n.kids == nil {
		return v, !drop
	}
	if v.Document() == nil {
		return v, drop
	}
	data, _ := n.append(make([]byte, 0, min(len(v.Data), 1024)), v, drop)
	return value.Raw{Type: v.Type, Data: data}, true
}

// append writes the bytes of a trimmed value, all into one buffer; with false nothing was
// written.
func (n *projNode) append(dst []byte, v value.Raw, drop bool) ([]byte, bool) {
	if n.kids == nil && drop {
		return dst, false
	}
	doc := v.Document()
	if n.kids == nil || doc == nil && drop {
		return append(dst, v.Data...), true
	}
	if doc == nil {
		return dst, false
	}
	start, dst := value.Open(dst)
	inArray, count := v.Type == bson.TypeArray, 0
	for key, kid := range value.Elements(doc) {
		sub, named := n, true
		if !inArray {
			sub, named = n.kids[string(key)]
		}
		if !named && !drop {
			continue
		}
		at := len(dst)
		dst = append(dst, byte(kid.Type))
		if inArray {
			dst = strconv.AppendInt(dst, int64(count), 10)
		} else {
			dst = append(dst, key...)
		}
		dst = append(dst, 0)
		kept := true
		if named {
			dst, kept = sub.append(dst, kid, drop)
		} else {
			dst = append(dst, kid.Data...)
		}
		if !kept {
			dst = dst[:at]
			continue
		}
		count++
	}
	return value.Close(dst, start), true
}

// compute adds the computed fields.
func (p *Projection) compute(row, out value.Row) (value.Row, error) {
	d, err := value.DecodeFields(row.Fields(), p.need)
	if err != nil {
		return nil, mongoerr.New(mongoerr.InvalidBSON, "%s", err)
	}
	for _, c := range p.computed {
		v, err := c.expr.Eval(d)
		if err != nil {
			return nil, err
		}
		if out, err = setPath(out, c.path, v); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// setPath puts a computed value at a path; a missing value takes the field away.
func setPath(row value.Row, path string, v any) (value.Row, error) {
	root, rest, deep := strings.Cut(path, ".")
	if !deep {
		if v == missing {
			return dropField(row, root), nil
		}
		raw, err := value.EncodeValue(v)
		if err != nil {
			return nil, err
		}
		return row.Set(root, raw), nil
	}
	var inner any = kit.D{}
	if old := row.Get(root); !old.Absent() {
		var err error
		if inner, err = value.DecodeValue(old); err != nil {
			return nil, err
		}
	}
	raw, err := value.EncodeValue(putDeep(inner, rest, v))
	if err != nil {
		return nil, err
	}
	return row.Set(root, raw), nil
}

// putDeep sets a path inside a value as $addFields does: in every element of an array,
// and in the place of anything that is no document.
func putDeep(v any, path string, to any) any {
	if list, ok := v.(kit.A); ok {
		out := make(kit.A, len(list))
		for i, item := range list {
			out[i] = putDeep(item, path, to)
		}
		return out
	}
	old, _ := v.(kit.D)
	d := append(kit.D(nil), old...)
	head, tail, more := strings.Cut(path, ".")
	if more {
		var inner any = kit.D{}
		for _, e := range d {
			if e.Key == head {
				inner = e.Value
			}
		}
		to = putDeep(inner, tail, to)
	}
	if to == missing {
		out := d[:0]
		for _, e := range d {
			if e.Key != head {
				out = append(out, e)
			}
		}
		return out
	}
	return putField(d, head, to)
}

func dropField(row value.Row, key string) value.Row {
	out := make(value.Row, 0, len(row))
	for _, f := range row {
		if f.Key != key {
			out = append(out, f)
		}
	}
	return out
}

func (p *Projection) applyKit(row value.Row) (value.Row, error) {
	d, err := value.DecodeFields(row.Fields(), nil)
	if err != nil {
		return nil, mongoerr.New(mongoerr.InvalidBSON, "%s", err)
	}
	res, err := mongokit.Project(&d, &p.kit)
	if err != nil {
		return nil, asBadValue(err)
	}
	raw, err := value.Encode(*res)
	if err != nil {
		return nil, err
	}
	return value.RowOf(raw), nil
}
