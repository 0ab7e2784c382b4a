package query

import (
	"iter"
	"slices"
	"strings"

	"github.com/256dpi/lungo/bsonkit"
	"github.com/256dpi/lungo/mongokit"
	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// Sort is a compiled sort order.
type Sort struct {
	columns []bsonkit.Column
	need    *value.Need
	natural int
}

// CompileSort checks a sort document. It returns nil for an empty one. $natural alone is
// understood as the order of insertion.
func CompileSort(raw bson.Raw) (*Sort, error) {
	doc, err := value.Decode(raw, nil)
	if err != nil {
		return nil, mongoerr.New(mongoerr.InvalidBSON, "%s", err)
	}
	if len(doc) == 0 {
		return nil, nil
	}
	columns, err := mongokit.Columns(&doc)
	if err != nil {
		return nil, mongoerr.New(mongoerr.BadValue, "sort: %s", err)
	}
	s := &Sort{columns: columns, need: value.NeedPaths()}
	for _, c := range columns {
		if c.Path == "$natural" && len(columns) == 1 {
			s.natural = 1
			if c.Reverse {
				s.natural = -1
			}
			s.columns = nil
			return s, nil
		}
		if strings.HasPrefix(c.Path, "$") || c.Path == "" {
			return nil, mongoerr.New(mongoerr.BadValue, "sort by %q is not supported", c.Path)
		}
		s.need.Add(c.Path)
	}
	return s, nil
}

// Natural is 1 or -1 for {$natural: ...}, else 0.
func (s *Sort) Natural() int {
	if s == nil {
		return 0
	}
	return s.natural
}

// Documents sorts documents in place, stably, by the kit's order.
func (s *Sort) Documents(docs []bson.Raw) error {
	return sortBy(s, docs, value.Elements)
}

func (s *Sort) rows(rows []value.Row) ([]value.Row, error) {
	if s.natural != 0 {
		return nil, mongoerr.New(mongoerr.BadValue, "$natural is supported in find only")
	}
	return rows, sortBy(s, rows, value.Row.Fields)
}

// sortBy decodes each document's sort fields once and orders by them.
func sortBy[T any](s *Sort, items []T, fields func(T) iter.Seq2[[]byte, value.Raw]) error {
	type keyed struct {
		item T
		key  bsonkit.Doc
	}
	list := make([]keyed, len(items))
	for i, item := range items {
		d, err := value.DecodeFields(fields(item), s.need)
		if err != nil {
			return mongoerr.New(mongoerr.InvalidBSON, "%s", err)
		}
		list[i] = keyed{item, &d}
	}
	slices.SortStableFunc(list, func(a, b keyed) int { return bsonkit.Order(a.key, b.key, s.columns, false) })
	for i := range list {
		items[i] = list[i].item
	}
	return nil
}

// Distinct lists the distinct values at a path as the kit does.
func Distinct(docs []bson.Raw, path string) (kit.A, error) {
	need := value.NeedPaths(path)
	list := make(bsonkit.List, 0, len(docs))
	for _, raw := range docs {
		d, err := value.Decode(raw, need)
		if err != nil {
			return nil, mongoerr.New(mongoerr.InvalidBSON, "%s", err)
		}
		list = append(list, &d)
	}
	return mongokit.Distinct(list, path), nil
}
