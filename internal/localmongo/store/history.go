package store

import (
	"slices"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/query"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// Timestamp is a cluster time: seconds since 1970 and a counter within the second.
type Timestamp struct{ T, I uint32 }

// Compare orders two times.
func (t Timestamp) Compare(o Timestamp) int {
	switch {
	case t.T != o.T:
		return cmp(t.T, o.T)
	default:
		return cmp(t.I, o.I)
	}
}

func cmp(a, b uint32) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Next is the least time after t.
func (t Timestamp) Next() Timestamp { return Timestamp{t.T, t.I + 1} }

// Op is the kind of an entry of the history.
type Op uint8

// The kinds of entries. Noop and Create give no change event.
const (
	Noop Op = iota
	Insert
	Replace
	Update
	Delete
	Create
	CreateIndexes
	DropIndexes
	Drop
	Rename
	DropDatabase
)

// Entry is one change. It is never altered after it was appended.
type Entry struct {
	Time Timestamp
	Wall time.Time
	// Position counts the entries of one transaction, which share a Time; 0 outside.
	Position int
	Op       Op
	DB, Coll string
	ToDB, To string // of a Rename
	Name     string // of the index that DropIndexes names
	UUID     UUID
	ID       value.Raw
	// Full is the document after an Insert or Replace, or the specification of an index.
	Full  bson.Raw
	Delta query.Delta
	// LSID and TxnNumber are set in a transaction.
	LSID      bson.Raw
	TxnNumber int64

	// after is the document after an Update. No event shows it; it is kept only until the
	// change is on disk and committed.
	after bson.Raw
	row   func() value.Row // set when the entry is appended
	size  int64
}

// entryOverhead is the memory of an entry without its documents, about.
const entryOverhead = 400

func (e *Entry) measure() int64 {
	n := int64(entryOverhead + len(e.Full) + len(e.ID.Data))
	for _, f := range e.Delta.Updated {
		n += int64(len(f.Key) + len(f.Val.Data) + 32)
	}
	for _, r := range e.Delta.Removed {
		n += int64(len(r) + 16)
	}
	return n
}

// History is the bounded past: what an oplog is to a MongoDB server. Readers hold a
// position in it and no buffer of their own, so a slow one costs nothing; one that is
// slower than the bound loses its place and is told so.
type History struct {
	maxEvents int
	maxBytes  int64

	mu      sync.Mutex
	entries []*Entry
	first   uint64 // the position of entries[0]
	bytes   int64
	waiting chan struct{} // closed on the next append; nil when nobody waits
}

func newHistory(maxEvents int, maxBytes int64) *History {
	return &History{maxEvents: maxEvents, maxBytes: maxBytes}
}

// append adds entries and drops the oldest beyond the bounds; the newest always stays.
func (h *History) append(entries ...*Entry) {
	h.mu.Lock()
	for _, e := range entries {
		e.size = e.measure()
		e.prepare()
		h.bytes += e.size
	}
	h.entries = append(h.entries, entries...)
	drop := 0
	for drop < len(h.entries)-1 && (len(h.entries)-drop > h.maxEvents || h.bytes > h.maxBytes) {
		h.bytes -= h.entries[drop].size
		drop++
	}
	h.drop(drop)
	h.wake()
	h.mu.Unlock()
}

// drop forgets the first n entries, whose bytes are already counted off.
func (h *History) drop(n int) {
	if n == 0 {
		return
	}
	clear(h.entries[:n])
	h.entries = h.entries[n:]
	h.first += uint64(n)
}

// Wake lets all who wait for entries look again.
func (h *History) Wake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wake()
}

func (h *History) wake() {
	if h.waiting != nil {
		close(h.waiting)
		h.waiting = nil
	}
}

// loseBefore forgets all entries before a time; the newest always stays.
func (h *History) loseBefore(t Timestamp) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for n < len(h.entries)-1 && h.entries[n].Time.Compare(t) < 0 {
		h.bytes -= h.entries[n].size
		n++
	}
	h.drop(n)
	h.wake()
}

// End is the position behind the newest entry, and the newest entry's time.
func (h *History) End() (uint64, Timestamp) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.first + uint64(len(h.entries)), h.last()
}

func (h *History) last() Timestamp {
	if len(h.entries) == 0 {
		return Timestamp{}
	}
	return h.entries[len(h.entries)-1].Time
}

// Bounds are the oldest and the newest time, the number of entries and their bytes.
func (h *History) Bounds() (oldest, newest Timestamp, entries int, bytes int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.entries) > 0 {
		oldest = h.entries[0].Time
	}
	return oldest, h.last(), len(h.entries), h.bytes
}

// Seek is the position of the first entry not before a time. covered is false when older
// entries were there and are gone, or when the time is before all that was ever there.
func (h *History) Seek(t Timestamp) (pos uint64, covered bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, _ := slices.BinarySearchFunc(h.entries, t, func(e *Entry, t Timestamp) int { return e.Time.Compare(t) })
	for i > 0 && h.entries[i-1].Time.Compare(t) >= 0 {
		i--
	}
	return h.first + uint64(i), len(h.entries) > 0 && h.entries[0].Time.Compare(t) <= 0
}

// Read returns up to n entries from a position on. ok is false when the position is no
// longer there. newest is the time of the newest entry, and wait is closed when there are
// more than were there now.
func (h *History) Read(pos uint64, n int) (entries []*Entry, newest Timestamp, wait <-chan struct{}, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if pos < h.first {
		return nil, h.last(), nil, false
	}
	if i := int(pos - h.first); i < len(h.entries) {
		entries = slices.Clone(h.entries[i:min(i+n, len(h.entries))])
	}
	if h.waiting == nil {
		h.waiting = make(chan struct{})
	}
	return entries, h.last(), h.waiting, true
}
