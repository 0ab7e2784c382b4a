package main

import (
	"errors"

	"github.com/alecthomas/kong"

	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
)

// flagGroups order the help of the larger commands.
var flagGroups = []kong.Group{
	{Key: "mongo", Title: "MongoDB:"},
	{Key: "which", Title: "Which calls:"},
	{Key: "progress", Title: "Progress:"},
	{Key: "delivery", Title: "Delivery:"},
	{Key: "render", Title: "Rendering:"},
	{Key: "process", Title: "Process:"},
}

// faults collects what is wrong with flags.
type faults []error

func (f *faults) add(setting string, err error) {
	if err != nil {
		*f = append(*f, config.Fault{Setting: setting, Reason: err.Error()})
	}
}

// checked joins the faults of a command's own flags with those of the settings.
func checked(c *config.Config, bad faults) error {
	if err := errors.Join(errors.Join(bad...), c.Check()); err != nil {
		return cli.Usage(err)
	}
	return nil
}
