package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/localmongo"
)

type localmongoCmd struct {
	Listen        string `default:"127.0.0.1:27017" placeholder:"ADDR" help:"Address to listen on; port 0 takes a free one."`
	Data          string `placeholder:"DIR" help:"Keep documents and history in this directory over a restart. Default: in memory."`
	ReplicaSet    string `default:"rs0" placeholder:"NAME" help:"Name of the replica set to present."`
	HistoryEvents string `default:"200000" placeholder:"N" help:"How many changes a stream can resume over."`
	LaxResume     bool   `help:"Accept resume tokens older than the history in silence, as MongoDB 4.2 does."`
	LogLevel      string `default:"info" placeholder:"LEVEL" help:"debug, info, warn or error."`
}

// Run serves a MongoDB-compatible server until it is interrupted. The first line that it
// prints ends in the URI to connect with.
func (l *localmongoCmd) Run(ctx context.Context, std streams) error {
	var cfg config.Config
	var bad faults
	(&logFlags{LogLevel: l.LogLevel, LogFormat: config.LogAuto}).apply(&cfg, &bad)
	history := 0
	bad.integer("history-events", l.HistoryEvents, &history)
	if err := errors.Join(bad...); err != nil {
		return usageError{err}
	}
	srv, err := localmongo.New(localmongo.Options{
		Addr:          l.Listen,
		DataDir:       l.Data,
		ReplicaSet:    l.ReplicaSet,
		HistoryEvents: history,
		LaxResume:     l.LaxResume,
		Logger:        newLogger(std.err, cfg.LogFormat, cfg.LogLevel),
	})
	if err != nil {
		return fmt.Errorf("start localmongo: %w", err)
	}
	if _, err := fmt.Fprintf(std.out, "localmongo is ready, connect with %s\n", srv.URI()); err != nil {
		return errors.Join(fmt.Errorf("print the address: %w", err), srv.Close())
	}
	return srv.Run(ctx)
}
