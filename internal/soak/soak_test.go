package soak

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/internal/localmongo"
)

const (
	defaultCalls = 2400 // WATCHER_SOAK_CALLS sets another number
	rounds       = 12
	botCount     = 50
	// Between the second and the last third of the rounds nothing may grow by more.
	mostMemory     = 24 << 20
	mostGoroutines = 64
	mostFiles      = 64
)

// Calls of many bots, some of which fail, hang, are refused, skipped or change their
// destination, come and are forgotten by the database.
func TestNothingGrowsWithTheCalls(t *testing.T) {
	total := defaultCalls
	if text := os.Getenv("WATCHER_SOAK_CALLS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < defaultCalls {
			t.Fatalf("WATCHER_SOAK_CALLS is %q: want a number from %d on", text, defaultCalls)
		}
		total = n
	}
	batch := max(200, total/rounds/20) // calls that are stored and then waited for
	s, begun := newSoak(t), time.Now()
	var samples []sample
	for i := range rounds {
		for n := 0; n < total/rounds; n += batch {
			s.push(i, min(batch, total/rounds-n))
		}
		got := s.watcher.sample()
		samples = append(samples, got)
		t.Logf("%d calls, %v: %.0f MB, %.0f on the heap, %.0f goroutines, %.0f files; database and CRM: %.0f MB on the heap",
			s.stored, time.Since(begun).Round(time.Second), got.memory/1e6, got.heap/1e6, got.goroutines, got.files, heapHere()/1e6)
	}
	s.compare(samples)
	if pushed := s.pushed.Load(); pushed < int64(s.stored)*9/10 {
		t.Errorf("%d requests for %d calls", pushed, s.stored)
	}
}

type soak struct {
	*apptest.Platform
	t       *testing.T
	crm     *httptest.Server
	watcher *process
	stored  int
	pushed  atomic.Int64
}

// newSoak starts a database, a CRM and the watcher.
func newSoak(t *testing.T) *soak {
	t.Helper()
	server := apptest.NewServer(t, localmongo.Options{HistoryEvents: 50_000, HistoryBytes: 64 << 20})
	s := &soak{t: t, Platform: server.Platform()}
	s.crm = httptest.NewServer(http.HandlerFunc(s.answer))
	t.Cleanup(s.crm.Close)
	for i := range botCount {
		s.putBot(i, 0)
	}
	s.watcher = startWatcher(t, server, "--retry-schedule=100ms,200ms,300ms")
	return s
}

// putBot stores a bot, whose destination is another in each generation.
func (s *soak) putBot(i, generation int) {
	s.PutBot(apptest.Bot(fmt.Sprint("bot-", i), fmt.Sprintf("%s/%d/%d", s.crm.URL, i, generation)))
}

// answer is the CRM: of the bots one hangs for a while, one refuses all, and one call in
// ten fails at first.
func (s *soak) answer(w http.ResponseWriter, r *http.Request) {
	n := s.pushed.Add(1)
	switch bot, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/"); {
	case bot == "1":
		w.WriteHeader(http.StatusUnprocessableEntity)
	case bot == "2":
		<-time.After(20 * time.Millisecond)
	case n%10 == 0:
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// push stores calls with their results, waits until each is settled, and deletes them.
// Now and then a bot gets another destination, so that lanes come and go.
func (s *soak) push(round, n int) {
	s.t.Helper()
	s.putBot(3+s.stored/n%(botCount-3), round+1)
	docs, ids := make([]any, n), make(bson.A, n)
	for i := range docs {
		id := fmt.Sprintf("call-%09d", s.stored)
		ids[i] = id
		docs[i] = bson.D{
			{Key: "_id", Value: id}, {Key: "session_id", Value: id}, {Key: "bot_id", Value: fmt.Sprint("bot-", s.stored%botCount)},
			{Key: "status", Value: "completed"}, {Key: "completed_at", Value: time.Now().UTC()},
			{Key: "skip_post_push", Value: s.stored%20 == 7}, {Key: "post_call_analysis", Value: bson.D{{Key: "DISPOSITION", Value: "Sold"}}},
			{Key: "transcript", Value: bson.A{bson.D{{Key: "role", Value: "user"}, {Key: "content", Value: strings.Repeat("words ", 300)}}}},
		}
		s.stored++
	}
	_, err := s.Calls.InsertMany(s.t.Context(), docs)
	must(s.t, err)
	mine := bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}}
	open := append(mine, bson.E{Key: "skip_post_push", Value: false}, bson.E{Key: "$or", Value: bson.A{
		bson.D{{Key: "post_call_push_result.status", Value: nil}},
		bson.D{{Key: "post_call_push_result.next_attempt_at", Value: bson.D{{Key: "$exists", Value: true}}}},
	}})
	ctx, cancel := context.WithTimeout(s.t.Context(), apptest.Patience)
	defer cancel()
	var left int64
	if !apptest.Poll(ctx, func() bool {
		left, err = s.Calls.CountDocuments(ctx, open, options.Count().SetLimit(1))
		return err == nil && left == 0
	}) {
		s.t.Fatalf("some of %d calls are not settled, %v", n, err)
	}
	_, err = s.Calls.DeleteMany(s.t.Context(), mine)
	must(s.t, err)
}

// heapHere is how much this process has on its heap: the database, the CRM and this test.
func heapHere() float64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}

// compare holds the last third of the rounds against the second.
func (s *soak) compare(all []sample) {
	s.t.Helper()
	third := len(all) / 3
	for _, c := range []struct {
		what string
		of   func(sample) float64
		most float64
	}{
		{"bytes of memory", func(s sample) float64 { return s.memory }, mostMemory},
		{"bytes on the heap", func(s sample) float64 { return s.heap }, mostMemory},
		{"goroutines", func(s sample) float64 { return s.goroutines }, mostGoroutines},
		{"files", func(s sample) float64 { return s.files }, mostFiles},
	} {
		least := func(part []sample) float64 {
			return c.of(slices.MinFunc(part, func(a, b sample) int { return cmp.Compare(c.of(a), c.of(b)) }))
		}
		if before, after := least(all[third:2*third]), least(all[2*third:]); after > before+c.most {
			s.t.Errorf("%s: %.0f at least in the second third, %.0f in the last", c.what, before, after)
		}
	}
}
