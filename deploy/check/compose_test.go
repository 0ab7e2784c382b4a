package check

import (
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
	version := regexp.MustCompile(`:[\w.-]*\d[\w.-]*$`) // a tag with a number in it, so not latest
	for name, s := range project.Services {
		if !version.MatchString(s.Image) && !strings.HasSuffix(s.Image, ":compose") {
			t.Errorf("%s: image %q has no version", name, s.Image)
		}
		for _, p := range s.Ports {
			if p.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %s is open to other machines", name, p.Published)
			}
		}
	}
}
