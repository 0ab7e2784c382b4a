package render

import (
	"bytes"
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
	c := compactor{src: bytes.TrimSpace(src), dst: dst}
	if !c.value(0) || c.at != len(c.src) {
		return dst, false
	}
	return c.dst, true
}

// compactor checks and copies in one pass. Each method reads one thing at src[at:]
// and reports whether it was there.
type compactor struct {
	src []byte
	at  int
	dst []byte
}

func (c *compactor) value(depth int) bool {
	switch b := c.peek(); b {
	case '{', '[':
		return depth < MaxDepth && c.container(b, depth+1)
	case '"':
		return c.str()
	case 't':
		return c.word("true")
	case 'f':
		return c.word("false")
	case 'n':
		return c.word("null")
	default:
		return c.number()
	}
}

// container reads an object or an array; their brackets are two code points
// apart in ASCII.
func (c *compactor) container(open byte, depth int) bool {
	shut := open + 2
	c.copyByte()
	c.space()
	if c.peek() == shut {
		c.copyByte()
		return true
	}
	for {
		c.space()
		if open == '{' && !c.key() {
			return false
		}
		if !c.value(depth) {
			return false
		}
		c.space()
		switch c.peek() {
		case ',':
			c.copyByte()
		case shut:
			c.copyByte()
			return true
		default:
			return false
		}
	}
}

// key reads a key, the colon and the blanks around it.
func (c *compactor) key() bool {
	if !c.str() {
		return false
	}
	c.space()
	if c.peek() != ':' {
		return false
	}
	c.copyByte()
	c.space()
	return true
}

func (c *compactor) str() bool {
	if c.peek() != '"' {
		return false
	}
	from := c.at // of what is not yet copied
	c.at++
	for c.at < len(c.src) {
		b := c.src[c.at]
		switch {
		case plainASCII(b):
			c.at++
		case b == '"':
			c.at++
			c.dst = append(c.dst, c.src[from:c.at]...)
			return true
		case b == '\\':
			size, lone := c.escape()
			if size == 0 {
				return false
			}
			if lone {
				c.dst = append(append(c.dst, c.src[from:c.at]...), `\ufffd`...)
				from = c.at + size
			}
			c.at += size
		case b < ' ':
			return false
		default:
			r, size := utf8.DecodeRune(c.src[c.at:])
			if r == utf8.RuneError && size == 1 {
				c.dst = append(append(c.dst, c.src[from:c.at]...), "\ufffd"...)
				from = c.at + 1
			}
			c.at += size
		}
	}
	return false
}

// escape measures the escape at src[at:]: 0 for none, 12 for a pair of
// surrogates. lone is half a pair.
func (c *compactor) escape() (size int, lone bool) {
	rest := c.src[c.at:]
	if len(rest) < 2 {
		return 0, false
	}
	if rest[1] != 'u' {
		if bytes.IndexByte([]byte(`"\/bfnrt`), rest[1]) < 0 {
			return 0, false
		}
		return 2, false
	}
	unit, ok := hexUnit(rest)
	switch {
	case !ok:
		return 0, false
	case unit < 0xd800 || unit > 0xdfff:
		return 6, false
	case unit < 0xdc00:
		if low, ok := hexUnit(rest[6:]); ok && low >= 0xdc00 && low <= 0xdfff {
			return 12, false
		}
	}
	return 6, true
}

// hexUnit reads "\uXXXX".
func hexUnit(s []byte) (unit uint16, ok bool) {
	if len(s) < 6 || s[0] != '\\' || s[1] != 'u' {
		return 0, false
	}
	for _, b := range s[2:6] {
		switch {
		case '0' <= b && b <= '9':
			b -= '0'
		case 'a' <= b && b <= 'f':
			b -= 'a' - 10
		case 'A' <= b && b <= 'F':
			b -= 'A' - 10
		default:
			return 0, false
		}
		unit = unit<<4 | uint16(b)
	}
	return unit, true
}

func (c *compactor) word(w string) bool {
	if !bytes.HasPrefix(c.src[c.at:], []byte(w)) {
		return false
	}
	c.at += len(w)
	c.dst = append(c.dst, w...)
	return true
}

// number reads an optional minus, an integer without leading zeros, an optional
// fraction and an optional exponent.
func (c *compactor) number() bool {
	from := c.at
	if c.peek() == '-' {
		c.at++
	}
	first := c.peek()
	if n := c.digits(); n == 0 || n > 1 && first == '0' {
		return false
	}
	if c.peek() == '.' {
		c.at++
		if c.digits() == 0 {
			return false
		}
	}
	if b := c.peek(); b == 'e' || b == 'E' {
		c.at++
		if b := c.peek(); b == '+' || b == '-' {
			c.at++
		}
		if c.digits() == 0 {
			return false
		}
	}
	c.dst = append(c.dst, c.src[from:c.at]...)
	return true
}

func (c *compactor) digits() int {
	from := c.at
	for c.at < len(c.src) && '0' <= c.src[c.at] && c.src[c.at] <= '9' {
		c.at++
	}
	return c.at - from
}

func (c *compactor) space() {
	for c.at < len(c.src) {
		switch c.src[c.at] {
		case ' ', '\t', '\n', '\r':
			c.at++
		default:
			return
		}
	}
}

// peek returns the next byte; 0 at the end, which no JSON starts with.
func (c *compactor) peek() byte {
	if c.at < len(c.src) {
		return c.src[c.at]
	}
	return 0
}

// copyByte copies the next byte.
func (c *compactor) copyByte() {
	c.dst = append(c.dst, c.src[c.at])
	c.at++
}
