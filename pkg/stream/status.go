package stream

import (
	"errors"
	"fmt"
	"time"

	"github.com/cxbridge/watcher/pkg/resume"
)

// Status is what a Follower knows of itself, for readiness and for people.
type Status struct {
	// Open says that the cursor is open and its last poll succeeded, or its first one
	// has waited for half a second: what is wrong with a position a server says at once.
	Open bool
	// LastPoll is when a poll last succeeded; before the first, since when that waits.
	LastPoll time.Time
	// Position is right after the last event or empty poll.
	Position resume.Position
	// Lag is the time from the position to the server's; an empty poll for which the
	// server waited means 0, also where the token stands still.
	Lag      time.Duration
	LagKnown bool
	Opens    int   // cursors opened that answered a poll
	Err      error // why the last cursor ended, nil while the next is open
}

// Stale is how long after the last successful poll a stream is not ready. It is
// longer than a busy server takes to answer, and than a short wait for whoever
// takes the events.
const Stale = 30 * time.Second

// Ready is nil when the cursor is open and polls succeed, else why not.
func (s Status) Ready(now time.Time) error {
	switch {
	case !s.Open && s.Err != nil:
		return fmt.Errorf("the stream is closed: %w", s.Err)
	case !s.Open:
		return errors.New("the stream is not open yet")
	case now.Sub(s.LastPoll) > Stale:
		return fmt.Errorf("no poll has come back for %s", now.Sub(s.LastPoll).Round(time.Second))
	}
	return nil
}

// answersWithin is how soon a server refuses a position. A first poll that was not
// refused waits for events, MaxAwait in all. A router is as late as its shards.
const answersWithin = 500 * time.Millisecond

// Status may be called from anywhere; it asks nobody.
func (f *Follower) Status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.status
	if !s.Open && !f.cfg.Sharded && !f.asked.IsZero() && time.Since(f.asked) >= answersWithin {
		s.Open, s.Err = true, nil
		if s.LastPoll.IsZero() {
			s.LastPoll = f.asked
		}
	}
	return s
}

// asking notes that the first poll of a cursor begins.
func (f *Follower) asking(from resume.Position) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = time.Now()
	if f.status.Position.IsZero() {
		f.status.Position = from
	}
}

// polled notes a poll from a position that succeeded.
func (f *Follower) polled(b Batch, from resume.Position, took time.Duration) {
	f.pace.succeed()
	f.frozenPolls = 0
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &f.status
	if !s.Open {
		s.Opens++
	}
	s.Open, s.Err, s.LastPoll = true, nil, now
	s.Position = from
	if len(b.Token) > 0 {
		s.Position = positionOf(b.Token)
	}
	s.Lag, s.LagKnown = lag(b, s.Position, took >= f.cfg.MaxAwait/2)
	f.metric.poll(now, len(b.Events), s)
}

// lag compares the server's time with the position. A server that waited for
// events had come to the end of its log.
func lag(b Batch, p resume.Position, waited bool) (time.Duration, bool) {
	if len(b.Events) == 0 && waited {
		return 0, true
	}
	if b.ServerTime.IsZero() || p.ClusterTime.IsZero() {
		return 0, false
	}
	seconds := int64(b.ServerTime.T) - int64(p.ClusterTime.T)
	return time.Duration(max(0, seconds)) * time.Second, true
}

// closed notes that no cursor is open.
func (f *Follower) closed(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.Open, f.asked = false, time.Time{}
	if err != nil {
		f.status.Err = err
	}
	f.metric.openCursors.Set(0)
}
