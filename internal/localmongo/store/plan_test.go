package store_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/256dpi/lungo/bsonkit"
	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"
	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/internal/localmongo/query"
	"github.com/cxbridge/watcher/internal/localmongo/store"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func newStore(t fataler, opts store.Options) *store.Store {
	t.Helper()
	s, err := store.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func encode(t fataler, d kit.D) bson.Raw {
	t.Helper()
	raw, err := value.Encode(d)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func insert(t fataler, s *store.Store, docs ...kit.D) {
	t.Helper()
	err := s.Write(func(tx *store.Tx) error {
		for _, d := range docs {
			doc, err := store.PrepareInsert(encode(t, d), store.NewID)
			if err != nil {
				return err
			}
			if err := tx.Insert("d", "c", doc); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func index(t fataler, s *store.Store, specs ...kit.D) {
	t.Helper()
	var list []*store.Index
	for i, spec := range specs {
		ix, err := store.NewIndex(encode(t, append(spec, kit.E{Key: "name", Value: fmt.Sprint("ix", i)})))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, ix)
	}
	if err := s.Write(func(tx *store.Tx) error { _, err := tx.CreateIndexes("d", "c", list); return err }); err != nil {
		t.Fatal(err)
	}
}

func selection(t fataler, filter, sort kit.D) store.Selection {
	t.Helper()
	f, err := query.CompileFilter(encode(t, filter))
	if err != nil {
		t.Fatal(err)
	}
	sel := store.Selection{Filter: f}
	if sort != nil {
		if sel.Sort, err = query.CompileSort(encode(t, sort)); err != nil {
			t.Fatal(err)
		}
	}
	return sel
}

func find(t fataler, s *store.Store, sel store.Selection) ([]bson.Raw, store.Stats) {
	t.Helper()
	docs, st, err := s.Find("d", "c", sel, store.ReadConcern{})
	if err != nil {
		t.Fatal(err)
	}
	return docs, st
}

func smallValue() *rapid.Generator[any] {
	return rapid.OneOf(
		rapid.Map(rapid.Int32Range(0, 5), func(n int32) any { return n }),
		rapid.Map(rapid.Int32Range(0, 5), func(n int32) any { return float64(n) / 2 }),
		rapid.Map(rapid.SampledFrom([]string{"", "a", "b", "a\x00b"}), func(s string) any { return s }),
		rapid.Map(rapid.Int64Range(0, 3), func(n int64) any { return primitive.DateTime(n) }),
		rapid.Just[any](nil),
		rapid.Map(rapid.Bool(), func(b bool) any { return b }),
	)
}

var fields = []string{"a", "b", "n.x"}

func smallDoc(id int) *rapid.Generator[kit.D] {
	return rapid.Custom(func(t *rapid.T) kit.D {
		d := kit.D{{Key: "_id", Value: int32(id)}}
		array := rapid.IntRange(0, 5).Draw(t, "array") // at most one field is an array
		for i, f := range []string{"a", "b", "n"} {
			var v any
			switch {
			case i == array:
				list := kit.A{}
				for range rapid.IntRange(0, 3).Draw(t, "len") {
					list = append(list, smallValue().Draw(t, "element"))
				}
				v = list
			case rapid.IntRange(0, 3).Draw(t, "missing") == 0:
				continue
			default:
				v = smallValue().Draw(t, f)
			}
			if f == "n" {
				v = kit.D{{Key: "x", Value: v}}
			}
			d = append(d, kit.E{Key: f, Value: v})
		}
		return d
	})
}

func smallCondition(t *rapid.T) any {
	op := rapid.SampledFrom([]string{"", "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$not"}).Draw(t, "op")
	v := smallValue().Draw(t, "operand")
	switch op {
	case "":
		return v
	case "$in", "$nin":
		list := kit.A{v}
		for range rapid.IntRange(0, 3).Draw(t, "more") {
			list = append(list, smallValue().Draw(t, "in"))
		}
		v = list
	case "$exists":
		v = rapid.Bool().Draw(t, "exists")
	case "$not":
		v = kit.D{{Key: "$gt", Value: v}}
	}
	d := kit.D{{Key: op, Value: v}}
	if op == "$gte" && rapid.Bool().Draw(t, "both") {
		d = append(d, kit.E{Key: "$lte", Value: smallValue().Draw(t, "upper")})
	}
	return d
}

func smallFilter(depth int) *rapid.Generator[kit.D] {
	return rapid.Custom(func(t *rapid.T) kit.D {
		q := kit.D{}
		for range rapid.IntRange(0, 3).Draw(t, "conditions") {
			q = append(q, kit.E{Key: rapid.SampledFrom(append(fields, "_id")).Draw(t, "field"), Value: smallCondition(t)})
		}
		if depth > 0 && rapid.IntRange(0, 3).Draw(t, "branch") == 0 {
			op := rapid.SampledFrom([]string{"$and", "$or", "$nor"}).Draw(t, "branchOp")
			list := kit.A{}
			for range rapid.IntRange(1, 3).Draw(t, "branches") {
				list = append(list, smallFilter(depth-1).Draw(t, "sub"))
			}
			q = append(q, kit.E{Key: op, Value: list})
			if op == "$or" && rapid.Bool().Draw(t, "alone") {
				q = q[len(q)-1:]
			}
		}
		return q
	})
}

func smallIndex() *rapid.Generator[kit.D] {
	return rapid.Custom(func(t *rapid.T) kit.D {
		key := kit.D{}
		perm := rapid.Permutation(fields).Draw(t, "columns")
		for _, f := range perm[:rapid.IntRange(1, 3).Draw(t, "n")] {
			key = append(key, kit.E{Key: f, Value: rapid.SampledFrom([]int32{1, -1}).Draw(t, "direction")})
		}
		spec := kit.D{{Key: "key", Value: key}}
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			spec = append(spec, kit.E{Key: "sparse", Value: true})
		case 1:
			spec = append(spec, kit.E{Key: "partialFilterExpression", Value: kit.D{{Key: "a", Value: kit.D{{Key: "$exists", Value: true}}}}})
		}
		return spec
	})
}

func smallSort() *rapid.Generator[kit.D] {
	return rapid.Custom(func(t *rapid.T) kit.D {
		if rapid.Bool().Draw(t, "unsorted") {
			return nil
		}
		s := kit.D{}
		perm := rapid.Permutation(append(fields, "_id")).Draw(t, "by")
		for _, f := range perm[:rapid.IntRange(1, 2).Draw(t, "n")] {
			s = append(s, kit.E{Key: f, Value: rapid.SampledFrom([]int32{1, -1}).Draw(t, "direction")})
		}
		return s
	})
}

// keysOf is the sort key of every document.
func keysOf(t fataler, docs []bson.Raw, sort kit.D) []string {
	t.Helper()
	var out []string
	for _, doc := range docs {
		d, err := value.Decode(doc, nil)
		if err != nil {
			t.Fatal(err)
		}
		var key []byte
		for _, e := range sort {
			desc := e.Value == int32(-1)
			v := bsonkit.Get(&d, e.Key)
			if list, ok := v.(kit.A); ok && len(list) > 0 {
				slices.SortFunc(list, bsonkit.Compare)
				v = list[0]
				if desc {
					v = list[len(list)-1]
				}
			}
			key = value.AppendKey(key, v, desc)
		}
		out = append(out, string(key))
	}
	return out
}

func texts(docs []bson.Raw) []string {
	out := make([]string, len(docs))
	for i, d := range docs {
		out[i] = string(d)
	}
	slices.Sort(out)
	return out
}

// Whatever index the planner takes, the result must be that of a scan.
func TestPlanFindsWhatAScanFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newStore(t, store.Options{})
		var docs []kit.D
		for i := range rapid.IntRange(0, 12).Draw(t, "docs") {
			docs = append(docs, smallDoc(i).Draw(t, "doc"))
		}
		var specs []kit.D
		for range rapid.IntRange(0, 2).Draw(t, "indexes") {
			spec := smallIndex().Draw(t, "index")
			if !slices.ContainsFunc(specs, func(o kit.D) bool { return bsonkit.Compare(o[0].Value, spec[0].Value) == 0 }) {
				specs = append(specs, spec)
			}
		}
		insert(t, s, docs...)
		if len(specs) > 0 {
			index(t, s, specs...)
		}
		sort := smallSort().Draw(t, "sort")
		sel := selection(t, smallFilter(1).Draw(t, "filter"), sort)
		scan := sel
		scan.Hint = "$natural"
		want, _ := find(t, s, scan)
		got, st := find(t, s, sel)
		if !slices.Equal(texts(got), texts(want)) {
			t.Fatalf("index %q finds %v, a scan %v", st.Index, got, want)
		}
		if k := keysOf(t, got, sort); !slices.IsSorted(k) {
			t.Fatalf("index %q gives another order: %v", st.Index, got)
		}
		sel.Skip, sel.Limit = rapid.Int64Range(0, 3).Draw(t, "skip"), rapid.Int64Range(1, 4).Draw(t, "limit")
		scan.Skip, scan.Limit = sel.Skip, sel.Limit
		wantPage, _ := find(t, s, scan)
		page, st := find(t, s, sel)
		if !slices.Equal(keysOf(t, page, sort), keysOf(t, wantPage, sort)) || len(page) != len(wantPage) {
			t.Fatalf("index %q, page: %v, a scan gives %v", st.Index, page, wantPage)
		}
	})
}

// Updates must keep the indexes right.
func TestIndexesFollowUpdates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newStore(t, store.Options{})
		const n = 6
		for i := range n {
			insert(t, s, smallDoc(i).Draw(t, "doc"))
		}
		index(t, s, smallIndex().Draw(t, "index"), kit.D{{Key: "key", Value: kit.D{{Key: "a", Value: int32(1)}, {Key: "zz", Value: int32(1)}}}})
		for range rapid.IntRange(1, 10).Draw(t, "steps") {
			id := int32(rapid.IntRange(0, n).Draw(t, "id"))
			sel := selection(t, kit.D{{Key: "_id", Value: id}}, nil)
			err := s.Write(func(tx *store.Tx) error {
				switch rapid.IntRange(0, 3).Draw(t, "step") {
				case 0:
					_, err := tx.Delete("d", "c", sel)
					return err
				case 1:
					raw, err := value.EncodeValue(smallDoc(int(id)).Draw(t, "replacement"))
					if err != nil {
						return err
					}
					u, err := query.CompileUpdate(raw, nil)
					if err != nil {
						return err
					}
					_, err = tx.Update("d", "c", sel, u, false, true)
					return err
				default:
					f := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "field")
					raw, err := value.EncodeValue(kit.D{{Key: "$set", Value: kit.D{{Key: f, Value: smallValue().Draw(t, "v")}}}})
					if err != nil {
						return err
					}
					u, err := query.CompileUpdate(raw, nil)
					if err != nil {
						return err
					}
					_, err = tx.Update("d", "c", sel, u, false, false)
					return err
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		sel := selection(t, smallFilter(0).Draw(t, "filter"), nil)
		got, st := find(t, s, sel)
		sel.Hint = "$natural"
		want, _ := find(t, s, sel)
		if !slices.Equal(texts(got), texts(want)) {
			t.Fatalf("index %q finds %v, a scan %v", st.Index, got, want)
		}
	})
}

func at(ms int64) primitive.DateTime { return primitive.DateTime(ms) }

// due is the query for retries: every bot but some, with a time that has come.
func due(t fataler, without kit.A, now time.Time) store.Selection {
	t.Helper()
	return selection(t, kit.D{
		{Key: "bot_id", Value: kit.D{{Key: "$nin", Value: without}}},
		{Key: "push.next", Value: kit.D{{Key: "$lte", Value: primitive.NewDateTimeFromTime(now)}}},
	}, nil)
}

// A range on the second column must cost one jump for each value of the first, and not a
// look at every document.
func TestCompoundIndexServesRangeBySkipping(t *testing.T) {
	s := newStore(t, store.Options{})
	index(t, s, kit.D{{Key: "key", Value: kit.D{{Key: "bot_id", Value: int32(1)}, {Key: "push.next", Value: int32(1)}}}})
	const bots, perBot = 20, 500
	now := time.UnixMilli(1_000_000)
	var docs []kit.D
	for b := range bots {
		for i := range perBot {
			d := kit.D{{Key: "bot_id", Value: fmt.Sprintf("b%02d", b)}}
			if i%5 > 0 { // one in five is not due at all
				next := now.UnixMilli() + int64(i) // nearly all are in the future
				if i < 3 {
					next = now.UnixMilli() - int64(i)
				}
				d = append(d, kit.E{Key: "push", Value: kit.D{{Key: "next", Value: at(next)}}})
			}
			docs = append(docs, d)
		}
	}
	insert(t, s, docs...)
	got, st := find(t, s, due(t, kit.A{"b00", "b07"}, now))
	if len(got) != (bots-2)*2 || st.Docs != int64(len(got)) || st.Keys > 4*bots {
		t.Errorf("found %d with %+v, want %d documents looked at and no more than %d keys", len(got), st, (bots-2)*2, 4*bots)
	}
	sel := due(t, kit.A{}, now)
	sel.Limit = 5
	if got, st = find(t, s, sel); len(got) != 5 || st.Docs != 5 {
		t.Errorf("with limit 5: found %d with %+v", len(got), st)
	}
}

func TestRangeInOrderReadsOnlyThePage(t *testing.T) {
	s := newStore(t, store.Options{})
	index(t, s, kit.D{{Key: "key", Value: kit.D{{Key: "completed_at", Value: int32(1)}}}})
	var docs []kit.D
	for i := range 1000 {
		docs = append(docs, kit.D{{Key: "_id", Value: int32(i)}, {Key: "completed_at", Value: at(int64((i * 7919) % 1000))}})
	}
	insert(t, s, docs...)
	for _, dir := range []int32{1, -1} {
		sel := selection(t, kit.D{{Key: "completed_at", Value: kit.D{{Key: "$gte", Value: at(200)}, {Key: "$lt", Value: at(900)}}}}, kit.D{{Key: "completed_at", Value: dir}})
		sel.Limit = 10
		got, st := find(t, s, sel)
		if len(got) != 10 || st.Docs != 10 || !st.Sorted {
			t.Errorf("direction %d: %d documents with %+v", dir, len(got), st)
		}
	}
}

func TestEqualityDoesNotScan(t *testing.T) {
	s := newStore(t, store.Options{})
	index(t, s, kit.D{{Key: "key", Value: kit.D{{Key: "session_id", Value: int32(1)}}}, {Key: "unique", Value: true},
		{Key: "partialFilterExpression", Value: kit.D{{Key: "session_id", Value: kit.D{{Key: "$exists", Value: true}}}}}})
	var docs []kit.D
	for i := range 1000 {
		docs = append(docs, kit.D{{Key: "_id", Value: int32(i)}, {Key: "session_id", Value: fmt.Sprint("s", i)}})
	}
	insert(t, s, docs...)
	for name, filter := range map[string]kit.D{
		"_id":             {{Key: "_id", Value: int64(7)}},
		"_id in":          {{Key: "_id", Value: kit.D{{Key: "$in", Value: kit.A{int32(7)}}}}},
		"partial unique":  {{Key: "session_id", Value: "s7"}},
		"and":             {{Key: "$and", Value: kit.A{kit.D{{Key: "x", Value: nil}}, kit.D{{Key: "session_id", Value: "s7"}}}}},
		"or of two":       {{Key: "$or", Value: kit.A{kit.D{{Key: "session_id", Value: "s7"}}, kit.D{{Key: "_id", Value: int32(7)}}}}},
		"with other part": {{Key: "y", Value: nil}, {Key: "_id", Value: int32(7)}},
	} {
		got, st := find(t, s, selection(t, filter, nil))
		if len(got) != 1 || st.Docs > 2 {
			t.Errorf("%s: found %d with %+v", name, len(got), st)
		}
	}
	if before := s.Examined(); before > 20 {
		t.Errorf("%d documents were looked at altogether", before)
	}
}
