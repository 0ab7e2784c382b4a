package config

import (
	"slices"
	"testing"
	"time"

	"github.com/cxbridge/watcher/pkg/secret"
)

func TestSecretsOfTheSettings(t *testing.T) {
	for uri, want := range map[string][]secret.Text{
		"mongodb://u:pa%40ss@host/db?appName=x": {"pa%40ss", "pa@ss"},
		"mongodb://u@host/db":                   nil,
		"mongodb+srv://u:p:q@host/db?tlsCertificateKeyFilePassword=key%20phrase":        {"p:q", "key%20phrase", "key phrase"},
		"mongodb://h/?authMechanismProperties=SERVICE_NAME:x,AWS_SESSION_TOKEN:session": {"session"},
		"no uri with a secret": {"no uri with a secret"},
	} {
		c := Default()
		c.MongoURI = secret.Text(uri)
		if got := c.Secrets(); !slices.Equal(got, want) {
			t.Errorf("%s: %d values", uri, len(got))
			for _, v := range got {
				t.Logf("  %q", v.Reveal())
			}
		}
	}
	c := Default()
	c.MongoURI, c.Minio.AccessKey, c.Minio.SecretKey = "mongodb://h", "access", "hidden"
	if got := c.Secrets(); !slices.Equal(got, []secret.Text{"access", "hidden"}) {
		t.Errorf("%d values of the storage", len(got))
	}
}

// The default age must not cut the default schedule, whatever the jitter.
func TestTheDefaultAgeLeavesTheScheduleWhole(t *testing.T) {
	c := Default()
	var longest time.Duration
	for _, d := range c.RetrySchedule {
		longest += d * 3 / 2
	}
	const retryAfter = 24 * time.Hour // one that is as long as they may be
	if c.MaxAge < longest+retryAfter {
		t.Errorf("attempts may take %v with a long Retry-After, and are given up after %v", longest+retryAfter, c.MaxAge)
	}
	if got := c.Schedule(); got.MaxAge != c.MaxAge || len(got.Delays) != len(c.RetrySchedule) {
		t.Errorf("schedule %+v", got)
	}
}

func TestAgesThatCannotBeUsed(t *testing.T) {
	for age, good := range map[time.Duration]bool{
		-time.Second: false, 0: true, time.Hour: true, maxMaxAge: true, maxMaxAge + 1: false,
	} {
		c := Default()
		c.MongoURI, c.MaxAge = "mongodb://h", age
		if err := c.Check(); (err == nil) != good {
			t.Errorf("%v: %v", age, err)
		}
	}
}
