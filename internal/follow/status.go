package follow

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cxbridge/watcher/internal/plain"
	"github.com/cxbridge/watcher/pkg/resume"
	"github.com/cxbridge/watcher/pkg/stream"
)

// leasesStale is how long the leases may be unread before nobody can say who
// holds them: by then every lease that was seen has run out.
const leasesStale = 2 * resume.DefaultLease

// LeasesKnown is nil when it is known who holds which partition.
func (p *Partitions) LeasesKnown() error {
	status := p.o.Leases.Status()
	switch {
	case !status.Known && status.Err != nil:
		return fmt.Errorf("the leases are not known yet: %w", status.Err)
	case !status.Known:
		return errors.New("the leases are not known yet")
	case status.Err != nil && time.Since(status.ReadAt) > leasesStale:
		return fmt.Errorf("the leases could not be read for %s: %w", plain.Duration(time.Since(status.ReadAt)), status.Err)
	}
	return nil
}

// CursorsOpen is nil when each partition has a reader, and those of this
// replica have an open cursor. While nothing is known of the leases, nobody reads.
func (p *Partitions) CursorsOpen() error {
	status := p.o.Leases.Status()
	if !status.Known {
		return errors.New("nothing is read yet")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, part := range status.Partitions {
		f := p.followers[part.Partition.Index]
		if f == nil {
			if part.Ours || part.Owner == "" {
				return fmt.Errorf("partition %s: nobody reads it yet", part.Partition)
			}
			continue
		}
		if s := f.Status(); !s.Open {
			return fmt.Errorf("partition %s: %w", part.Partition, cmp.Or(s.Ready(time.Now()), errNotOpen))
		}
	}
	return nil
}

var errNotOpen = errors.New("the stream is not open")

// PollsSucceed is nil when the last poll of each stream came back not long ago.
func (p *Partitions) PollsSucceed() error {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for index, f := range p.followers {
		switch last := f.Status().LastPoll; {
		case last.IsZero():
			return fmt.Errorf("partition %d: no poll has come back yet", index)
		case now.Sub(last) > p.o.Stale:
			return fmt.Errorf("partition %d: no poll has come back for %s", index, plain.Duration(now.Sub(last)))
		}
	}
	return nil
}

// Standby says who reads while this replica holds nothing; "" when it holds a
// partition, or nobody does.
func (p *Partitions) Standby() string {
	var who []string
	for _, part := range p.o.Leases.Status().Partitions {
		if part.Ours || part.Owner == "" {
			return ""
		}
		who = append(who, part.Owner+" reads "+part.Partition.String())
	}
	return strings.Join(who, ", ")
}

// Status is one partition as this replica knows it.
type Status struct {
	resume.PartitionStatus
	Stream     *stream.Status // nil when another replica reads it
	Pending    int            // events that are not done
	Oldest     time.Duration  // since when the oldest of these is pending
	Oplog      resume.Window
	OplogKnown bool
}

// Status is all partitions.
func (p *Partitions) Status() []Status {
	group := p.o.Leases.Status()
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]Status, 0, len(group.Partitions))
	for _, part := range group.Partitions {
		s := Status{PartitionStatus: part, Oplog: p.oplog, OplogKnown: p.oplogKnown}
		if f := p.followers[part.Partition.Index]; f != nil {
			status := f.Status()
			s.Stream = &status
		}
		if t := p.trackers[part.Partition.Index]; t != nil {
			s.Pending, s.Oldest = t.Pending(), t.OldestPending(now)
		}
		all = append(all, s)
	}
	return all
}
