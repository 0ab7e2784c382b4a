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
	// Environ is the environment as os.Environ gives it, for what has no meaning in
	// it; nil looks at nothing.
	Environ []string
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
	err := run(ctx, os.Args[1:], os.LookupEnv, Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environ: os.Environ()})
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
// set. Variables that look like the program's and have no meaning are told on
// standard error, or by a command that is a Noter.
func Run(ctx context.Context, name string, model any, args []string, env Env, std Streams, options ...kong.Option) (err error) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(helpShown); !ok {
				panic(r)
			}
			err = nil
		}
	}()
	variables := make(map[*kong.Value]string)
	parser, err := kong.New(model, append([]kong.Option{
		kong.Name(name),
		kong.Writers(std.Out, std.Err),
		kong.Exit(func(int) { panic(helpShown{}) }),
		kong.Resolvers(environment(variables, env)),
		kong.ValueFormatter(flagHelp(variables)),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 100}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(std),
	}, options...)...)
	if err != nil {
		return fmt.Errorf("build the command line: %w", err)
	}
	nameVariables(variables, parser.Model.Node, name, name)
	command, err := parser.Parse(args)
	if err != nil {
		return Usage(misunderstood(name, err))
	}
	if notes := unknownVariables(name, std.Environ, variables); len(notes) > 0 {
		tell(command, std, name, notes)
	}
	return command.Run()
}

// misunderstood adds to what is wrong with the words of a command line where its
// commands and flags are listed. An error of one flag says enough by itself.
func misunderstood(name string, err error) error {
	wrong, ok := errors.AsType[*kong.ParseError](err)
	if !ok || strings.HasPrefix(err.Error(), "--") {
		return err
	}
	for _, step := range wrong.Context.Path {
		if step.Command != nil {
			name += " " + step.Command.Name
		}
	}
	return fmt.Errorf("%w; see %s --help", err, name)
}
