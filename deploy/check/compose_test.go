package check

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
)

// The compose file is what `docker compose config` takes: its schema, and that what a
// service names is there.
func TestCompose(t *testing.T) {
	options, err := cli.NewProjectOptions([]string{"../compose/compose.yaml"}, cli.WithInterpolation(true), cli.WithNormalization(true), cli.WithConsistency(true))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(project.Services) < 8 {
		t.Errorf("only %d services", len(project.Services))
	}
	pinned := regexp.MustCompile(`:[\w.-]*\d[\w.-]*@sha256:[0-9a-f]{64}$`)
	for name, s := range project.Services {
		if !pinned.MatchString(s.Image) && !strings.HasSuffix(s.Image, ":compose") {
			t.Errorf("%s: image %q has no version with its digest", name, s.Image)
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %s is open to other machines", name, p.Published)
			}
		}
	}
}

// What the image is built from is pinned too.
func TestDockerfileIsPinned(t *testing.T) {
	text, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	pinned := regexp.MustCompile(`golang:1\.\d+\.\d+@sha256:[0-9a-f]{64} AS build$`)
	for line := range strings.Lines(string(text)) {
		from, ok := strings.CutPrefix(strings.TrimSpace(line), "FROM ")
		if ok && !pinned.MatchString(from) && !strings.HasPrefix(from, "scratch ") && !strings.HasPrefix(from, "base ") {
			t.Errorf("the image is built from %s", from)
		}
	}
}
