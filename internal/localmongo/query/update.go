package query

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/256dpi/lungo/bsonkit"
	"github.com/256dpi/lungo/mongokit"
	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// MaxDocument is the largest document, 16 MiB.
const MaxDocument = 16 << 20

// maxBackfill is how far beyond its end an array may be set; a MongoDB server has the
// same limit.
const maxBackfill = 1_500_000

// Update is a compiled update: modifiers, a replacement, or a pipeline.
type Update struct {
	ops         []updateOp
	replacement bson.Raw
	stages      []RowStage
	filters     bsonkit.List
	need        *value.Need
}

type updateOp struct {
	op, path string
	val      any
}

// Delta is what an update changed, in the words of a change event. Updated keeps the name
// order in which the server reports fields.
type Delta struct {
	Updated   value.Row
	Removed   []string
	Truncated []Truncation
	// Replaced is set when the whole document was replaced; then the rest is empty.
	Replaced bool
}

// Truncation is an array that only became shorter.
type Truncation struct {
	Field string
	Size  int32
}

// CompileUpdate checks an update: a document of modifiers, a replacement document, or an
// array of stages.
func CompileUpdate(u value.Raw, arrayFilters []bson.Raw) (*Update, error) {
	switch u.Type {
	case bson.TypeArray:
		if len(arrayFilters) > 0 {
			return nil, mongoerr.New(mongoerr.FailedToParse, "arrayFilters may not be specified for pipeline-syle updates")
		}
		return compilePipelineUpdate(bson.Raw(u.Data))
	case bson.TypeEmbeddedDocument:
	default:
		return nil, mongoerr.New(mongoerr.FailedToParse, "Update argument must be either an object or an array")
	}
	for key := range value.Elements(bson.Raw(u.Data)) {
		if len(key) > 0 && key[0] == '$' {
			return compileModifiers(bson.Raw(u.Data), arrayFilters)
		}
		break
	}
	for key := range value.Elements(bson.Raw(u.Data)) {
		if len(key) > 0 && key[0] == '$' {
			return nil, mongoerr.New(mongoerr.DollarPrefixedFieldName, "The dollar ($) prefixed field '%s' is not allowed in the context of an update's replacement document.", key)
		}
	}
	return &Update{replacement: bytes.Clone(u.Data)}, nil
}

// IsReplacement says whether the update replaces the document; such an update cannot be
// a multi update.
func (u *Update) IsReplacement() bool { return u.replacement != nil }

func compilePipelineUpdate(list bson.Raw) (*Update, error) {
	u := &Update{stages: []RowStage{}}
	for _, v := range value.Elements(list) {
		if v.Type != bson.TypeEmbeddedDocument {
			return nil, mongoerr.New(mongoerr.TypeMismatch, "Each element of the 'pipeline' array must be an object")
		}
		for name := range value.Elements(bson.Raw(v.Data)) {
			switch string(name) {
			case "$set", "$addFields", "$unset", "$project", "$replaceRoot", "$replaceWith":
			default:
				return nil, mongoerr.New(mongoerr.InvalidOptions, "%s is not allowed to be used within an update", name)
			}
		}
		s, err := CompileStage(bson.Raw(v.Data))
		if err != nil {
			return nil, err
		}
		u.stages = append(u.stages, s.(RowStage))
	}
	return u, nil
}

func compileModifiers(raw bson.Raw, arrayFilters []bson.Raw) (*Update, error) {
	doc, err := value.Decode(raw, nil)
	if err != nil {
		return nil, mongoerr.New(mongoerr.InvalidBSON, "%s", err)
	}
	u := &Update{need: value.NeedPaths()}
	for _, f := range arrayFilters {
		d, err := value.Decode(f, nil)
		if err != nil {
			return nil, mongoerr.New(mongoerr.InvalidBSON, "%s", err)
		}
		if _, err := CompileFilter(f); err != nil {
			return nil, err
		}
		u.filters = append(u.filters, &d)
	}
	for _, e := range doc {
		if _, ok := mongokit.FieldUpdateOperators[e.Key]; !ok {
			return nil, mongoerr.New(mongoerr.FailedToParse, "Unknown modifier: %s. Expected a valid update modifier or pipeline-style update specified as an array", e.Key)
		}
		fields, ok := e.Value.(kit.D)
		if !ok {
			return nil, mongoerr.New(mongoerr.FailedToParse, "Modifiers operate on fields but we found type %T instead. For example: {$mod: {<field>: ...}} not {%s: ...}", e.Value, e.Key)
		}
		for _, f := range fields {
			if err := u.add(e.Key, f); err != nil {
				return nil, err
			}
		}
	}
	slices.SortStableFunc(u.ops, func(a, b updateOp) int { return comparePaths(a.path, b.path) })
	return u, u.conflicts()
}

