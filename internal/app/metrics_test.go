package app

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cxbridge/watcher/internal/admin"
)

func TestChecksAreMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	var fault error
	registerChecks(reg, []admin.Check{
		{Name: "bots", Ready: func() error { return nil }},
		{Name: "stream", Ready: func() error { return fault }},
	})
	want := func(stream string) {
		t.Helper()
		text := "# HELP watcher_app_ready 1 while this check of /readyz passes; a standby passes too.\n" +
			"# TYPE watcher_app_ready gauge\n" +
			"watcher_app_ready{check=\"bots\"} 1\nwatcher_app_ready{check=\"stream\"} " + stream + "\n"
		if err := testutil.GatherAndCompare(reg, strings.NewReader(text)); err != nil {
			t.Error(err)
		}
	}
	want("1")
	fault = errors.New("not open")
	want("0")
}

func TestBuildInfoSaysWhatRuns(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(buildInfo("1.2.3"))
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "watcher_build_info" {
			continue
		}
		labels := make(map[string]string)
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		if labels["version"] != "1.2.3" || !strings.HasPrefix(labels["goversion"], "go") {
			t.Errorf("labels %v", labels)
		}
		return
	}
	t.Error("there is no watcher_build_info")
}
