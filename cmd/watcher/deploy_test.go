package main

import (
	"testing"

	"github.com/alecthomas/kong"

	"github.com/cxbridge/watcher/internal/config"
)

// model is the command line as kong sees it.
func model(t *testing.T) *kong.Application {
	t.Helper()
	parser, err := kong.New(&commands{}, kong.ExplicitGroups(flagGroups), config.Options())
	if err != nil {
		t.Fatal(err)
	}
	return parser.Model
}

// flagsOfRun are the names of the flags of watcher run.
func flagsOfRun(t *testing.T) (names []string) {
	t.Helper()
	for _, n := range model(t).Children {
		if n.Name == "run" {
			for _, f := range n.Flags {
				names = append(names, f.Name)
			}
		}
	}
	return names
}
