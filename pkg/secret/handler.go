package secret

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// Handler is a slog.Handler that passes records on without known secrets: in
// the message, in the values of attributes and groups, and in errors and other
// values as they print. Keys are constants of the program. So are messages and texts
// of ordinary words alone, as "push ended" and max_attempts: a credential of the same
// words, which anybody may choose, does not take them out of everybody's log.
type Handler struct {
	next   slog.Handler
	redact func(string) string
}

// NewHandler returns a Handler in front of next.
func NewHandler(next slog.Handler, r *Redactor) *Handler {
	return &Handler{next: next, redact: r.Redact}
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

// Handle implements slog.Handler.
func (h *Handler) Handle(ctx context.Context, rec slog.Record) error {
	message := rec.Message
	if !isPlainText(message) {
		message = h.redact(message)
	}
	clean := slog.NewRecord(rec.Time, rec.Level, message, rec.PC)
	rec.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(h.attr(a))
		return true
	})
	return h.next.Handle(ctx, clean)
}

// WithAttrs implements slog.Handler. The attributes are cleaned once, here:
// secrets that become known later are not found in them.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = h.attr(a)
	}
	return &Handler{next: h.next.WithAttrs(clean), redact: h.redact}
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{next: h.next.WithGroup(name), redact: h.redact}
}

func (h *Handler) attr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		if isConstant(v.String()) {
			return slog.Attr{Key: a.Key, Value: v}
		}
		return slog.String(a.Key, h.redact(v.String()))
	case slog.KindGroup:
		group := make([]slog.Attr, 0, len(v.Group()))
		for _, inner := range v.Group() {
			group = append(group, h.attr(inner))
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(group...)}
	case slog.KindAny:
		return slog.Attr{Key: a.Key, Value: h.any(v)}
	default: // numbers, bools, times and durations
		return slog.Attr{Key: a.Key, Value: v}
	}
}

// any keeps a value that prints no secret, so that the handler behind can
// encode it in its own way; else it becomes the redacted text.
func (h *Handler) any(v slog.Value) slog.Value {
	var text string
	switch x := v.Any().(type) {
	case nil:
		return v
	case error:
		text = x.Error()
	case []byte:
		text = string(x)
	case fmt.Stringer:
		text = x.String()
	default:
		text = fmt.Sprintf("%+v", x)
	}
	if clean := h.redact(text); clean != text {
		return slog.StringValue(clean)
	}
	return v
}

// isConstant reports whether a text may be of a closed set: a few ordinary words in
// small letters, joined by underscores.
func isConstant(s string) bool {
	const longest = 32
	return len(s) <= longest && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") == "" && isPlainText(s)
}
