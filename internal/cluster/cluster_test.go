package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
	"github.com/cxbridge/watcher/internal/plain"
	"github.com/cxbridge/watcher/internal/replay"
	"github.com/cxbridge/watcher/pkg/secret"
)

// desk is a database that tests fill by hand.
type desk struct {
	t     *testing.T
	db    *mongo.Database
	holds []hold.Hold
}

func (d *desk) reader() *Reader {
	d.t.Helper()
	r, err := New(Options{
		Calls: d.db.Collection("calls"), Bots: d.db.Collection("bots"), Resume: d.db.Collection("watcher_resume"), Name: "default",
		Known: func(ctx context.Context) (*bots.Set, error) {
			all, err := bots.ReadAll(ctx, d.db.Collection("bots"), bots.Options{})
			return bots.NewSet(all), err
		},
		Holds:   func(context.Context) ([]hold.Hold, error) { return d.holds, nil },
		Replays: replay.NewRecords(d.db.Collection("watcher_resume"), "default").List,
		Samples: 1,
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return r
}

func (d *desk) insert(collection string, docs ...bson.M) {
	d.t.Helper()
	if _, err := d.db.Collection(collection).InsertMany(d.t.Context(), docs); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) read() *Summary {
	d.t.Helper()
	s, err := d.reader().Read(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

func onEach(t *testing.T, test func(d *desk)) {
	localmongotest.OnEach(t, localmongo.Options{}, func(t *testing.T, on localmongotest.Deployment) {
		test(&desk{t: t, db: on.Connect(t).Database(on.Database)})
	})
}

func attention(t *testing.T, s *Summary, want ...string) {
	t.Helper()
	if len(s.Attention) != len(want) {
		t.Errorf("%q, want %q", s.Attention, want)
		return
	}
	for i, w := range want {
		if !strings.HasPrefix(s.Attention[i], w) {
			t.Errorf("%q, want %q", s.Attention[i], w)
		}
	}
}

// An empty database is said to be one, and lists are lists.
func TestSummaryOfAnEmptyDatabase(t *testing.T) {
	onEach(t, func(d *desk) {
		s := d.read()
		if s.Status != StatusDown {
			t.Errorf("%+v", s)
		}
		attention(d.t, s, "No watcher has run under the name default.", "The database "+d.db.Name()+" holds neither calls nor bots")
		text, err := json.Marshal(s)
		if err != nil || strings.Contains(string(text), "null,") && !strings.Contains(string(text), `"oplog_window_seconds":null`) {
			t.Errorf("%s, %v", text, err)
		}
	})
}

// Who lives, what each holds, and what waits of whom.
func TestSummary(t *testing.T) {
	onEach(t, func(d *desk) {
		now := time.Now()
		if err := calls.NewStore(d.db.Collection("calls")).EnsureIndexes(d.t.Context()); err != nil {
			d.t.Fatal(err)
		}
		d.insert("watcher_resume",
			bson.M{"_id": "default/member/a", "owner": "one\x1b[31m", "version": "1.2.3", "beat_at": now, "lease_ms": 60_000},
			bson.M{"_id": "default/member/b", "owner": "dead", "beat_at": now.Add(-time.Hour), "lease_ms": 15_000},
			bson.M{"_id": "other/member/c", "owner": "two", "beat_at": now, "lease_ms": 60_000},
			bson.M{"_id": "gone/member/d", "owner": "three", "beat_at": now.Add(-time.Hour), "lease_ms": 60_000},
			bson.M{"_id": "default/0-of-2", "owner": "one", "instance": "a", "term": 3, "saved_at": now, "cluster_time": bson.Timestamp{T: uint32(now.Unix())}}, //nolint:gosec // in this century
			bson.M{"_id": "default/1-of-2", "owner": "dead", "instance": "b", "term": 4, "cluster_time": bson.Timestamp{T: uint32(now.Add(-time.Hour).Unix())}}, //nolint:gosec // in this century
			bson.M{"_id": "default/replay/r1", "state": "marking", "found": 9, "marked": 4, "updated_at": now, "by": "asha"},
			bson.M{"_id": "default/replay/r0", "state": "marked", "found": 9, "marked": 9, "updated_at": now, "due": now.Add(-time.Hour)})
		d.insert("bots",
			bson.M{"_id": "busy", "name": "Busy", "post_call_push": bson.M{"url": "https://crm.example.com/x?key=hidden", "token": "t"}},
			bson.M{"_id": "kept", "name": "Kept", "post_call_push": bson.M{"url": "https://held.example.com/x", "token": "t"}})
		call := func(id, bot string, in time.Duration) bson.M {
			return bson.M{"_id": id, "bot_id": bot, "post_call_push_result": bson.M{
				"status": "failed", "attempts": 2, "error": "no answer for +91 98765 43210", "next_attempt_at": now.Add(in), "slot": 1}}
		}
		d.insert("calls", call("1", "busy", -10*time.Minute), call("2", "busy", time.Hour), call("3", "kept", -time.Hour), call("4", "unknown", time.Hour))
		d.holds = []hold.Hold{{ID: "h", Host: "held.example.com", Why: "broken\nthere", From: now.Add(-time.Minute)}, {ID: "old", Bot: "busy", From: now.Add(-time.Hour), Until: now.Add(-time.Minute)}}

		s := d.read()
		if s.Status != StatusDown || s.Alive() != 1 || s.Replicas[0].Owner != "one [31m" || s.Replicas[0].Version != "1.2.3" || !slices.Equal(s.Replicas[0].Partitions, []string{"0-of-2"}) || s.Replicas[1].Lives {
			t.Errorf("%s %+v", s.Status, s.Replicas)
		}
		s.Attention = slices.DeleteFunc(s.Attention, func(text string) bool { return strings.HasPrefix(text, "The history after") }) // by the server
		attention(d.t, s, "Nobody reads partition 1-of-2.", "Partition 1-of-2 is ", "Bot Busy: 1 call due, the first for 10m.", "Another watcher is alive beside --name default, under other:")
		if p := s.Partitions; len(p) != 2 || p[0].Owner != "one" || p[1].Owner != "" || p[0].Age == nil || p[0].Lag == nil {
			t.Errorf("%+v", p)
		}
		w := &s.Waiting
		if got := fmt.Sprint(w.Calls, w.Due, w.Scheduled, w.Held, w.Failing, len(w.Bots), len(w.Hosts)); got != "4 1 2 1 4 3 2" {
			t.Errorf("waiting: %s %+v", got, w)
		}
		if b := w.Bots[0]; b.Name != "Busy" || b.Host != "crm.example.com" || b.Due != 1 || b.Scheduled != 1 || b.Last == nil || b.Last.Attempts != 2 || strings.Contains(b.Last.Error, "98765") {
			t.Errorf("%+v %+v", b, b.Last)
		}
		if len(s.Holds) != 1 || s.Holds[0].Why != "broken there" || len(s.Replays) != 1 || s.Replays[0].ID != "r1" || s.Replays[0].Marked != 4 {
			t.Errorf("%+v %+v", s.Holds, s.Replays)
		}
	})
}

// Each call counts once, whatever holds there are.
func TestCountsAddUp(t *testing.T) {
	now := time.Now()
	rapid.Check(t, func(t *rapid.T) {
		g := calls.Waiting{Calls: rapid.IntRange(1, 1000).Draw(t, "calls"), First: now}
		g.Due = rapid.IntRange(0, g.Calls).Draw(t, "due")
		bot := &bots.Bot{ID: "b"}
		held := hold.NewSet([]hold.Hold{{Bot: rapid.SampledFrom([]string{"b", "c"}).Draw(t, "held")}})
		var sum Counts
		for range 3 {
			row := waitingBot(g, bot, held, now)
			sum.add(row.Counts)
			if row.Due+row.Scheduled+row.Held != row.Calls {
				t.Fatalf("%+v", row)
			}
		}
		if sum.Due+sum.Scheduled+sum.Held != sum.Calls || sum.Calls != 3*g.Calls {
			t.Fatalf("%+v", sum)
		}
	})
}

func TestWhatNeedsAttention(t *testing.T) {
	span := func(d time.Duration) *plain.Span { s := plain.Span(d); return &s }
	alive := []Replica{{Lives: true}}
	good := Partition{Name: "0-of-1", Owner: "a", Age: span(time.Second), Lag: span(time.Second), Headroom: span(time.Hour)}
	with := func(change func(p *Partition)) []Partition {
		p := good
		change(&p)
		return []Partition{p}
	}
	for name, tt := range map[string]struct {
		s    Summary
		want string
	}{
		"all is well":      {Summary{Replicas: alive, Partitions: []Partition{good}}, "ok []"},
		"just started":     {Summary{Replicas: alive}, "ok []"},
		"lost":             {Summary{Replicas: alive, Partitions: with(func(p *Partition) { p.Headroom = span(-1) })}, "attention [The history after the saved position of partition 0-of-1 is lost: its results are looked up by time.]"},
		"late":             {Summary{Replicas: alive, Partitions: with(func(p *Partition) { p.Lag = span(time.Hour) })}, "attention [Partition 0-of-1 is 1h behind.]"},
		"short of history": {Summary{Replicas: alive, Oplog: span(time.Hour), Partitions: with(func(p *Partition) { p.Age, p.Headroom = span(50*time.Minute), span(10*time.Minute) })}, "attention [The saved position of partition 0-of-1 is 10m from the end of an oplog of 1h.]"},
		"a young oplog":    {Summary{Replicas: alive, Oplog: span(4 * time.Second), Partitions: with(func(p *Partition) { p.Headroom = span(0) })}, "ok []"},
		"damaged":          {Summary{Replicas: alive, Partitions: with(func(p *Partition) { p.Damage = "field" })}, "attention [The record of partition 0-of-1 is damaged: field.]"},
	} {
		tt.s.conclude(nil)
		if got := fmt.Sprint(tt.s.Status, " ", tt.s.Attention); got != tt.want {
			t.Errorf("%s: %s", name, got)
		}
	}
	many := Summary{Replicas: alive, Partitions: []Partition{good}}
	many.conclude(slices.Repeat([]string{"Look."}, 20))
	if len(many.Attention) != maxNotes+1 || many.Attention[maxNotes] != "And 8 more." {
		t.Errorf("%q", many.Attention)
	}
}

// The driver does not say that the replica set has another name.
func TestUnreachable(t *testing.T) {
	server := localmongotest.Start(t, localmongo.Options{})
	host := server.Addr()
	uri := secret.Text("mongodb://" + host + "/?replicaSet=rs1&serverSelectionTimeoutMS=200")
	client, err := mongo.Connect(options.Client().ApplyURI(uri.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Disconnect(context.WithoutCancel(t.Context()))
	err = client.Ping(t.Context(), nil)
	want := "no MongoDB server can be used (" + host + " belongs to the replica set rs0, and the connection string says rs1)"
	if got := Unreachable(t.Context(), uri, err); got.Error() != want || !errors.As(got, new(topology.ServerSelectionError)) {
		t.Errorf("%v", got)
	}
	if got := Unreachable(t.Context(), "mongodb://127.0.0.1:1/?replicaSet=rs1", err); got.Error() != err.Error() {
		t.Errorf("a server that is away: %v", got)
	}
	other := errors.New("something else")
	if got := Unreachable(t.Context(), uri, other); !errors.Is(got, other) || got.Error() != other.Error() {
		t.Errorf("%v", got)
	}
}
