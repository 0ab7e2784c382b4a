package bots

import (
	"slices"

	"github.com/cxbridge/watcher/pkg/render"
)

// nearest returns the candidate that s is most likely a misspelling of, or ""
// when none is near.
func nearest(s string, candidates []string) string {
	best, _ := render.Nearest(s, slices.Values(candidates))
	return best
}