func (u *Update) add(op string, f kit.E) error {
	if f.Key == "" || strings.HasPrefix(f.Key, ".") || strings.HasSuffix(f.Key, ".") || strings.Contains(f.Key, "..") {
		return mongoerr.New(56, "The update path '%s' contains an empty field name, which is not allowed.", f.Key)
	}
	u.ops = append(u.ops, updateOp{op, f.Key, f.Value})
	root, _, _ := strings.Cut(f.Key, ".")
	u.need.Add(root)
	if op != "$rename" {
		return nil
	}
	to, ok := f.Value.(string)
	if !ok {
		return mongoerr.New(mongoerr.BadValue, "The 'to' field for $rename must be a string: %s", f.Key)
	}
	root, _, _ = strings.Cut(to, ".")
	u.need.Add(root)
	return nil
}

// conflicts finds two modifiers on one path, or on a path and one inside it.
func (u *Update) conflicts() error {
	var paths []string
	for _, op := range u.ops {
		paths = append(paths, op.path)
		if to, ok := op.val.(string); ok && op.op == "$rename" {
			paths = append(paths, to)
		}
	}
	slices.Sort(paths)
	for i, p := range paths {
		for _, q := range paths[i+1:] {
			if p == q || strings.HasPrefix(q, p+".") {
				return mongoerr.New(mongoerr.ConflictingUpdateOperators, "Updating the path '%s' would create a conflict at '%s'", q, p)
			}
		}
	}
	return nil
}

// comparePaths orders paths as the server's update tree does: by segment, numbers by
// value.
func comparePaths(a, b string) int {
	for {
		ha, ta, ma := strings.Cut(a, ".")
		hb, tb, mb := strings.Cut(b, ".")
		if c := compareSegments(ha, hb); c != 0 {
			return c
		}
		switch {
		case !ma && !mb:
			return 0
		case !ma:
			return -1
		case !mb:
			return 1
		}
		a, b = ta, tb
	}
}

func compareSegments(a, b string) int {
	na, errA := strconv.ParseUint(a, 10, 32)
	nb, errB := strconv.ParseUint(b, 10, 32)
	if errA == nil && errB == nil && na != nb {
		if na < nb {
			return -1
		}
		return 1
	}
	return strings.Compare(a, b)
}

// Apply computes the new document. It returns the old one itself when nothing changed.
func (u *Update) Apply(old bson.Raw, filter *Filter) (bson.Raw, Delta, error) {
	next, delta, err := u.apply(old, filter)
	if err != nil {
		return nil, Delta{}, err
	}
	if bytes.Equal(next, old) && !u.always() {
		return old, Delta{}, nil
	}
	if len(next) > MaxDocument {
		return nil, Delta{}, mongoerr.New(mongoerr.DocumentAfterUpdateTooLarge, "Resulting document after update is larger than %d", MaxDocument)
	}
	return next, delta, nil
}

// always says that the update counts as a change even if it changes nothing: a server
// compares a replacement before it adds the _id that the replacement leaves out.
func (u *Update) always() bool {
	return u.replacement != nil && value.Lookup(u.replacement, "_id").Absent()
}

func (u *Update) apply(old bson.Raw, filter *Filter) (bson.Raw, Delta, error) {
	switch {
	case u.replacement != nil:
		next, err := replaceWith(u.replacement, value.Lookup(old, "_id"))
		return next, Delta{Replaced: true}, err
	case u.stages != nil:
		return u.applyPipeline(old)
	}
	before, err := value.Decode(old, u.need)
	if err != nil {
		return nil, Delta{}, mongoerr.New(mongoerr.InvalidBSON, "%s", err)
	}
	after, err := value.Decode(old, u.need)
	if err != nil {
		return nil, Delta{}, mongoerr.New(mongoerr.InvalidBSON, "%s", err)
	}
	changed, err := u.modify(&after, old, filter, false)
	if err != nil {
		return nil, Delta{}, err
	}
	next, err := u.assemble(old, after)
	if err != nil {
		return nil, Delta{}, err
	}
	delta, err := describe(changed, &before, &after)
	return next, delta, err
}

// replaceWith is the replacement under the old _id.
func replaceWith(doc bson.Raw, id value.Raw) (bson.Raw, error) {
	start, dst := value.Open(make([]byte, 0, len(doc)+32))
	dst = value.AppendRaw(dst, "_id", id)
	for key, v := range value.Elements(doc) {
		if string(key) != "_id" {
			dst = value.AppendRaw(dst, string(key), v)
		} else if !v.Equal(id) {
			return nil, mongoerr.New(mongoerr.ImmutableField, "After applying the update, the (immutable) field '_id' was found to have been altered")
		}
	}
	return value.Close(dst, start), nil
}

