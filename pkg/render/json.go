package render

import (
	"bytes"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string. It is valid JSON for any bytes: what
// is not UTF-8 becomes U+FFFD, control characters are escaped. Nothing is
// escaped for HTML, and U+2028 stays as it is.
func AppendString[S ~string | ~[]byte](dst []byte, s S) []byte {
	dst = append(dst, '"')
	if plain(s) {
		dst = append(dst, s...)
	} else {
		dst = appendEscaped(dst, s)
	}
	return append(dst, '"')
}

// appendEscaped appends s as the inside of a JSON string.
func appendEscaped[S ~string | ~[]byte](dst []byte, s S) []byte {
	from := 0 // of the bytes that are plain and not yet appended
	for i := 0; i < len(s); {
		c := s[i]
		if plainASCII[c] {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := decodeRune(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(dst, s[from:i]...)
				dst = append(dst, "\ufffd"...)
				from = i + 1
			}
			i += size
			continue
		}
		dst = append(dst, s[from:i]...)
		dst = appendEscape(dst, c)
		i++
		from = i
	}
	return append(dst, s[from:]...)
}

// plainASCII are the bytes that stand for themselves in a JSON string.
var plainASCII = func() (table [256]bool) {
	for c := byte(' '); c < utf8.RuneSelf; c++ {
		table[c] = c != '"' && c != '\\'
	}
	return table
}()

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	default:
		return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
	}
}

// decodeRune reads the first rune; at most four bytes are looked at, so that a
// generic S costs no copy of the rest.
func decodeRune[S ~string | ~[]byte](s S) (rune, int) {
	return utf8.DecodeRuneInString(string(s[:min(len(s), utf8.UTFMax)]))
}

// finishJSON makes a JSON value of the text that stands in dst after a quote at
// start. The text was written in place because nearly all text needs nothing
// but the closing quote.
func finishJSON(dst []byte, start int, isJSON bool) []byte {
	text := dst[start+1:]
	if isJSON {
		return append(dst[:start], text...)
	}
	if looksLikeJSON(text) {
		if compacted, ok := appendCompact(dst, text); ok {
			return replaceTail(dst, start, compacted)
		}
	}
	if plain(text) {
		return append(dst, '"')
	}
	return replaceTail(dst, start, AppendString(dst, text))
}

func plain[S ~string | ~[]byte](text S) bool {
	for i := range len(text) {
		if !plainASCII[text[i]] {
			return false
		}
	}
	return true
}

// replaceTail moves what was appended to dst down to start.
func replaceTail(dst []byte, start int, appended []byte) []byte {
	n := copy(appended[start:], appended[len(dst):])
	return appended[:start+n]
}

// looksLikeJSON says that text, trimmed, starts as an object or array.
func looksLikeJSON(text []byte) bool {
	text = bytes.TrimSpace(text)
	return len(text) > 0 && (text[0] == '{' || text[0] == '[')
}

// appendPercent appends s percent-encoded for a query: all but the unreserved
// characters of RFC 3986. A blank is %20, which every decoder understands.
// Bytes that are not UTF-8 become U+FFFD.
func appendPercent[S ~string | ~[]byte](dst []byte, s S) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case unreserved(c):
			dst = append(dst, c)
			continue
		case c >= utf8.RuneSelf:
			r, size := decodeRune(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(dst, "%EF%BF%BD"...)
				continue
			}
			for j := i; j < i+size; j++ {
				dst = appendPercentByte(dst, s[j])
			}
			i += size - 1
			continue
		}
		dst = appendPercentByte(dst, c)
	}
	return dst
}

func appendPercentByte(dst []byte, c byte) []byte {
	const upper = "0123456789ABCDEF"
	return append(dst, '%', upper[c>>4], upper[c&15])
}

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '_' || c == '.' || c == '~'
}
