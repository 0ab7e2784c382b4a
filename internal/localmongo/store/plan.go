package store

import (
	"slices"
	"strings"

	"github.com/256dpi/lungo/bsonkit"
	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/query"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// Selection says which documents of a collection are wanted.
type Selection struct {
	Filter *query.Filter
	Sort   *query.Sort
	Skip   int64
	Limit  int64 // 0 is no limit
	Hint   string
}

// Stats counts the work of a selection.
type Stats struct {
	Keys, Docs int64
	// Index is the name of the index used, "" for a scan of the collection.
	Index string
	// Sorted says that the index gave the order, so that nothing was sorted afterwards.
	Sorted bool
}

// found is one selected document with its record number.
type found struct {
	seq uint64
	doc bson.Raw
}

// plan is a chosen index with the bounds of its columns; no index means all documents.
type plan struct {
	ix      *Index
	bounds  []bounds
	reverse bool
	sorted  bool
}

// find selects documents. Only the documents that an index cannot rule out are looked at.
func (c *Collection) find(sel Selection, st *Stats) ([]found, error) {
	if n := sel.Sort.Natural(); n != 0 {
		return c.collect(sel, plan{reverse: n < 0, sorted: true}, st)
	}
	p, err := c.plan(sel)
	if err != nil {
		return nil, err
	}
	if p.ix == nil {
		if branches := c.union(sel); branches != nil {
			return c.collectUnion(sel, branches, st)
		}
	}
	return c.collect(sel, p, st)
}

// plan chooses an index: most leading columns bound to values first, then a range, then
// the wanted order.
func (c *Collection) plan(sel Selection) (plan, error) {
	have := fieldBounds(sel.Filter.Doc())
	best, bestScore := plan{sorted: sel.Sort == nil}, 0
	for _, ix := range c.Indexes {
		if sel.Hint != "" && sel.Hint != ix.Name {
			continue
		}
		if ix.partial != nil && !implies(ix.partial.Doc(), have) {
			continue
		}
		if ix.sparse && !slices.ContainsFunc(ix.columns, func(c bsonkit.Column) bool { return have[c.Path].excludesNull() }) {
			continue
		}
		p, score := ix.plan(have, sel.Sort)
		if sel.Hint != "" {
			return p, nil
		}
		if score > bestScore {
			best, bestScore = p, score
		}
	}
	if sel.Hint != "" && sel.Hint != "$natural" {
		return best, mongoerr.New(mongoerr.BadValue, "error processing query: planner returned error :: caused by :: hint provided does not correspond to an existing index")
	}
	return best, nil
}

// plan bounds the columns of an index and scores it; 0 means that the index is no help.
func (ix *Index) plan(have map[string]bounds, order *query.Sort) (plan, int) {
	p := plan{ix: ix, sorted: order == nil}
	score, equal := 0, 0
	leading := true
	for i, col := range ix.columns {
		b, ok := have[col.Path]
		if !ok {
			b = everything()
		}
		if ix.multikey && b.met {
			b = everything()
		}
		switch {
		case leading && b.points && len(b.list) == 1:
			score += 40
			equal++
		case leading && b.points:
			score += 30
			leading = false
		case !b.weak && (leading || i > 0 && score > 0):
			score += 20
			leading = false
		case ok && i == 0:
			score++
			leading = false
		default:
			leading = false
		}
		if col.Reverse {
			b = b.descending()
		}
		p.bounds = append(p.bounds, b)
	}
	if order != nil && !ix.multikey {
		p.sorted, p.reverse = ix.gives(order.Columns(), equal)
		if p.sorted {
			score += 10
		}
	}
	if score == 1 { // only takes values out of the first column: no better than a scan
		score = 0
	}
	return p, score
}

// gives says whether the index has an order once its first columns are fixed, and
// whether it must be read backwards for it.
func (ix *Index) gives(order []bsonkit.Column, equal int) (sorted, reverse bool) {
	columns := ix.columns
	for skip := 0; skip <= min(equal, len(columns)); skip++ {
		rest := columns[skip:]
		if len(order) > len(rest) {
			continue
		}
		same, turned := true, true
		for i, o := range order {
			if o.Path != rest[i].Path {
				same, turned = false, false
				break
			}
			same = same && o.Reverse == rest[i].Reverse
			turned = turned && o.Reverse != rest[i].Reverse
		}
		if same || turned {
			return true, turned
		}
	}
	return false, false
}

// collect runs a plan.
func (c *Collection) collect(sel Selection, p plan, st *Stats) ([]found, error) {
	want := int64(-1)
	if sel.Limit > 0 && p.sorted {
		want = sel.Skip + sel.Limit
	}
	var out []found
	var err error
	seen := map[uint64]bool{}
	visit := func(seq uint64, doc bson.Raw) bool {
		if p.ix != nil && p.ix.multikey {
			if seen[seq] {
				return true
			}
			seen[seq] = true
		}
		st.Docs++
		var ok bool
		if ok, err = sel.Filter.Match(doc); err != nil {
			return false
		}
		if ok {
			out = append(out, found{seq, doc})
		}
		return want < 0 || int64(len(out)) < want
	}
	if p.ix != nil {
		st.Index, st.Sorted = p.ix.Name, p.sorted
		p.walk(st, func(seq uint64) bool {
			doc, ok := c.docs.Get(seq)
			return !ok || visit(seq, doc)
		})
	} else if p.reverse {
		c.docs.Reverse(visit)
	} else {
		c.docs.Scan(visit)
	}
	if err != nil {
		return nil, err
	}
	return finish(sel, out, p.sorted)
}

// finish sorts what the plan did not, and cuts the page out.
func finish(sel Selection, out []found, sorted bool) ([]found, error) {
	if !sorted {
		docs := make([]bson.Raw, len(out))
		bySlice := make(map[*byte]uint64, len(out))
		for i, f := range out {
			docs[i] = f.doc
			bySlice[&f.doc[0]] = f.seq
		}
		if err := sel.Sort.Documents(docs); err != nil {
			return nil, err
		}
		for i, doc := range docs {
			out[i] = found{bySlice[&doc[0]], doc}
		}
	}
	out = out[min(sel.Skip, int64(len(out))):]
	if sel.Limit > 0 && int64(len(out)) > sel.Limit {
		out = out[:sel.Limit]
	}
	return out, nil
}

// union finds an index for every branch of a query that is one $or; nil when some branch
// has none.
func (c *Collection) union(sel Selection) []Selection {
	q := sel.Filter.Doc()
	if sel.Hint != "" || len(q) != 1 || q[0].Key != "$or" {
		return nil
	}
	var out []Selection
	for _, branch := range q[0].Value.(kit.A) {
		raw, err := value.Encode(branch.(kit.D))
		if err != nil {
			return nil // holds a compiled $expr
		}
		f, err := query.CompileFilter(raw)
		if err != nil {
			return nil
		}
		sub := Selection{Filter: f}
		if p, err := c.plan(sub); err != nil || p.ix == nil {
			return nil
		}
		out = append(out, sub)
	}
	return out
}

func (c *Collection) collectUnion(sel Selection, branches []Selection, st *Stats) ([]found, error) {
	var out []found
	seen := map[uint64]bool{}
	names := []string{}
	for _, b := range branches {
		var part Stats
		got, err := c.find(b, &part)
		if err != nil {
			return nil, err
		}
		st.Keys, st.Docs = st.Keys+part.Keys, st.Docs+part.Docs
		names = append(names, part.Index)
		for _, f := range got {
			if !seen[f.seq] {
				seen[f.seq] = true
				out = append(out, f)
			}
		}
	}
	st.Index = strings.Join(slices.Compact(names), ",")
	slices.SortFunc(out, func(a, b found) int { return int(int64(a.seq - b.seq)) })
	return finish(sel, out, sel.Sort == nil)
}
