package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/outage"
	"github.com/cxbridge/watcher/internal/recording"
	"github.com/cxbridge/watcher/pkg/secret"
)

// settings keeps the platform's settings document and makes recording links
// with it. The document changes about never, so it is asked for now and then.
type settings struct {
	coll   *mongo.Collection
	cfg    config.Config
	logger *slog.Logger
	// secrets gets the keys of the document.
	secrets *secret.Redactor
	known   []secret.Text

	linker atomic.Pointer[recording.Linker]
	outage *outage.Log
	said   string // the last fault of the document, so that it is said once
	fault  prometheus.Gauge
}

const (
	settingsID    = "system"
	settingsEvery = 30 * time.Second
	settingsRetry = time.Second
)

func newSettings(coll *mongo.Collection, cfg config.Config, logger *slog.Logger, secrets *secret.Redactor) *settings {
	return &settings{
		coll: coll, cfg: cfg, logger: logger, secrets: secrets,
		outage: outage.New(logger, "settings cannot be read, trying again", "settings can be read again"),
	}
}

// Link implements dispatch.Links.
func (s *settings) Link(call *calls.Call, now time.Time) string {
	return s.linker.Load().Link(call, now)
}

// ready is nil once the document was asked for.
func (s *settings) ready() error {
	if s.linker.Load() == nil {
		return errors.New("the settings are not read yet")
	}
	return nil
}

// run reads the document until ctx ends.
func (s *settings) run(ctx context.Context) {
	for {
		wait := settingsEvery
		switch err := s.read(ctx); {
		case err == nil:
			s.outage.Worked(ctx)
		case ctx.Err() == nil:
			s.outage.Failed(ctx, err)
			wait = settingsRetry
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (s *settings) read(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*selectionTimeout, errors.New("MongoDB did not answer in time"))
	defer cancel()
	doc, err := s.coll.FindOne(ctx, bson.D{{Key: "_id", Value: settingsID}}).Raw()
	if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
		return fmt.Errorf("read the settings: %w", err)
	}
	s.learn(recording.ParseStorage(doc))
	linker, err := NewLinker(s.cfg, doc)
	s.linker.Store(linker)
	if err != nil {
		s.warn(ctx, err)
		s.fault.Set(1)
	} else {
		s.said = ""
		s.fault.Set(0)
	}
	return nil
}

// learn makes the keys of the document known as secrets, and forgets those that
// stood there before.
func (s *settings) learn(storage recording.Storage) {
	now := []secret.Text{storage.AccessKey, storage.SecretKey}
	s.secrets.Add(now...)
	s.secrets.Remove(s.known...)
	s.known = now
}

// warn tells of settings that cannot be used, once for each fault.
func (s *settings) warn(ctx context.Context, err error) {
	if text := err.Error(); text != s.said {
		s.said = text
		s.logger.WarnContext(ctx, "recording links cannot be made as the settings say", "error", err)
	}
}

// NewLinker makes the recording links of a deployment: its own settings over
// those of the settings document, which may be nil. The linker works in any
// case; the error names what is set and cannot be used.
func NewLinker(cfg config.Config, doc bson.Raw) (*recording.Linker, error) {
	return recording.New(recording.Options{
		PublicBaseURL: cfg.PublicBaseURL,
		Storage: recording.ParseStorage(doc).Override(recording.Storage{
			Endpoint:  cfg.Minio.Endpoint,
			AccessKey: cfg.Minio.AccessKey,
			SecretKey: cfg.Minio.SecretKey,
			Bucket:    cfg.Minio.Bucket,
			Secure:    cfg.Minio.Secure,
		}),
	})
}
