// Package world is what surrounds a watcher on one machine: a platform that
// writes calls, a CRM that answers, and how long a start takes.
//
// The demo and the tests share it. It runs no watcher and no database, and it
// decides nothing.
package world

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/cxbridge/watcher/pkg/backoff"
)

const (
	readyTimeout = 90 * time.Second // about 100 ms on a laptop without load
	readyPause   = 20 * time.Millisecond
)

var errNotReady = fmt.Errorf("the watcher was not ready within %v", readyTimeout)

// WaitReady asks the watcher at an address until its /readyz says that it
// follows the calls.
func WaitReady(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, errNotReady)
	defer cancel()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	for !isReady(ctx, client, "http://"+addr+"/readyz") {
		if err := backoff.Sleep(ctx, readyPause); err != nil {
			return err
		}
	}
	return nil
}

func isReady(ctx context.Context, client *http.Client, url string) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	resp, err := client.Do(r)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}
