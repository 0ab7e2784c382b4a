package main

import (
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/cxbridge/watcher/internal/config"
)

// parseRun parses the command line of watcher run.
func parseRun(t *testing.T, env map[string]string, args ...string) (config.Config, error) {
	t.Helper()
	var flags struct{ runFlags }
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	parser, err := kong.New(&flags, kong.Resolvers(environment(lookup)), kong.ExplicitGroups(flagGroups))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(append([]string{"--mongo-uri=mongodb://h"}, args...)); err != nil {
		return config.Config{}, err
	}
	return flags.config()
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
