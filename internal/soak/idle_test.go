package soak

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/internal/localmongo"
)

// quiet is how long a watcher is left alone before its memory is looked at. A run of
// make soak sets it, and then looks at more than every run of the tests does.
func quiet(t *testing.T) (pause time.Duration, soaking bool) {
	t.Helper()
	text := os.Getenv("WATCHER_SOAK_QUIET")
	if text == "" {
		return 0, false
	}
	pause, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("WATCHER_SOAK_QUIET: %v", err)
	}
	return pause, true
}

// A watcher that has nothing to do holds its program and its bots, and not much more.
func TestIdleMemory(t *testing.T) {
	pause, soaking := quiet(t)
	if !soaking {
		t.Skip("only with WATCHER_SOAK_QUIET")
	}
	for _, c := range []struct {
		bots int
		kind string
		most float64 // MB
	}{
		{bots: 10, kind: "alike", most: 34},
		{bots: 1000, kind: "alike", most: 40},
		{bots: 1000, kind: "apart", most: 45},
		{bots: 10_000, kind: "alike", most: 90},
		{bots: 10_000, kind: "apart", most: 145},
		{bots: 10_000, kind: "rich", most: 160},
	} {
		t.Run(fmt.Sprint(c.bots, " ", c.kind), func(t *testing.T) {
			server := apptest.NewServer(t, localmongo.Options{})
			putBots(t, server, c.bots, c.kind)
			w := startWatcher(t, server)
			first := w.sample()
			<-time.After(pause)
			last := w.sample()
			t.Logf("ready after %v with %.1f MB resident, later %.1f, with %.1f on the heap; %.0f goroutines",
				w.start.Round(time.Millisecond), first.memory/1e6, last.memory/1e6, last.heap/1e6, last.goroutines)
			if last.memory > c.most*1e6 {
				t.Errorf("%.1f MB are resident, want at most %v", last.memory/1e6, c.most)
			}
		})
	}
}

// putBots stores bots of 25 keys, each with a destination and a token of its own. Those
// apart have keys that no other has, the rich ones headers and rules as well.
func putBots(t *testing.T, server *apptest.Server, n int, kind string) {
	t.Helper()
	var docs []any
	for i := range n {
		prefix := "key"
		if kind != "alike" {
			prefix = fmt.Sprint("key_", i)
		}
		mapper := bson.D{}
		for k := range 25 {
			mapper = append(mapper, bson.E{Key: fmt.Sprint(prefix, "_", k), Value: fmt.Sprintf("{{call.column_%d}}", k)})
		}
		fields := []bson.E{{Key: "token", Value: fmt.Sprintf("Bearer 4f3c9a71d0%06d", i)}, {Key: "key_mapper", Value: mapper}}
		if kind == "rich" {
			fields = append(
				fields,
				bson.E{Key: "headers", Value: bson.D{
					{Key: "X-Api-Key", Value: fmt.Sprintf("a7b3c99d11e%06d", i)}, {Key: "X-Account", Value: fmt.Sprint("account-", i)},
					{Key: "X-Source", Value: "voice"},
				}},
				bson.E{Key: "signing_secret", Value: fmt.Sprintf("a long signing secret %06d", i)},
				bson.E{Key: "success", Value: bson.D{{Key: "path", Value: "result.status"}, {Key: "equals", Value: "ok"}}},
				bson.E{Key: "max_concurrency", Value: 4},
			)
		}
		docs = append(docs, apptest.Bot(fmt.Sprintf("bot-%06d", i), fmt.Sprintf("http://127.0.0.1:9/crm/%d", i), fields...))
	}
	_, err := server.Platform().Bots.InsertMany(t.Context(), docs)
	must(t, err)
}
