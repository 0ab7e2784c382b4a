package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// asked counts the commands of one watcher, by what is asked of which collection.
type asked struct {
	mu     sync.Mutex
	counts map[string]int
}

func (a *asked) client(o *options.ClientOptions) {
	o.SetMonitor(&event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		collection, ok := e.Command.Lookup("collection").StringValueOK() // of a getMore
		if !ok {
			collection, _ = e.Command.Lookup(e.CommandName).StringValueOK()
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.counts[e.CommandName+" "+collection]++
	}})
}

// reset forgets what was counted and returns it.
func (a *asked) reset() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	counts := a.counts
	a.counts = make(map[string]int)
	return counts
}

// begun is nil once what is asked at a start alone was asked.
func (a *asked) begun() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, last := range []string{"createIndexes calls", "count bots"} {
		if a.counts[last] == 0 {
			return errors.New("not asked yet: " + last)
		}
	}
	return nil
}

// A watcher without calls and a standby ask MongoDB for little: a machine under load can
// only make it less.
func TestQuietWatchersAskLittle(t *testing.T) {
	const (
		over = 30 * time.Second // the slowest of what is asked regularly
		most = 3.0              // commands a second
	)
	t.Parallel()
	r := newRoad(t, "a", "b")
	counted := map[string]*asked{}
	launch := func(name string) *running {
		a := &asked{counts: make(map[string]int)}
		counted[name] = a
		r.deps.Owner, r.deps.Client = name, a.client
		return r.launch()
	}
	worker := launch("worker")
	r.eventually("the worker is ready", worker.readiness)
	standby := launch("standby")
	r.eventually("the standby is ready", standby.readiness)
	for _, a := range counted {
		r.eventually("what is asked at a start was asked", a.begun)
	}
	for _, a := range counted {
		a.reset()
	}
	begun := time.Now()
	<-time.After(over)
	for name, a := range counted {
		counts := a.reset()
		sum := 0
		var lines []string
		for _, what := range slices.Sorted(maps.Keys(counts)) {
			sum += counts[what]
			lines = append(lines, fmt.Sprintf("%s %d", what, counts[what]))
		}
		rate := float64(sum) / time.Since(begun).Seconds()
		t.Logf("%s: %.2f commands a second: %s", name, rate, strings.Join(lines, ", "))
		if rate > most {
			t.Errorf("a quiet %s asks %.2f commands a second, want at most %v", name, rate, most)
		}
	}
}
