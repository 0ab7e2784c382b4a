package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cxbridge/watcher/internal/cli"
)

// Profiles for everybody, and a host that is none, are faults of the command line, told
// with all others.
func TestPprofIsForThisMachineAlone(t *testing.T) {
	var out, errs bytes.Buffer
	std := cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs}
	noEnv := func(string) (string, bool) { return "", false }
	err := run(t.Context(), []string{"run", "--mongo-uri", "mongodb://127.0.0.1", "--pprof", ":6060", "--listen-host", "https://watcher", "--partitions", "0"}, noEnv, std)
	if code := cli.ExitStatus("watcher", err, &errs); code != cli.ExitUsage {
		t.Errorf("exit status %d: %v", code, err)
	}
	for _, want := range []string{`--pprof: ":6060" is not an address of this machine alone`, `--listen-host: "https://watcher" is not a host name`, `--partitions: 0 is not from 1`} {
		if !strings.Contains(errs.String(), want) {
			t.Errorf("%q is not said in\n%s", want, errs.String())
		}
	}
}
