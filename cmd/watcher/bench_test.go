package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/cxbridge/watcher/internal/bench"
	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
)

func TestBench(t *testing.T) {
	uri := localmongotest.Start(t, localmongo.Options{}).URI()
	args := []string{"bench", "--mongo-uri", uri, "--calls", "30", "--size", "4000", "--output", "json"}
	if _, stderr, code := invoke(t, "", args...); code != cli.ExitUsage || !strings.Contains(stderr, "--yes") {
		t.Errorf("without --yes: exit %d, %s", code, stderr)
	}
	stdout, stderr, code := invoke(t, "", append(args, "--yes")...)
	var report bench.Report
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != 0 {
		t.Fatalf("exit %d, %s, %v\n%s", code, stderr, err, stdout)
	}
	if len(report.Roads) != 3 || report.Roads[2].Road != bench.Watcher || report.Roads[2].Sent != 30 {
		t.Errorf("%+v", report)
	}
	if _, stderr, code := invoke(t, "", "bench", "--mongo-uri", uri, "--calls", "1", "--output", "xml", "--scratch", "A.b"); code != cli.ExitUsage ||
		!strings.Contains(stderr, "--calls") || !strings.Contains(stderr, "--output") || !strings.Contains(stderr, "--scratch") {
		t.Errorf("exit %d, %s", code, stderr)
	}
}
