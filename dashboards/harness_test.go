package dashboards_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cxbridge/watcher/internal/app"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a watcher at work: a database, a CRM, and a platform that writes calls.
type site struct {
	*apptest.Platform
	*app.App
	server *localmongo.Server
	crm    *apptest.CRM

	mu    sync.Mutex
	calls int
}

var errOver = errors.New("the test is over")

// siteBots is how many bots there are: bot-0, bot-1 ... They push to one host, each to
// a path of its own, /bot-0, /bot-1 ...
const siteBots = 4

// startSite runs a watcher until the end of the test.
func startSite(t *testing.T) *site {
	t.Helper()
	s := &site{server: localmongotest.Start(t, localmongo.Options{}), crm: apptest.NewCRM(t)}
	s.Platform = apptest.NewPlatform(t, s.server.URI())
	for i := range siteBots {
		bot := fmt.Sprintf("bot-%d", i)
		s.PutBot(apptest.Bot(bot, s.crm.URL+"/"+bot))
	}
	cfg := config.Default()
	cfg.MongoURI = secret.Text(s.server.URI())
	cfg.Listen = "127.0.0.1:0"
	cfg.AllowNetworks = []push.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}
	cfg.RetrySchedule = []time.Duration{2 * time.Second, 2 * time.Second}
	cfg.ShutdownGrace = time.Second
	var err error
	s.App, err = app.New(cfg, app.Deps{Logger: slog.New(slog.DiscardHandler), Version: "1.2.3", Owner: "replica-1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.App.Run(ctx) }()
	t.Cleanup(func() {
		cancel(errOver)
		if err := <-ended; err != nil {
			t.Errorf("watcher: %v", err)
		}
	})
	s.waitReady(t)
	return s
}

// waitReady waits until all checks of /readyz pass: what is stored before that
// is not the watcher's.
func (s *site) waitReady(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), apptest.Patience, errors.New("the watcher did not get ready"))
	defer cancel()
	ok := apptest.Poll(ctx, func() bool {
		families, err := s.Gatherer().Gather()
		if err != nil {
			t.Fatal(err)
		}
		checks := 0
		for _, f := range families {
			if f.GetName() != "watcher_app_ready" {
				continue
			}
			for _, m := range f.GetMetric() {
				if m.GetGauge().GetValue() != 1 {
					return false
				}
				checks++
			}
		}
		return checks > 0
	})
	if !ok {
		t.Fatal(context.Cause(ctx))
	}
}

// settle stores calls and waits until the CRM has each of them.
func (s *site) settle(t *testing.T, calls int) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), apptest.Patience, errors.New("the CRM did not get the calls"))
	defer cancel()
	want := len(s.crm.Requests()) + calls
	for range calls {
		s.Call(s.next())
	}
	if !s.crm.Wait(ctx, func(all []apptest.Request) bool { return len(all) >= want }) {
		t.Fatal(context.Cause(ctx))
	}
}

// next names a call, and the bots in turn.
func (s *site) next() (call, bot string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	return fmt.Sprintf("call-%d", s.calls), fmt.Sprintf("bot-%d", s.calls%siteBots)
}
