package hold

import (
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/internal/bots"
)

var noon = time.Date(2026, 6, 5, 12, 0, 0, 0, time.UTC)

func botAt(t testing.TB, id, url string) *bots.Bot {
	t.Helper()
	doc := bson.M{"_id": id}
	if url != "" {
		doc["post_call_push"] = bson.M{"url": url, "key_mapper": bson.M{"a": "b"}}
	}
	raw, err := bson.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return bots.Compile(raw, bots.Options{})
}

func TestWhichBotsAreHeld(t *testing.T) {
	for name, c := range map[string]struct {
		hold Hold
		url  string
		want bool
	}{
		"the bot":                        {Hold{Bot: "b"}, "https://crm.example.com/x", true},
		"the bot, without a push":        {Hold{Bot: "b"}, "", true},
		"another bot":                    {Hold{Bot: "B"}, "https://crm.example.com/x", false},
		"its host":                       {Hold{Host: "crm.example.com"}, "https://crm.example.com/x", true},
		"its host in another case":       {Hold{Host: "CRM.example.com"}, "https://Crm.Example.com/x", true},
		"the usual port written out":     {Hold{Host: "crm.example.com"}, "https://crm.example.com:443/x", true},
		"held with the usual port":       {Hold{Host: "crm.example.com:443"}, "https://crm.example.com/x", true},
		"the usual port of http":         {Hold{Host: "crm.example.com:80"}, "http://crm.example.com", true},
		"the port of the other scheme":   {Hold{Host: "crm.example.com:80"}, "https://crm.example.com", false},
		"a port of its own":              {Hold{Host: "crm.example.com:8443"}, "https://crm.example.com:8443", true},
		"held without its port":          {Hold{Host: "crm.example.com"}, "https://crm.example.com:8443", false},
		"https on the port of http":      {Hold{Host: "crm.example.com"}, "https://crm.example.com:80", false},
		"an address":                     {Hold{Host: "[2001:db8::1]"}, "https://[2001:db8::1]:443/x", true},
		"a host within another":          {Hold{Host: "example.com"}, "https://crm.example.com/x", false},
		"a host, and a bot without push": {Hold{Host: "crm.example.com"}, "", false},
		"neither bot nor host":           {Hold{}, "https://crm.example.com/x", false},
	} {
		b := botAt(t, "b", c.url)
		held := NewSet([]Hold{c.hold}).For(b, noon) != nil
		if held != c.want || c.hold.Covers(b) != c.want {
			t.Errorf("%s: held %t, covered %t", name, held, c.hold.Covers(b))
		}
	}
	if new(Set).For(botAt(t, "b", ""), noon) != nil || NewSet([]Hold{{Bot: "b"}}).For(nil, noon) != nil {
		t.Error("held by nothing, or nothing held")
	}
}

func TestHowLongAHoldLasts(t *testing.T) {
	ago, later := noon.Add(-time.Hour), noon.Add(time.Hour)
	for name, c := range map[string]struct {
		hold   Hold
		active bool
		over   time.Time
	}{
		"without an end":           {Hold{From: ago}, true, time.Time{}},
		"by a clock that is ahead": {Hold{From: later}, true, time.Time{}},
		"for a while":              {Hold{From: ago, Until: later}, true, later},
		"its time is over":         {Hold{From: ago, Until: noon}, false, noon},
		"released":                 {Hold{From: ago, Ended: noon}, false, noon},
		"released before its time": {Hold{From: ago, Until: later, Ended: noon}, false, noon},
		"released after its time":  {Hold{From: ago, Until: noon, Ended: later}, false, noon},
	} {
		if c.hold.Active(noon) != c.active || !c.hold.Over().Equal(c.over) {
			t.Errorf("%s: active %t, over at %v", name, c.hold.Active(noon), c.hold.Over())
		}
	}
}

// Paused is the number of the minutes in which any hold covers the bot.
func TestPausedCountsEachMomentOnce(t *testing.T) {
	b := botAt(t, "b", "https://crm.example.com/x")
	at := func(minute int) time.Time { return noon.Add(time.Duration(minute) * time.Minute) }
	rapid.Check(t, func(t *rapid.T) {
		minute := rapid.IntRange(0, 60)
		var all []Hold
		for range rapid.IntRange(0, 5).Draw(t, "holds") {
			h := rapid.SampledFrom([]Hold{{Bot: "b"}, {Host: "crm.example.com"}, {Host: "crm.example.com:443"}, {Bot: "other"}}).Draw(t, "what")
			h.From = at(minute.Draw(t, "from"))
			if rapid.Bool().Draw(t, "limited") {
				h.Until = at(minute.Draw(t, "until"))
			}
			if rapid.Bool().Draw(t, "released") {
				h.Ended = at(minute.Draw(t, "ended"))
			}
			all = append(all, h)
		}
		from, to := minute.Draw(t, "begin"), minute.Draw(t, "end")
		var want time.Duration
		for m := from; m < to; m++ {
			if slices.ContainsFunc(all, func(h Hold) bool {
				return h.Covers(b) && !at(m).Before(h.From) && (h.Over().IsZero() || at(m).Before(h.Over()))
			}) {
				want += time.Minute
			}
		}
		if got := NewSet(all).Paused(b, at(from), at(to)); got != want {
			t.Errorf("%v, want %v of %d to %d: %+v", got, want, from, to, all)
		}
	})
}
