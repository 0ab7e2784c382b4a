package main

import (
	"os/exec"
	"strings"
	"testing"
)

// The product is not built from what stands in for its surroundings, nor from a
// driver that is out of support.
func TestWatcherLinksNothingOfTheDemo(t *testing.T) {
	for dep := range strings.FieldsSeq(dependencies(t, ".")) {
		if strings.HasPrefix(dep, "go.mongodb.org/mongo-driver/v2") {
			continue
		}
		for _, unwanted := range []string{
			"github.com/cxbridge/watcher/internal/localmongo",
			"github.com/cxbridge/watcher/internal/demo",
			"github.com/256dpi/lungo",
			"go.mongodb.org/mongo-driver",
			"testing",
		} {
			if strings.HasPrefix(dep, unwanted) {
				t.Errorf("linked: %s", dep)
			}
		}
	}
	if demo := dependencies(t, "../demo"); !strings.Contains(demo, "lungo") {
		t.Errorf("the list of the demo has no lungo, so these lists prove nothing:\n%s", demo)
	}
}

// dependencies is the list of packages that a command is built from, a line each.
func dependencies(t *testing.T, command string) string {
	t.Helper()
	list, err := exec.CommandContext(t.Context(), "go", "list", "-deps", command).Output()
	if err != nil {
		t.Fatalf("go list %s: %v", command, err)
	}
	return string(list)
}
