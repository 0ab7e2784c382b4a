package resume

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"
)

// session keeps one replica a member, and knows until when it is certain to be one.
// All leases of the replica live by it: nobody takes a partition whose holder is a
// member, and nobody removes a member that has shown life within its lease.
type session struct {
	ledger Ledger
	every  time.Duration // between beats
	limit  time.Duration // of one beat
	lasts  time.Duration // from a beat that was sent and acknowledged later
	wanted chan struct{} // a beat is wanted at once

	mu     sync.Mutex
	self   member
	joined bool
	err    error // of the last beat
	clock  clock
	life   context.Context // of the leases acquired since it last ended
	end    context.CancelCauseFunc
	expiry *time.Timer
}

func newSession(ledger Ledger, self member, every, limit time.Duration) *session {
	s := &session{ledger: ledger, every: every, limit: limit, self: self, wanted: make(chan struct{}, 1)}
	// A little less than the others wait, for clocks that run at other speeds.
	s.lasts = self.lease - self.lease/20
	s.life, s.end = context.WithCancelCause(context.Background())
	return s
}

// clock is what the certainty of a session rests on.
type clock struct {
	acked instant // when the last beat was sent that was acknowledged
	sent  instant // when the last beat was sent
	alone bool    // no other member was seen at the last look
}

// instant is a moment by the two clocks of a machine: the monotonic one stands still
// while the host is suspended, the wall clock may be set.
type instant struct{ mono, wall time.Time }

func now() instant {
	t := time.Now()
	return instant{mono: t, wall: t.Round(0)}
}

// since is the time from then to i by the clock that says more. A wall clock that is set
// forward costs no more than a beat: the next one makes the session certain again.
func (i instant) since(then instant) time.Duration {
	return max(i.mono.Sub(then.mono), i.wall.Sub(then.wall))
}

// left is for how long the session is certain to live on at now; it is not when nothing
// is left. Without an acknowledged beat that is lasts, but for one that is alone: only
// another replica could have taken its leases, so a store that is away for a minute does
// not stop the only one that works. That holds while it goes on beating; one that was
// paused knows nothing of what came meanwhile.
func (c clock) left(now instant, lasts time.Duration) time.Duration {
	if c.alone {
		return lasts - now.since(c.sent)
	}
	return lasts - now.since(c.acked)
}

// current is the member as it is now, and the life of the leases that it takes. The
// error says why it may take none.
func (s *session) current() (member, context.Context, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if !s.joined || s.clock.left(now(), s.lasts) <= 0 {
		err = errors.Join(errNotJoined, s.err)
	}
	return s.self, s.life, err
}

func (s *session) certain() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clock.left(now(), s.lasts) > 0
}

// setAlone notes whether others are members.
func (s *session) setAlone(alone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clock.alone != alone {
		s.clock.alone = alone
		s.schedule()
	}
}

// leave tells the others that this replica is to get no more partitions.
func (s *session) leave() {
	s.mu.Lock()
	s.self.leaving = true
	s.mu.Unlock()
	s.soon()
}

// soon makes run beat now.
func (s *session) soon() {
	select {
	case s.wanted <- struct{}{}:
	default:
	}
}

// run beats until ctx ends. What is held meanwhile may take its time.
func (s *session) run(ctx context.Context) {
	ticker := time.NewTicker(s.every)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			continue
		case <-s.wanted:
		case <-ticker.C:
		}
		// One that is cut off may reach the server after the member is removed.
		s.beat(context.WithoutCancel(ctx))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.expiry != nil {
		s.expiry.Stop()
	}
	s.end(ErrReleased)
}

// beat shows that the replica lives. A session that the others have ended begins
// anew, under another instance.
func (s *session) beat(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.limit, errStoreSlow)
	defer cancel()
	s.mu.Lock()
	sent := now()
	if sent.since(s.clock.sent) >= s.lasts {
		s.clock.alone = false // it was paused
	}
	s.clock.sent = sent
	self, join := s.self, !s.joined
	s.mu.Unlock()
	err := s.ledger.beat(ctx, self, join)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	switch {
	case err == nil:
		// A standby cannot have seen the beat earlier than it was sent.
		s.joined, s.clock.acked = true, sent
		s.schedule()
	case errors.Is(err, ErrFenced):
		s.lose(errors.New("the other replicas have ended the session"))
		s.self.instance, s.joined, s.clock = newInstance(), false, clock{}
		s.soon()
	}
}

// schedule looks again when nothing is left.
func (s *session) schedule() {
	wait := s.clock.left(now(), s.lasts)
	if s.expiry == nil {
		s.expiry = time.AfterFunc(wait, s.expire)
		return
	}
	s.expiry.Reset(wait)
}

// expire ends the leases when no beat was acknowledged for too long.
func (s *session) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clock.left(now(), s.lasts) > 0 {
		s.schedule()
		return
	}
	s.lose(fmt.Errorf("no beat was acknowledged for %s", s.lasts))
}

// lose ends all leases; those acquired from now on have another life.
func (s *session) lose(why error) {
	s.end(fmt.Errorf("%w: %w", ErrLost, why))
	s.life, s.end = context.WithCancelCause(context.Background())
}

var errNotJoined = errors.New("this replica is not known to be a member")

func newInstance() string { return rand.Text()[:12] }
