package main

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cxbridge/watcher/internal/cli"
)

// Profiles for everybody are a fault of the command line, told with all others.
func TestPprofIsForThisMachineAlone(t *testing.T) {
	var out, errs bytes.Buffer
	std := cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs}
	noEnv := func(string) (string, bool) { return "", false }
	err := run(t.Context(), []string{"run", "--mongo-uri", "mongodb://127.0.0.1", "--pprof", ":6060", "--partitions", "0"}, noEnv, std)
	if code := cli.ExitStatus("watcher", err, &errs); code != cli.ExitUsage {
		t.Errorf("exit status %d: %v", code, err)
	}
	for _, want := range []string{`--pprof: ":6060" is not an address of this machine alone`, `--partitions: 0 is not from 1`} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("%q is not said in\n%s", want, errs.String())
		}
	}
}

// Both forms of the log say durations and errors for people.
func TestBothLogsAreForPeople(t *testing.T) {
	for format, want := range map[string]string{
		cli.LogJSON: `"msg":"x","retry_in":"8.523s","error":"why"`,
		cli.LogText: `INF x retry_in=8.523s error=why`,
		cli.LogAuto: `"msg":"x","retry_in":"8.523s","error":"why"`, // no terminal
	} {
		var out bytes.Buffer
		log := cli.NewLogger(&out, format, slog.LevelInfo)
		log.Debug("hidden")
		log.Info("x", "retry_in", 8523*time.Millisecond+400, "error", errors.New("why"))
		if got := out.String(); !strings.Contains(got, want) || strings.Contains(got, "hidden") {
			t.Errorf("%s: %s", format, got)
		}
	}
}
