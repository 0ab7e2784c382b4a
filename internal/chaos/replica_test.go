package chaos

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// replica is one watcher process, started again after each end.
type replica struct {
	t      *testing.T
	name   string
	binary string
	args   []string
	log    *os.File

	mu      sync.Mutex
	cmd     *exec.Cmd
	ended   chan struct{}
	begun   int64     // size of the log when it was started
	resumed time.Time // from the last pause
}

// build makes one binary for each name: the name is its version, so that a
// receiver sees in the User-Agent which replica sent a request.
func build(t *testing.T, dir, name string) string {
	t.Helper()
	binary := filepath.Join(dir, name)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-X main.version="+name,
		"-o", binary, "github.com/cxbridge/watcher/cmd/watcher")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

func newReplica(t *testing.T, dir, name string, args ...string) *replica {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	r := &replica{t: t, name: name, binary: build(t, dir, name), args: args, log: log}
	t.Cleanup(func() {
		r.kill()
		_ = log.Close()
	})
	return r
}

func (r *replica) start() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cmd != nil {
		return
	}
	cmd := exec.CommandContext(context.WithoutCancel(r.t.Context()), r.binary, r.args...)
	cmd.Stderr = r.log
	r.begun = r.logged()
	if err := cmd.Start(); err != nil {
		r.t.Errorf("start %s: %v", r.name, err)
		return
	}
	r.cmd, r.ended = cmd, make(chan struct{})
	go func(ended chan struct{}) {
		_ = cmd.Wait()
		close(ended)
	}(r.ended)
}

// logged is how many bytes the log has.
func (r *replica) logged() int64 {
	info, err := r.log.Stat()
	if err != nil {
		r.t.Error(err)
		return 0
	}
	return info.Size()
}

// signal sends a signal; false when nothing runs.
func (r *replica) signal(sig syscall.Signal) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cmd != nil && r.cmd.Process.Signal(sig) == nil
}

// kill ends the process without a word.
func (r *replica) kill() {
	if r.signal(syscall.SIGKILL) {
		r.reap()
	}
}

// stop ends the process in order, and says how it ended.
func (r *replica) stop() error {
	if !r.signal(syscall.SIGTERM) {
		return nil
	}
	cmd := r.reap()
	// Before its first line the process may not listen for the signal yet.
	early := cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGTERM && r.logged() == r.begun
	if code := cmd.ProcessState.ExitCode(); code != 0 && !early {
		return fmt.Errorf("%s ended with status %d after SIGTERM", r.name, code)
	}
	return nil
}

func (r *replica) reap() *exec.Cmd {
	r.mu.Lock()
	cmd, ended := r.cmd, r.ended
	r.mu.Unlock()
	<-ended
	r.mu.Lock()
	r.cmd = nil
	r.mu.Unlock()
	return cmd
}

func (r *replica) pause() { r.signal(syscall.SIGSTOP) }

func (r *replica) resume() {
	r.mu.Lock()
	r.resumed = time.Now()
	r.mu.Unlock()
	r.signal(syscall.SIGCONT)
}
