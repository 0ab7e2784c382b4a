package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/cxbridge/watcher/internal/config"
)

func TestCommandsUseTheSettingsOfRunningWatchers(t *testing.T) {
	d := newDesk(t, "bot")
	stop := d.watch()
	d.Call("s-1", "bot")
	d.settled("s-1", "ok")
	d.eventually("the settings are written", func() error {
		r, err := config.ReadRunning(t.Context(), d.DB.Collection("watcher_resume"), "default")
		if r == nil && err == nil {
			err = errors.New("not yet")
		}
		return err
	})
	stop()
	for _, args := range [][]string{{"lint"}, {"call", "s-1"}, {"vars", "--session-id", "s-1"}} {
		stdout, stderr, code := d.try(args...)
		if code != 0 || strings.Contains(stdout, "not reached") {
			t.Errorf("%v: exit %d\n%s", args, code, stdout)
		}
		has(t, stderr, `^With the settings of the running watchers \(version test, written at `, "--allow-network")
	}
	_, stderr, _ := d.try("lint", "--allow-network", "10.0.0.0/8", "--name", "default")
	if strings.Contains(stderr, "--allow-network") || !strings.Contains(stderr, "--retry-schedule") {
		t.Errorf("a flag wins: %s", stderr)
	}
	if _, stderr, _ := d.try("lint", "--name", "other"); stderr != "" {
		t.Errorf("of another name: %s", stderr)
	}
}
