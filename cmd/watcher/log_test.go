package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/app"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/secret"
)

var updateGolden = flag.Bool("update", false, "write the golden files anew")

// logLimit is how long a test waits for a line of the log.
const logLimit = 90 * time.Second

// lines is a log whose lines can be waited for.
type lines struct {
	mu  sync.Mutex
	all []string
}

// Write implements io.Writer; slog writes each line at once.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(bytes.TrimSpace(p)))
	return len(p), nil
}

func (l *lines) snapshot() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

// count is the number of lines that hold all of the texts.
func (l *lines) count(texts ...string) int {
	n := 0
	for _, line := range l.snapshot() {
		if !slices.ContainsFunc(texts, func(t string) bool { return !strings.Contains(line, t) }) {
			n++
		}
	}
	return n
}

func (l *lines) wait(t *testing.T, texts ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), logLimit)
	defer cancel()
	if !apptest.Poll(ctx, func() bool { return l.count(texts...) > 0 }) {
		t.Fatalf("no line with %q in\n%s", texts, strings.Join(l.snapshot(), "\n"))
	}
}

// logged is a watcher on a server of its own, as watcher run starts it, with
// its log as JSON.
type logged struct {
	*apptest.Platform
	server *localmongo.Server
	crm    *apptest.CRM
	log    *lines
	addr   string
	stop   func()
}

func runLogged(t *testing.T, level slog.Level, bots func(url string) []bson.D) *logged {
	t.Helper()
	server := localmongotest.Start(t, localmongo.Options{})
	l := &logged{server: server, crm: apptest.NewCRM(t), Platform: apptest.NewPlatform(t, server.URI()), log: &lines{}}
	for _, b := range bots(l.crm.URL) {
		l.PutBot(b)
	}
	if _, err := l.Calls.InsertOne(t.Context(), bson.D{{Key: "session_id", Value: "begun"}}); err != nil { // no deployment is empty
		t.Fatal(err)
	}
	cfg := config.Default()
	cfg.MongoURI, cfg.Database = secret.Text(server.URI()), apptest.Database
	cfg.Listen = "127.0.0.1:0"
	cfg.AllowNetworks = []push.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}
	cfg.RetrySchedule = []time.Duration{50 * time.Millisecond}
	watcher, err := app.New(cfg, app.Deps{Logger: cli.NewLogger(l.log, cli.LogJSON, level), Version: "test", Owner: "replica-1"})
	if err != nil {
		t.Fatal(err)
	}
	l.addr = watcher.Addr()
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- watcher.Run(ctx) }()
	l.stop = sync.OnceFunc(func() {
		cancel(errors.New("the process was asked to stop"))
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(l.stop)
	l.log.wait(t, `"msg":"the stream is open"`, `"stream":"calls"`)
	return l
}

// A sample of each line that an ordinary life of a watcher writes.
func TestSampleOfEachLogLine(t *testing.T) {
	field := func(k string, v any) bson.E { return bson.E{Key: k, Value: v} }
	l := runLogged(t, slog.LevelDebug, func(url string) []bson.D {
		return []bson.D{
			apptest.Bot("good", url+"/good"), apptest.Bot("bad", url+"/bad"), apptest.Bot("busy", url+"/busy"),
			apptest.Bot("nowhere", ""), apptest.Bot("broken", "ftp://files.example"),
			apptest.Bot("off", url+"/off", field("enabled", false)),
		}
	})
	l.crm.Answers(func(r apptest.Request) apptest.Answer {
		switch {
		case r.Path == "/bad":
			return apptest.Answer{Status: 422, Body: `{"message":"field mx_City unknown"}`}
		case r.Path == "/busy" && r.Number == 1:
			return apptest.Answer{Status: 503}
		}
		return apptest.Answer{}
	})
	for _, bot := range []string{"good", "bad", "nowhere", "broken", "busy"} {
		l.Call("call-"+bot, bot)
		l.log.wait(t, `"msg":"delivery"`, `"call_id":"call-`+bot+`"`)
	}
	l.log.wait(t, `"call_id":"call-busy"`, `"attempts":2`)
	for _, bot := range []string{"off", "unknown"} {
		l.Call("call-"+bot, bot)
		l.log.wait(t, `"msg":"not pushed"`, `"call_id":"call-`+bot+`"`)
	}
	l.Call("call-flagged", "good", field("skip_post_push", true))
	l.log.wait(t, `"call_id":"call-flagged"`)
	l.stop()
	compareGolden(t, "log.golden", sampleOf(t, l.log.snapshot()))
}

// sampleOf is each different line once, in alphabetical order of its message:
// the order of lines of different parts is nobody's promise.
func sampleOf(t *testing.T, all []string) string {
	t.Helper()
	var found []string
	for _, line := range all {
		if !json.Valid([]byte(line)) {
			t.Fatalf("no JSON: %s", line)
		}
		found = append(found, normalise(line))
	}
	slices.SortFunc(found, func(a, b string) int {
		return strings.Compare(messageOf(a)+a, messageOf(b)+b)
	})
	return strings.Join(slices.Compact(found), "\n") + "\n"
}

func messageOf(line string) string {
	_, rest, _ := strings.Cut(line, `"msg":"`)
	return rest
}

// normal puts names in the place of what differs from run to run.
var normal = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`"\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)"`), `"<time>"`},
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), `<delivery>`},
	{regexp.MustCompile(`"position":"[^"]+"`), `"position":"<position>"`},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), `127.0.0.1:<port>`},
	{regexp.MustCompile(`"after":"[^"]+"`), `"after":"<duration>"`},
	{regexp.MustCompile(`"(elapsed|since_stored)_ms":\d+`), `"${1}_ms":"<number>"`},
	{regexp.MustCompile(`"(files|connections)":\d+`), `"${1}":"<number>"`}, // of this machine
}

