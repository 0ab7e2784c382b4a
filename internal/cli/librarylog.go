package cli

import (
	"context"
	"log" //nolint:depguard // to take its output over
	"log/slog"
	"strings"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// What libraries say through package log is up to whoever they talk to: net/http
// writes one line for each HTTP/2 frame of an unknown kind, 70,000 in one answer.
const (
	libraryLines = 1    // in a second, in the long run
	libraryBurst = 10   // lines at once
	libraryText  = 1000 // bytes of one line
)

// SetLibraryLog makes a logger the default of package slog, and takes lines of
// package log over into it, at LevelDebug and no more than one a second in the long
// run. Each has how many were left out before it, as left_out.
func SetLibraryLog(logger *slog.Logger) {
	slog.SetDefault(logger) // also sets the output of package log
	log.SetOutput(&libraryLog{logger: logger, limit: rate.NewLimiter(libraryLines, libraryBurst)})
}

// libraryLog is the output of package log.
type libraryLog struct {
	logger *slog.Logger
	limit  *rate.Limiter
	out    atomic.Int64 // lines that were left out
}

// Write takes one line.
func (l *libraryLog) Write(line []byte) (int, error) {
	ctx := context.Background()
	if !l.logger.Enabled(ctx, slog.LevelDebug) {
		return len(line), nil
	}
	if !l.limit.Allow() {
		l.out.Add(1)
		return len(line), nil
	}
	text := strings.TrimSuffix(string(line[:min(len(line), libraryText)]), "\n")
	l.logger.DebugContext(ctx, "said by a library", "text", text, "left_out", l.out.Swap(0))
	return len(line), nil
}
