// Package secret keeps credentials out of everything that people read.
//
// It owns the type that a credential is held in, the Redactor that takes known
// credentials out of any text, and the slog.Handler that does so for a log. It
// knows nothing of where a credential comes from or what it opens.
package secret

import (
	"fmt"
	"log/slog"
)

// Redacted is what a Text shows wherever it is printed, logged or encoded.
const Redacted = "[redacted]"

// Text is a credential. Every formatting verb, slog and the JSON and text
// encoders show Redacted for it; only Reveal gives the value.
type Text string

// Reveal returns the credential itself, for the one place that sends it.
func (t Text) Reveal() string { return string(t) }

// IsSet reports whether there is a credential at all.
func (t Text) IsSet() bool { return t != "" }

// String implements fmt.Stringer.
func (t Text) String() string {
	if t == "" {
		return ""
	}
	return Redacted
}

// Format implements fmt.Formatter, so that no verb (%q, %x, %#v) reveals it.
func (t Text) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(t.String())) }

// LogValue implements slog.LogValuer.
func (t Text) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText implements encoding.TextMarshaler, which encoding/json uses too.
func (t Text) MarshalText() ([]byte, error) { return []byte(t.String()), nil }
