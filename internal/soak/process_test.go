package soak

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/internal/demo/world"
)

// process is the watcher as a process of its own.
type process struct {
	t     *testing.T
	addr  string        // of its listener
	start time.Duration // until it was ready
}

// startWatcher builds the watcher as a release is built, so without the race detector:
// its memory is measured. It returns once the watcher is ready.
func startWatcher(t *testing.T, server *apptest.Server, flags ...string) *process {
	t.Helper()
	path := filepath.Join(t.TempDir(), "watcher")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", path, "github.com/cxbridge/watcher/cmd/watcher")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), path, append([]string{
		"run", "--mongo-uri=" + server.URI, "--database=" + server.Database, "--allow-network=127.0.0.0/8",
		"--listen=127.0.0.1:0", "--log-format=json",
	}, flags...)...)
	log, err := cmd.StderrPipe()
	must(t, err)
	p, begun := &process{t: t}, time.Now()
	must(t, cmd.Start())
	addr, read := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(read)
		p.read(log, addr)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-read
		_ = cmd.Wait()
	})
	select {
	case p.addr = <-addr:
	case <-read:
		t.Fatal("the watcher has ended")
	}
	must(t, world.WaitReady(t.Context(), p.addr))
	p.start = time.Since(begun)
	return p
}

// read looks for the address in a log, and then only for what is worse than a warning.
func (p *process) read(log io.Reader, addr chan<- string) {
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if _, rest, ok := strings.Cut(lines.Text(), `"metrics":"`); ok {
			text, _, _ := strings.Cut(rest, `"`)
			addr <- text
		}
		if strings.Contains(lines.Text(), `"level":"ERROR"`) {
			p.t.Error(lines.Text())
		}
	}
}

// sample is what the process holds at a moment.
type sample struct{ memory, heap, goroutines, files float64 }

// sample reads what the process says of itself.
func (p *process) sample() sample {
	p.t.Helper()
	values := p.metrics()
	got := sample{
		memory: values["process_resident_memory_bytes"], heap: values["go_memstats_heap_alloc_bytes"],
		goroutines: values["go_goroutines"], files: values["process_open_fds"],
	}
	if got.memory == 0 || got.heap == 0 || got.goroutines == 0 || got.files == 0 {
		p.t.Fatalf("the metrics say %+v", got)
	}
	return got
}

// metrics are those of the process, with their labels as they stand there.
func (p *process) metrics() map[string]float64 {
	p.t.Helper()
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://"+p.addr+"/metrics", http.NoBody)
	must(p.t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	must(p.t, err)
	defer resp.Body.Close()
	values := make(map[string]float64)
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		values[name], _ = strconv.ParseFloat(value, 64)
	}
	return values
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
