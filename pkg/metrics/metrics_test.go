package metrics

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestRegistryFindsWhatIsThereAlready(t *testing.T) {
	reg := prometheus.NewRegistry()
	for range 2 {
		r := &Registry{Registerer: reg, Namespace: "a", Subsystem: "b"}
		r.Counter("c_total", "Help.", "label").WithLabelValues("x").Inc()
		r.Gauge("g", "Help.").WithLabelValues().Inc()
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
	}
	for _, name := range []string{"a_b_c_total", "a_b_g"} {
		if n, err := testutil.GatherAndCount(reg, name); n != 1 || err != nil {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
}

func TestRegistryTellsOfWhatCannotBeRegistered(t *testing.T) {
	reg := prometheus.NewRegistry()
	(&Registry{Registerer: reg}).Counter("x_total", "Help.", "label")
	r := &Registry{Registerer: reg}
	r.Gauge("x_total", "Another kind.", "label").WithLabelValues("usable all the same").Inc()
	if r.Err() == nil {
		t.Error("no error")
	}
	none := &Registry{}
	none.Gauge("x_total", "Another kind.").WithLabelValues().Inc()
	if none.Err() != nil {
		t.Error(none.Err())
	}
}
