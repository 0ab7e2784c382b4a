package calls_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
)

// Due looks only at what is due of the bots that are not held back, however much
// of the others waits.
func TestDueReadsOnlyWhatItReturns(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	if err := d.store.EnsureIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.store.EnsureIndexes(t.Context()); err != nil {
		t.Fatalf("the index is there already: %v", err)
	}
	now := time.Now()
	var docs []any
	for i := range 3000 {
		bot := "dead"
		if i%100 == 0 {
			bot = fmt.Sprint("bot-", i%300)
		}
		at := now.Add(-time.Minute)
		if i%500 == 0 {
			at = now.Add(time.Hour) // not yet
		}
		docs = append(docs, bson.D{{Key: "bot_id", Value: bot}, due(at)})
	}
	d.insert(docs...)
	before := d.server.Examined()
	found, err := d.store.Due(t.Context(), calls.DueQuery{Now: now, Except: []bson.RawValue{idOf(t, "dead")}, Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	if examined := d.server.Examined() - before; len(found) != 24 || examined > 30 {
		t.Errorf("%d due calls found by looking at %d documents, want 24", len(found), examined)
	}
	for _, c := range found {
		if c.Bot.StringValue() == "dead" || !c.At.Before(now) {
			t.Errorf("%+v", c)
		}
	}
	all, err := d.store.Due(t.Context(), calls.DueQuery{Now: now, Limit: 10})
	if err != nil || len(all) != 10 {
		t.Errorf("%d due calls with a limit of 10, %v", len(all), err)
	}
}

// A missing right is an error that names the index, and the reads go on without it.
func TestMissingRights(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.insert(bson.D{{Key: "bot_id", Value: "bot"}, due(time.Now().Add(-time.Minute))})
	d.fail("createIndexes", 1, bson.E{Key: "errorCode", Value: 13})
	if err := d.store.EnsureIndexes(t.Context()); err == nil || !strings.Contains(err.Error(), "index") {
		t.Errorf("error %v", err)
	}
	if due, err := d.store.Due(t.Context(), calls.DueQuery{Now: time.Now(), Limit: 10}); err != nil || len(due) != 1 {
		t.Errorf("%d due calls without the index, %v", len(due), err)
	}
}

// Load reads the fields that it is told to, in one find, and knows a read that
// cannot succeed.
func TestLoad(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.insert(bson.D{{Key: "_id", Value: "a"}, {Key: "bot_id", Value: "bot"}, {Key: "latency", Value: "much"}},
		bson.D{{Key: "_id", Value: "b"}, {Key: "bot_id", Value: "bot"}})
	ids := []bson.RawValue{idOf(t, "a"), idOf(t, "b"), idOf(t, "gone")}
	found := map[string]calls.Call{}
	load := func(fields []string) error {
		clear(found)
		return d.store.Load(t.Context(), calls.Read{IDs: ids, Fields: fields}, func(c calls.Call) bool {
			found[c.ID.StringValue()] = c
			return true
		})
	}
	if err := load([]string{"bot_id"}); err != nil || len(found) != 2 || found["a"].Raw.Lookup("latency").Type != 0 || found["b"].BotID != "bot" {
		t.Errorf("%v, %v", found, err)
	}
	if err := load(nil); err != nil || found["a"].Raw.Lookup("latency").StringValue() != "much" {
		t.Errorf("the whole documents: %v, %v", found, err)
	}
	d.fail("find", 1, bson.E{Key: "errorCode", Value: 2})
	if err := load(nil); !errors.Is(err, calls.ErrUnreadable) {
		t.Errorf("BadValue gives %v", err)
	}
	d.fail("find", 2, bson.E{Key: "errorCode", Value: 13})
	if err := load(nil); err == nil || errors.Is(err, calls.ErrUnreadable) {
		t.Errorf("Unauthorized gives %v, which may be over soon", err)
	}
}
