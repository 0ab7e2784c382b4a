package resume

import (
	"context"
	"crypto/rand"
	"errors"
	"time"
)

// Ledger is where the records of one name stand: a *Store, or a *Memory in tests.
// Every write is a compare-and-set: it fails with ErrFenced when the record has
// moved on since it was seen.
type Ledger interface {
	// Name is the identity under which progress is stored.
	Name() string
	// Record returns the record of one partition; false when there is none.
	Record(ctx context.Context, p Partition) (Record, bool, error)
	// Reset moves the stored position of one partition, on behalf of an operator.
	// It raises the term, so it wins over a running holder: the holder's next look
	// (within a second) or save finds the new term, it stops with ErrReset and
	// whoever takes the lease next starts at the new place. A late save of the old
	// position cannot undo it. Reset makes the record if there is none, and mends a
	// damaged one. The zero position means: as if there never was one.
	Reset(ctx context.Context, p Partition, to Position, r Reset) error

	// look returns all records: partitions, members and the layout.
	look(ctx context.Context) ([]Record, error)
	// acquire raises the term and makes m the holder. It returns the record as it is
	// then: a holder may have saved between the look and its release.
	acquire(ctx context.Context, seen Record, m member) (Record, error)
	// put changes the record with this id; a seen record without an ID means that
	// there was none.
	put(ctx context.Context, id string, seen Record, c change) error
	// remove deletes a record; one that has moved on stays, without an error.
	remove(ctx context.Context, seen Record) error
	// beat moves the beat of a member on. Only with join is the member's record made;
	// without, ErrFenced means that it was removed: the others hold m for dead.
	beat(ctx context.Context, m member, join bool) error
}

// member is one running Group, as the others know it.
type member struct {
	owner      string
	instance   string
	lease      time.Duration
	partitions int
	leaving    bool
	version    string
}

// change is what put writes. Nil parts stay as they are.
type change struct {
	what   string // is done, for errors
	term   int64  // from now on; as it was where the holder writes
	holder *member
	saved  *saved
	reset  *Reset
	layout *layout
}

// saved is a position with what is saved beside it.
type saved struct {
	position Position
	origin   Origin
	savedAt  time.Time
}

// Origin says where a position came from; a token is good only there.
type Origin struct {
	ReplicaSet string // name of the cluster
	Pipeline   string // hash of the pipeline
}

// layout is the number of partitions in which the replicas of a name work.
type layout struct {
	partitions int
	complete   bool // each partition has its record and no other number has any
}

// reset is Ledger.Reset.
func reset(ctx context.Context, l Ledger, p Partition, to Position, r Reset) error {
	if r.ID == "" {
		r.ID = rand.Text()
	}
	for {
		seen, _, err := l.Record(ctx, p)
		if err != nil {
			return err
		}
		c := change{what: "reset the position", term: nextTerm(seen), saved: &saved{position: to, savedAt: r.At}, reset: &r}
		if seen.Damage != nil {
			c.holder = &member{} // it cannot be trusted either
		}
		// Refused means that the holder changed in between: look again. Holders
		// change rarely, so this ends.
		if err = l.put(ctx, p.ID(l.Name()), seen, c); !errors.Is(err, ErrFenced) {
			return err
		}
	}
}

// nextTerm is one more than the seen term. A term that cannot be read may have
// been anything, so the clock gives one that is far above any counted one.
func nextTerm(seen Record) int64 {
	if seen.ID != "" && seen.Damage != nil && seen.Term == 0 {
		return time.Now().Unix()
	}
	return seen.Term + 1
}
