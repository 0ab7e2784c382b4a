package recording

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/outage"
	"github.com/cxbridge/watcher/pkg/backoff"
	"github.com/cxbridge/watcher/pkg/secret"
)

// SettingsOptions are what Settings are made of.
type SettingsOptions struct {
	Collection *mongo.Collection // of the settings document
	Own        Options           // win over the document, field by field
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Secrets gets the keys of the document, and loses those that stood there before.
	Secrets *secret.Redactor
}

// Settings keeps the platform's settings document and makes recording links with
// it. The document changes about never, so it is asked for now and then. It is safe
// for concurrent use.
type Settings struct {
	o      SettingsOptions
	linker atomic.Pointer[Linker]
	outage *outage.Log
	faulty prometheus.Gauge

	mu    sync.Mutex
	known []secret.Text // of the document
	fault string        // of the document as it was logged last
}

const (
	settingsID      = "system"
	settingsEvery   = 30 * time.Second
	settingsTimeout = 10 * time.Second
)

// settingsPauses is how long Run waits after a read that failed.
var settingsPauses = backoff.Backoff{First: time.Second, Most: settingsEvery}

var errSettingsTimeout = errors.New("MongoDB did not return the settings in time")

// NewSettings returns settings that are not read yet; Run reads them.
func NewSettings(o SettingsOptions) *Settings {
	s := &Settings{
		o:      o,
		outage: outage.New(o.Logger, "settings cannot be read, trying again", "settings can be read again"),
		faulty: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "watcher_app_settings_invalid",
			Help: "1 while the recording storage of the settings cannot be used; calls are pushed with the stored recording link then.",
		}),
	}
	o.Registerer.MustRegister(s.faulty)
	return s
}

// Link is Linker.Link with the settings as they are now. Ready must have been nil.
func (s *Settings) Link(call *calls.Call) string { return s.linker.Load().Link(call) }

// Ready is nil once the document was asked for.
func (s *Settings) Ready() error {
	if s.linker.Load() == nil {
		return errors.New("the settings are not read yet")
	}
	return nil
}

// Run reads the document until ctx ends.
func (s *Settings) Run(ctx context.Context) error {
	for failures := 0; ; {
		wait := settingsEvery
		if err := s.Refresh(ctx); err == nil {
			s.outage.Worked(ctx)
			failures = 0
		} else if ctx.Err() == nil {
			s.outage.Failed(ctx, err)
			wait = settingsPauses.Pause(failures)
			failures++
		}
		if err := backoff.Sleep(ctx, wait); err != nil {
			return nil //nolint:nilerr // the end of ctx is how Run ends
		}
	}
}

// Refresh reads the document now.
func (s *Settings) Refresh(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, settingsTimeout, errSettingsTimeout)
	defer cancel()
	doc, err := s.o.Collection.FindOne(ctx, bson.D{{Key: "_id", Value: settingsID}}).Raw()
	if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
		return fmt.Errorf("read the settings: %w", err)
	}
	s.learn(parseStorage(doc))
	linker, err := New(s.o.Own.Over(doc))
	s.linker.Store(linker)
	s.report(ctx, err)
	return nil
}

// learn makes the keys of the document known as secrets, and forgets those that
// stood there before.
func (s *Settings) learn(storage Storage) {
	now := []secret.Text{storage.AccessKey, storage.SecretKey}
	s.o.Secrets.Add(now...)
	s.o.Secrets.Remove(s.known...)
	s.known = now
}

// report tells of settings that cannot be used, once for each fault.
func (s *Settings) report(ctx context.Context, err error) {
	if err == nil {
		s.fault = ""
		s.faulty.Set(0)
		return
	}
	s.faulty.Set(1)
	if text := err.Error(); text != s.fault {
		s.fault = text
		s.o.Logger.WarnContext(ctx, "recording links cannot be made as the settings say", "error", err)
	}
}
