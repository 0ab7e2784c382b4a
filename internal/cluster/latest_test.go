package cluster

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// counted is a Reader that counts and takes its time.
type counted struct {
	mu    sync.Mutex
	reads int
	takes time.Duration
	err   error
}

func (c *counted) Read(ctx context.Context) (*Summary, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	timer := time.NewTimer(c.takes)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return &Summary{At: time.Now()}, c.err
}

func (c *counted) set(takes time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.takes, c.err = takes, err
}

func (c *counted) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reads
}

// A summary is read while somebody looks, and hardly ever else; whoever looks gets a
// recent one.
func TestLatestReadsForThoseWhoLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counted{takes: 10 * time.Millisecond}
		l := NewLatest(nil, slog.New(slog.DiscardHandler))
		l.reader = c
		if l.Summary() != nil {
			t.Error("a summary before anything was read")
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { _ = l.Run(ctx); close(ended) }()
		time.Sleep(time.Minute)
		quiet := c.count()
		time.Sleep(time.Hour)
		if n := c.count() - quiet; n < 10 || n > 12 {
			t.Errorf("%d reads in an hour in which nobody looked", n)
		}
		for _, pause := range []time.Duration{time.Second, 5 * time.Second, 20 * time.Second, 7 * time.Minute} {
			for range 30 {
				time.Sleep(pause)
				asked := time.Now()
				if age := time.Since(l.Summary().At); age > readEvery+c.takes || time.Since(asked) > 2*c.takes {
					t.Errorf("a look every %s got after %s what was %s old", pause, time.Since(asked), age)
				}
			}
		}
		time.Sleep(time.Hour)
		c.set(time.Hour, errors.New("away"))
		asked := time.Now()
		if s := l.Summary(); s == nil || time.Since(asked) > firstWait {
			t.Errorf("got %v after %s while MongoDB is away", s, time.Since(asked))
		}
		cancel()
		<-ended
		asked = time.Now()
		if l.Summary(); time.Since(asked) > 0 {
			t.Error("waited for a read after the end")
		}
	})
}
