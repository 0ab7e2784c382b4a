package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
)

// asWatcher makes a process of this test binary the watcher itself, so that the
// tests of a whole process need no other build and have the race detector.
const asWatcher = "TEST_BINARY_IS_WATCHER"

// asVersion is the version of that process.
const asVersion = "TEST_BINARY_IS_VERSION"

func TestMain(m *testing.M) {
	if os.Getenv(asWatcher) != "" {
		version = cmp.Or(os.Getenv(asVersion), version)
		main()
	}
	// They mostly wait, so more of them run at once than there are processors.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	m.Run()
}

// process is a watcher in a process of its own.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	log bytes.Buffer // stdout and stderr; read it after the end
}

// spawn starts watcher run.
func spawn(t *testing.T, uri string, flags ...string) *process {
	t.Helper()
	return spawnAs(t, "", uri, flags...)
}

// spawnAs starts watcher run as that of a version.
func spawnAs(t *testing.T, version, uri string, flags ...string) *process {
	t.Helper()
	p := &process{t: t}
	args := append([]string{
		"run", "--mongo-uri", uri, "--database", apptest.Database, "--listen", "127.0.0.1:0",
		"--allow-network", "127.0.0.0/8", "--log-format", "json",
	}, flags...)
	p.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0], args...)
	p.cmd.Env = append(os.Environ(), asWatcher+"=1", asVersion+"="+version)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
	})
	return p
}

// signal sends a signal and waits for the end; it returns the exit status, -1
// for a process that was killed.
func (p *process) signal(s os.Signal) int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("send %v: %v\n%s", s, err, p.log.Bytes())
	}
	err := p.cmd.Wait()
	if exit := new(exec.ExitError); err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// The limits of the kills: how many, and how long after its start a process is
// killed. A process of the race detector takes about a quarter of a second to
// open its stream, so that some are killed before that.
const (
	kills     = 18
	firstKill = 50 * time.Millisecond
	lastKill  = 900 * time.Millisecond
	feedPause = 8 * time.Millisecond
	// slots bounds the requests under way; with them may be lost the outcomes
	// of those that were answered while a few bulk writes were under way.
	slots     = 16
	lostWords = 48
)

