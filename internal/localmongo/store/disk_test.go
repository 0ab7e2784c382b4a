package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	kit "go.mongodb.org/mongo-driver/bson"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/store"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

// reopen closes a store and opens its directory again.
func reopen(t *testing.T, s *store.Store, dir string) *store.Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	next := newStore(t, store.Options{Dir: dir})
	t.Cleanup(func() { _ = next.Close() })
	return next
}

// everything prints a store: collections, indexes, documents and the past.
func everything(t *testing.T, s *store.Store) string {
	t.Helper()
	var b strings.Builder
	for _, db := range s.Databases() {
		for _, c := range s.Collections(db) {
			fmt.Fprintf(&b, "%s.%s %x %d %v\n", db, c.Name, c.UUID, c.Count, c.Indexes)
			docs, _, err := s.Find(db, c.Name, selection(t, kit.D{}, nil), store.ReadConcern{})
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range docs {
				fmt.Fprintln(&b, d)
			}
		}
	}
	entries, _, _, _ := s.History.Read(0, 1000)
	for _, e := range entries {
		for _, ev := range (store.Scope{}).Events(e) {
			fmt.Fprintln(&b, ev.Row.Document())
		}
	}
	return b.String()
}

func write(t *testing.T, s *store.Store, fn func(tx *store.Tx) error) {
	t.Helper()
	if err := s.Write(fn); err != nil {
		t.Fatal(err)
	}
}

// fill makes every kind of change.
func fill(t *testing.T, s *store.Store) {
	t.Helper()
	insert(t, s, kit.D{{Key: "_id", Value: int32(1)}, {Key: "l", Value: kit.A{int32(1), int32(2)}}, {Key: "gone", Value: int32(1)}}, kit.D{{Key: "_id", Value: "two"}}, kit.D{{Key: "_id", Value: int32(3)}})
	index(t, s, kit.D{{Key: "key", Value: kit.D{{Key: "k", Value: int32(1)}}}, {Key: "unique", Value: true}, {Key: "sparse", Value: true}}, kit.D{{Key: "key", Value: kit.D{{Key: "z", Value: int32(-1)}}}})
	write(t, s, func(tx *store.Tx) error { _, err := tx.DropIndexes("d", "c", "ix1"); return err })
	write(t, s, func(tx *store.Tx) error {
		_, err := update(t, tx, kit.D{{Key: "_id", Value: int32(1)}}, kit.D{{Key: "$push", Value: kit.D{{Key: "l", Value: int32(3)}}}, {Key: "$unset", Value: kit.D{{Key: "gone", Value: ""}}}}, false)
		return err
	})
	write(t, s, func(tx *store.Tx) error {
		_, err := update(t, tx, kit.D{{Key: "_id", Value: "two"}}, kit.D{{Key: "r", Value: true}, {Key: "k", Value: "key"}}, false)
		return err
	})
	write(t, s, func(tx *store.Tx) error {
		_, err := tx.Delete("d", "c", selection(t, kit.D{{Key: "_id", Value: int32(3)}}, nil))
		return err
	})
	for _, name := range []string{"dropped", "renamed"} {
		write(t, s, func(tx *store.Tx) error { return tx.Create("d", name) })
	}
	write(t, s, func(tx *store.Tx) error {
		tx.Drop("d", "dropped")
		return tx.Rename("d", "renamed", "e", "other", false)
	})
	write(t, s, func(tx *store.Tx) error { return tx.Create("f", "x") })
	write(t, s, func(tx *store.Tx) error { tx.DropDatabase("f"); return nil })
	txn := store.NewTransaction(encode(t, kit.D{{Key: "id", Value: "session"}}), 7)
	if err := s.Join(txn, func(tx *store.Tx) error {
		_, err := update(t, tx, kit.D{{Key: "_id", Value: int32(1)}}, kit.D{{Key: "$set", Value: kit.D{{Key: "t", Value: int32(1)}}}}, false)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(txn); err != nil {
		t.Fatal(err)
	}
}

func TestDataSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, store.Options{Dir: dir})
	fill(t, s)
	want, now := everything(t, s), s.Now()
	s = reopen(t, s, dir)
	if got := everything(t, s); got != want {
		t.Errorf("after a restart:\n%s\nwant\n%s", got, want)
	}
	if s.Now().Compare(now) <= 0 {
		t.Errorf("the time is %v after %v", s.Now(), now)
	}
	if err := set(t, s, int32(1), "k", "key"); code(err) != mongoerr.DuplicateKey {
		t.Errorf("the unique index is not enforced after a restart: %v", err)
	}
	want = everything(t, s)
	s = reopen(t, s, dir) // now from the picture alone
	if got := everything(t, s); got != want {
		t.Errorf("after the second restart:\n%s\nwant\n%s", got, want)
	}
}

func TestDirectoryIsTakenByOneProcess(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, store.Options{Dir: dir})
	t.Cleanup(func() { _ = s.Close() })
	if _, err := store.New(store.Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("second store on a directory: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := set(t, s, int32(1), "a", int32(1)); code(err) != mongoerr.InterruptedAtShutdown {
		t.Errorf("write after the data file was closed: %v", err)
	}
}

// A file that was cut anywhere behind its first part must open, and show a prefix of the
// changes: every one before the cut, and none half.
func TestTornWriteIsCutOff(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, store.Options{Dir: dir})
	path := filepath.Join(dir, "localmongo.data")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	first := info.Size()
	const n = 20
	for i := range n {
		insert(t, s, kit.D{{Key: "_id", Value: int32(i)}, {Key: "pad", Value: strings.Repeat("x", i)}})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	last := -1
	for cut := first; cut <= int64(len(whole)); cut += 7 {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := store.New(store.Options{Dir: dir})
		if err != nil {
			t.Fatalf("cut at %d of %d: %v", cut, len(whole), err)
		}
		var ids []int
		if _, ok := s.Info("d", "c"); ok {
			docs, _ := find(t, s, selection(t, kit.D{}, nil))
			for _, d := range docs {
				ids = append(ids, int(binary.LittleEndian.Uint32(value.Lookup(d, "_id").Data)))
			}
		}
		if len(ids) < last || len(ids) > n || !slices.IsSorted(ids) || len(ids) > 0 && ids[len(ids)-1] != len(ids)-1 {
			t.Fatalf("cut at %d: documents %v after %d at an earlier cut", cut, ids, last)
		}
		last = len(ids)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if last < n-1 {
		t.Errorf("the last cut shows %d documents", last)
	}
}

func TestDamageIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, store.Options{Dir: dir})
	for i := range 10 {
		insert(t, s, kit.D{{Key: "_id", Value: int32(i)}})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "localmongo.data")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"a flipped byte in the middle": flip(whole, len(whole)/2),
		"a flipped byte at the start":  flip(whole, 20),
		"a first length that is wrong": flip(whole, 1),
		"a last length that is wrong":  flip(whole, bytes.LastIndex(whole, []byte("\x02k\x00\x07\x00\x00\x00change"))-4-12+1),
		"another file":                 []byte("#!/bin/sh\necho this is no data file, and long enough\n"),
		"cut in the first part":        whole[:20],
	} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := store.New(store.Options{Dir: dir})
		if err == nil {
			_ = s.Close()
		}
		if _, ok := errors.AsType[*store.DamagedError](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
		after, rerr := os.ReadFile(path)
		if rerr != nil || !bytes.Equal(after, data) {
			t.Errorf("%s: the file was changed", name)
		}
	}
}

func flip(b []byte, i int) []byte {
	out := bytes.Clone(b)
	out[i] ^= 0x40
	return out
}
