package resume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
)

func newCollection(t *testing.T) *mongo.Collection {
	t.Helper()
	server := localmongotest.Start(t, localmongo.Options{})
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	return client.Database("test").Collection("resume")
}

func newTestStore(t testing.TB, coll *mongo.Collection, name string) *Store {
	t.Helper()
	s, err := NewStore(coll, name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The store and the reference of the lease tests do the same, whatever is asked.
func TestLedger(t *testing.T) {
	coll := newCollection(t)
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		name := fmt.Sprint("x", round)
		stored := newTestStore(t, coll, name)
		model := newLine(newMemory(), name, 1, 0)
		both := []ledger{stored, model}
		ctx := context.Background()
		parts := []Partition{{0, 1}, {0, 2}, {1, 2}}
		holders := []holder{{"a", "ia", time.Second}, {"b", "ib", 2 * time.Second}}
		looks := [2][][]Record{{{}}, {{}}} // what was seen at each look, to act on old news
		for range rapid.IntRange(1, 15).Draw(rt, "steps") {
			p := rapid.SampledFrom(parts).Draw(rt, "partition")
			h := rapid.SampledFrom(holders).Draw(rt, "holder")
			term := rapid.Int64Range(1, 4).Draw(rt, "term")
			look := rapid.IntRange(0, len(looks[0])-1).Draw(rt, "look")
			op := rapid.IntRange(0, 7).Draw(rt, "op")
			var errs [2]error
			for i, l := range both {
				seen := find(looks[i][look], p.ID(name))
				switch op {
				case 0, 1:
					_, errs[i] = l.take(ctx, p, seen, h)
				case 2:
					errs[i] = l.renew(ctx, p.ID(name), term)
				case 3:
					errs[i] = l.release(ctx, p.ID(name), term)
				case 4:
					errs[i] = l.save(ctx, p.ID(name), term, At(time.Unix(100+term, 0)), Origin{"rs", "p"}, time.Unix(term, 0).UTC())
				case 5:
					errs[i] = l.beat(ctx, h)
				case 6:
					if seen.ID != "" {
						errs[i] = l.forget(ctx, seen)
					}
				case 7:
					errs[i] = l.adopt(ctx, p, Record{Position: At(time.Unix(50, 0)), Pipeline: "q"})
				}
				records, err := l.Records(ctx)
				if err != nil {
					rt.Fatal(err)
				}
				looks[i] = append(looks[i], records)
			}
			if errors.Is(errs[0], ErrFenced) != errors.Is(errs[1], ErrFenced) || (errs[0] == nil) != (errs[1] == nil) {
				rt.Fatalf("op %d: the store says %v, the reference %v", op, errs[0], errs[1])
			}
			a, b := lines(looks[0][len(looks[0])-1]), lines(looks[1][len(looks[1])-1])
			if a != b {
				rt.Fatalf("op %d: the store has\n%s\nthe reference\n%s", op, a, b)
			}
		}
	})
}

func find(records []Record, id string) Record {
	for _, r := range records {
		if r.ID == id {
			return r
		}
	}
	return Record{}
}

