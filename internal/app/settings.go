package app

import (
	"context"
	"time"

	"github.com/cxbridge/watcher/internal/outage"
	"github.com/cxbridge/watcher/pkg/backoff"
)

// saveSettings writes the settings that decide what is sent beside the position, for
// the commands. Without the right to, or when they are too many, only those miss them.
func (a *App) saveSettings(ctx context.Context) {
	if !waitReady(ctx, a.bots.Ready) { // MongoDB answers
		return
	}
	running := a.cfg.Running(a.version, time.Now().UTC())
	coll := a.client.Database(a.cfg.Database).Collection(a.cfg.ResumeCollection)
	for {
		err := running.Save(ctx, coll, a.cfg.Name)
		if err == nil || ctx.Err() != nil {
			return
		}
		if !outage.Passing(err) || isRight(err) {
			a.logger.Warn("the settings could not be written beside the position; commands need them as flags", "error", err)
			return
		}
		if backoff.Sleep(ctx, indexRetry) != nil {
			return
		}
	}
}
