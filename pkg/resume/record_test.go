package resume

import (
	"errors"
	"maps"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"
)

func TestParseID(t *testing.T) {
	for id, want := range map[string]struct {
		p    Partition
		kind kind
		ok   bool
	}{
		"x":              {Partition{0, 1}, kindPartition, true},
		"x/0-of-4":       {Partition{0, 4}, kindPartition, true},
		"x/3-of-4":       {Partition{3, 4}, kindPartition, true},
		"x/member/abc":   {Partition{}, kindMember, true},
		"x/members":      {Partition{}, kindLayout, true},
		"x/replay/abc":   {},
		"x/00-of-4":      {}, // a second name of one partition
		"x/4-of-4":       {},
		"x/0-of-1":       {}, // one partition has the name alone
		"x/-1-of-4":      {},
		"x/a-of-b":       {},
		"x/0":            {},
		"x0-of-4":        {},
		"xy":             {},
		"y":              {},
		"":               {},
		"x/":             {},
		"x/0-of-4-of-12": {},
	} {
		p, kind, ok := parseID("x", id)
		if p != want.p || kind != want.kind || ok != want.ok {
			t.Errorf("%q: got %v %v %v", id, p, kind, ok)
		}
		if ok && kind == kindPartition && p.ID("x") != id {
			t.Errorf("%q: comes back as %q", id, p.ID("x"))
		}
	}
}

func TestDecodeRecordKeepsWhatItCanRead(t *testing.T) {
	savedAt := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	partition := bson.M{
		"_id": "x", "token": bson.D{{Key: "_data", Value: idleToken}}, "cluster_time": bson.Timestamp{T: 9, I: 2},
		"wall_time": savedAt, "replica_set": "rs0", "pipeline": "ff", "saved_at": savedAt,
		"owner": "a", "instance": "i", "term": int64(3),
		"reset": bson.D{{Key: "id", Value: "r"}, {Key: "at", Value: savedAt}, {Key: "repush", Value: "all"}, {Key: "by", Value: "me"}},
	}
	member := bson.M{"_id": "x/member/i", "owner": "a", "beat": int32(4), "lease_ms": 9000.0, "partitions": 2, "leaving": true}
	decode := func(doc bson.M) Record {
		raw, err := bson.Marshal(doc)
		must(t, err)
		r, ok := decodeRecord("x", raw)
		if !ok {
			t.Fatalf("%v is not a record", doc)
		}
		return r
	}
	r := decode(partition)
	if r.Damage != nil || r.Term != 3 || !r.Held() || r.Member ||
		r.Position.ClusterTime != (bson.Timestamp{T: 9, I: 2}) || TokenText(r.Position.Token) != idleToken ||
		!r.SavedAt.Equal(savedAt) || r.Reset == nil || *r.Reset != (Reset{ID: "r", At: savedAt, Repush: "all", By: "me"}) {
		t.Fatalf("got %+v", r)
	}
	if r := decode(member); r.Damage != nil || !r.Member || r.Instance != "i" || r.Owner != "a" || r.Beat != 4 ||
		r.Lease != 9*time.Second || r.Partitions != 2 || !r.Leaving {
		t.Fatalf("got %+v", r)
	}
	for _, whole := range []bson.M{partition, member} {
		for field := range whole {
			if field == "_id" {
				continue
			}
			bad := maps.Clone(whole)
			bad[field] = bson.Regex{Pattern: "x"}
			got := decode(bad)
			corrupt, ok := errors.AsType[*CorruptError](got.Damage)
			if !ok || corrupt.Field != field || corrupt.Kind != bson.TypeRegex {
				t.Errorf("%s of another kind: damage is %v", field, got.Damage)
			}
			if field != "instance" && got.Instance != "i" || field != "owner" && got.Owner != "a" {
				t.Errorf("%s of another kind: the rest is lost: %+v", field, got)
			}
			delete(bad, field)
			if got := decode(bad); got.Damage != nil {
				t.Errorf("without %s: damage is %v", field, got.Damage)
			}
		}
	}
	nonsense := bson.M{"_id": "x", "token": bson.D{{Key: "_data", Value: "hello"}}}
	if got := decode(nonsense); got.Damage == nil || got.Position.Token != nil {
		t.Errorf("a token that is none: %+v", got)
	}
	timeless := bson.M{"_id": "x", "token": bson.D{{Key: "_data", Value: idleToken}}}
	if got := decode(timeless); got.Position.ClusterTime.T != 1795304493 {
		t.Errorf("the time is not taken from the token: %v", got.Position)
	}
}

func TestDecodeRecordNeverPanics(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw, err := bson.Marshal(bson.D{
			{Key: "_id", Value: "x"}, {Key: "token", Value: bson.D{{Key: "_data", Value: idleToken}}}, {Key: "term", Value: 5},
		})
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(0, 6).Draw(t, "hits") {
			raw[rapid.IntRange(4, len(raw)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		}
		if r, ok := decodeRecord("x", raw); ok && r.ID != "x" {
			t.Fatalf("read %q", r.ID)
		}
	})
}

func rawValue(t testing.TB, v any) bson.RawValue {
	t.Helper()
	kind, data, err := bson.MarshalValue(v)
	if err != nil {
		t.Fatal(err)
	}
	return bson.RawValue{Type: kind, Value: data}
}
