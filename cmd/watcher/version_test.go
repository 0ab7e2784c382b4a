package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

func TestVersion(t *testing.T) {
	stdout, stderr, code := invoke(t, "", "version")
	if code != 0 || stderr != "" || !regexp.MustCompile(`^watcher dev \((commit [0-9a-f]+( with changes)?, )?(\S+Z, )?go1\S+\)\n$`).MatchString(stdout) {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
}

// Whoever builds a release anew, wherever, gets the same bytes, with what the release says of itself.
func TestTheBuildIsReproducible(t *testing.T) {
	if os.Getenv("WATCHER_TEST_BUILD") == "" {
		t.Skip("compiles the watcher twice; WATCHER_TEST_BUILD=1 runs it, as the build step of .ci/run does")
	}
	elsewhere := t.TempDir()
	for _, dir := range []string{"cmd", "internal", "pkg"} {
		if err := os.CopyFS(filepath.Join(elsewhere, dir), os.DirFS(filepath.Join(root, dir))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(elsewhere, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first, second := linked(t, root), linked(t, elsewhere)
	if a, b := contents(t, first), contents(t, second); !bytes.Equal(a, b) {
		t.Errorf("two builds differ: %d and %d bytes", len(a), len(b))
	}
	out, err := exec.CommandContext(t.Context(), second, "version").Output()
	if want := regexp.MustCompile(`^watcher 1\.2\.3 \(commit 5f6d0a0c, 2026-11-27T12:00:00Z, go1\S+\)\n$`); err != nil || !want.Match(out) {
		t.Errorf("%q, %v", out, err)
	}
}

// linked builds the watcher of a directory as a release is built, and returns where it is.
func linked(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "watcher")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-o", to,
		"-ldflags", "-s -w -X main.version=1.2.3 -X main.commit=5f6d0a0c -X main.date=2026-11-27T12:00:00Z", "./cmd/watcher")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return to
}

func contents(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
