// Package localmongotest starts a localmongo for a test. It owns the server's life and
// nothing else.
package localmongotest

import (
	"context"
	"errors"
	"testing"

	"github.com/cxbridge/watcher/internal/localmongo"
)

var errTestOver = errors.New("the test is over")

// Start runs a server until the end of the test, when it waits for all that the server
// started. A server that cannot start or ends with an error fails the test.
func Start(t testing.TB, opts localmongo.Options) *localmongo.Server {
	t.Helper()
	s, err := localmongo.New(opts)
	if err != nil {
		t.Fatalf("start localmongo: %v", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel(errTestOver)
		if err := <-done; err != nil {
			t.Errorf("localmongo: %v", err)
		}
	})
	return s
}
