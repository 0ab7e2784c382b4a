package inspect

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
	"github.com/cxbridge/watcher/pkg/resume"
)

// shelf is a database with an inspector on it.
type shelf struct {
	db    *mongo.Database
	holds []hold.Hold
}

func newShelf(t *testing.T) *shelf {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(localmongotest.Start(t, localmongo.Options{}).URI()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	return &shelf{db: client.Database("db")}
}

func (s *shelf) inspector() *Inspector {
	return New(Options{
		Calls: s.db.Collection("calls"), Bots: s.db.Collection("bots"), Resume: s.db.Collection("resume"),
		Skips: s.db.Collection("skips"), Name: "default",
		Holds: func(context.Context) (*hold.Set, error) { return hold.NewSet(s.holds), nil },
	})
}

type failer interface {
	Fatal(args ...any)
	Helper()
}

func (s *shelf) replace(ctx context.Context, t failer, coll string, docs ...any) {
	t.Helper()
	_, err := s.db.Collection(coll).DeleteMany(ctx, bson.D{})
	if err == nil && len(docs) > 0 {
		_, err = s.db.Collection(coll).InsertMany(ctx, docs)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func pushes(id, host string) bson.M {
	return bson.M{"_id": id, "name": "Bot " + id, "post_call_push": bson.M{"url": "https://" + host + "/x", "key_mapper": bson.M{"a": "b"}}}
}

// put makes a bot, a saved position, and the holds that the lists of the tests stand on.
func (s *shelf) put(t *testing.T, position time.Time) {
	t.Helper()
	off := pushes("off", "crm.example")
	off["post_call_push"].(bson.M)["enabled"] = false
	s.replace(t.Context(), t, "bots", pushes("a", "crm.example"), pushes("b", "other.example"), pushes("held", "crm.example"), off)
	s.holds = []hold.Hold{{Bot: "held", Why: "as asked"}}
	store, err := resume.NewStore(s.db.Collection("resume"), "default")
	if err == nil {
		err = store.Reset(t.Context(), resume.Partition{Of: 1}, resume.At(position), resume.Reset{At: position})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// kinds are what may stand on a call of bot a, and what it is then.
var kinds = map[string]struct {
	outcome bson.M
	state   State
	bots    map[string]State // of other bots
}{
	"none":      {nil, StateMissing, map[string]State{"off": StateSkipped, "gone": StateSkipped}},
	"older":     {bson.M{"status": "ok", "completed_at": time.Unix(5, 0)}, StateMissing, map[string]State{"off": StateSkipped, "gone": StateSkipped}},
	"ok":        {bson.M{"status": "ok", "http_status": 200}, StateOK, nil},
	"rejected":  {bson.M{"status": "rejected", "http_status": 422, "error": "HTTP 422: mobile 98 is known"}, StateRejected, nil},
	"failed":    {bson.M{"status": "failed", "error": "no answer"}, StateFailed, nil},
	"skipped":   {bson.M{"status": "skipped", "error": "the bot has no url"}, StateSkipped, nil},
	"scheduled": {bson.M{"status": "failed", "error": "HTTP 503", "http_status": 503, "next_attempt_at": time.Unix(9, 0)}, StateDue, map[string]State{"held": StateHeld}},
	"platform":  {bson.M{"status": "rejected", "platform": true}, StateRejected, nil},
}

// A list counts what a plain count of the same calls gives, whatever is asked for,
// with and without an index.
func TestListCountsEveryState(t *testing.T) {
	s := newShelf(t)
	now := time.Now().UTC().Truncate(time.Second)
	s.put(t, now.Add(-10*time.Minute))
	names := []string{"none", "none", "older", "ok", "rejected", "failed", "skipped", "scheduled", "platform"}
	rapid.Check(t, func(rt *rapid.T) {
		type stored struct {
			bot, host string
			at        time.Time
			state     State
			waits     bool // stands as due on the call
		}
		var docs, skips []any
		all := make([]stored, rapid.IntRange(0, 40).Draw(rt, "calls"))
		for i := range all {
			c := stored{
				bot: rapid.SampledFrom([]string{"a", "b", "off", "held", "gone"}).Draw(rt, "bot"),
				at:  now.Add(-time.Duration(rapid.IntRange(1, 3000).Draw(rt, "minutes ago")) * time.Minute),
			}
			kind := kinds[rapid.SampledFrom(names).Draw(rt, "kind")]
			c.state = kind.state
			if state, ok := kind.bots[c.bot]; ok {
				c.state = state
			}
			c.host = map[string]string{"a": "crm.example", "b": "other.example", "off": "crm.example", "held": "crm.example"}[c.bot]
			doc := bson.D{{Key: "_id", Value: fmt.Sprint(i)}, {Key: "session_id", Value: fmt.Sprint("s-", i)}, {Key: "bot_id", Value: c.bot}}
			if rapid.IntRange(0, 5).Draw(rt, "text") == 0 {
				doc = append(doc, bson.E{Key: "completed_at", Value: c.at.Format(time.RFC3339)})
			} else {
				doc = append(doc, bson.E{Key: "completed_at", Value: c.at})
			}
			if kind.outcome != nil {
				outcome := maps.Clone(kind.outcome)
				if outcome["platform"] == nil && outcome["completed_at"] == nil {
					outcome["completed_at"] = c.at
				}
				doc = append(doc, bson.E{Key: "post_call_push_result", Value: outcome})
				c.waits = outcome["next_attempt_at"] != nil
			}
			if c.state == StateMissing {
				switch {
				case rapid.IntRange(0, 3).Draw(rt, "in the log") == 0:
					raw, err := bson.Marshal(doc)
					if err != nil {
						rt.Fatal(err)
					}
					call := calls.Decode(raw)
					skips = append(skips, bson.M{"_id": call.DeliveryID(), "reason": "skip_post_push"})
					c.state = StateSkipped
				case !c.at.Before(now.Add(-10 * time.Minute)):
					c.state = StateDue // on its way
				}
			}
			all[i] = c
			docs = append(docs, doc)
		}
		s.replace(t.Context(), rt, "calls", docs...)
		s.replace(t.Context(), rt, "skips", skips...)
		if rapid.Bool().Draw(rt, "index") {
			if _, err := s.db.Collection("calls").Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: bson.D{{Key: "completed_at", Value: 1}}}); err != nil {
				rt.Fatal(err)
			}
		}
		q := Query{States: rapid.SliceOfNDistinct(rapid.SampledFrom(States), 0, 3, rapid.ID).Draw(rt, "states"), Limit: rapid.IntRange(1, 20).Draw(rt, "limit")}
		if rapid.Bool().Draw(rt, "since") {
			q.Since = now.Add(-time.Duration(rapid.IntRange(1, 3000).Draw(rt, "minutes")) * time.Minute)
		}
		if rapid.IntRange(0, 2).Draw(rt, "by bot") == 0 {
			q.Bots = []string{"bot A", "held"}
		}
		if rapid.IntRange(0, 2).Draw(rt, "by host") == 0 {
			q.Hosts = []string{"CRM.example"}
		}
		want, due := make(map[State]int), q.onlyDue()
		for _, c := range all {
			since := q.Since
			if since.IsZero() && !due {
				since = now.Add(-DefaultSpan)
			}
			switch {
			case len(q.States) > 0 && !strings.Contains(fmt.Sprint(q.States), string(c.state)):
			case q.Bots != nil && c.bot != "a" && c.bot != "held":
			case q.Hosts != nil && c.host != "crm.example":
			case c.at.Before(since):
			case due && q.Since.IsZero() && !c.waits: // by the index of what is due
			default:
				want[c.state]++
			}
		}
		list, err := s.inspector().List(t.Context(), q)
		if err != nil {
			rt.Fatal(err)
		}
		total := 0
		for _, n := range want {
			total += n
		}
		if !maps.Equal(list.States, want) || list.Total != total || len(list.Rows) != min(total, q.Limit) || list.Partial != "" {
			rt.Fatalf("%+v: %d in all, %v, %d rows, want %v", q, list.Total, list.States, len(list.Rows), want)
		}
		for i := range list.Rows[min(1, len(list.Rows)):] {
			if list.Rows[i+1].CompletedAt.After(list.Rows[i].CompletedAt) {
				rt.Fatal("the newest is not first")
			}
		}
		for _, by := range []GroupBy{ByError, ByBot, ByHost} {
			groups, again, err := s.inspector().Groups(t.Context(), q, by)
			sum := 0
			for _, g := range groups {
				sum += g.Count
			}
			if err != nil || sum != total || again.Total != total || len(again.Rows) != 0 {
				rt.Fatalf("by %s: %d, want %d, %v", by, sum, total, err)
			}
		}
	})
}

func TestListNamesWhatItDoesNotKnow(t *testing.T) {
	s := newShelf(t)
	twin := pushes("twin", "x.example")
	twin["name"] = "bot A"
	s.replace(t.Context(), t, "bots", pushes("a", "crm.example"), twin)
	_, err := s.inspector().List(t.Context(), Query{Bots: []string{"bto", "Bot a"}})
	found, ok := errors.AsType[*bots.FindError](err)
	if !ok || found.Text != "bto" || !strings.Contains(err.Error(), `several bots have the name "Bot a"; say which by its id: a, twin`) {
		t.Errorf("%v", err)
	}
	if _, _, err := s.inspector().Groups(t.Context(), Query{}, "day"); err == nil {
		t.Error("groups by day")
	}
}

// What is no stored result is known to the skip log alone.
func TestListShowsWhatTheSkipLogAloneKnows(t *testing.T) {
	s := newShelf(t)
	now := time.Now().UTC().Truncate(time.Second)
	s.put(t, now)
	s.replace(t.Context(), t, "skips",
		bson.M{"_id": "1", "call_id": "gone", "session_id": "s-1", "bot_id": "a", "reason": "call_deleted", "at": now.Add(-time.Hour)},
		bson.M{"_id": "2", "call_id": "x", "session_id": "s-2", "bot_id": "b", "reason": "agent_call", "completed_at": now.Add(-2 * time.Hour), "at": now},
		bson.M{"_id": "3", "call_id": "y", "session_id": "s-3", "reason": "no_result", "at": now.AddDate(0, 0, -3)},
		bson.M{"_id": "4", "call_id": 5, "reason": "disabled", "at": now},
	)
	for _, tt := range []struct {
		q    Query
		want []string
	}{
		{Query{}, []string{"s-1", "s-2"}},
		{Query{States: []State{StateSkipped}, Bots: []string{"Bot a"}}, []string{"s-1"}},
		{Query{Sessions: []string{"s-3"}}, []string{"s-3"}},
		{Query{Reason: "agent"}, []string{"s-2"}},
		{Query{Hosts: []string{"crm.example"}}, []string{"s-1"}},
		{Query{Hosts: []string{"crm.example:443"}}, []string{"s-1"}},
		{Query{Hosts: []string{"crm.example:8443"}}, nil},
		{Query{States: []State{StateOK}}, nil},
		{Query{States: []State{StateDue}}, nil},
	} {
		list, err := s.inspector().List(t.Context(), tt.q)
		var got []string
		for _, r := range list.Rows {
			got = append(got, r.SessionID)
		}
		if err != nil || !slices.Equal(got, tt.want) || list.Total != len(tt.want) {
			t.Errorf("%+v: %v, want %v, %v", tt.q, got, tt.want, err)
		}
	}
}

// What differs from call to call makes no group of its own.
func TestGroupsByError(t *testing.T) {
	s := newShelf(t)
	now := time.Now().UTC()
	s.put(t, now)
	var docs []any
	add := func(bot, status, text string, http any) {
		docs = append(docs, bson.M{"_id": fmt.Sprint(len(docs)), "bot_id": bot, "completed_at": now.Add(-time.Duration(len(docs)+1) * time.Minute),
			"post_call_push_result": bson.M{"status": status, "http_status": http, "error": text}})
	}
	for i := range 5 {
		add("a", "rejected", fmt.Sprintf("HTTP 422 Unprocessable Entity: lead %d of \"Asha %d\" is 665f1c2e987654321012%04d", i, i, i), 422)
	}
	add("b", "rejected", "HTTP 401 Unauthorized", 401)
	for i := range 300 {
		add("gone-"+fmt.Sprint(i), "failed", fmt.Sprintf("no %c%c", 'g'+i/20, 'g'+i%20), nil)
	}
	s.replace(t.Context(), t, "calls", docs...)
	groups, list, err := s.inspector().Groups(t.Context(), Query{}, ByError)
	if err != nil || list.Total != 306 || list.Read != 306 || len(groups) > mostGroups+1 {
		t.Fatalf("%d groups, %+v, %v", len(groups), list, err)
	}
	byKey := make(map[string]Group)
	for _, g := range groups {
		byKey[g.Key] = g
	}
	g := byKey[`rejected: HTTP 422 Unprocessable Entity: lead # of "…" is #`]
	if g.Count != 5 || g.States[StateRejected] != 5 || g.Example.ID != "0" || !g.Newest.After(g.Oldest) {
		t.Errorf("%+v", groups[:5])
	}
	if byKey["rejected: HTTP 401 Unauthorized"].Count != 1 || byKey[OtherGroups].Count == 0 {
		t.Errorf("%+v", groups[:5])
	}
	for _, g := range groups[:8] { // a list of a group holds what the group counted
		list, err := s.inspector().List(t.Context(), Query{Group: g.Key})
		if want := g.Count; g.Key != OtherGroups && (list.Total != want || err != nil) {
			t.Errorf("%q: %d calls, want %d, %v", g.Key, list.Total, want, err)
		}
	}
}

// endless is a selector of more calls than anybody reads.
type endless struct{}

func (endless) Select(_ context.Context, _ calls.Stored, fn func(calls.Call) error) error {
	for {
		if err := fn(calls.Call{}); err != nil {
			return err
		}
	}
}

func TestListReadsNoMoreThanItMay(t *testing.T) {
	read := 0
	c := counter{Selector: endless{}, read: &read}
	if err := c.Select(t.Context(), calls.Stored{}, func(calls.Call) error { return nil }); !errors.Is(err, errListRead) || read != mostRead {
		t.Errorf("%d documents, %v", read, err)
	}
}

// However many rows there are, the newest are kept, and no more than asked for.
func TestNewestRows(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ages := rapid.SliceOf(rapid.IntRange(0, 50)).Draw(rt, "ages")
		n := newestRows{most: rapid.IntRange(1, 10).Draw(rt, "most")}
		set := bots.NewSet(nil)
		for _, age := range ages {
			c := calls.Call{CompletedAt: time.Unix(int64(1000-age), 0)}
			n.add(&Found{Call: &c, Bot: set.Bot(c.Bot)})
			if len(n.rows) > 2*n.most {
				rt.Fatalf("%d rows are kept", len(n.rows))
			}
		}
		rows := n.sorted()
		slices.Sort(ages)
		for i, age := range ages[:min(len(ages), n.most)] {
			if rows[i].CompletedAt.Unix() != int64(1000-age) {
				rt.Fatalf("%v of %v", rows, ages)
			}
		}
	})
}

func FuzzAlike(f *testing.F) {
	f.Add(`HTTP 422: lead 12 of "Asha" '`)
	f.Add("“ü” \xff 550e8400-e29b-41d4-a716-446655440000 ١٢")
	f.Fuzz(func(t *testing.T, text string) {
		got := alike(text)
		if !utf8.ValidString(got) || utf8.RuneCountInString(got) > mostKey {
			t.Errorf("%q became %q", text, got)
		}
	})
}

// Whatever the numbers are, it is the same group.
func TestAlikeLeavesNumbersOut(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a, b := rapid.Uint64().Draw(rt, "a"), rapid.Uint64().Draw(rt, "b")
		text := rapid.StringMatching(`[g-z :,]{0,40}`).Draw(rt, "text")
		one, other := alike(fmt.Sprintf("HTTP 422: %s %d", text, a)), alike(fmt.Sprintf("HTTP 422: %s %d", text, b))
		if one != other || !strings.HasPrefix(one, "HTTP 422: ") {
			rt.Fatalf("%q and %q", one, other)
		}
	})
}
