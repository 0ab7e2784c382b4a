package app

import (
	"context"
	"time"
)

// saveSettings writes the settings that decide what is sent beside the position, for
// the commands. Without the right to, or when they are too many, only those miss them.
func (a *App) saveSettings(ctx context.Context) {
	coll := a.client.Database(a.cfg.Database).Collection(a.cfg.ResumeCollection)
	a.once(ctx, func(ctx context.Context) error {
		return a.cfg.Running(a.version, time.Now().UTC()).Save(ctx, coll, a.cfg.Name)
	}, "the settings could not be written beside the position; commands need them as flags")
}
