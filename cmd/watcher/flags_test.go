package main

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
)

// parsedRun is watcher run, but for the running.
type parsedRun struct {
	config.Config
}

// Run checks the configuration.
func (p *parsedRun) Run() error { return p.Check() }

// parseRun parses the command line of watcher run.
func parseRun(t *testing.T, env map[string]string, args ...string) (config.Config, error) {
	t.Helper()
	return parseRunWith(t, env, append([]string{"--mongo-uri=mongodb://h"}, args...)...)
}

func parseRunWith(t *testing.T, env map[string]string, args ...string) (config.Config, error) {
	t.Helper()
	var p parsedRun
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	err := cli.Run(t.Context(), "watcher", &p, args, lookup, cli.Streams{}, config.Options(), kong.ExplicitGroups(flagGroups))
	return p.Config, err
}

func TestFlagsOfTheDelivery(t *testing.T) {
	c, err := parseRun(t, nil)
	if err != nil || c.MaxAge != config.Default().MaxAge || c.CAFile != "" || c.ProxyFromEnvironment {
		t.Errorf("defaults: %v %q %v, %v", c.MaxAge, c.CAFile, c.ProxyFromEnvironment, err)
	}
	c, err = parseRun(t, nil, "--max-age=90m", "--ca-file=/etc/ca.pem", "--proxy-from-environment")
	if err != nil || c.MaxAge != 90*time.Minute || c.CAFile != "/etc/ca.pem" || !c.ProxyFromEnvironment {
		t.Errorf("flags: %v %q %v, %v", c.MaxAge, c.CAFile, c.ProxyFromEnvironment, err)
	}
	c, err = parseRun(t, map[string]string{"WATCHER_MAX_AGE": "0", "WATCHER_PROXY_FROM_ENVIRONMENT": "true"})
	if err != nil || c.MaxAge != 0 || !c.ProxyFromEnvironment {
		t.Errorf("environment: %v %v, %v", c.MaxAge, c.ProxyFromEnvironment, err)
	}
	if _, err := parseRun(t, nil, "--max-age=never"); err == nil || !strings.Contains(err.Error(), "--max-age") {
		t.Errorf("a wrong age: %v", err)
	}
}

func TestFlagsThatHoldMoreThanOneValue(t *testing.T) {
	c, err := parseRun(t, map[string]string{"WATCHER_ALLOW_NETWORK": "10.1.2.3/8,192.0.2.7,2001:db8::1"}, "--retry-schedule=1s,2m", "--minio-secure")
	if err != nil || fmt.Sprint(c.AllowNetworks) != "[10.0.0.0/8 192.0.2.7/32 2001:db8::1/128]" || !slices.Equal(c.RetrySchedule, []time.Duration{time.Second, 2 * time.Minute}) || c.Minio.Secure == nil || !*c.Minio.Secure {
		t.Errorf("%v %v %v, %v", c.AllowNetworks, c.RetrySchedule, c.Minio.Secure, err)
	}
	c, err = parseRun(t, map[string]string{"WATCHER_ALLOW_NETWORK": "172.16.0.0/12", "WATCHER_DENY_NETWORK": "10.9.0.0/16:1-1023,8080, 8.8.8.8"},
		"--allow-network", "10.0.0.0/8:443,8000-8999,fd00::/8", "--allow-network=192.0.2.7:80")
	if err != nil || fmt.Sprint(c.AllowNetworks, c.DenyNetworks) != "[10.0.0.0/8:443,8000-8999 fd00::/8 192.0.2.7/32:80] [10.9.0.0/16:1-1023,8080 8.8.8.8/32]" {
		t.Errorf("%v %v, %v", c.AllowNetworks, c.DenyNetworks, err)
	}
	c, err = parseRun(t, nil, "--retry-schedule=none", "--minio-secure=false")
	if err != nil || len(c.RetrySchedule) != 0 || c.Minio.Secure == nil || *c.Minio.Secure {
		t.Errorf("none: %v %v, %v", c.RetrySchedule, c.Minio.Secure, err)
	}
	for _, bad := range []string{"--allow-network=10.0.0.0/80", "--allow-network=443", "--deny-network=10.0.0.0/8:0", "--deny-network=crm.example.com", "--retry-schedule=1s,-2s", "--retry-schedule=often", "--minio-secure=perhaps", "--log-format=xml", "--on-history-lost=weep", "--start=noon"} {
		name, _, _ := strings.Cut(bad, "=")
		if _, err := parseRun(t, nil, bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// The path of the connection string names the database where no flag does.
func TestDatabaseOfTheConnectionString(t *testing.T) {
	for _, tt := range []struct{ uri, flag, want string }{
		{"mongodb://h", "", "cxbridge"},
		{"mongodb://u:p%2F@h/from%2Duri?replicaSet=rs0", "", "from-uri"},
		{"mongodb://h/from-uri", "from-flag", "from-flag"},
	} {
		c, err := parseRun(t, map[string]string{"WATCHER_DATABASE": tt.flag}, "--mongo-uri="+tt.uri)
		if err != nil || c.Database != tt.want {
			t.Errorf("%s and %q: %q, %v", tt.uri, tt.flag, c.Database, err)
		}
	}
}

// What Default gives is what no flags give.
func TestDefaultsAreThoseOfTheFlags(t *testing.T) {
	c, err := parseRun(t, nil)
	want := config.Default()
	want.MongoURI = c.MongoURI
	if err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("%+v\nwant %+v, %v", c, want, err)
	}
}
