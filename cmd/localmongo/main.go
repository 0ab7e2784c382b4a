// Command localmongo serves a MongoDB-compatible replica set of one member on
// this machine, for development and demonstrations.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/alecthomas/kong"

	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/localmongo"
)

// server is the command line.
type server struct {
	Listen        string     `default:"127.0.0.1:27017" placeholder:"ADDR" help:"Address to listen on; port 0 takes a free one."`
	Data          string     `placeholder:"DIR" help:"Keep documents and history in this directory over a restart. Default: in memory."`
	ReplicaSet    string     `default:"rs0" placeholder:"NAME" help:"Name of the replica set to present."`
	HistoryEvents int        `default:"200000" placeholder:"N" help:"How many changes a stream can resume over."`
	LaxResume     bool       `help:"Accept resume tokens older than the history in silence, as MongoDB 4.2 does."`
	LogLevel      slog.Level `default:"info" placeholder:"LEVEL" help:"debug, info, warn or error."`
}

// Run serves until it is interrupted. The first line that it prints ends in the
// URI to connect with.
func (s *server) Run(ctx context.Context, std cli.Streams) error {
	srv, err := localmongo.New(localmongo.Options{
		Addr:          s.Listen,
		DataDir:       s.Data,
		ReplicaSet:    s.ReplicaSet,
		HistoryEvents: s.HistoryEvents,
		LaxResume:     s.LaxResume,
		Logger:        cli.NewLogger(std.Err, cli.LogAuto, s.LogLevel),
	})
	if err != nil {
		return fmt.Errorf("start localmongo: %w", err)
	}
	if _, err := fmt.Fprintf(std.Out, "localmongo is ready, connect with %s\n", srv.URI()); err != nil {
		return errors.Join(fmt.Errorf("print the address: %w", err), srv.Close())
	}
	return srv.Run(ctx)
}

func main() { os.Exit(cli.Main("localmongo", run)) }

// run is the program without the process around it.
func run(ctx context.Context, args []string, env cli.Env, std cli.Streams) error {
	return cli.Run(ctx, &server{}, args, env, std,
		kong.Name("localmongo"),
		kong.Description("Serves a MongoDB-compatible replica set of one member on this machine."))
}
