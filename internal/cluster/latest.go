package cluster

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cxbridge/watcher/pkg/backoff"
)

// The pause between two reads while somebody looks: at least readEvery, and so long that
// reading takes no more than a twentieth of the time, but at most readLatest.
const (
	readEvery  = 5 * time.Second
	readLatest = 15 * time.Second
	mostEffort = 20
	// lookedFor is how long after a look somebody is said to look still: longer than
	// the page takes to ask again, and most scripts.
	lookedFor = 30 * time.Second
	// quietEvery is the pause while nobody looks, for what is odd about the deployment.
	quietEvery = 5 * time.Minute
	// firstWait is how long the first who looks waits for a read at most.
	firstWait = time.Second
)

// Latest keeps a recent Summary at hand while somebody looks, so that readers cost
// nothing.
type Latest struct {
	reader interface {
		Read(ctx context.Context) (*Summary, error)
	}
	logger *slog.Logger
	last   atomic.Pointer[Summary]
	wake   chan struct{} // has a token when a quiet Run is to read

	mu     sync.Mutex
	looked time.Time     // last
	fresh  chan struct{} // nil while Run reads again soon; else closed after its next read
}

// NewLatest returns a Latest without a Summary; Run reads it. What is odd about the
// deployment as a whole is logged once.
func NewLatest(reader *Reader, logger *slog.Logger) *Latest {
	return &Latest{reader: reader, logger: logger, wake: make(chan struct{}, 1)}
}

// Summary is what was read last, seconds ago, nil before the first time. The first who
// asks after a while waits for it for a second at most. It is shared: change nothing.
func (l *Latest) Summary() *Summary {
	l.mu.Lock()
	l.looked = time.Now()
	fresh := l.fresh
	l.mu.Unlock()
	if fresh != nil {
		select {
		case l.wake <- struct{}{}:
		default:
		}
		timer := time.NewTimer(firstWait)
		defer timer.Stop()
		select {
		case <-fresh:
		case <-timer.C:
		}
	}
	return l.last.Load()
}

// Run reads until ctx ends. It returns nil.
func (l *Latest) Run(ctx context.Context) error {
	defer l.refreshed()
	told := make(map[string]bool)
	for {
		began := time.Now()
		s, err := l.reader.Read(ctx)
		if err != nil { // an old summary says how old it is
			l.logger.DebugContext(ctx, "the state of the cluster cannot be read", "error", err)
		} else {
			l.last.Store(s)
			l.report(ctx, s, told)
		}
		l.refreshed()
		if backoff.Sleep(ctx, min(max(readEvery, mostEffort*time.Since(began)), readLatest)) != nil {
			return nil
		}
		if err == nil {
			l.rest(ctx)
		}
	}
}

// report logs what is odd about the deployment and was not told yet.
func (l *Latest) report(ctx context.Context, s *Summary, told map[string]bool) {
	for _, text := range s.Deployment {
		if !told[text] {
			told[text] = true
			l.logger.WarnContext(ctx, "the deployment needs attention", "what", text)
		}
	}
}

// rest returns when somebody looks, or looked not long ago, and now and then.
func (l *Latest) rest(ctx context.Context) {
	l.mu.Lock()
	if time.Since(l.looked) < lookedFor {
		l.mu.Unlock()
		return
	}
	l.fresh = make(chan struct{})
	l.mu.Unlock()
	timer := time.NewTimer(quietEvery)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-l.wake:
	case <-timer.C:
	}
}

// refreshed lets those go on who wait for a read.
func (l *Latest) refreshed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fresh != nil {
		close(l.fresh)
		l.fresh = nil
	}
}
