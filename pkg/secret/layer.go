package secret

import (
	"html"
	"iter"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// layer is one reading of a text: as it stands, or with escapes undone.
type layer struct {
	text string
	at   []int32 // where each byte, and the end, stands in the text itself; nil: there
}

// span returns where a part of the layer stands in the text itself.
func (l layer) span(from, to int) [2]int { return [2]int{int(l.place(from)), int(l.place(to))} }

func (l layer) place(i int) int32 {
	if l.at == nil {
		return int32(i) //nolint:gosec // texts are far below 2 GiB
	}
	return l.at[i]
}

// escaping is a way to write characters by others.
type escaping uint8

const (
	percent   escaping = 1 << iota // %2F
	backslash                      // \", \u0022, \x22
	entity                         // &quot;, &#34;
	lineBreak                      // a break of the line and the blanks that begin the next
)

const (
	escapes = percent | backslash | entity
	// maxNesting is how many escapings may stand on top of each other.
	maxNesting = 3
)

// marks are the bytes that begin an escape.
var marks = map[escaping]string{percent: "%", backslash: `\`, entity: "&", lineBreak: "\r\n"}

const allMarks = "%\\&\r\n"

// layersOf returns the readings of a text: itself, with each kind of escape undone
// alone, with all of them undone up to maxNesting times, and without line breaks.
func layersOf(text string) iter.Seq[layer] {
	return func(yield func(layer) bool) {
		whole := layer{text: text}
		if !yield(whole) {
			return
		}
		kinds := 0
		for _, e := range []escaping{percent, backslash, entity} {
			if !strings.Contains(text, marks[e]) {
				continue
			}
			if kinds++; !yield(whole.undo(e)) {
				return
			}
		}
		deepest := whole
		for n := 0; n < maxNesting && strings.ContainsAny(deepest.text, `%\&`); n++ {
			next := deepest.undo(escapes)
			if len(next.text) == len(deepest.text) {
				break // nothing was escaped
			}
			deepest = next
			if n == 0 && kinds == 1 {
				continue // as above
			}
			if !yield(deepest) {
				return
			}
		}
		if strings.ContainsAny(deepest.text, marks[lineBreak]) {
			yield(deepest.undo(lineBreak))
		}
	}
}

// undo returns the layer with escapes of some kinds undone.
func (l layer) undo(kinds escaping) layer {
	at := make([]int32, 0, len(l.text)+1)
	out := make([]byte, 0, len(l.text))
	for i := 0; i < len(l.text); {
		plain, n := unescape(l.text[i:], kinds)
		if n == 0 {
			if n = 1 + strings.IndexAny(l.text[i+1:], allMarks); n == 0 {
				n = len(l.text) - i // no further escape
			}
			for j := range n {
				at = append(at, l.place(i+j))
			}
			out = append(out, l.text[i:i+n]...)
		} else {
			for range len(plain) {
				at = append(at, l.place(i))
			}
			out = append(out, plain...)
		}
		i += n
	}
	return layer{text: string(out), at: append(at, l.place(len(l.text)))}
}

// unescape returns what the escape at the beginning of s stands for, and its
// length; 0 when there is none.
func unescape(s string, kinds escaping) (string, int) {
	switch {
	case s[0] == '%' && kinds&percent != 0:
		return byHex(s, 1, 2)
	case s[0] == '\\' && kinds&backslash != 0:
		return unslash(s)
	case s[0] == '&' && kinds&entity != 0:
		const longest = 12
		if end := strings.IndexByte(s[:min(len(s), longest)], ';'); end > 1 {
			if plain := html.UnescapeString(s[:end+1]); plain != s[:end+1] {
				return plain, end + 1
			}
		}
	case (s[0] == '\n' || s[0] == '\r') && kinds&lineBreak != 0:
		return "", len(s) - len(strings.TrimLeft(s, "\r\n\t "))
	}
	return "", 0
}

// byHex reads digits of a byte behind a mark.
func byHex(s string, mark, digits int) (string, int) {
	if len(s) < mark+digits {
		return "", 0
	}
	n, err := strconv.ParseUint(s[mark:mark+digits], 16, 8)
	if err != nil {
		return "", 0
	}
	return string([]byte{byte(n)}), mark + digits
}

// shortEscapes are the escapes of JSON and Go with one letter.
var shortEscapes = map[byte]string{
	'"': `"`, '\'': "'", '\\': `\`, '/': "/", 'a': "\a", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v",
}

func unslash(s string) (string, int) {
	if len(s) < 2 {
		return "", 0
	}
	switch s[1] {
	case 'x':
		return byHex(s, 2, 2)
	case 'u':
		r, n := codePoint(s, 4)
		if utf16.IsSurrogate(r) && len(s) > n {
			if low, m := codePoint(s[n:], 4); m > 0 && s[n+1] == 'u' {
				if both := utf16.DecodeRune(r, low); both != utf8.RuneError {
					return string(both), n + m
				}
			}
		}
		return string(r), n
	case 'U':
		r, n := codePoint(s, 8)
		return string(r), n
	}
	if plain, ok := shortEscapes[s[1]]; ok {
		return plain, 2
	}
	return "", 0
}

// codePoint reads the digits behind \u or \U; its length is 0 when there are none.
func codePoint(s string, digits int) (rune, int) {
	if len(s) < 2+digits || s[0] != '\\' {
		return 0, 0
	}
	n, err := strconv.ParseUint(s[2:2+digits], 16, 31)
	if err != nil {
		return 0, 0
	}
	return rune(n), 2 + digits //nolint:gosec // 31 bits
}
