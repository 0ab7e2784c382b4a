// Command watcher pushes the results of finished calls to the CRM of their bot.
//
// It owns the subcommands and their flags; the work is done below internal/app.
// Each subcommand is one file.
package main

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/alecthomas/kong"

	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
)

// version is set by the linker: -ldflags "-X main.version=1.2.3".
var version = "dev"

// commands is the command line: one field for each subcommand.
type commands struct {
	Run     runCmd     `cmd:"" help:"Follow the calls and push each stored result to its bot's CRM."`
	Status  statusCmd  `cmd:"" help:"Print how all replicas do, and what waits."`
	Calls   callsCmd   `cmd:"" help:"List calls by what became of them, or count them by error, bot or host."`
	Call    callCmd    `cmd:"" help:"Say what became of a call, and why."`
	Hold    holdCmd    `cmd:"" help:"Keep the calls of a bot or a host back, and let them go."`
	Replay  replayCmd  `cmd:"" help:"Push stored results once more."`
	Resume  resumeCmd  `cmd:"" help:"Look at the saved position, or move it."`
	Check   checkCmd   `cmd:"" help:"Check before a start what a deployment needs."`
	Vars    varsCmd    `cmd:"" help:"List every name that a mapper can use, with its value in real calls."`
	Preview previewCmd `cmd:"" help:"Print what would be sent for a call, without sending it."`
	Lint    lintCmd    `cmd:"" help:"Check the configuration of bots."`
	Test    testCmd    `cmd:"" help:"Check what bots make of calls against files of tests."`
	Bench   benchCmd   `cmd:"" help:"Measure the watcher on a MongoDB, beside two roads by hand."`
	Bots    botsCmd    `cmd:"" help:"Write the configuration of bots into files, and back."`
	Version versionCmd `cmd:"" help:"Print the version."`
	Help    helpCmd    `cmd:"" help:"Show what a command does, and its flags."`

	ShowVersion kong.VersionFlag `name:"version" help:"Print the version and end."`
}

type versionCmd struct{}

// Run prints the version, and what it was built from.
func (versionCmd) Run(std cli.Streams) error {
	_, err := fmt.Fprintln(std.Out, build())
	return err
}

// helpCmd stands in the list of commands; run asks for the help itself.
type helpCmd struct {
	Command []string `arg:"" optional:"" help:"The command, such as replay list."`
}

func main() { os.Exit(cli.Main("watcher", run)) }

// run is the program without the process around it.
func run(ctx context.Context, args []string, env cli.Env, std cli.Streams) error {
	if len(args) == 0 {
		args = []string{"help"}
	}
	if args[0] == "help" {
		args = append(slices.Clone(args[1:]), "--help")
	}
	return explained(cli.Run(ctx, "watcher", &commands{}, args, env, std,
		kong.Vars{"version": "watcher " + version},
		kong.Description("Pushes the results of finished calls to the CRM of their bot: follows a MongoDB change stream, renders each bot's mapping, sends, and writes the outcome back onto the call."),
		kong.ExplicitGroups(flagGroups),
		config.Options()))
}
