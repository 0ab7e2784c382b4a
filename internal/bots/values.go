package bots

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// elements lists the fields of a document up to the first broken one. A name
// that comes twice counts the first time, as in Lookup.
func elements(doc bson.Raw) []bson.RawElement {
	all, _ := doc.Elements() // what is whole is returned beside the error
	seen := make(map[string]bool, len(all))
	return slices.DeleteFunc(all, func(e bson.RawElement) bool {
		double := seen[e.Key()]
		seen[e.Key()] = true
		return double
	})
}

// isMissing reports whether there is no value: no field, null or undefined.
func isMissing(v bson.RawValue) bool {
	return v.Type == 0 || v.Type == bson.TypeNull || v.Type == bson.TypeUndefined
}

// scalarText is the text of a string or a number; ok is false for all else.
func scalarText(v bson.RawValue) (text string, ok bool) {
	if s, ok := v.StringValueOK(); ok {
		return s, true
	}
	if d, ok := v.Decimal128OK(); ok {
		return d.String(), true
	}
	switch v.Type {
	case bson.TypeInt32, bson.TypeInt64:
		n, ok := v.AsInt64OK()
		return strconv.FormatInt(n, 10), ok
	case bson.TypeDouble:
		f, ok := v.DoubleOK()
		return strconv.FormatFloat(f, 'f', -1, 64), ok && !math.IsNaN(f) && !math.IsInf(f, 0)
	}
	return "", false
}

// number is a finite number, which may have been stored as text.
func number(v bson.RawValue) (float64, bool) {
	text, ok := scalarText(v)
	if !ok {
		return 0, false
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	return f, err == nil && !math.IsNaN(f) && !math.IsInf(f, 0)
}

// typeName says what a value is, in the words of the document's author.
func typeName(v bson.RawValue) string {
	switch v.Type {
	case bson.TypeString, bson.TypeSymbol:
		return "text"
	case bson.TypeInt32, bson.TypeInt64, bson.TypeDouble, bson.TypeDecimal128:
		return "a number"
	case bson.TypeBoolean:
		return "true or false"
	case bson.TypeEmbeddedDocument:
		return "an object"
	case bson.TypeArray:
		return "a list"
	case bson.TypeDateTime, bson.TypeTimestamp:
		return "a date"
	case bson.TypeNull, bson.TypeUndefined:
		return "null"
	default:
		return "of type " + v.Type.String()
	}
}

// quote shows a value of the configuration in a message: one line, at most 60
// characters.
func quote(s string) string { return strconv.Quote(shorten(s, 60)) }

// shorten cuts a text to a number of characters and makes it valid UTF-8.
func shorten(s string, most int) string {
	n := 0
	for i := range s {
		if n++; n > most {
			s = s[:i] + "…"
			break
		}
	}
	return strings.ToValidUTF8(s, "\ufffd")
}
