package bots

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.mongodb.org/mongo-driver/v2/bson"
)

func TestFaultsByPartAndLevel(t *testing.T) {
	var all []*Bot
	for id, push := range map[string]bson.M{
		"good":     {"url": "https://crm.example.com", "key_mapper": bson.M{"a": "{{result.call_id}}"}},
		"unclosed": {"url": "https://crm.example.com", "key_mapper": bson.M{"a": "{{result.call_id"}},
		"no map":   {"url": "https://crm.example.com", "key_mapper": "x"},
		"bad url":  {"url": "crm.example.com", "key_mapper": bson.M{"a": "1"}},
	} {
		doc, err := bson.Marshal(bson.M{"_id": id, "timezone": "UTC", "post_call_push": push})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, Compile(doc, Options{}))
	}
	c := &Cache{}
	c.set.Store(NewSet(all))
	reg := prometheus.NewRegistry()
	registerCacheMetrics(reg, c)
	want := `
# HELP watcher_bots_config_faults Faults in the push configurations of all bots, by part (mapper, other) and level: error makes the pushes of the bot impossible, warning does not. watcher lint names them.
# TYPE watcher_bots_config_faults gauge
watcher_bots_config_faults{level="error",part="mapper"} 1
watcher_bots_config_faults{level="error",part="other"} 1
watcher_bots_config_faults{level="warning",part="mapper"} 1
watcher_bots_config_faults{level="warning",part="other"} 0
# HELP watcher_bots_invalid Bots with a push configuration that cannot be used.
# TYPE watcher_bots_invalid gauge
watcher_bots_invalid 2
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "watcher_bots_config_faults", "watcher_bots_invalid"); err != nil {
		t.Error(err)
	}
}
