package resume

import (
	"fmt"
	"slices"
	"testing"

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
