// Package render turns a mapper of {{namespace.field}} templates into a payload.
//
// A mapper is compiled once and rendered many times, from any number of
// goroutines. The package owns the token syntax, the order in which a token
// looks for its value, the coercion of JSON-like text and the encoding of the
// payload as a JSON object or a query string. It does not own the values: they
// come from a [Variables], and only those that the mapper names are asked for.
// It does no I/O and never fails on a value.
package render

import "strings"

// Namespace is the first part of a variable's name. The set is closed.
type Namespace uint8

// The namespaces. The first three are, in this order, where a token looks when
// its exact name does not exist.
const (
	System Namespace = iota
	CRM
	Call
	Result
	Analysis
	QC

	namespaceCount
)

var namespaceNames = [namespaceCount]string{"system", "crm", "call", "result", "analysis", "qc"}

// String returns the namespace as templates write it, such as "crm".
func (n Namespace) String() string {
	if n < namespaceCount {
		return namespaceNames[n]
	}
	return "invalid"
}

// Namespaces lists the closed set in its order.
func Namespaces() []Namespace {
	return []Namespace{System, CRM, Call, Result, Analysis, QC}
}

// ParseNamespace finds the namespace that templates write as s; case counts.
func ParseNamespace(s string) (Namespace, bool) {
	for i, name := range namespaceNames {
		if name == s {
			return Namespace(i), true
		}
	}
	return 0, false
}

// Name is the full name of a variable. Field is never empty in a name made by
// this package; it may hold dots, which are a path or part of a stored key.
type Name struct {
	Namespace Namespace
	Field     string
}

// String returns "namespace.field".
func (n Name) String() string { return n.Namespace.String() + "." + n.Field }

// ParseName splits "namespace.field". It refuses an unknown namespace and an
// empty field.
func ParseName(s string) (Name, bool) {
	prefix, field, dotted := strings.Cut(s, ".")
	ns, known := ParseNamespace(prefix)
	if !dotted || !known || field == "" {
		return Name{}, false
	}
	return Name{ns, field}, true
}

// Found says what became of asking for a variable.
type Found uint8

const (
	// Absent is a variable that does not exist. Nothing was appended.
	Absent Found = iota
	// Text is a variable whose text was appended; the text may be empty.
	Text
	// JSON is a variable whose text was appended and is one compact JSON object
	// or array in valid UTF-8. It saves parsing that text again.
	JSON
)

// Variables gives values to a rendering. It is read lazily: a field that no
// token names is never asked for.
type Variables interface {
	// AppendText appends the text of the variable to dst. With [Absent] it
	// returns dst as it was.
	AppendText(dst []byte, name Name) ([]byte, Found)
}

// Options change a rendering. The zero value is the push: what is unresolved
// becomes "".
type Options struct {
	// KeepUnresolved leaves a token that names no existing variable as it was
	// written. Only for people's eyes: a literal must never reach a CRM.
	KeepUnresolved bool
	// Missed, when not nil, is called for each token that came to nothing, in
	// the order of the payload. The token must not be changed.
	Missed func(t *Token, miss Miss)
	// NotJSON, when not nil, is called with a token of each template whose text
	// begins like a JSON object or array but is none, and so is sent as text, in
	// the order of the payload.
	NotJSON func(t *Token)
}

// Miss is the reason why a token came to nothing. The set is closed.
type Miss uint8

const (
	// Unknown is a token none of whose candidates exists.
	Unknown Miss = iota
	// Empty is a token whose variable exists and is "".
	Empty
)

// Misses lists the closed set, for metric labels.
func Misses() []Miss { return []Miss{Unknown, Empty} }

// String returns "unknown" or "empty".
func (m Miss) String() string {
	if m == Empty {
		return "empty"
	}
	return "unknown"
}
