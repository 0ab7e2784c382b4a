package store

import (
	"strings"

	"github.com/tidwall/btree"

	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// walk visits the records whose keys lie within the bounds of every column, in key order.
// It does not step through keys outside: from a key that misses the bounds of a column it
// jumps to the next one that can hold, so a range on a second column costs one jump for
// each value of the first.
func (p plan) walk(st *Stats, visit func(seq uint64) bool) {
	w := walker{plan: p, it: p.ix.tree.Iter()}
	ok := w.start()
	for ok {
		st.Keys++
		jump, inside := w.check(w.it.Key())
		switch {
		case inside:
			if !visit(w.it.Value()) {
				return
			}
			ok = w.step()
		default:
			ok = w.jump(jump)
		}
	}
}

type walker struct {
	plan
	it btree.MapIter[string, uint64]
}

func (w *walker) start() bool {
	if w.reverse {
		return w.it.Last()
	}
	return w.it.First()
}

func (w *walker) step() bool {
	if w.reverse {
		return w.it.Prev()
	}
	return w.it.Next()
}

// jump goes to the first key not below to, or backwards to the last key below it. An
// empty to means that nothing can follow.
func (w *walker) jump(to string) bool {
	if to == "" {
		return false
	}
	if !w.reverse {
		return w.it.Seek(to)
	}
	if w.it.Seek(to) {
		return w.it.Prev()
	}
	return w.it.Last()
}

// check compares a key with the bounds, column by column. For a key outside it returns
// where to go on.
func (w *walker) check(key string) (jump string, inside bool) {
	at := 0
	for i, b := range w.bounds {
		n := value.KeyLen([]byte(key[at:]), w.ix.columns[i].Reverse)
		part := key[at : at+n]
		prefix := key[:at]
		next, ok := b.locate(part, w.reverse)
		switch {
		case ok:
			at += n
			continue
		case next != "" && w.reverse:
			// More columns may follow the end of the interval. All keys of this value
			// are outside, so the way goes on below the first of them at least.
			return min(after(prefix+strings.TrimSuffix(next, "\x00")), prefix+part), false
		case next != "":
			// The end of a single value lies below the columns that follow the value
			// itself: a jump there would come back to this key.
			return max(prefix+next, after(prefix+part)), false
		case prefix == "":
			return "", false
		case w.reverse:
			return prefix, false
		default:
			return after(prefix), false
		}
	}
	return "", true
}

// locate says whether a key is inside the bounds. If not, next is the low end of the next
// interval above it, or with reverse the high end of the next one below, "" for none.
func (b bounds) locate(part string, reverse bool) (next string, ok bool) {
	lo, hi := 0, len(b.list)
	for lo < hi { // the first interval that ends above part
		mid := (lo + hi) / 2
		if b.list[mid].hi <= part {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(b.list) && b.list[lo].lo <= part {
		return "", true
	}
	if reverse {
		if lo == 0 {
			return "", false
		}
		return b.list[lo-1].hi, false
	}
	if lo == len(b.list) {
		return "", false
	}
	return b.list[lo].lo, false
}
