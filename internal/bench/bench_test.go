package bench_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/app"
	"github.com/cxbridge/watcher/internal/bench"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
	"github.com/cxbridge/watcher/pkg/secret"
)

func newWatcher(cfg config.Config, client func(*options.ClientOptions)) (bench.Runner, error) {
	return app.New(cfg, app.Deps{Logger: slog.New(slog.DiscardHandler), Version: "test", Client: client})
}

func load(l bench.Load) bench.Load {
	l.Partitions = max(l.Partitions, 1)
	l.Bots, l.Size = 3, 4000
	if l.Roads == nil {
		l.Roads = []string{bench.Naive, bench.Ideal, bench.Watcher}
	}
	return l
}

// run runs a bench on a server of its own and returns the report.
func run(t *testing.T, l bench.Load, newWatcher func(config.Config, func(*options.ClientOptions)) (bench.Runner, error)) (*bench.Report, error) {
	t.Helper()
	server := localmongotest.Local(t, localmongo.Options{})
	report, err := bench.Run(t.Context(), bench.Options{
		Load: l, URI: secret.Text(server.URI), Scratch: "scratch", NewWatcher: newWatcher, Progress: func(string) {},
	})
	names, listErr := server.Connect(t).ListDatabaseNames(t.Context(), bson.D{{Key: "name", Value: bson.D{{Key: "$regex", Value: "^scratch"}}}})
	if listErr != nil || len(names) > 0 {
		t.Errorf("left behind: %q, %v", names, listErr)
	}
	return report, err
}

func TestBacklog(t *testing.T) {
	report, err := run(t, load(bench.Load{Calls: 100, Skipped: 0.2}), newWatcher)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range report.Roads {
		if r.Sent != 80 || r.PerSec <= 0 || r.CPU <= 0 || r.PeakMemory == 0 || r.BytesIn <= 0 || r.BytesOut <= 0 || r.P50 != 0 {
			t.Errorf("%+v", r)
		}
		if r.Returned < 1 || r.Updated < 1 { // each call came to the process, and got an outcome
			t.Errorf("%s: %v documents a call came, %v were updated", r.Road, r.Returned, r.Updated)
		}
		if many := r.PerWrite > 1; many == (r.Road == bench.Naive) {
			t.Errorf("%s: %v outcomes a write", r.Road, r.PerWrite)
		}
		if r.Commands["update"]*80 < 1 {
			t.Errorf("%s: %v", r.Road, r.Commands)
		}
	}
	var table strings.Builder
	if err := report.Print(&table); err != nil || !strings.Contains(table.String(), "outcomes/write") {
		t.Errorf("%v\n%s", err, table.String())
	}
	for line := range strings.Lines(table.String()) {
		if len([]rune(line)) > 100 {
			t.Errorf("too long: %s", line)
		}
	}
}

func TestLive(t *testing.T) {
	report, err := run(t, load(bench.Load{Calls: 60, Rate: 1000, CRMLatency: time.Millisecond, Partitions: 3}), newWatcher)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range report.Roads {
		if r.Sent != 60 || r.P99 < r.P50 || r.P999 < r.P99 {
			t.Errorf("%+v", r)
		}
	}
	var table strings.Builder
	if err := report.Print(&table); err != nil || !strings.Contains(table.String(), "stored to sent, p99.9") {
		t.Errorf("%v\n%s", err, table.String())
	}
}

// ends is a road that ends by itself.
type ends struct{ err error }

func (e ends) Run(context.Context) error { return e.err }

func TestARoadThatEndsByItself(t *testing.T) {
	broken := errors.New("broken")
	_, err := run(t, load(bench.Load{Calls: 10, Roads: []string{bench.Watcher}}), func(config.Config, func(*options.ClientOptions)) (bench.Runner, error) {
		return ends{broken}, nil
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestADatabaseThatHoldsSomethingIsRefused(t *testing.T) {
	server := localmongotest.Local(t, localmongo.Options{})
	calls := server.Connect(t).Database("scratch_watcher").Collection("calls")
	if _, err := calls.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	_, err := bench.Run(t.Context(), bench.Options{
		Load: load(bench.Load{Calls: 10}), URI: secret.Text(server.URI), Scratch: "scratch", NewWatcher: newWatcher, Progress: func(string) {},
	})
	if err == nil || !strings.Contains(err.Error(), "scratch_watcher holds something already") {
		t.Errorf("got %v", err)
	}
	if n, err := calls.CountDocuments(t.Context(), bson.D{}); err != nil || n != 1 {
		t.Errorf("%d calls are left, %v", n, err)
	}
}

func TestCheck(t *testing.T) {
	good := bench.Load{Calls: 10, Bots: 1, Partitions: 1, Size: 4000, Roads: []string{bench.Ideal}}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for setting, spoil := range map[string]func(*bench.Load){
		"calls":        func(l *bench.Load) { l.Calls = 0 },
		"bots":         func(l *bench.Load) { l.Bots = -1 },
		"partitions":   func(l *bench.Load) { l.Partitions = 0 },
		"destinations": func(l *bench.Load) { l.Destinations = 2 },
		"rate":         func(l *bench.Load) { l.Rate = math.NaN() },
		"crm-latency":  func(l *bench.Load) { l.CRMLatency = time.Minute },
		"size":         func(l *bench.Load) { l.Size = 16 << 20 },
		"skipped":      func(l *bench.Load) { l.Skipped = 1 },
		"roads":        func(l *bench.Load) { l.Roads = []string{"best"} },
	} {
		bad := good
		spoil(&bad)
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), "--"+setting+":") {
			t.Errorf("%s: %v", setting, err)
		}
	}
}