// lines is what matters of some records.
func lines(records []Record) string {
	var all []string
	for _, r := range records {
		all = append(all, fmt.Sprintf("%s %s %v %q %q term %d beat %d lease %s at %d %q %q saved %d damage %v", r.ID, r.Partition,
			r.Member, r.Owner, r.Instance, r.Term, r.Beat, r.Lease, r.Position.ClusterTime.T, r.ReplicaSet, r.Pipeline,
			max(0, r.SavedAt.Unix()), r.Damage))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

func TestOneOfManyTakes(t *testing.T) {
	coll := newCollection(t)
	s := newTestStore(t, coll, "x")
	for round := range int64(3) {
		seen, _, err := s.Record(t.Context(), Partition{0, 1})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var won []int64
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				r, err := s.take(t.Context(), Partition{0, 1}, seen, holder{"o", fmt.Sprint(i), time.Second})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					won = append(won, r.Term)
				case !errors.Is(err, ErrFenced):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if !slices.Equal(won, []int64{round + 1}) {
			t.Errorf("won with terms %v", won)
		}
	}
}

func TestNamesDoNotSeeEachOther(t *testing.T) {
	coll := newCollection(t)
	for _, name := range []string{"x", "xy", "x0"} {
		s := newTestStore(t, coll, name)
		for _, p := range []Partition{{0, 1}, {1, 2}} {
			if _, err := s.take(t.Context(), p, Record{}, holder{name, name, time.Second}); err != nil {
				t.Fatal(err)
			}
		}
	}
	records, err := newTestStore(t, coll, "x").Records(t.Context())
	if err != nil || len(records) != 2 || records[0].Owner != "x" || records[1].Owner != "x" {
		t.Errorf("%+v %v", records, err)
	}
	for _, bad := range []string{"", "a/b", "a\x00"} {
		if _, err := NewStore(coll, bad); err == nil {
			t.Errorf("the name %q is taken", bad)
		}
	}
}

func TestResetOfAnyRecord(t *testing.T) {
	coll := newCollection(t)
	s := newTestStore(t, coll, "x")
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	tok := token(t, idleToken)
	for name, doc := range map[string]bson.D{
		"none":           nil,
		"held":           {{Key: "term", Value: int64(5)}, {Key: "beat", Value: int64(9)}, {Key: "instance", Value: "i"}},
		"damaged":        {{Key: "term", Value: "x"}, {Key: "beat", Value: bson.A{}}, {Key: "token", Value: 5}},
		"without a term": {{Key: "token", Value: bson.D{{Key: "_data", Value: eventToken}}}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := coll.DeleteMany(t.Context(), bson.D{}); err != nil {
				t.Fatal(err)
			}
			if doc != nil {
				if _, err := coll.InsertOne(t.Context(), append(bson.D{{Key: "_id", Value: "x"}}, doc...)); err != nil {
					t.Fatal(err)
				}
			}
			before, _, err := s.Record(t.Context(), Partition{0, 1})
			if err != nil {
				t.Fatal(err)
			}
			reset := Reset{At: at, Repush: "all", By: "me"}
			if err := s.Reset(t.Context(), Partition{0, 1}, Position{Token: tok}, reset); err != nil {
				t.Fatal(err)
			}
			r, ok, err := s.Record(t.Context(), Partition{0, 1})
			if err != nil || !ok || r.Damage != nil {
				t.Fatalf("%+v %v %v", r, ok, err)
			}
			if r.Term <= before.Term || r.Held() || TokenText(r.Position.Token) != idleToken || r.Position.ClusterTime.IsZero() ||
				r.Reset == nil || r.Reset.ID == "" || r.Reset.Repush != "all" || !r.Reset.At.Equal(at) {
				t.Errorf("%+v, reset %+v", r, r.Reset)
			}
			if err := s.save(t.Context(), "x", before.Term, At(at), Origin{}, at); !errors.Is(err, ErrFenced) {
				t.Errorf("a late save under the old term: %v", err)
			}
		})
	}
}

// Two groups on a real store: shared, and taken over after a clean stop.
func TestGroupsOnAStore(t *testing.T) {
	s := newTestStore(t, newCollection(t), "x")
	type told struct {
		owner string
		p     Partition
	}
	holding := make(chan told, 100)
	start := func(owner string) (stop func()) {
		g, err := NewGroup(GroupConfig{Store: s, Partitions: 2, Owner: owner, Beat: 20 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- g.Run(ctx, func(ctx context.Context, lease *Lease) error {
				holding <- told{owner, lease.Partition()}
				<-ctx.Done()
				return lease.Save(context.WithoutCancel(ctx), At(time.Unix(5, 0)), Origin{})
			})
		}()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	next := func(owner string) {
		t.Helper()
		select {
		case got := <-holding:
			if got.owner != owner {
				t.Fatalf("%s holds %s, not %s", got.owner, got.p, owner)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s holds nothing", owner)
		}
	}
	stopA := start("a")
	next("a")
	next("a")
	stopB := start("b")
	next("b")
	stopA()
	next("b")
	stopB()
	records, err := s.Records(t.Context())
	if err != nil || len(records) != 2 {
		t.Fatalf("%+v %v", records, err)
	}
	for _, r := range records {
		if r.Held() || r.Position.ClusterTime.T != 5 {
			t.Errorf("%+v", r)
		}
	}
}
