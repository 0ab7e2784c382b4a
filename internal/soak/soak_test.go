package soak

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/internal/demo/world"
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

// sample is what the process holds at the end of a round.
type sample struct{ memory, goroutines, files float64 }

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
	s := newSoak(t)
	var samples []sample
	for i := range rounds {
		for n := 0; n < total/rounds; n += batch {
			s.push(i, min(batch, total/rounds-n))
		}
		samples = append(samples, s.sample())
		t.Logf("%d calls: %.0f MB, %.0f goroutines, %.0f files", s.stored, samples[i].memory/(1<<20), samples[i].goroutines, samples[i].files)
	}
	s.compare(samples)
	if pushed := s.pushed.Load(); pushed < int64(s.stored)*9/10 {
		t.Errorf("%d requests for %d calls", pushed, s.stored)
	}
}

type soak struct {
	*apptest.Platform
	t      *testing.T
	crm    *httptest.Server
	addr   string // of the watcher's listener
	stored int
	pushed atomic.Int64
}

// newSoak starts a database, a CRM and the watcher as a process of its own, built
// without the race detector: its memory is measured.
func newSoak(t *testing.T) *soak {
	t.Helper()
	server := apptest.NewServer(t, localmongo.Options{HistoryEvents: 50_000, HistoryBytes: 64 << 20})
	s := &soak{t: t, Platform: server.Platform()}
	s.crm = httptest.NewServer(http.HandlerFunc(s.answer))
	t.Cleanup(s.crm.Close)
	for i := range botCount {
		s.putBot(i, 0)
	}
	path := filepath.Join(t.TempDir(), "watcher")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", path, "github.com/cxbridge/watcher/cmd/watcher")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), path, "run",
		"--mongo-uri="+server.URI, "--database="+server.Database, "--allow-network=127.0.0.0/8",
		"--listen=127.0.0.1:0", "--log-format=json", "--retry-schedule=100ms,200ms,300ms")
	log, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	addr, read := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(read)
		s.read(log, addr)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-read
		_ = cmd.Wait()
	})
	select {
	case s.addr = <-addr:
	case <-read:
		t.Fatal("the watcher has ended")
	}
	must(t, world.WaitReady(t.Context(), s.addr))
	return s
}

// read looks for the address in a log, and then only for what is worse than a warning.
func (s *soak) read(log io.Reader, addr chan<- string) {
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if _, rest, ok := strings.Cut(lines.Text(), `"metrics":"`); ok {
			text, _, _ := strings.Cut(rest, `"`)
			addr <- text
		}
		if strings.Contains(lines.Text(), `"level":"ERROR"`) {
			s.t.Error(lines.Text())
		}
	}
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

// sample reads what the process says of itself.
func (s *soak) sample() sample {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.addr+"/metrics", http.NoBody)
	must(s.t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	must(s.t, err)
	defer resp.Body.Close()
	values := make(map[string]float64)
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		values[name], _ = strconv.ParseFloat(value, 64)
	}
	got := sample{values["process_resident_memory_bytes"], values["go_goroutines"], values["process_open_fds"]}
	if got.memory == 0 || got.goroutines == 0 || got.files == 0 {
		s.t.Fatalf("the metrics say %+v", got)
	}
	return got
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

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
