package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/plain"
)

// useRunning sets what the flags leave at its default to what the running watchers of
// --name use, and says so on notes, which is standard error: what is printed stays
// the same.
func useRunning(ctx context.Context, db *mongo.Database, c *config.Config, notes io.Writer) error {
	r, err := config.ReadRunning(ctx, db.Collection(c.ResumeCollection), c.Name)
	if err != nil || r == nil {
		return err
	}
	with := *c
	used := r.Fill(&with)
	if err := with.Check(); err != nil { // written by another version
		fmt.Fprintf(notes, "The settings of the running watchers are not used: %s\n", fit(err.Error(), lintWidth))
		return nil
	}
	*c = with
	if len(used) > 0 {
		text := fmt.Sprintf("With the settings of the running watchers (version %s, written at %s) for --%s.",
			plain.Line(r.Version, 40), r.At.UTC().Format(time.RFC3339), strings.Join(used, ", --"))
		if r.Storage.Keys && !(c.Minio.AccessKey.IsSet() && c.Minio.SecretKey.IsSet()) {
			text += " Their keys of the object storage are not known here."
		}
		for _, line := range wrapped(text, lintWidth) {
			fmt.Fprintln(notes, line)
		}
	}
	return nil
}

// compileOptions are those of the bots that a configuration asks for.
func compileOptions(c *config.Config) (bots.Options, error) {
	format, err := calls.ParseTimeFormat(c.TimeFormat)
	if err != nil {
		return bots.Options{}, fmt.Errorf("time format: %w", err)
	}
	guard, err := c.Guard()
	return bots.Options{TimeFormat: format, Guard: guard}, err
}
