package render

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

// MaxDepth is how many objects and arrays may stand inside each other in text
// that is coerced. Deeper text stays text: receivers' parsers give up about
// there, and a bound keeps hostile text cheap.
const MaxDepth = 512

// appendCompact appends the JSON value in src without white space, or says that
// src, trimmed, is not one JSON value and returns dst as it was. Numbers, key
// order and escapes stay as written; what no receiver could read as text is
// mended: bytes that are not UTF-8 and lone surrogates become U+FFFD.
func appendCompact(dst, src []byte) ([]byte, bool) {
	src = bytes.TrimSpace(src)
	if !json.Valid(src) {
		return dst, false
	}
	out, depth := dst, 0
	for i := 0; i < len(src); i++ {
		switch b := src[i]; b {
		case ' ', '\t', '\n', '\r':
			continue
		case '"':
			end := i + stringLength(src[i:])
			out = appendMended(out, src[i:end])
			i = end - 1
			continue
		case '{', '[':
			if depth++; depth > MaxDepth {
				return dst, false
			}
		case '}', ']':
			depth--
		}
		out = append(out, src[i])
	}
	return out, true
}

// stringLength is how long the JSON string at the start of valid JSON is, quotes included.
func stringLength(s []byte) int {
	for i := 1; ; i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}

// appendMended appends a JSON string with its escapes as they are, but for lone surrogates.
func appendMended(dst, s []byte) []byte {
	if plain(s[1 : len(s)-1]) {
		return append(dst, s...)
	}
	for len(s) > 0 {
		r, size := utf8.DecodeRune(s)
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(dst, "\ufffd"...)
		case r != '\\':
			dst = append(dst, s[:size]...)
		case s[1] != 'u':
			size = 2
			dst = append(dst, s[:size]...)
		default:
			var lone bool
			if size, lone = unicodeEscape(s); lone {
				dst = append(dst, `\ufffd`...)
			} else {
				dst = append(dst, s[:size]...)
			}
		}
		s = s[size:]
	}
	return dst
}

// unicodeEscape is how long the valid "\uXXXX" at the start of s is, with the one
// that follows where the two are a pair of surrogates. lone is half a pair.
func unicodeEscape(s []byte) (size int, lone bool) {
	const length = len(`\uXXXX`)
	unit := codeUnit(s)
	if unit < 0xd800 || unit > 0xdfff {
		return length, false
	}
	if rest := s[length:]; unit < 0xdc00 && bytes.HasPrefix(rest, []byte(`\u`)) {
		if low := codeUnit(rest); low >= 0xdc00 && low <= 0xdfff {
			return 2 * length, false
		}
	}
	return length, true
}

// codeUnit reads a valid "\uXXXX".
func codeUnit(s []byte) uint64 {
	unit, _ := strconv.ParseUint(string(s[2:6]), 16, 16) // valid JSON holds four digits
	return unit
}
