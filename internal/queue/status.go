package queue

import "time"

// State is what a lane is in.
type State uint8

// The states of a lane.
const (
	Closed     State = iota // the breaker is closed: all is normal
	ToldToWait              // the destination asked to wait
	Open                    // the breaker is open: the destination is down
	HalfOpen                // one job finds out whether it still is: the one that runs, else the next
	stateCount
)

var stateNames = [...]string{"closed", "told_to_wait", "open", "half_open"}

var _ [stateCount]struct{} = [len(stateNames)]struct{}{}

func (s State) String() string { return stateNames[s] }

func (l *lane) state(now time.Time) State {
	switch {
	case l.breaker.probing(now):
		return HalfOpen
	case l.breaker.open:
		return Open
	case l.waitUntil.After(now):
		return ToldToWait
	}
	return Closed
}

// Status is how one lane does.
type Status struct {
	Key       string
	Label     string
	State     State
	Until     time.Time // when a lane that is open or told to wait takes jobs again; zero when it does
	Active    int       // jobs that run
	Allowed   int       // of them at most now
	Limit     int       // of them at most ever
	Waiting   int       // jobs that wait here for their turn
	Deferrals int       // since it last went well; a job that comes back and is deferred once more is two
	Problem   Problem
}

// Lanes is how the lanes do that were used in the last half hour, in no order.
func (q *Queue) Lanes() []Status {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make([]Status, 0, len(q.byKey))
	for key, l := range q.byKey {
		all = append(all, Status{
			Key: key, Label: l.label, State: l.state(now), Until: l.blockedUntil(now),
			Active: l.active, Allowed: l.allowed(now), Limit: l.limit.max,
			Waiting: l.waiting(), Deferrals: l.deferrals, Problem: l.problem,
		})
	}
	return all
}

// Room is what a lane has left for jobs of a class.
type Room struct {
	Jobs    int  // that it has room for; 0 until there is room for as many as wait already
	Blocked bool // its breaker is open, or it was told to wait
}

// Rooms returns how many more jobs of a class each lane has room for.
func (q *Queue) Rooms(c Class) map[string]Room {
	now := time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	rooms := make(map[string]Room, len(q.byKey))
	for key, l := range q.byKey {
		switch room := l.room(c); {
		case !l.blockedUntil(now).IsZero():
			rooms[key] = Room{Blocked: true}
		case room > l.queue[c].len() && q.mayHold(l, 0, true):
			rooms[key] = Room{Jobs: room}
		default:
			rooms[key] = Room{}
		}
	}
	return rooms
}

// Down reports whether the breaker of a lane is open, or half open.
func (q *Queue) Down(key string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.byKey[key]
	return l != nil && l.breaker.open
}

// DownKeys returns the lanes whose breaker is open, or half open.
func (q *Queue) DownKeys() map[string]bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	down := make(map[string]bool)
	for key, l := range q.byKey {
		if l.breaker.open {
			down[key] = true
		}
	}
	return down
}
