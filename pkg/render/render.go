// Package render turns a mapper of {{namespace.field}} templates into a payload.
//
// A mapper is compiled once and rendered many times, from any number of
// goroutines. The package owns the token syntax, the order in which a token
// looks for its value, the coercion of JSON-like text and the encoding of the
// payload as a JSON object or a query string. It does not own the values, which
// come from a [Variables] that is only asked for what the mapper names, nor the
// names of the namespaces, which the caller gives. It does no I/O and never fails
// on a value; it gives up on a payload that is larger than it may be.
package render

import (
	"errors"
	"slices"
)

// Namespaces are the first parts of the names of a caller's variables.
type Namespaces struct {
	// Names are all of them, as templates write them; case counts.
	Names []string
	// Fallback are those where a token looks, in this order, when its exact name
	// does not exist.
	Fallback []string
}

func (n *Namespaces) has(name string) bool { return slices.Contains(n.Names, name) }

// Name is the full name of a variable. Field is never empty in a name made by
// this package; it may hold dots, which are a path or part of a stored key.
type Name struct {
	Namespace string
	Field     string
}

// String returns "namespace.field".
func (n Name) String() string { return n.Namespace + "." + n.Field }

// MarshalText implements encoding.TextMarshaler with String.
func (n Name) MarshalText() ([]byte, error) { return []byte(n.String()), nil }

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

// ErrTooLarge is a payload of more than Options.MaxBytes.
var ErrTooLarge = errors.New("the payload is larger than it may be")

// Options change a rendering. The zero value is the push: what is unresolved
// becomes "".
type Options struct {
	// MaxBytes is the largest payload; 0 is no limit. One that would be larger is
	// given up as soon as that shows, with [ErrTooLarge].
	MaxBytes int
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
