package dispatch_test

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/internal/retry"
)

// The roads of the tests of this package have a real Retrier.
var _ = func() bool {
	dispatch.NewRetrier = func(d *dispatch.Dispatcher, f dispatch.Finder, maxAge time.Duration, logger *slog.Logger, reg prometheus.Registerer) func(context.Context) error {
		return retry.New(retry.Options{
			Finder: f, Bots: dispatch.BotsOf(d), Road: d, MaxAge: maxAge, Logger: logger, Registerer: reg,
		}).Run
	}
	return true
}()
