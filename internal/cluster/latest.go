package cluster

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cxbridge/watcher/pkg/backoff"
)

// The pause between two reads: at least readEvery, and so long that reading takes no
// more than a twentieth of the time, but at most readLatest.
const (
	readEvery  = 5 * time.Second
	readLatest = 15 * time.Second
	mostEffort = 20
)

// Latest keeps a recent Summary at hand, so that whoever asks waits for nobody and
// costs nothing.
type Latest struct {
	reader *Reader
	logger *slog.Logger
	last   atomic.Pointer[Summary]
}

// NewLatest returns a Latest without a Summary; Run reads it. What is odd about the
// deployment as a whole is logged once.
func NewLatest(reader *Reader, logger *slog.Logger) *Latest {
	return &Latest{reader: reader, logger: logger}
}

// Summary is what was read last, nil before the first time. It is shared: change nothing.
func (l *Latest) Summary() *Summary { return l.last.Load() }

// Run reads until ctx ends. It returns nil.
func (l *Latest) Run(ctx context.Context) error {
	told := make(map[string]bool)
	for pause := time.Duration(0); backoff.Sleep(ctx, pause) == nil; {
		began := time.Now()
		s, err := l.reader.Read(ctx)
		pause = min(max(readEvery, mostEffort*time.Since(began)), readLatest)
		if err != nil { // an old summary says how old it is
			l.logger.DebugContext(ctx, "the state of the cluster cannot be read", "error", err)
			continue
		}
		l.last.Store(s)
		for _, text := range s.Deployment {
			if !told[text] {
				told[text] = true
				l.logger.WarnContext(ctx, "the deployment needs attention", "what", text)
			}
		}
	}
	return nil
}
