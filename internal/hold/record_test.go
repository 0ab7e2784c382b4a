package hold

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
	"github.com/cxbridge/watcher/internal/records"
	"github.com/cxbridge/watcher/pkg/resume"
)

func collection(t *testing.T) *mongo.Collection {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(localmongotest.Start(t, localmongo.Options{}).URI()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	return client.Database("db").Collection("watcher_resume")
}

func add(t *testing.T, s *Records, h Hold) Hold {
	t.Helper()
	h, err := s.Add(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func list(t *testing.T, s *Records) []Hold {
	t.Helper()
	all, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestRecords(t *testing.T) {
	coll := collection(t)
	s, other := NewRecords(coll, "default"), NewRecords(coll, "default2")
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
	bot := add(t, s, Hold{Bot: "b", Why: "  the CRM\nmoves \x1b[31m ", By: "me@desk"})
	host := add(t, s, Hold{Host: "CRM.example.com", Why: "slow", By: "me", Until: until})
	add(t, other, Hold{Bot: "x", Why: "of another name"})
	if all := list(t, s); len(all) != 2 || all[0] != bot && all[1] != bot || all[0] != host && all[1] != host {
		t.Fatalf("%+v", all)
	}
	if bot.Why != "the CRM moves  [31m" || host.Host != "crm.example.com" || !host.Until.Equal(until) || !bot.Active(time.Now()) {
		t.Errorf("%+v\n%+v", bot, host)
	}
	released, err := s.Release(t.Context(), bot.ID, "you")
	if err != nil || released.Ended.IsZero() || released.EndBy != "you" {
		t.Errorf("%+v, %v", released, err)
	}
	if again, err := s.Release(t.Context(), bot.ID, "they"); !errors.Is(err, ErrOver) || again != released {
		t.Errorf("released twice: %+v, %v", again, err)
	}
	if _, err := s.Release(t.Context(), "nope", "me"); !errors.Is(err, ErrUnknown) {
		t.Errorf("an unknown one: %v", err)
	}
	for name, h := range map[string]Hold{
		"of nothing": {Why: "why"}, "of both": {Bot: "b", Host: "h", Why: "why"}, "without a reason": {Bot: "b", Why: " \x00"},
		"of a long host": {Host: strings.Repeat("h", 301), Why: "why"},
	} {
		if _, err := s.Add(t.Context(), h); !errors.Is(err, ErrIncomplete) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// They are no positions.
	positions, err := resume.NewStore(coll, "default")
	if err != nil {
		t.Fatal(err)
	}
	if records, err := positions.Records(t.Context()); err != nil || len(records) != 0 {
		t.Errorf("positions %+v, %v", records, err)
	}
}

// What is over goes after 30 days, and earlier when there are too many.
func TestOldHoldsAreRemovedByWhoeverAdds(t *testing.T) {
	coll := collection(t)
	s, now := NewRecords(coll, "default"), time.Now().UTC()
	var docs []any
	put := func(id string, fields bson.D) {
		docs = append(docs, append(bson.D{{Key: "_id", Value: "default/hold/" + id}, {Key: "bot", Value: "b"}, {Key: "why", Value: "w"}}, fields...))
	}
	put("old-released", bson.D{{Key: "ended", Value: now.Add(-31 * 24 * time.Hour)}})
	put("old-expired", bson.D{{Key: "until", Value: now.Add(-31 * 24 * time.Hour)}})
	put("expired", bson.D{{Key: "until", Value: now.Add(-29 * 24 * time.Hour)}})
	for i := range MaxRecords - 4 {
		put(fmt.Sprintf("active-%04d", i), nil)
	}
	if _, err := coll.InsertMany(t.Context(), docs); err != nil {
		t.Fatal(err)
	}
	add(t, s, Hold{Bot: "n", Why: "1"}) // 996 hold, expired, and this one
	add(t, s, Hold{Bot: "n", Why: "2"})
	add(t, s, Hold{Bot: "n", Why: "3"})
	add(t, s, Hold{Bot: "n", Why: "4"})
	all := list(t, s)
	for i := range all {
		if strings.Contains(all[i].ID, "old") || all[i].ID == "expired" {
			t.Errorf("%s is still there", all[i].ID)
		}
	}
	if len(all) != MaxRecords {
		t.Fatalf("%d records", len(all))
	}
	if _, err := s.Add(t.Context(), Hold{Bot: "n", Why: "5"}); !errors.Is(err, ErrTooMany) {
		t.Errorf("one too many: %v", err)
	}
	if _, err := s.Release(t.Context(), all[7].ID, "me"); err != nil {
		t.Fatal(err)
	}
	add(t, s, Hold{Bot: "n", Why: "5"})
}

// Whatever stands in a record, a hold comes of it that can be shown.
func FuzzRecord(f *testing.F) {
	good, err := bson.Marshal(bson.D{{Key: "_id", Value: "default/hold/x"}, {Key: "bot", Value: "b"}, {Key: "from", Value: noon}, {Key: "until", Value: bson.DateTime(1 << 62)}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{5, 0, 0, 0, 0})
	f.Add([]byte{255, 255, 255, 127, 2})
	f.Fuzz(func(t *testing.T, raw []byte) {
		h := decode(records.Doc{Raw: raw})
		for _, text := range []string{h.ID, h.Host, h.Why, h.By, h.EndBy} {
			if len(text) > MaxWhy || !utf8.ValidString(text) || strings.IndexFunc(text, unicode.IsControl) >= 0 {
				t.Errorf("%q", text)
			}
		}
		if len(h.Bot) > maxBot || !utf8.ValidString(h.Bot) {
			t.Errorf("bot %q", h.Bot)
		}
		if _, err := json.Marshal(h); err != nil {
			t.Error(err)
		}
		NewSet([]Hold{h}).Paused(botAt(t, "b", "https://crm.example.com"), noon, noon.Add(time.Hour))
	})
}