func (u *Update) applyPipeline(old bson.Raw) (bson.Raw, Delta, error) {
	row := value.RowOf(old)
	for _, s := range u.stages {
		var err error
		if row, _, err = s.Row(row); err != nil {
			return nil, Delta{}, err
		}
	}
	id := value.Lookup(old, "_id")
	if got := row.Get("_id"); !got.Absent() && !got.Equal(id) {
		return nil, Delta{}, mongoerr.New(mongoerr.ImmutableField, "Performing an update on the path '_id' would modify the immutable field '_id'")
	}
	next := append(value.Row{{Key: "_id", Val: id}}, dropField(row, "_id")...).Document()
	return next, diff(old, next), nil
}

// modify applies the modifiers in path order, as a server since 5.0 does. It returns the
// paths that the kit reports as touched.
func (u *Update) modify(doc bsonkit.Doc, old bson.Raw, filter *Filter, upsert bool) ([]string, error) {
	var paths []string
	var q kit.D
	if filter != nil {
		q = filter.doc
	}
	for _, op := range u.ops {
		if err := u.viable(doc, op, old); err != nil {
			return nil, err
		}
		one := kit.D{{Key: op.op, Value: kit.D{{Key: op.path, Value: clone(op.val)}}}}
		changes, err := mongokit.Apply(doc, &q, &one, upsert, u.filters)
		if err != nil {
			return nil, asBadValue(err)
		}
		for path := range changes.Changed {
			paths = append(paths, path)
		}
	}
	slices.SortFunc(paths, comparePaths)
	return slices.Compact(paths), nil
}

// clone copies an operand, because the kit puts it into the document and later changes it
// there: a multi update would share it.
func clone(v any) any {
	switch v := v.(type) {
	case kit.D:
		return *bsonkit.Clone(&v)
	case kit.A:
		out := make(kit.A, len(v))
		for i, item := range v {
			out[i] = clone(item)
		}
		return out
	}
	return v
}

// assemble puts the new document together: bytes of the old one for fields that no
// modifier named, fresh ones for the others. It is made in memory of its exact size, as it
// will be kept.
func (u *Update) assemble(old bson.Raw, after kit.D) (bson.Raw, error) {
	fresh := make(value.Row, len(after))
	for i, e := range after {
		v, err := value.EncodeValue(e.Value)
		if err != nil {
			return nil, mongoerr.New(mongoerr.BadValue, "field '%s': %s", e.Key, err)
		}
		fresh[i] = value.Field{Key: e.Key, Val: v}
	}
	row := make(value.Row, 0, 64)
	used := 0
	for key, v := range value.Elements(old) {
		if !u.need.Has(string(key)) {
			row = append(row, value.Field{Key: string(key), Val: v})
			continue
		}
		// Fields that stay keep their order, so the next one is this one or is gone.
		now := value.Raw{}
		if used < len(fresh) && fresh[used].Key == string(key) {
			now = fresh[used].Val
			row = append(row, fresh[used])
			used++
		}
		if string(key) == "_id" && !now.Equal(v) {
			return nil, mongoerr.New(mongoerr.ImmutableField, "Performing an update on the path '_id' would modify the immutable field '_id'")
		}
	}
	return append(row, fresh[used:]...).Document(), nil
}

// Insert makes the document of an upsert that found nothing: the equalities of the query
// and then the update. A missing _id is generated.
func (u *Update) Insert(filter *Filter, newID func() any) (bson.Raw, error) {
	base, err := mongokit.Extract(&filter.doc)
	if err != nil {
		return nil, asBadValue(err)
	}
	if u.replacement != nil {
		id := value.Lookup(u.replacement, "_id")
		if want := bsonkit.Get(base, "_id"); id.Absent() && want != missing {
			id, err = value.EncodeValue(want)
		} else if id.Absent() {
			id, err = value.EncodeValue(newID())
		}
		if err != nil {
			return nil, err
		}
		return replaceWith(u.replacement, id)
	}
	raw, err := value.Encode(*base)
	if err != nil {
		return nil, err
	}
	if u.stages != nil {
		return u.insertByPipeline(raw, newID)
	}
	if _, err := u.modify(base, raw, filter, true); err != nil {
		return nil, err
	}
	return withID(*base, newID)
}

func (u *Update) insertByPipeline(base bson.Raw, newID func() any) (bson.Raw, error) {
	row := value.RowOf(base)
	for _, s := range u.stages {
		var err error
		if row, _, err = s.Row(row); err != nil {
			return nil, err
		}
	}
	d, err := value.DecodeFields(row.Fields(), nil)
	if err != nil {
		return nil, err
	}
	return withID(d, newID)
}

// withID encodes a document with its _id first, generated when there is none.
func withID(d kit.D, newID func() any) (bson.Raw, error) {
	out := make(kit.D, 1, len(d)+1)
	out[0] = kit.E{Key: "_id"}
	found := false
	for _, e := range d {
		if e.Key == "_id" {
			out[0].Value, found = e.Value, true
			continue
		}
		out = append(out, e)
	}
	if !found {
		out[0].Value = newID()
	}
	raw, err := value.Encode(out)
	if err != nil {
		return nil, mongoerr.New(mongoerr.BadValue, "%s", err)
	}
	return raw, nil
}
