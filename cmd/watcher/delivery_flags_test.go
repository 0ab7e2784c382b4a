package main

import (
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
)

// parsedRun is watcher run, but for the running.
type parsedRun struct {
	runFlags
	cfg config.Config `kong:"-"`
}

// Run keeps the configuration.
func (p *parsedRun) Run() (err error) {
	p.cfg, err = p.config()
	return err
}

// parseRun parses the command line of watcher run.
func parseRun(t *testing.T, env map[string]string, args ...string) (config.Config, error) {
	t.Helper()
	var p parsedRun
	lookup := func(name string) (string, bool) { v, ok := env[name]; return v, ok }
	err := cli.Run(t.Context(), &p, append([]string{"--mongo-uri=mongodb://h"}, args...), lookup, cli.Streams{}, kong.ExplicitGroups(flagGroups))
	return p.cfg, err
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
