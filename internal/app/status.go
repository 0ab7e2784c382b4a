package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cxbridge/watcher/internal/admin"
	"github.com/cxbridge/watcher/internal/plain"
	"github.com/cxbridge/watcher/pkg/resume"
	"github.com/cxbridge/watcher/pkg/stream"
)

// leasesStale is how long the leases may be unread before nobody can say who
// holds them: by then every lease that was seen has run out.
const leasesStale = 2 * resume.DefaultLease

// checks are the conditions of /readyz. They ask nobody, so that they answer
// while MongoDB is away too.
func (a *App) checks() []admin.Check {
	return []admin.Check{
		{Name: "bots", Ready: a.bots.Ready},
		{Name: "settings", Ready: a.settings.Ready},
		{Name: "leases", Ready: a.partitions.leasesKnown},
		{Name: "cursor", Ready: a.partitions.cursorsOpen},
		{Name: "polls", Ready: a.partitions.pollsSucceed},
	}
}

// ready is nil when each partition that this replica holds has an open stream
// whose polls succeed, or when others hold all of them.
func (p *partitions) ready() error {
	return errors.Join(p.leasesKnown(), p.cursorsOpen(), p.pollsSucceed())
}

func (p *partitions) leasesKnown() error {
	status := p.app.group.Status()
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

// cursorsOpen is nil when each partition has a reader, and those of this
// replica have an open cursor. While nothing is known of the leases, nobody reads.
func (p *partitions) cursorsOpen() error {
	status := p.app.group.Status()
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

// pollsSucceed is nil when the last poll of each stream came back not long ago.
func (p *partitions) pollsSucceed() error {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for index, f := range p.followers {
		at := resume.Partition{Index: index, Of: p.app.cfg.Partitions}
		switch last := f.Status().LastPoll; {
		case last.IsZero():
			return fmt.Errorf("partition %s: no poll has come back yet", at)
		case now.Sub(last) > p.stale:
			return fmt.Errorf("partition %s: no poll has come back for %s", at, plain.Duration(now.Sub(last)))
		}
	}
	return nil
}

// standby says who reads while this replica holds nothing; "" when it holds a
// partition, or nobody does.
func (p *partitions) standby() string {
	status := p.app.group.Status()
	var who []string
	for _, part := range status.Partitions {
		if part.Ours || part.Owner == "" {
			return ""
		}
		who = append(who, part.Owner+" reads "+part.Partition.String())
	}
	return strings.Join(who, ", ")
}

// window asks for the span of the oplog, and keeps the answer for the status page.
func (p *partitions) window(ctx context.Context) (resume.Window, bool) {
	w, ok := stream.WindowOf(p.app.client)(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.oplog, p.oplogKnown = w, ok
	return w, ok
}

// Status implements admin.Source.
func (a *App) Status() admin.Page {
	group, totals := a.group.Status(), a.dispatcher.Totals()
	page := admin.Page{
		Name: a.cfg.Name, Version: cmp.Or(a.version, "unknown"), Owner: group.Owner, Started: a.partitions.begun,
		Replicas:   group.Members,
		Partitions: a.partitions.status(group),
		Pending:    totals.Pending, Sending: totals.Sending, Slots: totals.Slots,
		Ended: totals.Ended, Skipped: totals.Skipped,
		Outcomes: a.lastOutcomes(),
	}
	a.addBots(&page)
	return page
}

// status is what stands on the page of each partition.
func (p *partitions) status(group resume.GroupStatus) []admin.Partition {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]admin.Partition, 0, len(group.Partitions))
	for _, part := range group.Partitions {
		row := admin.Partition{
			Name: part.Partition.String(), Owner: part.Owner, Ours: part.Ours, Term: part.Term,
			Position: part.Position.Time(), SavedAt: part.SavedAt,
		}
		if f := p.followers[part.Partition.Index]; f != nil {
			p.addFollower(&row, f.Status())
		}
		if t := p.trackers[part.Partition.Index]; t != nil {
			row.Pending = t.Pending()
			row.Oldest = spanOf(t.OldestPending(now))
		}
		if row.Ours && p.oplogKnown && !row.Position.IsZero() {
			oldest := resume.ClockTime(p.oplog.Oldest)
			row.Headroom = spanOf(max(0, row.Position.Sub(oldest)))
			row.Oplog = spanOf(resume.ClockTime(p.oplog.Newest).Sub(oldest))
		}
		all = append(all, row)
	}
	return all
}

func (p *partitions) addFollower(row *admin.Partition, s stream.Status) {
	row.Reading, row.LastPoll = s.Open, s.LastPoll
	if s.LagKnown {
		row.Lag = spanOf(s.Lag)
	}
	if s.Err != nil {
		row.Error = p.app.secrets.Redact(plain.Error(s.Err))
	}
}

func spanOf(d time.Duration) *admin.Span {
	s := admin.Span(d)
	return &s
}

// addBots adds the bots that cannot push, and the destinations with the names
// of those that push there.
func (a *App) addBots(page *admin.Page) {
	set := a.bots.Set()
	names := make(map[string][]string)
	page.Bots = set.Len()
	for _, b := range set.All() {
		switch {
		case b.Push == nil || !b.Push.Enabled:
		case b.Usable():
			names[b.Push.Destination] = append(names[b.Push.Destination], cmp.Or(b.Name, b.ID))
		default:
			page.Faulty = append(page.Faulty, admin.FaultyBot{ID: b.ID, Name: b.Name, Why: a.secrets.Redact(b.FaultText())})
		}
	}
	for _, l := range a.dispatcher.Lanes() {
		page.Lanes = append(page.Lanes, admin.Lane{
			Destination: l.URL, Bots: slices.Clone(names[l.Key]),
			State: l.State, Until: l.Until, Active: l.Active, Allowed: l.Allowed, Limit: l.Limit,
			Waiting: l.Waiting, PutOff: l.PutOff,
			Problem: admin.Problem{
				Text: a.secrets.Redact(l.Problem.Text), Since: l.Problem.Since, Last: l.Problem.Last, Times: l.Problem.Times,
			},
		})
	}
}

func (a *App) lastOutcomes() []admin.Outcome {
	recent := a.dispatcher.Recent()
	all := make([]admin.Outcome, 0, len(recent))
	for i := range recent {
		o := &recent[i]
		all = append(all, admin.Outcome{
			At: o.At, Bot: cmp.Or(o.BotName, o.BotID), CallID: o.CallID, Destination: o.URL,
			Status: string(o.Status), HTTPStatus: o.HTTPStatus, Attempts: o.Attempts,
			Elapsed: admin.Span(o.Elapsed), Why: a.secrets.Redact(o.Why), Next: o.Next,
		})
	}
	return all
}
