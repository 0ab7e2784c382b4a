package resume

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"
)

func names(n int) []string {
	members := make([]string, n)
	for i := range members {
		members[i] = fmt.Sprintf("m%d", i)
	}
	return members
}

func TestPlanIsBalancedAndMovesLittle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := names(8)
		n := rapid.IntRange(1, 8).Draw(t, "members")
		members := rapid.Permutation(all).Draw(t, "order")[:n]
		owners := rapid.SliceOfN(rapid.SampledFrom(append(slices.Clone(all), "")), 1, 16).Draw(t, "owners")
		plan := Plan(members, owners)

		count := make(map[string]int)
		held := make(map[string]int)
		kept := 0
		for i, m := range plan {
			if !slices.Contains(members, m) {
				t.Fatalf("partition %d goes to %q, which is not a member", i, m)
			}
			count[m]++
			if owners[i] == m {
				kept++
			}
			if slices.Contains(members, owners[i]) {
				held[owners[i]]++
			}
		}
		low, high := len(owners)/n, (len(owners)+n-1)/n
		sizes := make([]int, 0, n)
		for _, m := range members {
			if count[m] < low || count[m] > high {
				t.Fatalf("%s has %d of %d partitions among %d", m, count[m], len(owners), n)
			}
			sizes = append(sizes, held[m])
		}
		// The most that any balanced plan can keep: the members that hold most
		// get the larger shares.
		slices.Sort(sizes)
		slices.Reverse(sizes)
		most, extra := 0, len(owners)%n
		for i, size := range sizes {
			share := low
			if i < extra {
				share++
			}
			most += min(size, share)
		}
		if kept != most {
			t.Fatalf("%d partitions stay, %d could: %v to %v", kept, most, owners, plan)
		}
		shuffled := rapid.Permutation(members).Draw(t, "other order")
		if again := Plan(shuffled, owners); !slices.Equal(plan, again) {
			t.Fatalf("the order of members matters: %v, %v", plan, again)
		}
		if settled := Plan(members, plan); !slices.Equal(plan, settled) {
			t.Fatalf("a plan that was carried out moves again: %v to %v", plan, settled)
		}
	})
}

func TestPlanWithoutMembers(t *testing.T) {
	if got := Plan(nil, []string{"a", ""}); !slices.Equal(got, []string{"", ""}) {
		t.Errorf("got %q", got)
	}
}

// The oldest of several positions, which all partitions of another number begin
// at: of those in one second too, and among tokens of one transaction.
func TestOldestRecord(t *testing.T) {
	at := func(second, increment uint32, kind string) Position {
		ts := bson.Timestamp{T: second, I: increment}
		p := Position{ClusterTime: ts}
		if kind != "" {
			raw, err := bson.Marshal(bson.D{{Key: "_data", Value: fmt.Sprintf("82%08X%08X%s", second, increment, kind)}})
			if err != nil {
				t.Fatal(err)
			}
			p.Token = raw
		}
		return p
	}
	const idle, event = "2B0229296E04", "2B022C0100296E5A1004"
	inOrder := []Position{
		at(7, 1, event), at(8, 1, ""), at(8, 1, idle), at(8, 1, event), at(8, 1, event+"01"), at(8, 2, idle), at(8, 300, event), at(9, 1, idle),
	}
	saved := time.Unix(20, 0)
	rapid.Check(t, func(t *rapid.T) {
		pick := rapid.SliceOfNDistinct(rapid.IntRange(0, len(inOrder)-1), 1, len(inOrder), rapid.ID).Draw(t, "positions")
		var records []Record
		for _, i := range pick {
			records = append(records, Record{Position: inOrder[i], SavedAt: saved})
		}
		records = append(records, Record{}) // never saved: has no say
		got, ok := oldestRecord(records)
		if want := inOrder[slices.Min(pick)]; !ok || got.Position.String() != want.String() {
			t.Fatalf("the oldest of %v is %v, want %v", pick, got.Position, want)
		}
	})
	if _, ok := oldestRecord([]Record{{}}); ok {
		t.Error("an oldest of none")
	}
}

// shortLived is a store that fails after it has removed some records.
type shortLived struct {
	*line
	left int
}

func (s *shortLived) forget(ctx context.Context, seen Record) error {
	if s.left--; s.left < 0 {
		return errAway
	}
	return s.line.forget(ctx, seen)
}

// A change of the number of partitions that ends halfway, wherever that is, is
// begun again by the next replica, from the same oldest position.
func TestLayoutMoveThatEndsHalfway(t *testing.T) {
	for removed := range 5 {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory()
			for i, at := range []uint32{8, 5, 9, 7} { // of which 5 is the oldest
				p := Partition{i, 4}
				m.put(Record{ID: p.ID("x"), Partition: p, Term: 1, SavedAt: time.Unix(20, 0),
					Position: Position{ClusterTime: bson.Timestamp{T: at, I: 1}}})
			}
			l := newLine(m, "x", 1, 0)
			for _, left := range []int{removed, 100} {
				g, err := newGroup(GroupConfig{Owner: "a", Partitions: 3}, &shortLived{line: l, left: left})
				if err != nil {
					t.Fatal(err)
				}
				records, err := l.Records(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				// What the first one took is taken over, as after its lease ran out.
				g.first = true
				g.settleLayout(t.Context(), g.observe(records, time.Now()))
			}
			for i := range 3 {
				if at := m.look(Partition{i, 3}.ID("x")).Position.ClusterTime.T; at != 5 {
					t.Errorf("after %d removed: partition %d begins at %d, the oldest was 5", removed, i, at)
				}
			}
			if len(m.records) != 3 {
				t.Errorf("after %d removed: %d records are left", removed, len(m.records))
			}
		})
	}
}
