package localmongo_test

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
)

// Another driver than the one that the watcher uses. It needs node, and the package
// mongodb where node finds it: in NODE_PATH or in a node_modules above this directory.
func TestNodeDriver(t *testing.T) {
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("node is not installed")
	}
	if err := exec.Command("node", "-e", `require("mongodb")`).Run(); err != nil {
		t.Skip("the package mongodb is not installed for node")
	}
	s := localmongotest.Start(t, localmongo.Options{})
	ctx, cancel := context.WithTimeoutCause(t.Context(), 90*time.Second, context.DeadlineExceeded)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "node", "testdata/node/driver.cjs", s.URI()).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
