package check

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// The dashboards are what the schema of Grafana's foundation SDK takes: each field that it
// wants, none that it does not know, in a panel's options and in a query too.
func TestDashboards(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	files, err := filepath.Glob("../../dashboards/*.json")
	if err != nil || len(files) < 2 {
		t.Fatalf("%d dashboards, %v", len(files), err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := accepts(string(raw)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		for _, field := range []string{"schemaVersion", "gridPos", "expr", "colorMode", "lineWidth", "includeAll"} {
			if key := `"` + field + `":`; strings.Contains(string(raw), key) && accepts(strings.Replace(string(raw), key, `"x-`+field+`":`, 1)) == nil {
				t.Errorf("%s: a field x-%s is accepted, so this proves nothing", file, field)
			}
		}
	}
}

// accepts is nil when the text is a dashboard.
func accepts(text string) error {
	var d dashboard.Dashboard
	// A list without an error is no nil.
	if err := d.UnmarshalJSONStrict([]byte(text)); err != nil && err.Error() != "" {
		return fmt.Errorf("decode: %w", err)
	}
	if len(d.Panels) == 0 {
		return errors.New("no panels")
	}
	if err := d.Validate(); err != nil && err.Error() != "" {
		return fmt.Errorf("validate: %w", err)
	}
	return nil
}
