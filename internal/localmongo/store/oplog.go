package store

import (
	"slices"

	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/primitive"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

var oplogOps = map[Op]string{Insert: "i", Replace: "u", Update: "u", Delete: "d", Noop: "n"}

// Oplog answers a find on local.oplog.rs out of the history, in the natural order or
// backwards. It is there for the window between the first and the last entry; the
// documents have the fields of real ones but not the inner form of an update.
func (s *Store) Oplog(sel Selection) ([]bson.Raw, error) {
	if sel.Sort != nil && sel.Sort.Natural() == 0 {
		return nil, mongoerr.New(mongoerr.BadValue, "local.oplog.rs can be sorted by $natural only")
	}
	want := -1
	if sel.Limit > 0 {
		want = int(sel.Skip + sel.Limit)
	}
	take := want
	if len(sel.Filter.Doc()) > 0 {
		take = -1
	}
	entries := s.History.copyEntries(take, sel.Sort.Natural() < 0)
	var out []bson.Raw
	for i := 0; i < len(entries) && (want < 0 || len(out) < want); i++ {
		e := entries[i]
		if sel.Sort.Natural() < 0 {
			e = entries[len(entries)-1-i]
		}
		doc, err := value.Encode(e.oplog())
		if err != nil {
			return nil, err
		}
		if ok, err := sel.Filter.Match(doc); err != nil {
			return nil, err
		} else if ok {
			out = append(out, doc)
		}
	}
	return out[min(sel.Skip, int64(len(out))):], nil
}

// copyEntries returns n entries from the old end, or with newest from the new one; all for
// a negative n.
func (h *History) copyEntries(n int, newest bool) []*Entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.entries
	if n >= 0 && n < len(list) {
		if newest {
			list = list[len(list)-n:]
		} else {
			list = list[:n]
		}
	}
	return slices.Clone(list)
}

func (e *Entry) oplog() kit.D {
	op, ok := oplogOps[e.Op]
	if !ok {
		op = "c"
	}
	d := kit.D{
		{Key: "ts", Value: primitive.Timestamp(e.Time)}, {Key: "t", Value: int64(1)}, {Key: "v", Value: int64(2)},
		{Key: "op", Value: op}, {Key: "ns", Value: e.DB + "." + e.Coll},
		{Key: "wall", Value: primitive.NewDateTimeFromTime(e.Wall)},
	}
	if e.Full != nil {
		return append(d, kit.E{Key: "o", Value: e.Full})
	}
	if !e.ID.Absent() {
		return append(d, kit.E{Key: "o2", Value: kit.D{{Key: "_id", Value: e.ID}}})
	}
	return d
}
