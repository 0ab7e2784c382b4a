package resume

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
)

// onEach runs a test on localmongo and, where there is one, on a real cluster.
func onEach(t *testing.T, test func(t *testing.T, coll *mongo.Collection)) {
	localmongotest.OnEach(t, localmongo.Options{}, func(t *testing.T, d localmongotest.Deployment) {
		test(t, newCollection(t, d.URI, nil))
	})
}

func newCollection(t *testing.T, uri string, monitor *event.CommandMonitor) *mongo.Collection {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(uri).SetMonitor(monitor))
	must(t, err)
	db := client.Database("watcher_test_" + bson.NewObjectID().Hex())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := db.Drop(ctx); err != nil {
			t.Error(err)
		}
		_ = client.Disconnect(ctx)
	})
	return db.Collection("resume")
}

func newTestStore(t testing.TB, coll *mongo.Collection, name string) *Store {
	t.Helper()
	s, err := NewStore(coll, name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The store and the memory do the same, whatever is asked.
func TestLedgersAgree(t *testing.T) { onEach(t, ledgersAgree) }

func ledgersAgree(t *testing.T, coll *mongo.Collection) {
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		name := fmt.Sprint("x", round)
		both := []Ledger{newTestStore(t, coll, name), NewMemory(name)}
		ctx := context.Background()
		ids := []string{name, name + "/0-of-2", name + "/1-of-2", memberID(name, "ia"), layoutID(name)}
		members := []member{{owner: "a", instance: "ia", lease: time.Second, partitions: 2}, {owner: "b", instance: "ib", leaving: true}}
		looks := [2][][]Record{{{}}, {{}}} // what was seen at each look, to act on old news
		for range rapid.IntRange(1, 15).Draw(rt, "steps") {
			id := rapid.SampledFrom(ids).Draw(rt, "id")
			_, kind, _ := parseID(name, id)
			m := rapid.SampledFrom(members).Draw(rt, "member")
			c := change{what: "test", term: rapid.Int64Range(0, 4).Draw(rt, "term")}
			look := rapid.IntRange(0, len(looks[0])-1).Draw(rt, "look")
			op := rapid.SampledFrom([][]int{kindPartition: {0, 1, 3, 4, 6}, kindMember: {4, 5}, kindLayout: {0, 2, 4}}[kind]).Draw(rt, "op")
			switch op {
			case 0:
				c.holder = &m
			case 1:
				c.saved = &saved{At(time.Unix(100+c.term, 0)), Origin{"rs", "p"}, time.Unix(c.term+1, 0).UTC()}
			case 2:
				c.holder, c.layout = &member{}, &layout{partitions: 2, complete: c.term > 2}
			}
			var errs [2]error
			for i, l := range both {
				seen := find(looks[i][look], id)
				switch {
				case op <= 2:
					errs[i] = l.put(ctx, id, seen, c)
				case op == 3 && seen.ID != "":
					_, errs[i] = l.acquire(ctx, seen, m)
				case op == 4 && seen.ID != "":
					errs[i] = l.remove(ctx, seen)
				case op == 5:
					errs[i] = l.beat(ctx, m, c.term > 1)
				case op == 6:
					p, _, _ := parseID(name, id)
					errs[i] = l.Reset(ctx, p, At(time.Unix(5, 0)), Reset{ID: "r", At: time.Unix(9, 0).UTC()})
				}
				records, err := l.look(ctx)
				if err != nil {
					rt.Fatal(err)
				}
				looks[i] = append(looks[i], records)
			}
			if errors.Is(errs[0], ErrFenced) != errors.Is(errs[1], ErrFenced) || (errs[0] == nil) != (errs[1] == nil) {
				rt.Fatalf("op %d: the store says %v, the memory %v", op, errs[0], errs[1])
			}
			a, b := lines(looks[0][len(looks[0])-1]), lines(looks[1][len(looks[1])-1])
			if a != b {
				rt.Fatalf("op %d: the store has\n%s\nthe memory\n%s", op, a, b)
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
		all = append(all, fmt.Sprintf("%s %s %v %q %q term %d beat %d lease %s %d %v %v at %d %q %q saved %d reset %v damage %v", r.ID, r.Partition,
			r.Member, r.Owner, r.Instance, r.Term, r.Beat, r.Lease, r.Partitions, r.Leaving, r.complete, r.Position.ClusterTime.T,
			r.ReplicaSet, r.Pipeline, max(0, r.SavedAt.Unix()), r.Reset != nil, r.Damage))
	}
	return strings.Join(all, "\n")
}

func TestOneOfManyAcquires(t *testing.T) { onEach(t, oneOfManyAcquires) }

func oneOfManyAcquires(t *testing.T, coll *mongo.Collection) {
	s := newTestStore(t, coll, "x")
	must(t, s.put(t.Context(), "x", Record{}, change{}))
	for round := range int64(3) {
		seen, _, err := s.Record(t.Context(), Partition{0, 1})
		must(t, err)
		var mu sync.Mutex
		var won []int64
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				r, err := s.acquire(t.Context(), seen, member{owner: "o", instance: fmt.Sprint(i)})
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

func TestNamesDoNotSeeEachOther(t *testing.T) { onEach(t, namesDoNotSeeEachOther) }

func namesDoNotSeeEachOther(t *testing.T, coll *mongo.Collection) {
	for _, name := range []string{"x", "xy", "x0", "x.", "x-"} {
		s := newTestStore(t, coll, name)
		for _, p := range []Partition{{0, 1}, {1, 2}, {10, 12}} {
			must(t, s.put(t.Context(), p.ID(name), Record{}, change{holder: &member{owner: name}}))
		}
		must(t, s.put(t.Context(), layoutID(name), Record{}, change{layout: &layout{}}))
		must(t, s.beat(t.Context(), member{owner: name, instance: "i"}, true))
	}
	records, err := newTestStore(t, coll, "x").Records(t.Context())
	if err != nil || len(records) != 4 {
		t.Errorf("%+v %v", records, err)
	}
	for _, r := range records {
		if r.Owner != "x" {
			t.Errorf("%+v", r)
		}
	}
	others, err := newTestStore(t, coll, "x").Others(t.Context())
	names := make([]string, len(others))
	for i, r := range others {
		names[i] = r.Name()
	}
	slices.Sort(names)
	if err != nil || strings.Join(names, " ") != "x- x. x0 xy" {
		t.Errorf("%q, %v", names, err)
	}
	for _, bad := range []string{"", "a/b", "a\x00"} {
		if _, err := NewStore(coll, bad); err == nil {
			t.Errorf("the name %q is taken", bad)
		}
	}
}

// For people, a member tells when it beat last and what it runs.
func TestMembersSayWhatTheyAre(t *testing.T) { onEach(t, membersSayWhatTheyAre) }

func membersSayWhatTheyAre(t *testing.T, coll *mongo.Collection) {
	s := newTestStore(t, coll, "x")
	must(t, s.beat(t.Context(), member{instance: "i", version: "1.2.3", lease: time.Minute}, true))
	records, err := s.Records(t.Context())
	if err != nil || len(records) != 1 || records[0].Version != "1.2.3" || records[0].BeatAt.IsZero() {
		t.Fatalf("%+v, %v", records, err)
	}
	m := records[0]
	if !m.Lives(m.BeatAt) || !m.Lives(m.BeatAt.Add(time.Minute-1)) || m.Lives(m.BeatAt.Add(time.Minute)) {
		t.Errorf("%+v lives at another time than its lease says", m)
	}
	m.Lease = 1000 * time.Hour // absurd
	if m.Lives(m.BeatAt.Add(time.Hour)) {
		t.Error("it lives for ever")
	}
}

// What else is kept under a name is never removed, and each look reads it in vain.
func TestALookReadsNoOtherRecords(t *testing.T) {
	var mu sync.Mutex
	read := 0
	coll := newCollection(t, localmongotest.Start(t, localmongo.Options{}).URI(), &event.CommandMonitor{
		Succeeded: func(_ context.Context, e *event.CommandSucceededEvent) {
			if e.CommandName == "find" || e.CommandName == "getMore" {
				mu.Lock()
				defer mu.Unlock()
				read += len(e.Reply)
			}
		}})
	s := newTestStore(t, coll, "x")
	must(t, s.put(t.Context(), "x/0-of-2", Record{}, change{}))
	must(t, s.beat(t.Context(), member{instance: "i"}, true))
	for _, id := range []string{"x/replay/1", "x/a", "x/:", "x/members2", "x/memb", "x/zz", "x/Z", "x/!"} {
		_, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: id}, {Key: "sessions", Value: strings.Repeat("s", 50_000)}})
		must(t, err)
	}
	records, err := s.look(t.Context())
	if err != nil || len(records) != 2 {
		t.Errorf("%+v %v", records, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if read > 5_000 {
		t.Errorf("one look at %d records reads %d bytes", len(records), read)
	}
}

// What is kept beside the records is read with them, and is none.
func TestALookTellsOfWhatIsBeside(t *testing.T) { onEach(t, lookTellsOfWhatIsBeside) }

func lookTellsOfWhatIsBeside(t *testing.T, coll *mongo.Collection) {
	var told [][]string
	s := newTestStore(t, coll, "x").Beside("hold", func(docs []bson.Raw) {
		ids := []string{}
		for _, doc := range docs {
			ids = append(ids, doc.Lookup("_id").StringValue())
		}
		told = append(told, ids)
	})
	must(t, s.put(t.Context(), "x/0-of-2", Record{}, change{}))
	must(t, s.beat(t.Context(), member{instance: "i"}, true))
	for range 2 {
		records, err := s.look(t.Context())
		if err != nil || len(records) != 2 {
			t.Errorf("%+v %v", records, err)
		}
		for _, id := range []string{"x/hold/b", "x/hold/a", "x/hold", "x/hold0", "x/holding/1", "x/replay/1", "y/hold/1"} {
			_, err := coll.UpdateOne(t.Context(), byID(id), bson.D{{Key: "$set", Value: bson.D{{Key: "a", Value: 1}}}}, options.UpdateOne().SetUpsert(true))
			must(t, err)
		}
	}
	if want := [][]string{{}, {"x/hold/a", "x/hold/b"}}; !reflect.DeepEqual(told, want) {
		t.Errorf("told of %v, want %v", told, want)
	}
}

func TestResetOfAnyRecord(t *testing.T) { onEach(t, resetOfAnyRecord) }

func resetOfAnyRecord(t *testing.T, coll *mongo.Collection) {
	s := newTestStore(t, coll, "x")
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	tok := token(t, idleToken)
	for name, doc := range map[string]bson.D{
		"none":           nil,
		"held":           {{Key: "term", Value: int64(5)}, {Key: "instance", Value: "i"}},
		"damaged":        {{Key: "term", Value: "x"}, {Key: "owner", Value: bson.A{}}, {Key: "token", Value: 5}},
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
			if r.Term <= before.Term || r.Instance != before.Instance || TokenText(r.Position.Token) != idleToken || r.Position.ClusterTime.IsZero() ||
				r.Reset == nil || r.Reset.ID == "" || r.Reset.Repush != "all" || !r.Reset.At.Equal(at) {
				t.Errorf("%+v, reset %+v", r, r.Reset)
			}
			late := change{term: before.Term, saved: &saved{position: At(at)}}
			if err := s.put(t.Context(), "x", before, late); !errors.Is(err, ErrFenced) {
				t.Errorf("a late save under the old term: %v", err)
			}
		})
	}
}

// Two groups on a real store: shared, and taken over after a clean stop.
func TestGroupsOnAStore(t *testing.T) { onEach(t, groupsOnAStore) }

func groupsOnAStore(t *testing.T, coll *mongo.Collection) {
	s := newTestStore(t, coll, "x")
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
