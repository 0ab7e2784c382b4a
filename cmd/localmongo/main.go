// Command localmongo serves a MongoDB-compatible replica set of one member on
// this machine, for development and demonstrations.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/alecthomas/kong"

	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/localmongo"
)

// server is the command line.
type server struct {
	Listen        string       `default:"127.0.0.1:27017" placeholder:"ADDR" help:"Address to listen on; port 0 takes a free one."`
	AllowRemote   bool         `help:"Listen on an address that other machines reach too. There is no password and no encryption: whoever reaches it may read and change everything."`
	Data          string       `placeholder:"DIR" help:"Keep documents and history in this directory over a restart. Default: in memory."`
	ReplicaSet    string       `default:"rs0" placeholder:"NAME" help:"Name of the replica set to present."`
	HistoryEvents int          `default:"200000" placeholder:"N" help:"How many changes a stream can resume over."`
	HistorySize   config.Bytes `default:"256MiB" placeholder:"SIZE" help:"How large the documents of these changes may be; the oldest go first."`
	LaxResume     bool         `help:"Accept resume tokens older than the history in silence, as MongoDB 4.2 does."`
	LogLevel      slog.Level   `default:"info" placeholder:"LEVEL" help:"debug, info, warn or error."`
}

// Run serves until it is interrupted. The first line that it prints ends in the
// URI to connect with.
func (s *server) Run(ctx context.Context, std cli.Streams) error {
	logger := cli.NewLogger(std.Err, cli.LogAuto, s.LogLevel)
	addr, err := s.address()
	if err != nil {
		return cli.Usage(fmt.Errorf("--listen: %w", err))
	}
	if !addr.IP.IsLoopback() {
		logger.WarnContext(ctx, "other machines reach this server, which asks for no password", "address", addr.String())
	}
	srv, err := localmongo.New(localmongo.Options{
		Addr:          addr.String(),
		DataDir:       s.Data,
		ReplicaSet:    s.ReplicaSet,
		HistoryEvents: s.HistoryEvents,
		HistoryBytes:  int64(s.HistorySize),
		LaxResume:     s.LaxResume,
		Logger:        logger,
	})
	if err != nil {
		return fmt.Errorf("start localmongo: %w", err)
	}
	if _, err := fmt.Fprintf(std.Out, "localmongo is ready, connect with %s\n", srv.URI()); err != nil {
		return errors.Join(fmt.Errorf("print the address: %w", err), srv.Close())
	}
	return srv.Run(ctx)
}

var errRemote = errors.New("is not an address of this machine alone; --allow-remote permits it")

// address is what is listened on. It is what the name stood for when it was looked
// at: a name may stand for another address a moment later.
func (s *server) address() (*net.TCPAddr, error) {
	addr, err := net.ResolveTCPAddr("tcp", s.Listen)
	if err != nil {
		return nil, err
	}
	if !addr.IP.IsLoopback() && !s.AllowRemote {
		return nil, fmt.Errorf("%q %w", s.Listen, errRemote)
	}
	return addr, nil
}

func main() { os.Exit(cli.Main("localmongo", run)) }

// run is the program without the process around it.
func run(ctx context.Context, args []string, env cli.Env, std cli.Streams) error {
	return cli.Run(ctx, "localmongo", &server{}, args, env, std,
		kong.Description("Serves a MongoDB-compatible replica set of one member on this machine."))
}
