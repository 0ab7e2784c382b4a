// Package store holds the data of one localmongo server: databases, collections, indexes
// and the history of changes. Every change goes through a Tx, which gives it a cluster
// time and writes it to the history, so that what is in a collection and what a change
// stream shows cannot differ. It owns the planner, because only it knows its indexes. It
// knows nothing of commands, cursors and connections.
package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// Options bound the history and say where the data is kept. Zero values take the
// defaults.
type Options struct {
	HistoryEvents int   // default 200,000 changes
	HistoryBytes  int64 // default 256 MiB
	// Dir is the directory of the data file; "" keeps everything in memory.
	Dir string
}

const (
	defaultHistoryEvents = 200_000
	defaultHistoryBytes  = 256 << 20
)

// Store is the data of one server. Its methods may be called from many goroutines.
type Store struct {
	History *History

	mu       sync.RWMutex
	dbs      map[string]map[string]*Collection
	clock    Timestamp
	disk     *disk // nil in memory
	examined atomic.Int64
	faults   readFaults
}

// New returns a store: an empty one whose history begins now, or the one that is in the
// data directory. A data file that is damaged is a *DamagedError.
func New(opts Options) (*Store, error) {
	if opts.HistoryEvents <= 0 {
		opts.HistoryEvents = defaultHistoryEvents
	}
	if opts.HistoryBytes <= 0 {
		opts.HistoryBytes = defaultHistoryBytes
	}
	s := &Store{
		History: newHistory(opts.HistoryEvents, opts.HistoryBytes),
		dbs:     map[string]map[string]*Collection{},
	}
	if opts.Dir != "" {
		d, err := openDisk(opts.Dir, s)
		if err != nil {
			return nil, err
		}
		s.disk = d
	}
	s.Tick()
	return s, nil
}

// Sync forces the changes to the disk every 100 ms until ctx ends, then closes the data
// file. It returns the first error of the file; in memory it waits and returns nil.
func (s *Store) Sync(ctx context.Context) error {
	if s.disk == nil {
		<-ctx.Done()
		return nil
	}
	t := time.NewTicker(syncEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return s.Close()
		case <-t.C:
			if err := s.syncNow(); err != nil {
				return errors.Join(err, s.Close())
			}
		}
	}
}

// syncNow forces the changes to the disk without holding up writers meanwhile.
func (s *Store) syncNow() error {
	s.mu.Lock()
	f := s.disk.unsynced()
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	err := f.Sync()
	if err == nil || errors.Is(err, os.ErrClosed) { // compact has written a new file
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.disk.fail(fmt.Errorf("sync the data file: %w", err))
}

// Close closes the data file. Nothing can be written afterwards.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.disk == nil || s.disk.closed {
		return nil
	}
	return s.disk.close()
}

// bytes is the size of all documents.
func (s *Store) bytes() int64 {
	var n int64
	for _, db := range s.dbs {
		for _, c := range db {
			n += c.bytes
		}
	}
	return n
}

// tick returns the next cluster time: the wall clock's second, counted within, and never
// behind the last one.
func (s *Store) tick() Timestamp {
	if now := uint32(time.Now().Unix()); now > s.clock.T {
		s.clock = Timestamp{now, 1}
	} else {
		s.clock.I++
	}
	return s.clock
}

// Tick appends an entry that is no change, as a MongoDB primary does on an idle replica
// set, so that positions of idle readers move on.
func (s *Store) Tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed() == nil {
		s.commit(&Entry{Time: s.tick(), Wall: time.Now(), Op: Noop})
	}
}

// Now is the cluster time of the last change.
func (s *Store) Now() Timestamp {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.clock
}

// Examined counts the documents that selections have looked at since the start.
func (s *Store) Examined() int64 { return s.examined.Load() }

// LoseHistory forgets all changes before a time, as if the oplog had been too small.
func (s *Store) LoseHistory(before Timestamp) { s.History.loseBefore(before) }

// collection finds a collection; nil when there is none.
func (s *Store) collection(db, name string) *Collection { return s.dbs[db][name] }

func (s *Store) findIn(c *Collection, sel Selection) ([]bson.Raw, Stats, error) {
	var st Stats
	if c == nil {
		return nil, st, nil
	}
	got, err := c.find(sel, &st)
	s.examined.Add(st.Docs)
	if err != nil {
		return nil, st, err
	}
	docs := make([]bson.Raw, len(got))
	for i, f := range got {
		docs[i] = f.doc
	}
	return docs, st, nil
}

// ByID finds one document by its _id, nil when there is none.
func (s *Store) ByID(db, name string, id value.Raw) bson.Raw {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := s.collection(db, name)
	if c == nil {
		return nil
	}
	_, doc, _ := c.byID(id)
	return doc
}

// Info describes a collection.
type Info struct {
	Name    string
	UUID    UUID
	Count   int
	Bytes   int64
	Indexes []bson.Raw
}

// Info describes a collection; ok is false when there is none.
func (s *Store) Info(db, name string) (Info, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := s.collection(db, name)
	if c == nil {
		return Info{}, false
	}
	return c.info(), true
}

func (c *Collection) info() Info {
	in := Info{Name: c.Name, UUID: c.UUID, Count: c.Len(), Bytes: c.Bytes()}
	for _, ix := range c.Indexes {
		in.Indexes = append(in.Indexes, ix.Spec)
	}
	return in
}

// IndexByKey finds the name of the index with a key pattern, "" for none.
func (s *Store) IndexByKey(db, name string, key bson.Raw) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	c := s.collection(db, name)
	if c == nil {
		return ""
	}
	for _, ix := range c.Indexes {
		if ix.key.String() == key.String() {
			return ix.Name
		}
	}
	return ""
}

// Collections lists the collections of a database by name.
func (s *Store) Collections(db string) []Info {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []Info
	for _, c := range s.dbs[db] {
		out = append(out, c.info())
	}
	slices.SortFunc(out, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Databases lists the names of the databases that hold something.
func (s *Store) Databases() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []string
	for name, colls := range s.dbs {
		if len(colls) > 0 {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// newUUID makes a random (version 4) UUID.
func newUUID() UUID {
	var u UUID
	_, _ = rand.Read(u[:]) // never fails since Go 1.24
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return u
}

// checkName refuses names that MongoDB refuses.
func checkName(db, name string) error {
	if db == "" || strings.ContainsAny(db, "/\\. \"$*<>:|?\x00") || len(db) > 63 {
		return mongoerr.New(mongoerr.InvalidNamespace, "Invalid namespace specified '%s.%s'", db, name)
	}
	if name == "" || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".") || strings.ContainsAny(name, "$\x00") ||
		len(db)+1+len(name) > 255 {
		return mongoerr.New(mongoerr.InvalidNamespace, "Invalid namespace specified '%s.%s'", db, name)
	}
	if db == "local" {
		return mongoerr.New(mongoerr.IllegalOperation, "cannot write to '%s.%s'", db, name)
	}
	return nil
}
