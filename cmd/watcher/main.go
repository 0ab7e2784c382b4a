// Command watcher pushes the results of finished calls to the CRM of their bot.
//
// It owns flags, environment variables, signals and exit codes; the work is
// done below internal/app. Each subcommand is one file.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// The exit codes. Usage is also what a setting that cannot be used gives.
const (
	exitFailed = 1
	exitUsage  = 2
)

// version is set by the linker: -ldflags "-X main.version=1.2.3".
var version = "dev"

// cli is the command line: one field for each subcommand.
type cli struct {
	Run     runCmd     `cmd:"" help:"Follow the calls and push each stored result to its bot's CRM."`
	Preview previewCmd `cmd:"" help:"Print what would be sent for a call, without sending it."`
	Lint    lintCmd    `cmd:"" help:"Check the configuration of bots."`
	Check   checkCmd   `cmd:"" help:"Check what a deployment needs of MongoDB and of its bots."`
	Resume  resumeCmd  `cmd:"" help:"Look at the saved position, or move it."`
	Replay  replayCmd  `cmd:"" help:"Push stored results once more."`
	Demo    demoCmd    `cmd:"" help:"Show the whole road on this machine, with calls, a CRM and a MongoDB of its own."`

	Localmongo localmongoCmd `cmd:"" help:"Serve a MongoDB-compatible replica set of one member on this machine."`

	Version versionCmd `cmd:"" help:"Print the version."`
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(std streams) error {
	_, err := fmt.Fprintln(std.out, "watcher", version)
	return err
}

// streams is what a subcommand has of the process around it.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// usageError is a fault of the one who typed the command: exit status 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// silentError ends the process with status 1 when all is said already.
type silentError struct{}

func (silentError) Error() string { return "failed" }

func main() {
	// The first signal asks for a drain; the second finds the default handler
	// again and kills.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)

	std := streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	os.Exit(exitCode(run(ctx, os.Args[1:], os.LookupEnv, std), std.err))
}

// exitCode prints what there is to say of an error, a line for each fault, and
// returns the status to exit with.
func exitCode(err error, stderr io.Writer) int {
	var silent silentError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &silent):
		return exitFailed
	}
	for line := range strings.Lines(err.Error()) {
		_, _ = fmt.Fprintln(stderr, "watcher: "+strings.TrimRight(line, "\n"))
	}
	var usage usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// helpShown ends kong's parsing after it printed a help text.
type helpShown struct{}

// run is the program without the process around it.
func run(ctx context.Context, args []string, env func(string) (string, bool), std streams) (err error) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(helpShown); !ok {
				panic(r)
			}
			err = nil
		}
	}()
	parser, err := kong.New(&cli{},
		kong.Name("watcher"),
		kong.Description("Pushes the results of finished calls to the CRM of their bot: follows a MongoDB change stream, renders each bot's mapping, sends, and writes the outcome back onto the call."),
		kong.Writers(std.out, std.err),
		kong.Exit(func(int) { panic(helpShown{}) }),
		kong.Resolvers(environment(env)),
		kong.ValueFormatter(flagHelp),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 100}),
		kong.ExplicitGroups(flagGroups),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(std),
	)
	if err != nil {
		return fmt.Errorf("build the command line: %w", err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if err != nil {
		return usageError{err}
	}
	return command.Run()
}

// environment lets WATCHER_SOME_FLAG give the value of --some-flag.
func environment(lookup func(string) (string, bool)) kong.Resolver {
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		if v, ok := lookup(envName(flag.Name)); ok && v != "" && flag.Name != "help" {
			return v, nil
		}
		return nil, nil
	})
}

func envName(flag string) string {
	return "WATCHER_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// flagHelp shows a flag's help with the environment variable that gives it.
func flagHelp(value *kong.Value) string {
	if value.Flag == nil || value.Name == "help" {
		return value.Help
	}
	help := value.Help
	if value.HasDefault && value.Default != "" {
		help = fmt.Sprintf("%s (default %s)", help, value.Default)
	}
	return fmt.Sprintf("%s [$%s]", help, envName(value.Name))
}
