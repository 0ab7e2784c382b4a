package resume

import (
	"cmp"
	"slices"
)

// Plan says which member should hold each partition. owners[i] is the member
// that holds partition i now, "" when nobody does. The result is balanced (no
// two members differ by more than one partition), keeps every partition where
// it is if balance allows, and is the same for every caller that knows the same
// members and owners. Owners that are not members hold nothing. Without members
// nobody should hold anything.
func Plan(members, owners []string) []string {
	plan := make([]string, len(owners))
	members = slices.Compact(slices.Sorted(slices.Values(members)))
	if len(members) == 0 {
		return plan
	}
	held := make(map[string]int, len(members))
	for _, m := range members {
		held[m] = 0
	}
	for _, owner := range owners {
		if _, ok := held[owner]; ok {
			held[owner]++
		}
	}
	quota := quotas(members, held, len(owners))
	for i, owner := range owners {
		if quota[owner] > 0 {
			plan[i] = owner
			quota[owner]--
		}
	}
	next := 0
	for i := range plan {
		if plan[i] != "" {
			continue
		}
		for quota[members[next]] == 0 {
			next++
		}
		plan[i] = members[next]
		quota[members[next]]--
	}
	return plan
}

// quotas shares n partitions. Where n does not divide evenly, the members that
// hold most now get one more, so that they need not give it away.
func quotas(members []string, held map[string]int, n int) map[string]int {
	order := slices.Clone(members)
	slices.SortStableFunc(order, func(a, b string) int { return cmp.Compare(held[b], held[a]) })
	quota := make(map[string]int, len(order))
	for i, m := range order {
		quota[m] = n / len(order)
		if i < n%len(order) {
			quota[m]++
		}
	}
	return quota
}
