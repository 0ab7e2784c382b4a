package cli

import (
	"io"
	"log/slog"
	"os"

	"github.com/lmittmann/tint"

	"github.com/cxbridge/watcher/internal/plain"
)

// The forms of a log.
const (
	LogAuto = "auto" // text on a terminal, JSON otherwise
	LogText = "text" // for people
	LogJSON = "json" // for machines
)

// NewLogger writes lines of one of the forms, from a level on.
func NewLogger(w io.Writer, form string, level slog.Level) *slog.Logger {
	if form == LogText || form == LogAuto && IsTerminal(w) {
		return slog.New(tint.NewTextHandler(w, &tint.Options{
			Level:      level,
			TimeFormat: "15:04:05.000",
			NoColor:    !WantsColor(w),

			ReplaceAttr: plain.Attr,
		}))
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: plain.Attr}))
}

// WantsColor reports whether w shows colour; https://no-color.org is kept to.
func WantsColor(w io.Writer) bool {
	_, no := os.LookupEnv("NO_COLOR")
	return !no && os.Getenv("TERM") != "dumb" && IsTerminal(w)
}

// IsTerminal reports whether a person is at the other end of a reader or writer.
func IsTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
