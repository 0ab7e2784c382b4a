package bots

import (
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/pkg/secret"
)

func tokenBot(t *testing.T, id, token string, fields ...bson.E) *Bot {
	t.Helper()
	raw, err := bson.Marshal(bson.D{{Key: "_id", Value: id}, {Key: "post_call_push", Value: append(bson.D{
		{Key: "url", Value: "https://crm.example.com/hook"}, {Key: "token", Value: token},
		{Key: "key_mapper", Value: bson.D{{Key: "a", Value: "b"}}},
	}, fields...)}})
	if err != nil {
		t.Fatal(err)
	}
	return Compile(raw, Options{})
}

// Credentials are known as long as a bot has them, and a little longer, as
// attempts that were begun with them may still speak of them.
func TestTheSecretsOfTheBotsComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := secret.NewRedactor()
		c := &Cache{o: CacheOptions{Secrets: r}, known: newVersions()}
		learn := func(all ...*Bot) {
			found := make(map[idKey]version)
			for _, b := range all {
				found[keyOf(b.RawID)] = version{bot: b}
			}
			c.learn(c.known.finish(c.known.begin(), nil, found))
		}
		shows := func(when, text string, want bool) {
			t.Helper()
			if got := r.Redact(text) == text; got != want {
				t.Errorf("%s: %q shows: %v", when, text, got)
			}
		}
		shows("before", "first-token", true)
		learn(tokenBot(t, "a", "first-token"), tokenBot(t, "b", "shared-token"), tokenBot(t, "c", "shared-token"))
		shows("loaded", "first-token", false)
		left := []*Bot{tokenBot(t, "a", "second-token"), tokenBot(t, "b", "shared-token")}
		learn(left...) // read anew, c is gone
		shows("changed", "first-token", false)
		shows("changed", "second-token", false)
		time.Sleep(retireAfter)
		learn(left...)
		shows("later", "first-token", true)
		shows("later", "second-token", false)
		shows("later", "shared-token", false)
		learn()
		time.Sleep(retireAfter)
		learn()
		shows("all gone", "shared-token", true)
		shows("all gone", "second-token", true)
	})
}

func TestLimitsOfADestinationAreTheLowestOfItsBots(t *testing.T) {
	const token = "one-token"
	limit := func(concurrency, rate any) []bson.E {
		return []bson.E{{Key: "max_concurrency", Value: concurrency}, {Key: "rate_limit_per_second", Value: rate}}
	}
	off := append(limit(1, 0.1), bson.E{Key: "enabled", Value: false})
	s := NewSet([]*Bot{
		tokenBot(t, "a", token, limit(8, nil)...), tokenBot(t, "b", token, limit(3, 2.5)...), tokenBot(t, "c", token, limit(nil, 7)...),
		tokenBot(t, "off", token, off...), tokenBot(t, "other", "other-token", limit(1, 1)...), tokenBot(t, "none", "third-token"),
	})
	for id, want := range map[string]Limits{
		"a": {Concurrency: 3, PerSecond: 2.5}, "other": {Concurrency: 1, PerSecond: 1}, "none": {},
	} {
		if got := s.Limits(s.Named(id).Push.Destination); got != want {
			t.Errorf("%s: %+v, want %+v", id, got, want)
		}
	}
	if got := s.Limits("nowhere"); got != (Limits{}) {
		t.Errorf("an unknown destination has %+v", got)
	}
}
