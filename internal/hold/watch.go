package hold

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cxbridge/watcher/internal/outage"
)

// Lister reads the holds; *Records is the real one.
type Lister interface {
	List(ctx context.Context) ([]Hold, error)
}

// Options are what Holds are made of.
type Options struct {
	Records Lister
	// OnChange is told of the holds when they are first known, and when one begins,
	// changes or is over at now. It must not block.
	OnChange   func(s *Set, now time.Time)
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Holds knows the holds as they stand in MongoDB, a second late at most. While
// MongoDB is away it keeps those that it knew last.
type Holds struct {
	o      Options
	outage *outage.Log
	active prometheus.Gauge
	set    atomic.Pointer[Set]
	told   chan []Hold // what Tell brought last

	begun []Hold // those that hold now; only Run touches it
}

// The times of the look at the holds: one acts within two seconds in all.
const (
	lookEvery = time.Second
	// toldEvery is how long after Tell it is looked: whoever tells does so every second.
	toldEvery   = 1500 * time.Millisecond
	lookTimeout = 5 * time.Second
)

var errLookTimeout = errors.New("MongoDB did not return the holds in time")

// New returns Holds that are not read yet; Run reads them.
func New(o Options) *Holds {
	h := &Holds{
		o:      o,
		told:   make(chan []Hold, 1),
		outage: outage.New(o.Logger, "holds cannot be read, the last known ones stay", "holds can be read again"),
		active: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "watcher_holds_active",
			Help: "Holds of operators that keep calls of a bot or a host back now.",
		}),
	}
	o.Registerer.MustRegister(h.active)
	return h
}

// Set is the holds as they are known now. Ready must have been nil.
func (h *Holds) Set() *Set { return h.set.Load() }

// Ready is nil once the holds were read.
func (h *Holds) Ready() error {
	if h.set.Load() == nil {
		return errors.New("the holds are not read yet")
	}
	return nil
}

// Tell brings the holds as one question about several things has found them, so that
// Run need not ask. It does not block.
func (h *Holds) Tell(all []Hold) {
	select {
	case <-h.told: // older
	default:
	}
	select {
	case h.told <- all:
	default: // another tells at this moment
	}
}

// Run looks at the holds, or is told of them, until ctx ends.
func (h *Holds) Run(ctx context.Context) error {
	var all []Hold
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var found []Hold
		var err error
		wait := lookEvery
		select {
		case <-ctx.Done():
			return nil
		case found = <-h.told:
			wait = toldEvery
		case <-timer.C:
			found, err = h.look(ctx)
		}
		switch {
		case err == nil:
			h.outage.Worked(ctx)
			all = found
		case ctx.Err() == nil:
			h.outage.Failed(ctx, err)
		}
		if err == nil || h.set.Load() != nil { // a hold may be over while MongoDB is away
			h.change(ctx, all, time.Now())
		}
		timer.Reset(wait)
	}
}

func (h *Holds) look(ctx context.Context) ([]Hold, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lookTimeout, errLookTimeout)
	defer cancel()
	return h.o.Records.List(ctx)
}

// change tells of what differs from the last look.
func (h *Holds) change(ctx context.Context, all []Hold, now time.Time) {
	active := slices.DeleteFunc(slices.Clone(all), func(r Hold) bool { return !r.Active(now) })
	if last := h.set.Load(); last != nil && slices.Equal(all, last.All()) && len(active) == len(h.begun) {
		return
	}
	h.report(ctx, all, active, now)
	h.begun = active
	h.active.Set(float64(len(active)))
	set := NewSet(all)
	h.o.OnChange(set, now)
	h.set.Store(set)
}

// report logs which holds began and which are over.
func (h *Holds) report(ctx context.Context, all, active []Hold, now time.Time) {
	find := func(among []Hold, id string) int {
		return slices.IndexFunc(among, func(r Hold) bool { return r.ID == id })
	}
	for i := range active {
		if r := &active[i]; find(h.begun, r.ID) < 0 {
			h.o.Logger.InfoContext(ctx, "a hold keeps calls back", "hold_id", r.ID, "bot_id", r.Bot, "host", r.Host,
				"why", r.Why, "by", r.By, "until", r.Until)
		}
	}
	for i := range h.begun {
		r := &h.begun[i]
		if find(active, r.ID) >= 0 {
			continue
		}
		how, by := "removed", "" // its record is gone
		if at := find(all, r.ID); at >= 0 {
			how, by = "released", all[at].EndBy
			if all[at].Ended.IsZero() {
				how = "its time is over"
			}
		}
		h.o.Logger.InfoContext(ctx, "a hold is over", "hold_id", r.ID, "bot_id", r.Bot, "host", r.Host,
			"how", how, "by", by, "after", now.Sub(r.From))
	}
}
