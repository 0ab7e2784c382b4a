// Package cli is what the commands of this project share of the process around
// them: streams, signals, exit statuses, flags with their environment variables,
// and the form of the log.
//
// It knows no command: each main hands in its flags and what to do.
package cli

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

// The exit statuses. Usage is also what a setting that cannot be used gives.
const (
	ExitFailed = 1
	ExitUsage  = 2
)

// Streams is what a command has of the process around it.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// Env looks up an environment variable, as os.LookupEnv does.
type Env func(name string) (value string, ok bool)

// usageError is a fault of the one who typed the command.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// Usage marks an error as a fault of the one who typed the command: exit status 2.
func Usage(err error) error { return usageError{err} }

// ErrSilent ends the process with status 1 when all is printed already.
var ErrSilent = errors.New("failed")

// Main runs a command in this process and returns the status to exit with.
//
// The first SIGINT or SIGTERM ends the context, which asks for a drain; the
// second finds the default handler again and kills.
func Main(name string, run func(context.Context, []string, Env, Streams) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.LookupEnv, Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	return ExitStatus(name, err, os.Stderr)
}

// ExitStatus prints an error, each of its lines after the command's name, and
// returns the status to exit with.
func ExitStatus(name string, err error, stderr io.Writer) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrSilent):
		return ExitFailed
	}
	for line := range strings.Lines(err.Error()) {
		_, _ = fmt.Fprintln(stderr, name+": "+strings.TrimRight(line, "\n"))
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return ExitUsage
	}
	return ExitFailed
}

// helpShown ends kong's parsing after it printed a help text.
type helpShown struct{}

// Run parses the arguments of the program of that name into model, a struct with kong's tags, and calls the
// Run method of the model or of the subcommand that is chosen. The method may
// take the context and the Streams. The environment variable that EnvName tells
// gives the value of a flag where the arguments do not; an empty one counts as not
// set.
func Run(ctx context.Context, name string, model any, args []string, env Env, std Streams, options ...kong.Option) (err error) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(helpShown); !ok {
				panic(r)
			}
			err = nil
		}
	}()
	parser, err := kong.New(model, append([]kong.Option{
		kong.Name(name),
		kong.Writers(std.Out, std.Err),
		kong.Exit(func(int) { panic(helpShown{}) }),
		kong.Resolvers(environment(name, env)),
		kong.ValueFormatter(flagHelp(name)),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 100}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(std),
	}, options...)...)
	if err != nil {
		return fmt.Errorf("build the command line: %w", err)
	}
	command, err := parser.Parse(args)
	if err != nil {
		return Usage(err)
	}
	return command.Run()
}

// environment takes the values of flags from their environment variables.
func environment(program string, lookup Env) kong.Resolver {
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		if v, ok := lookup(EnvName(program, flag.Name)); ok && v != "" && flag.Name != "help" {
			return v, nil
		}
		return nil, nil
	})
}

// EnvName is the environment variable of a program's flag, which is named without
// dashes before it: WATCHER_SOME_FLAG of watcher and some-flag. Each program has
// its own, so that no variable means two things.
func EnvName(program, flag string) string {
	return strings.ToUpper(strings.ReplaceAll(program+"_"+flag, "-", "_"))
}

// flagHelp shows a flag's help with its default and its environment variable.
func flagHelp(program string) kong.HelpValueFormatter {
	return func(value *kong.Value) string {
		if value.Flag == nil || value.Name == "help" {
			return value.Help
		}
		help := value.Help
		if value.HasDefault && value.Default != "" {
			help = fmt.Sprintf("%s (default %s)", help, value.Default)
		}
		return fmt.Sprintf("%s [$%s]", help, EnvName(program, value.Name))
	}
}
