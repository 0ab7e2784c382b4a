package main

import (
	"cmp"
	"runtime"
	"runtime/debug"
	"strings"
)

// commit and date are set by the linker as version is; without that they are those
// of the checkout that was built, where the go command knew it.
var commit, date string

// build says what this program was built from, such as
// "watcher 1.2.3 (commit 5f6d0a0c, 2026-11-27T12:00:00Z, go1.26.0)".
func build() string {
	of, at, state := commit, date, ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				of = cmp.Or(of, s.Value)
			case s.Key == "vcs.time":
				at = cmp.Or(at, s.Value)
			case s.Key == "vcs.modified" && s.Value == "true":
				state = " with changes"
			}
		}
	}
	var known []string
	if of != "" {
		known = append(known, "commit "+of+state)
	}
	if at != "" {
		known = append(known, at)
	}
	return "watcher " + version + " (" + strings.Join(append(known, runtime.Version()), ", ") + ")"
}
