package store_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	kit "go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/internal/localmongo/mongoerr"
	"github.com/cxbridge/watcher/internal/localmongo/query"
	"github.com/cxbridge/watcher/internal/localmongo/store"
	"github.com/cxbridge/watcher/internal/localmongo/value"
)

func code(err error) int32 {
	if e, ok := errors.AsType[*mongoerr.Error](err); ok {
		return e.Code
	}
	return 0
}

func update(t fataler, tx *store.Tx, filter, u kit.D, upsert bool) (store.Change, error) {
	t.Helper()
	v, err := value.EncodeValue(u)
	if err != nil {
		t.Fatal(err)
	}
	c, err := query.CompileUpdate(v, nil)
	if err != nil {
		t.Fatal(err)
	}
	return tx.Update("d", "c", selection(t, filter, nil), c, false, upsert)
}

func set(t fataler, s *store.Store, id any, field string, v any) error {
	t.Helper()
	return s.Write(func(tx *store.Tx) error {
		_, err := update(t, tx, kit.D{{Key: "_id", Value: id}}, kit.D{{Key: "$set", Value: kit.D{{Key: field, Value: v}}}}, true)
		return err
	})
}

func TestUniqueIndexIsEnforced(t *testing.T) {
	s := newStore(t, store.Options{})
	index(t, s, kit.D{{Key: "key", Value: kit.D{{Key: "k", Value: int32(1)}}}, {Key: "unique", Value: true},
		{Key: "partialFilterExpression", Value: kit.D{{Key: "k", Value: kit.D{{Key: "$exists", Value: true}}}}}})
	insert(t, s, kit.D{{Key: "_id", Value: int32(1)}, {Key: "k", Value: "a"}}, kit.D{{Key: "_id", Value: int32(2)}}, kit.D{{Key: "_id", Value: int32(3)}})
	for name, err := range map[string]error{
		"update": set(t, s, int32(2), "k", "a"),
		"upsert": s.Write(func(tx *store.Tx) error {
			_, err := update(t, tx, kit.D{{Key: "_id", Value: int32(9)}, {Key: "k", Value: "a"}}, kit.D{{Key: "$set", Value: kit.D{{Key: "x", Value: int32(1)}}}}, true)
			return err
		}),
	} {
		e, ok := errors.AsType[*mongoerr.Error](err)
		if !ok || e.Code != mongoerr.DuplicateKey || !strings.Contains(e.Message, `dup key: { k: "a" }`) || value.Lookup(e.KeyValue, "k").Absent() {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := set(t, s, int32(1), "k", "b"); err != nil {
		t.Fatal(err)
	}
	if err := set(t, s, int32(2), "k", "a"); err != nil {
		t.Errorf("the freed key is still taken: %v", err)
	}
	err := s.Write(func(tx *store.Tx) error {
		ix, err := store.NewIndex(encode(t, kit.D{{Key: "key", Value: kit.D{{Key: "zz", Value: int32(1)}}}, {Key: "name", Value: "z"}, {Key: "unique", Value: true}}))
		if err != nil {
			return err
		}
		_, err = tx.CreateIndexes("d", "c", []*store.Index{ix})
		return err
	})
	if code(err) != mongoerr.DuplicateKey {
		t.Errorf("unique index over three documents without the field: %v", err)
	}
}

func TestIndexSpecificationsThatAreRefused(t *testing.T) {
	for spec, want := range map[string]int32{
		`{"key": {"a": "hashed"}, "name": "x"}`:                                        mongoerr.CannotCreateIndex,
		`{"key": {"a": "text"}, "name": "x"}`:                                          mongoerr.CannotCreateIndex,
		`{"key": {"$**": 1}, "name": "x"}`:                                             mongoerr.CannotCreateIndex,
		`{"key": {}, "name": "x"}`:                                                     mongoerr.CannotCreateIndex,
		`{"key": {"a": 1}, "name": "x", "expireAfterSeconds": -5}`:                     mongoerr.CannotCreateIndex,
		`{"key": {"a": 1}, "name": "x", "expireAfterSeconds": "5"}`:                    mongoerr.TypeMismatch,
		`{"key": {"a": 1, "b": 1}, "name": "x", "expireAfterSeconds": 5}`:              mongoerr.CannotCreateIndex,
		`{"key": {"a": 1}, "name": "x", "collation": {"locale": "de"}}`:                mongoerr.InvalidOptions,
		`{"key": {"a": 1}}`:                                                            mongoerr.FailedToParse,
		`{"name": "x"}`:                                                                mongoerr.FailedToParse,
		`{"key": {"a": 1}, "name": "x", "partialFilterExpression": {"a": {"$no": 1}}}`: mongoerr.BadValue,
	} {
		var d bson.D
		if err := bson.UnmarshalExtJSON([]byte(spec), false, &d); err != nil {
			t.Fatal(err)
		}
		raw, err := bson.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.NewIndex(raw); code(err) != want {
			t.Errorf("%s: %v, want code %d", spec, err, want)
		}
	}
}

func TestHistoryIsBounded(t *testing.T) {
	s := newStore(t, store.Options{HistoryEvents: 50})
	for i := range 200 {
		insert(t, s, kit.D{{Key: "_id", Value: int32(i)}})
	}
	if _, _, n, _ := s.History.Bounds(); n != 50 {
		t.Errorf("%d entries are kept, want 50", n)
	}
	s = newStore(t, store.Options{HistoryBytes: 1 << 20})
	for i := range 200 {
		insert(t, s, kit.D{{Key: "_id", Value: int32(i)}, {Key: "b", Value: strings.Repeat("x", 100_000)}})
	}
	if _, _, n, size := s.History.Bounds(); size > 1<<20 || n < 5 {
		t.Errorf("%d entries of %d bytes are kept, want no more than 1 MiB and at least 5", n, size)
	}
	oldest, newest, _, _ := s.History.Bounds()
	if _, covered := s.History.Seek(oldest); !covered {
		t.Error("the oldest entry is not covered")
	}
	if _, covered := s.History.Seek(store.Timestamp{T: oldest.T - 1}); covered {
		t.Error("a time before the oldest entry is covered")
	}
	if pos, _ := s.History.Seek(newest.Next()); pos != func() uint64 { end, _ := s.History.End(); return end }() {
		t.Error("a time behind the newest entry is not the end")
	}
	if _, _, _, ok := s.History.Read(0, 1); ok {
		t.Error("a position that is gone can be read")
	}
}

// Tokens must sort as the events they belong to, and come back from their text.
func TestTokens(t *testing.T) {
	scope := store.Scope{DB: "d", Coll: "c"}
	rapid.Check(t, func(t *rapid.T) {
		entry := func(label string) *store.Entry {
			id, err := value.EncodeValue(smallValue().Draw(t, label+" id"))
			if err != nil {
				t.Fatal(err)
			}
			return &store.Entry{
				Time:     store.Timestamp{T: rapid.Uint32Range(1, 3).Draw(t, label+" t"), I: rapid.Uint32Range(1, 3).Draw(t, label+" i")},
				Position: rapid.IntRange(0, 40_000).Draw(t, label+" position"), Op: store.Delete, DB: "d", Coll: "c", ID: id,
			}
		}
		a, b := entry("a"), entry("b")
		ta, tb := scope.Events(a)[0].Token, scope.Events(b)[0].Token
		want := a.Time.Compare(b.Time)
		if want == 0 {
			want = a.Position - b.Position
		}
		if got := strings.Compare(ta.Data, tb.Data); want != 0 && (got < 0) != (want < 0) {
			t.Fatalf("%+v and %+v: %s, %s", a, b, ta.Data, tb.Data)
		}
		if low := store.HighWater(a.Time); low.Data >= ta.Data || len(low.Data) >= len(ta.Data) {
			t.Fatalf("the high water mark %s is not below %s and shorter", low.Data, ta.Data)
		}
		back, err := store.ParseToken(strings.ToLower(ta.Data))
		if err != nil || back != ta {
			t.Fatalf("%+v came back as %+v: %v", ta, back, err)
		}
	})
}

func TestBadTokens(t *testing.T) {
	good := store.HighWater(store.Timestamp{T: 5, I: 6}).Data
	for data, want := range map[string]int32{
		"not hex": mongoerr.FailedToParse, "123": mongoerr.FailedToParse, "": mongoerr.BadKeyString,
		"DEADBEEF": mongoerr.BadKeyString, "82": mongoerr.BadKeyString, good[:len(good)-2]: mongoerr.BadKeyString,
		good + "00": mongoerr.BadKeyString, strings.Replace(good, "2B02", "2B04", 1): mongoerr.BadKeyString,
	} {
		if _, err := store.ParseToken(data); code(err) != want {
			t.Errorf("%q: %v, want code %d", data, err, want)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(store.HighWater(store.Timestamp{T: 5, I: 6}).Data)
	f.Add("826B022A5B000000062B022C01002B046E5A100482ACA8817BBF48E19A3CED4820BB47A7461E5F6964002B060004")
	f.Fuzz(func(t *testing.T, data string) {
		tok, err := store.ParseToken(data)
		if err != nil && code(err) == 0 {
			t.Fatalf("%q: error without a code: %v", data, err)
		}
		if err == nil && !tok.Event && store.HighWater(tok.Time).Data != tok.Data {
			t.Fatalf("%q is read as %+v, which is %s", data, tok, store.HighWater(tok.Time).Data)
		}
	})
}

func TestTransactionIsOneChange(t *testing.T) {
	s := newStore(t, store.Options{})
	insert(t, s, kit.D{{Key: "_id", Value: int32(1)}, {Key: "n", Value: int32(0)}})
	from, _ := s.History.End()
	txn := store.NewTransaction(nil, 1)
	join := func(id int32) {
		t.Helper()
		err := s.Join(txn, func(tx *store.Tx) error {
			_, err := update(t, tx, kit.D{{Key: "_id", Value: id}}, kit.D{{Key: "$inc", Value: kit.D{{Key: "n", Value: int32(1)}}}}, true)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	join(1)
	join(1)
	join(2)
	if got, _ := find(t, s, selection(t, kit.D{{Key: "n", Value: int32(2)}}, nil)); len(got) != 0 {
		t.Error("others see the transaction before it is committed")
	}
	err := s.Join(txn, func(tx *store.Tx) error {
		got, _, err := tx.Find("d", "c", selection(t, kit.D{{Key: "n", Value: int32(2)}}, nil))
		if len(got) != 1 {
			t.Errorf("the transaction does not see its own write: %v", got)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(txn); err != nil {
		t.Fatal(err)
	}
	if got, _ := find(t, s, selection(t, kit.D{}, nil)); len(got) != 2 {
		t.Errorf("after the commit: %v", got)
	}
	entries, _, _, _ := s.History.Read(from, 10)
	if len(entries) != 3 || entries[0].Time != entries[2].Time || entries[2].Position != 2 {
		t.Errorf("history of the transaction: %+v", entries)
	}
}

func TestTransactionConflicts(t *testing.T) {
	s := newStore(t, store.Options{})
	insert(t, s, kit.D{{Key: "_id", Value: int32(1)}}, kit.D{{Key: "_id", Value: int32(2)}})
	txn := store.NewTransaction(nil, 1)
	for _, id := range []int32{2, 1} {
		err := s.Join(txn, func(tx *store.Tx) error {
			_, err := update(t, tx, kit.D{{Key: "_id", Value: id}}, kit.D{{Key: "$set", Value: kit.D{{Key: "by", Value: "txn"}}}}, false)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := set(t, s, int32(1), "by", "other"); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(txn); code(err) != mongoerr.WriteConflict {
		t.Errorf("commit over another's write: %v", err)
	}
	if got, _ := find(t, s, selection(t, kit.D{{Key: "by", Value: "txn"}}, nil)); len(got) != 0 {
		t.Errorf("half of the transaction is there: %v", got)
	}
}

func TestClockNeverGoesBack(t *testing.T) {
	s := newStore(t, store.Options{})
	last := s.Now()
	for range 1000 {
		s.Tick()
		if now := s.Now(); now.Compare(last) <= 0 {
			t.Fatalf("%v after %v", now, last)
		} else {
			last = now
		}
	}
	if d := time.Since(time.Unix(int64(last.T), 0)); d < 0 || d > time.Minute {
		t.Errorf("the cluster time is %v behind the wall clock", d)
	}
}
