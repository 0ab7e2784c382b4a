package app

import (
	"cmp"
	"slices"
	"time"

	"github.com/cxbridge/watcher/internal/admin"
	"github.com/cxbridge/watcher/internal/cluster"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/internal/follow"
	"github.com/cxbridge/watcher/internal/plain"
	"github.com/cxbridge/watcher/pkg/resume"
)

// checks are the conditions of /readyz. They ask nobody, so that they answer
// while MongoDB is away too.
func (a *App) checks() []admin.Check {
	return []admin.Check{
		{Name: "bots", Ready: a.bots.Ready},
		{Name: "settings", Ready: a.settings.Ready},
		{Name: "holds", Ready: a.holds.Ready},
		{Name: "leases", Ready: a.partitions.LeasesKnown},
		{Name: "cursor", Ready: a.partitions.CursorsOpen},
		{Name: "polls", Ready: a.partitions.PollsSucceed},
	}
}

// Status implements admin.Source.
func (a *App) Status() admin.Page {
	group, totals := a.group.Status(), a.dispatcher.Totals()
	page := admin.Page{
		Name: a.cfg.Name, Version: cmp.Or(a.version, "unknown"), Owner: group.Owner, Started: a.partitions.Begun(),
		Replicas:   group.Members,
		Partitions: a.partitionRows(),
		Pending:    totals.Pending, Sending: totals.Sending, Slots: totals.Slots,
		Ended: totals.Ended, Skipped: totals.Skipped,
		Outcomes: a.lastOutcomes(),
		Cluster:  a.cluster.Summary(),
	}
	if notice := a.notice.Load(); notice != nil {
		page.Notices = []string{*notice}
	}
	fillFromCluster(&page)
	a.addBots(&page)
	return page
}

// partitionRows is what stands on the page of each partition.
func (a *App) partitionRows() []admin.Partition {
	all := a.partitions.Status()
	rows := make([]admin.Partition, len(all))
	for i := range all {
		rows[i] = a.partitionRow(&all[i])
	}
	return rows
}

func (a *App) partitionRow(s *follow.Status) admin.Partition {
	row := admin.Partition{
		Name: s.Partition.String(), Owner: s.Owner, Ours: s.Ours, Term: s.Term,
		Position: s.Position.Time(), SavedAt: s.SavedAt, Pending: s.Pending,
	}
	if s.Stream != nil {
		row.Oldest = spanOf(s.Oldest)
		row.Reading, row.LastPoll = s.Stream.Open, s.Stream.LastPoll
		if s.Stream.LagKnown {
			row.Lag = spanOf(s.Stream.Lag)
		}
		if s.Stream.Err != nil {
			row.Error = a.secrets.Redact(plain.Error(s.Stream.Err))
		}
	}
	if s.Ours && s.OplogKnown && !row.Position.IsZero() {
		oldest := resume.ClockTime(s.Oplog.Oldest)
		row.Headroom = spanOf(max(0, row.Position.Sub(oldest)))
		row.Oplog = spanOf(resume.ClockTime(s.Oplog.Newest).Sub(oldest))
	}
	return row
}

// fillFromCluster adds what MongoDB says of the partitions that other replicas read.
func fillFromCluster(page *admin.Page) {
	if page.Cluster == nil {
		return
	}
	for i := range page.Partitions {
		row := &page.Partitions[i]
		at := slices.IndexFunc(page.Cluster.Partitions, func(p cluster.Partition) bool { return p.Name == row.Name })
		if row.Ours || at < 0 {
			continue
		}
		p := &page.Cluster.Partitions[at]
		row.Lag, row.Headroom, row.Oplog = p.Lag, p.Headroom, page.Cluster.Oplog
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
	for _, l := range a.dispatcher.Queue().Lanes() {
		page.Lanes = append(page.Lanes, admin.Lane{
			Destination: l.Label, Bots: slices.Clone(names[l.Key]),
			State: l.State.String(), Until: l.Until, Active: l.Active, Allowed: l.Allowed, Limit: l.Limit,
			Waiting: l.Waiting, Deferrals: l.Deferrals,
			Problem: admin.Problem{
				Text: a.secrets.Redact(dispatch.ProblemText(l.Problem)), Since: l.Problem.Since, Last: l.Problem.Last, Times: l.Problem.Times,
			},
		})
	}
}

func (a *App) lastOutcomes() []admin.Outcome {
	recent := a.dispatcher.Recent()
	for i := range recent {
		recent[i].Why = a.secrets.Redact(recent[i].Why)
	}
	return recent
}
