package console

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func TestJournal(t *testing.T) {
	coll := collection(t)
	j, other := NewJournal(coll, "default"), NewJournal(coll, "default2")
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	a := Act{ID: newActID(now), At: now, Do: "hold", Subject: "the bot b", Why: "x", By: "Asha", Address: "192.0.2.1:1", Back: "/bots"}
	if err := errors.Join(j.Begin(t.Context(), a), other.Begin(t.Context(), Act{ID: newActID(now)})); err != nil {
		t.Fatal(err)
	}
	if err := j.Begin(t.Context(), a); !errors.Is(err, errDone) {
		t.Errorf("the same once more: %v", err)
	}
	if err := j.End(t.Context(), a.ID, "Holding the bot b", 3, false); err != nil {
		t.Fatal(err)
	}
	a.Result, a.Calls = "Holding the bot b", 3
	if got, ok, err := j.Find(t.Context(), a.ID); err != nil || !ok || got != a {
		t.Errorf("%+v %v %v", got, ok, err)
	}
	for _, id := range []string{"", "x", "../default", newActID(now)} {
		if _, ok, err := j.Find(t.Context(), id); ok || err != nil {
			t.Errorf("%q: %v %v", id, ok, err)
		}
	}
	if all, err := j.List(t.Context(), 10); err != nil || len(all) != 1 || all[0] != a {
		t.Errorf("%+v %v", all, err)
	}
}

// The newest 1,000 stay, and nothing beside them goes.
func TestJournalIsBounded(t *testing.T) {
	coll := collection(t)
	j := NewJournal(coll, "default")
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	id := func(i int) string {
		return now.Add(time.Duration(i)*time.Millisecond).Format(idTime) + fmt.Sprintf("-%08d", i)
	}
	docs := []any{
		bson.D{{Key: "_id", Value: "default/0-of-1"}}, bson.D{{Key: "_id", Value: "default/replay/1"}}, bson.D{{Key: "_id", Value: "other/act/" + id(0)}},
	}
	for i := range maxActs + 20 {
		docs = append(docs, bson.D{{Key: "_id", Value: "default/act/" + id(i)}, {Key: "do", Value: "push"}})
	}
	if _, err := coll.InsertMany(t.Context(), docs); err != nil {
		t.Fatal(err)
	}
	if err := j.Begin(t.Context(), Act{ID: id(maxActs + 20), At: now}); err != nil {
		t.Fatal(err)
	}
	all, err := j.List(t.Context(), 2*maxActs)
	if err != nil || len(all) != maxActs || all[0].ID != id(maxActs+20) || all[maxActs-1].ID != id(21) {
		t.Errorf("%d acts, %v", len(all), err)
	}
	if n, err := coll.CountDocuments(t.Context(), bson.D{}); err != nil || n != maxActs+3 {
		t.Errorf("%d documents, %v", n, err)
	}
}

func TestFreshIDs(t *testing.T) {
	now := time.Now()
	for id, want := range map[string]bool{
		newActID(now): true, newActID(now.Add(-59 * time.Minute)): true, newActID(now.Add(-2 * time.Hour)): false,
		newActID(now.Add(time.Hour)): false, "": false, "99999999-999999.999-aaaaaaaa": false, newActID(now) + "x": false,
	} {
		if got := isFresh(id, now); got != want {
			t.Errorf("%q: %v", id, got)
		}
	}
}
