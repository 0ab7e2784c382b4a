package plain

import (
	"strings"
	"unicode"
)

// Line is text of others as one line of at most n characters, n at least 1: what
// controls a terminal or is not shown at all becomes a blank, what is no UTF-8 a
// replacement, and a longer text ends with an ellipsis.
func Line(text string, n int) string {
	var out strings.Builder
	kept := 0
	for _, r := range text { // what is no UTF-8 comes as a replacement
		if kept == n {
			return Cut(out.String(), n-1)
		}
		if !unicode.IsGraphic(r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) {
			r = ' '
		}
		out.WriteRune(r)
		kept++
	}
	return out.String()
}
