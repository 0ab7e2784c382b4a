package dispatch

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cxbridge/watcher/internal/calls"
)

// Finder finds due calls, as package retry asks for them.
type Finder interface {
	Due(ctx context.Context, q calls.DueQuery) ([]calls.DueCall, error)
	CountDue(ctx context.Context, q calls.DueQuery) (int, time.Time, error)
}

// NewRetrier makes what takes the due calls of a road. Package retry imports this
// one, so a test file of another package sets it.
var NewRetrier func(d *Dispatcher, f Finder, maxAge time.Duration, logger *slog.Logger, reg prometheus.Registerer) (run func(context.Context) error)

// BotsOf is what d asks for its bots.
func BotsOf(d *Dispatcher) Bots { return d.o.Bots }
