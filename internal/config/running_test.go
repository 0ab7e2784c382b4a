package config

import (
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/pkg/push"
)

func TestRunningSettingsFillWhatNoFlagSays(t *testing.T) {
	network := func(text string) []push.Network {
		n, err := push.ParseNetwork(text)
		if err != nil {
			t.Fatal(err)
		}
		return []push.Network{n}
	}
	c := Default()
	c.PublicBaseURL, c.TimeFormat, c.AnalysisKeys = "https://api.example", "unix", []string{"own"}
	c.Minio = Minio{Endpoint: "s3.example", Bucket: "b", AccessKey: "access-key-1", SecretKey: "secret-key-1"}
	c.AllowNetworks, c.RetrySchedule, c.MaxAge = network("10.1.0.0/16:443"), Delays{time.Minute}, 0
	data, err := bson.Marshal(c.Running("v1", time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	if text := bson.Raw(data).String(); strings.Contains(text, "-key-1") {
		t.Error(text)
	}
	var r Running
	if err := bson.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	got := Default()
	got.TimeFormat, got.AllowNetworks = "display", network("10.2.0.0/16")
	used := r.Fill(&got)
	if want := []string{"public-base-url", "minio-*", "analysis-key", "retry-schedule", "max-age"}; !slices.Equal(used, want) {
		t.Errorf("used %v", used)
	}
	if got.PublicBaseURL != c.PublicBaseURL || got.TimeFormat != "display" || got.Minio.Bucket != "b" || got.Minio.AccessKey.IsSet() ||
		len(got.RetrySchedule) != 1 || got.MaxAge != 0 || got.AllowNetworks[0].String() != "10.2.0.0/16" {
		t.Errorf("%+v", got)
	}
	usual, none := Default(), Default()
	if used := none.Running("v1", time.Now()).Fill(&usual); len(used) > 0 {
		t.Errorf("defaults are used: %v", used)
	}
	c.Minio.Endpoint = "https://user:password@s3.example"
	if e := c.Running("", time.Now()).Storage.Endpoint; e != "" {
		t.Errorf("an endpoint with a password: %s", e)
	}
}
