package bots

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
)

// cacheOn is a cache whose stream is not followed: nothing but Refresh reads.
func cacheOn(t *testing.T) (*Cache, *mongo.Collection) {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(localmongotest.Start(t, localmongo.Options{}).URI()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(t.Context()) })
	coll := client.Database("db").Collection("bots")
	c, err := NewCache(CacheOptions{Collection: coll, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	return c, coll
}

func TestRefreshShowsBotsAsTheyAre(t *testing.T) {
	c, coll := cacheOn(t)
	oid := bson.NewObjectID()
	put := func(id any, url string) {
		t.Helper()
		doc := bson.D{{Key: "_id", Value: id}, {Key: "prompt", Value: "p"}, {Key: "post_call_push", Value: bson.D{{Key: "url", Value: url}}}}
		if _, err := coll.ReplaceOne(t.Context(), bson.D{{Key: "_id", Value: id}}, doc, options.Replace().SetUpsert(true)); err != nil {
			t.Fatal(err)
		}
	}
	refresh := func(ids ...any) *Set {
		t.Helper()
		var raws []bson.RawValue
		for _, id := range ids {
			raws = append(raws, idOf(t, id))
		}
		if err := c.Refresh(t.Context(), raws); err != nil {
			t.Fatal(err)
		}
		return c.Set()
	}
	put("a", "https://crm.example/1")
	put(oid, "https://crm.example/2")
	if s := refresh("a", oid.Hex(), "nobody", "", nil, bson.A{}, bson.D{{Key: "$gt", Value: ""}}); s.Len() != 2 || s.Bot(idOf(t, oid.Hex())).Push.URL != "https://crm.example/2" {
		t.Fatalf("new bots: %d are known", s.Len())
	}
	before := c.Set()
	if refresh("a", oid, "nobody") != before {
		t.Error("nothing changed, and the set did")
	}
	put("a", "https://crm.example/3")
	if s := refresh("a"); s.Bot(idOf(t, "a")).Push.URL != "https://crm.example/3" || s.Bot(idOf(t, oid)) != before.Bot(idOf(t, oid)) {
		t.Error("a changed bot is as it was, or the other was compiled again")
	}
	if _, err := coll.UpdateByID(t.Context(), "a", bson.D{{Key: "$unset", Value: bson.D{{Key: "post_call_push", Value: ""}}}}); err != nil {
		t.Fatal(err)
	}
	if b := refresh("a").Bot(idOf(t, "a")); b == nil || b.Push != nil {
		t.Errorf("a bot that never pushes: %+v", b)
	}
	if err := coll.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := refresh("a"); s.Bot(idOf(t, "a")) != nil || s.Bot(idOf(t, oid)) == nil {
		t.Error("of a dropped collection only the bot that was asked for is gone")
	}
	before = c.Set()
	if err := c.Refresh(t.Context(), []bson.RawValue{idOf(t, ""), {}}); err != nil || c.Set() != before {
		t.Errorf("no id at all: %v", err)
	}
}

func TestRefreshOfADatabaseThatIsAway(t *testing.T) {
	client, err := mongo.Connect(options.Client().ApplyURI("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=20"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(t.Context()) })
	c, err := NewCache(CacheOptions{Collection: client.Database("db").Collection("bots"), Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Refresh(t.Context(), []bson.RawValue{idOf(t, "a")}); err == nil || errors.Is(err, mongo.ErrNoDocuments) {
		t.Errorf("got %v", err)
	}
}