// A process that is killed without a word, at many points under load, loses
// nothing: every stored result is pushed, none again once its outcome stands on
// the call, and what is repeated is what was under way, with the same bytes.
func TestKilledProcessLosesNothing(t *testing.T) {
	t.Parallel()
	server := localmongotest.Start(t, localmongo.Options{})
	p := apptest.NewPlatform(t, server.URI())
	crm := apptest.NewCRM(t)
	for _, bot := range []string{"fast", "slow", "flaky"} {
		p.PutBot(apptest.Bot(bot, crm.URL+"/"+bot))
	}
	var flaky atomic.Int64
	crm.Answers(func(r apptest.Request) apptest.Answer {
		if err := p.NotLogged(r); err != nil {
			t.Error(err)
		}
		switch {
		case r.Path == "/slow":
			thought := make(chan struct{})
			time.AfterFunc(30*time.Millisecond, func() { close(thought) })
			return apptest.Answer{Until: thought}
		case r.Path == "/flaky" && flaky.Add(1)%4 == 0 && r.Number == 1:
			return apptest.Answer{Status: 503} // too few in a row to take the CRM for dead
		}
		return apptest.Answer{}
	})
	ledger := apptest.NewLedger(t, p)
	run := func() *process {
		return spawn(t, server.URI(), "--start", "1h", "--concurrency", "16", "--retry-schedule", "100ms,200ms,400ms,400ms,400ms,400ms,400ms,400ms,400ms")
	}

	feeding, stop := context.WithCancelCause(t.Context())
	defer stop(nil)
	var feeder sync.WaitGroup
	fed := 0
	feeder.Go(func() {
		n, err := p.Feed(feeding, feedPause, "fast", "slow", "flaky")
		if err != nil {
			t.Error(err)
		}
		fed = n
	})

	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	extra, worst := 0, 0
	for range kills {
		w := run()
		select {
		case <-time.After(firstKill + time.Duration(rng.Int64N(int64(lastKill-firstKill)))):
		case <-ctx.Done():
			t.Fatal(context.Cause(ctx))
		}
		if status := w.signal(os.Kill); status != -1 {
			t.Fatalf("the process had ended by itself with status %d:\n%s", status, w.log.Bytes())
		}
		if !apptest.Poll(ctx, func() bool { return crm.Connections() == 0 }) {
			t.Fatal("the connections of a dead process stay open")
		}
		if _, err := ledger.Check(ctx, "default"); err != nil {
			t.Fatal(err)
		}
		now, err := apptest.Compare(ctx, p, crm.Requests())
		if err != nil {
			t.Fatal(err)
		}
		worst, extra = max(worst, now.Extra-extra), now.Extra
		crm.Turn()
	}
	if worst > slots+lostWords {
		t.Errorf("%d attempts were lost by one kill, more than the %d that were under way and %d whose outcomes were", worst, slots, lostWords)
	}
	stop(nil)
	feeder.Wait()

	w := run()
	left := func() int64 {
		n, err := p.Calls.CountDocuments(ctx, bson.D{{Key: "$or", Value: bson.A{
			bson.D{{Key: "post_call_push_result.status", Value: bson.D{{Key: "$ne", Value: "ok"}}}},
			bson.D{{Key: "post_call_push_result.next_attempt_at", Value: bson.D{{Key: "$exists", Value: true}}}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	settling, enough := context.WithTimeout(ctx, apptest.Patience)
	defer enough()
	if !apptest.Poll(settling, func() bool { return left() == 0 }) {
		w.signal(os.Kill)
		stuck(t, p)
		t.Log(string(tail(w.log.Bytes())))
		t.Fatalf("not all of %d calls are pushed", fed)
	}
	if status := w.signal(syscall.SIGTERM); status != 0 {
		t.Errorf("status %d after SIGTERM:\n%s", status, tail(w.log.Bytes()))
	}
	all, err := apptest.Compare(ctx, p, crm.Requests())
	if err != nil {
		t.Fatal(err)
	}
	if all.Deliveries != fed {
		t.Errorf("%d deliveries for %d stored results", all.Deliveries, fed)
	}
	// The last run was not killed, so it repeats nothing of its own.
	if all.Extra != extra {
		t.Errorf("%d repeated requests, but %d attempts were lost by kills", all.Extra, extra)
	}
	oncePerLife(t, crm.Requests())
	t.Logf("%d results, %d requests, %d repeated because of %d kills, at most %d by one", fed, all.Requests, all.Extra, kills, worst)
}

// oncePerLife checks that no process made a request twice, but for one that was
// answered with 503.
func oncePerLife(t *testing.T, requests []apptest.Request) {
	t.Helper()
	type life struct {
		delivery string
		epoch    int
	}
	seen := make(map[life]int)
	for _, r := range requests {
		l := life{r.Delivery, r.Epoch}
		if seen[l]++; seen[l] > 2 || seen[l] > 1 && r.Path != "/flaky" {
			t.Errorf("delivery %s came %d times from one process", r.Delivery, seen[l])
		}
	}
}

// SIGTERM lets what was begun end: nothing is repeated by the next process.
func TestTerminatedProcessDrains(t *testing.T) {
	t.Parallel()
	server := localmongotest.Start(t, localmongo.Options{})
	p := apptest.NewPlatform(t, server.URI())
	crm := apptest.NewCRM(t)
	p.PutBot(apptest.Bot("slow", crm.URL+"/slow"))
	answer := make(chan struct{})
	crm.Answers(func(apptest.Request) apptest.Answer { return apptest.Answer{Until: answer} })
	ctx, cancel := context.WithTimeout(t.Context(), apptest.Patience)
	defer cancel()

	w := spawn(t, server.URI(), "--start", "1h", "--shutdown-grace", "20s")
	const stored = 12
	for i := range stored {
		p.Call(fmt.Sprint("s-", i), "slow")
	}
	if !crm.Wait(ctx, func(all []apptest.Request) bool { return len(all) > 0 }) {
		t.Fatal("no request came")
	}
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(500*time.Millisecond, func() { close(answer) })
	if err := w.cmd.Wait(); err != nil {
		t.Errorf("the process ended with %v:\n%s", err, tail(w.log.Bytes()))
	}
	drained := len(crm.Requests())
	now, err := apptest.Compare(ctx, p, crm.Requests())
	if err != nil || now.Extra != 0 {
		t.Errorf("%d outcomes are not on their calls: %v", now.Extra, err)
	}

	// One more call shows that the next process works, and has done what was left.
	next := spawn(t, server.URI(), "--start", "1h")
	p.Call("after", "slow")
	if !crm.Wait(ctx, func(all []apptest.Request) bool { return len(all) > stored }) {
		t.Fatalf("%d requests for %d calls", len(crm.Requests()), stored+1)
	}
	if status := next.signal(syscall.SIGTERM); status != 0 {
		t.Errorf("status %d after SIGTERM:\n%s", status, tail(next.log.Bytes()))
	}
	all, err := apptest.Compare(ctx, p, crm.Requests())
	if err != nil {
		t.Fatal(err)
	}
	if all.Requests != stored+1 || all.Deliveries != stored+1 || all.Extra != 0 {
		t.Errorf("%+v for %d calls and one more, %d of them before the end of the first process", all, stored, drained)
	}
}

// stuck shows some of the calls that are not pushed.
func stuck(t *testing.T, p *apptest.Platform) {
	t.Helper()
	cursor, err := p.Calls.Find(t.Context(), bson.D{{Key: "post_call_push_result.status", Value: bson.D{{Key: "$ne", Value: "ok"}}}},
		options.Find().SetLimit(5).SetProjection(bson.D{{Key: "events", Value: 0}, {Key: "integration_log", Value: 0}}))
	if err != nil {
		t.Fatal(err)
	}
	for cursor.Next(t.Context()) {
		t.Log(cursor.Current)
	}
}

// tail is the end of a log.
func tail(log []byte) []byte { return log[max(0, len(log)-4000):] }