func normalise(line string) string {
	for _, n := range normal {
		line = n.pattern.ReplaceAllString(line, n.with)
	}
	return line
}

// compareGolden compares with a file below testdata; go test -update writes it.
func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *updateGolden {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; go test -update writes it anew. Got:\n%s", path, got)
	}
}

// While MongoDB is away the log does not fill: each part says so once, and once
// that it is over, however often it tried.
func TestAnOutageIsTwoLinesForEachPart(t *testing.T) {
	t.Parallel()
	l := runLogged(t, slog.LevelInfo, func(url string) []bson.D { return []bson.D{apptest.Bot("bot", url)} })
	l.Call("before", "bot")
	l.log.wait(t, `"msg":"delivery"`, `"call_id":"before"`)
	begin := len(l.log.snapshot())
	l.server.RefuseConnections(true)
	l.server.DropConnections()
	l.log.wait(t, `"msg":"due calls cannot be read, trying again"`) // after the driver has waited for a server
	l.server.RefuseConnections(false)
	l.log.wait(t, `"msg":"due calls can be read again"`)
	l.Call("after", "bot")
	l.log.wait(t, `"msg":"delivery"`, `"call_id":"after"`)
	l.stop()
	times := make(map[string]int)
	for _, line := range l.log.snapshot()[begin:] {
		var attrs map[string]any
		if err := json.Unmarshal([]byte(line), &attrs); err != nil {
			t.Fatal(err)
		}
		times[fmt.Sprint(attrs["msg"], " ", attrs["stream"], " ", attrs["call_id"])]++
		if text, _ := attrs["error"].(string); len(text) > 420 || strings.Contains(text, "topology") {
			t.Errorf("an error for machines: %s", line)
		}
	}
	for msg, n := range times {
		if n > 2 {
			t.Errorf("%d times: %s", n, msg)
		}
	}
	if t.Failed() {
		t.Log(strings.Join(l.log.snapshot()[begin:], "\n"))
	}
}
