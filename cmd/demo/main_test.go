package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/cxbridge/watcher/internal/app"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
	"github.com/cxbridge/watcher/pkg/secret"
)

func noEnv(string) (string, bool) { return "", false }

// invoke runs the command and returns what it prints and its exit status.
func invoke(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs strings.Builder
	err := run(t.Context(), args, noEnv, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
	status = cli.ExitStatus("demo", err, &errs)
	return out.String(), errs.String(), status
}

func TestDemoShowsTheWholeRoad(t *testing.T) {
	stdout, stderr, code := invoke(t, "--calls", "20", "--rate", "100")
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d, %s\n%s", code, stderr, stdout)
	}
	for _, says := range []string{
		"all 20 calls ended as they should",
		"✓ ok, attempt 2 (503, 201)",
		"✗ rejected (422)",
		"✗ rejected (200)",
		"– skipped (no url)",
		"· skip_post_push",
		"· agent call",
		"· bot has no push",
		"What the CRM received  call-0003, Kestrel Collections",
		`"transferred": "yes"`,
		"What was written to the call, as post_call_push_result",
	} {
		if !strings.Contains(stdout, says) {
			t.Errorf("the demo does not say %q", says)
		}
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, shown, _ := strings.Cut(string(readme), "```text\n")
	shown, _, _ = strings.Cut(shown, "```")
	printed := strings.Split(form(stdout), "\n")
	for line := range strings.Lines(shown) {
		if line = strings.TrimRight(form(line), "\n"); line != " …" && !slices.Contains(printed, line) {
			t.Errorf("README.md shows a line that the demo does not print: %s", line)
		}
	}
}

// form is a text of the demo without times and sizes, and how wide columns are.
func form(text string) string {
	text = regexp.MustCompile(`\d+`).ReplaceAllString(text, "N")
	return regexp.MustCompile(` +`).ReplaceAllString(text, " ")
}

// screen is a terminal that a test reads while it is written to.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
	want string
	seen chan struct{} // closed when want is on the screen
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := strings.Contains(s.text.String(), s.want)
	n, err := s.text.Write(p)
	if !before && strings.Contains(s.text.String(), s.want) {
		close(s.seen)
	}
	return n, err
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// interrupted runs a demo until it has printed a text, calls then, and
// interrupts it.
func interrupted(t *testing.T, text string, then func(soFar string), args ...string) (string, error) {
	t.Helper()
	ctx, interrupt := context.WithCancel(t.Context())
	out := &screen{want: text, seen: make(chan struct{})}
	go func() {
		defer interrupt()
		select {
		case <-out.seen:
			then(out.String())
		case <-t.Context().Done():
		}
	}()
	err := run(ctx, args, noEnv, cli.Streams{In: strings.NewReader(""), Out: out, Err: io.Discard})
	return out.String(), err
}

func TestDemoThatIsKeptServesItsMetrics(t *testing.T) {
	address := regexp.MustCompile(`http://127\.0\.0\.1:\d+/metrics`)
	var metrics string
	text, err := interrupted(t, "Ctrl-C", func(soFar string) {
		resp, err := http.Get(address.FindString(soFar)) //nolint:forbidigo // as a person's browser would
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		metrics = string(body)
	}, "--calls", "3", "--rate", "100", "--keep")
	if err != nil {
		t.Errorf("an interrupt after the last check: %v\n%s", err, text)
	}
	if !strings.Contains(metrics, "watcher_push_") {
		t.Errorf("no metrics of the watcher in %.300s", metrics)
	}
}

func TestDemoThatIsInterruptedFails(t *testing.T) {
	_, err := interrupted(t, "call-0001", func(string) {}, "--calls", "500", "--rate", "5")
	if err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("ended with %v", err)
	}
}

func TestDemoNamesEveryFlagThatCannotBeUsed(t *testing.T) {
	_, stderr, code := invoke(t, "--calls", "0", "--rate=-1", "--listen", "here")
	if code != cli.ExitUsage {
		t.Errorf("exit %d, want %d", code, cli.ExitUsage)
	}
	for _, flag := range []string{"--calls", "--rate", "--listen"} {
		if !strings.Contains(stderr, flag) {
			t.Errorf("%s is not named in %s", flag, stderr)
		}
	}
	for _, flag := range []string{"--calls", "--rate", "--seed", "--log-level"} {
		if _, stderr, code := invoke(t, flag+"=none"); code != cli.ExitUsage || !strings.Contains(stderr, flag) {
			t.Errorf("%s=none: exit %d, %s", flag, code, stderr)
		}
	}
}

// A demo beside a watcher that runs elsewhere, as in deploy/compose.
func TestDemoBesideAWatcher(t *testing.T) {
	server := localmongotest.Start(t, localmongo.Options{})
	cfg := (&show{Listen: "127.0.0.1:0"}).config()
	cfg.MongoURI = secret.Text(server.URI())
	// The settings document comes after the start, so these are given as deploy/compose gives them.
	cfg.Minio = config.Minio{Endpoint: "localhost:9000", AccessKey: "demo-access", SecretKey: "demo-secret", Bucket: "recordings", Secure: new(bool)}
	watcher, err := app.New(cfg, app.Deps{Logger: slog.New(slog.DiscardHandler), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- watcher.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	args := []string{"--calls", "16", "--rate", "100", "--mongo-uri", server.URI(), "--watcher", watcher.Addr()}
	stdout, stderr, code := invoke(t, args...)
	if code != 0 || stderr != "" || !strings.Contains(stdout, "all 16 calls ended as they should") {
		t.Errorf("exit %d, %s\n%s", code, stderr, stdout)
	}
	if _, stderr, code := invoke(t, args...); code == 0 || !strings.Contains(stderr, "has 16 calls already") {
		t.Errorf("beside the calls of the first: exit %d, %s", code, stderr)
	}
	if _, stderr, code := invoke(t, args[:6]...); code != cli.ExitUsage || !strings.Contains(stderr, "--watcher") {
		t.Errorf("without a watcher: exit %d, %s", code, stderr)
	}
}

// The arguments of the demo in deploy/compose are those that it takes.
func TestTheComposeFileNamesFlagsOfTheDemo(t *testing.T) {
	text, err := os.ReadFile("../../deploy/compose/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var args []string
	for _, m := range regexp.MustCompile(`(?m)^      - (--[a-z].*)$`).FindAllStringSubmatch(string(text), -1) {
		args = append(args, m[1])
	}
	parser, err := kong.New(&commands{}, config.Options())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(args); err != nil || len(args) < 5 {
		t.Errorf("%q: %v", args, err)
	}
}

func TestDemoBench(t *testing.T) {
	stdout, stderr, code := invoke(t, "bench", "--calls", "20", "--size", "4000")
	if code != 0 || !strings.Contains(stdout, "outcomes/write") {
		t.Errorf("exit %d, %s\n%s", code, stderr, stdout)
	}
	if _, stderr, code := invoke(t, "bench", "--calls", "1"); code != cli.ExitUsage || !strings.Contains(stderr, "--calls") {
		t.Errorf("exit %d, %s", code, stderr)
	}
}
