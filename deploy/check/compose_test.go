package check

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// compose is what is checked of compose.yaml; Docker checks the rest.
type compose struct {
	Services map[string]struct {
		Image     string
		Build     any
		DependsOn any `json:"depends_on"`
		Ports     []string
		Volumes   []string
	}
	Volumes map[string]any
}

func TestCompose(t *testing.T) {
	text, err := os.ReadFile("../compose/compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var c compose
	if err := yaml.Unmarshal(text, &c); err != nil || len(c.Services) < 6 {
		t.Fatalf("%d services, %v", len(c.Services), err)
	}
	version := regexp.MustCompile(`:[\w.-]*\d[\w.-]*$`) // a tag with a number in it, so not latest
	for name, s := range c.Services {
		if !version.MatchString(s.Image) && !strings.HasSuffix(s.Image, ":compose") {
			t.Errorf("%s: image %q has no version", name, s.Image)
		}
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s: port %s is open to other machines", name, p)
			}
		}
		for _, other := range dependencies(s.DependsOn) {
			if _, ok := c.Services[other]; !ok {
				t.Errorf("%s depends on %s, which is not there", name, other)
			}
		}
	}
}

// dependencies are the services of a depends_on, which is a list or an object.
func dependencies(on any) (names []string) {
	switch on := on.(type) {
	case []any:
		for _, n := range on {
			names = append(names, n.(string))
		}
	case map[string]any:
		for n := range on {
			names = append(names, n)
		}
	}
	return names
}
