package main

import (
	"io"
	"log/slog"
	"os"

	"github.com/lmittmann/tint"

	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/plain"
)

// newLogger writes text for people on a terminal and JSON for machines.
func newLogger(w io.Writer, format string, level slog.Level) *slog.Logger {
	if format == config.LogText || format == config.LogAuto && isTerminal(w) {
		return slog.New(tint.NewTextHandler(w, &tint.Options{
			Level:      level,
			TimeFormat: "15:04:05.000",
			NoColor:    !wantsColor(w),

			ReplaceAttr: plain.Attr,
		}))
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: plain.Attr}))
}

// wantsColor reports whether w shows colour; https://no-color.org is kept to.
func wantsColor(w io.Writer) bool {
	_, no := os.LookupEnv("NO_COLOR")
	return !no && os.Getenv("TERM") != "dumb" && isTerminal(w)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
