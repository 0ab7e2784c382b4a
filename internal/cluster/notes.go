package cluster

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cxbridge/watcher/internal/plain"
	"github.com/cxbridge/watcher/pkg/stream"
)

// From here on something needs attention.
const (
	muchLag        = 2 * time.Minute // a position is saved every 10 s on a quiet cluster
	littleHeadroom = 4               // one part of the oplog in: a position in its oldest quarter
	lateDue        = 5 * time.Minute
	maxNotes       = 12
)

// note is one thing to look at.
type note struct {
	down bool // results are stored that nobody reads
	text string
}

// conclude finds what needs attention in a summary that is filled in, and adds what
// does in the deployment.
func (s *Summary) conclude(deployment []string) {
	var notes []note
	add := func(down bool, format string, args ...any) {
		notes = append(notes, note{down, fmt.Sprintf(format, args...)})
	}
	alive := s.Alive()
	switch {
	case alive > 0:
	case len(s.Partitions) == 0:
		add(true, "No watcher has run under the name %s.", s.Name)
	default:
		add(true, "No watcher is alive under the name %s: nothing is pushed.%s", s.Name, s.lastSeen())
	}
	for i := range s.Partitions {
		p := &s.Partitions[i]
		if p.Owner == "" && alive > 0 {
			add(true, "Nobody reads partition %s.", p.Name)
		}
		if p.Damage != "" {
			add(false, "The record of partition %s is damaged: %s.", p.Name, p.Damage)
		}
		if p.Lag != nil && time.Duration(*p.Lag) > muchLag {
			add(false, "Partition %s is %s behind.", p.Name, p.Lag)
		}
		switch {
		case p.Headroom == nil:
		case *p.Headroom < 0:
			add(false, "The history after the saved position of partition %s is lost: its results are looked up by time.", p.Name)
		case s.Oplog != nil && p.Age != nil && time.Duration(*p.Age) > muchLag && *p.Headroom < *s.Oplog/littleHeadroom:
			add(false, "The saved position of partition %s is %s from the end of an oplog of %s.", p.Name, p.Headroom, s.Oplog)
		}
	}
	for i := range s.Waiting.Bots {
		b := &s.Waiting.Bots[i]
		if b.Due > 0 && s.At.Sub(b.First) > lateDue {
			add(false, "Bot %s: %s due, the first for %s.", cmp.Or(b.Name, b.ID, "(none)"), plain.Count(b.Due, "call"), plain.Duration(s.At.Sub(b.First).Truncate(time.Second)))
		}
	}
	for _, text := range deployment {
		add(false, "%s", text)
	}
	slices.SortStableFunc(notes, func(a, b note) int {
		if a.down == b.down {
			return 0
		}
		return map[bool]int{true: -1, false: 1}[a.down]
	})
	s.Status, s.Attention = StatusOK, []string{}
	for i, n := range notes {
		switch {
		case n.down:
			s.Status = StatusDown
		case s.Status == StatusOK:
			s.Status = StatusAttention
		}
		if i < maxNotes {
			s.Attention = append(s.Attention, n.text)
		}
	}
	if left := len(notes) - maxNotes; left > 0 {
		s.Attention = append(s.Attention, fmt.Sprintf("And %d more.", left))
	}
	s.Deployment = deployment
}

// lastSeen says when the last replica was seen.
func (s *Summary) lastSeen() string {
	var last time.Time
	for i := range s.Replicas {
		if s.Replicas[i].BeatAt.After(last) {
			last = s.Replicas[i].BeatAt
		}
	}
	if last.IsZero() {
		return ""
	}
	return fmt.Sprintf(" The last one was seen %s ago.", plain.Duration(s.At.Sub(last).Truncate(time.Second)))
}

// Deployment says in sentences what is odd about the database as a whole.
func (r *Reader) Deployment(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readLimit, errSlow)
	defer cancel()
	clock, _, err := stream.ServerTime(ctx, r.o.Calls.Database().Client())
	if err != nil {
		return nil, err
	}
	return r.deployment(ctx, clock)
}

func (r *Reader) deployment(ctx context.Context, clock time.Time) ([]string, error) {
	var found []string
	nCalls, err := r.o.Calls.EstimatedDocumentCount(ctx)
	if err != nil {
		return nil, fmt.Errorf("count the calls: %w", err)
	}
	nBots, err := r.o.Bots.EstimatedDocumentCount(ctx)
	if err != nil {
		return nil, fmt.Errorf("count the bots: %w", err)
	}
	db := r.o.Calls.Database().Name()
	switch {
	case nCalls == 0 && nBots == 0:
		found = append(found, fmt.Sprintf("The database %s holds neither %s nor %s: is --database right?", db, r.o.Calls.Name(), r.o.Bots.Name()))
	case nCalls == 0:
		found = append(found, fmt.Sprintf("The collection %s of the database %s is empty or does not exist: is --calls-collection right?", r.o.Calls.Name(), db))
	case nBots == 0:
		found = append(found, fmt.Sprintf("The collection %s of the database %s is empty or does not exist, so nothing is pushed: is --bots-collection right?", r.o.Bots.Name(), db))
	}
	others, err := r.positions.Others(ctx)
	if err != nil {
		return nil, err
	}
	names := make(map[string]bool)
	for i := range others {
		if others[i].Lives(clock) {
			names[text(others[i].Name())] = true
		}
	}
	if len(names) > 0 {
		found = append(found, fmt.Sprintf("Another watcher is alive beside --name %s, under %s: if it reads the same calls, each is pushed twice.",
			r.o.Name, strings.Join(slices.Sorted(maps.Keys(names)), ", ")))
	}
	return found, nil
}
