package render

import "strings"

// Nearest finds the known name that a wrong one was most likely meant to be; ""
// when none is near. Names that differ only in case come first; else the
// distance is counted in letters added, dropped, changed or swapped with their
// neighbour, and at most a third of the letters, three at the most, may differ.
// Of two that are as near the first wins.
func Nearest(name string, known []string) string {
	want := []rune(strings.ToLower(name))
	best, bestDistance := "", min(3, len(want)/3)+1
	for _, k := range known {
		if k == name {
			return k
		}
		if d := distance(want, []rune(strings.ToLower(k)), bestDistance); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance is the optimal string alignment distance of a and b, or limit when
// it is not below that.
func distance(a, b []rune, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	// Three rows of the table: two back, one back, this one.
	back2, back, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i, x := range a {
		back2, back, row = back, row, back2
		row[0] = i + 1
		least := row[0]
		for j, y := range b {
			cost := 1
			if x == y {
				cost = 0
			}
			row[j+1] = min(back[j]+cost, back[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && x == b[j-1] && a[i-1] == y {
				row[j+1] = min(row[j+1], back2[j-1]+1)
			}
			least = min(least, row[j+1])
		}
		if least >= limit {
			return limit
		}
	}
	return min(row[len(b)], limit)
}
