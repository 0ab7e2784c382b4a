package inspect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/pkg/resume"
	"github.com/cxbridge/watcher/pkg/stream"
)

// The bounds of a list.
const (
	// MostRows is how many rows a list has at most.
	MostRows = 10_000
	// DefaultRows is how many it has when the query does not say.
	DefaultRows = 50
	// DefaultSpan is how far back a list looks when the query does not say.
	DefaultSpan = 24 * time.Hour

	mostRead = 500_000
	listTime = 60 * time.Second
)

var (
	errListRead = fmt.Errorf("it stopped after %d documents", mostRead)
	errListTime = fmt.Errorf("it stopped after %s", listTime)
)

// States are all states, in the order in which they are shown.
var States = []State{StateMissing, StateFailed, StateRejected, StateHeld, StateDue, StateSkipped, StateOK}

// ParseStates reads states; each is one of States.
func ParseStates(texts []string) ([]State, error) {
	var states []State
	for _, text := range texts {
		s := State(text)
		if !slices.Contains(States, s) {
			return nil, fmt.Errorf("%q is not failed, rejected, missing, due, held, skipped or ok", text)
		}
		if !slices.Contains(states, s) {
			states = append(states, s)
		}
	}
	slices.Sort(states)
	return states, nil
}

// List finds the calls of a query: the newest results first, as many as Limit
// says. Without a time it looks at the last 24 hours, but at all of the past for
// named sessions, for a replay, and for calls that are due or held. It reads at most
// 500,000 documents and for 60 s, and says in Partial when that was not enough. A
// bot that is not known is a *bots.FindError.
func (i *Inspector) List(ctx context.Context, q Query) (List, error) {
	n := min(max(q.Limit, 0), MostRows)
	if q.Limit <= 0 {
		n = DefaultRows
	}
	newest := newestRows{most: n}
	list, err := i.each(ctx, q, newest.add)
	list.Rows = newest.sorted()
	return list, err
}

// each hands over all calls of a query within the bounds, and returns the list
// without its rows.
func (i *Inspector) each(ctx context.Context, q Query, fn func(*Found)) (List, error) {
	now := time.Now()
	list := List{Rows: []Row{}, States: make(map[State]int)}
	bounded, cancel := context.WithTimeoutCause(ctx, listTime, errListTime)
	defer cancel()
	selection, err := i.selection(bounded, &q)
	if err != nil {
		return list, err
	}
	q.bound(now)
	list.Since, list.Until = q.Since, q.Until
	counted := counter{Selector: selection.Store, read: &list.Read}
	selection.Store = &counted
	add := func(f *Found) error {
		list.Total++
		list.States[f.State]++
		fn(f)
		return nil
	}
	err = selection.Each(bounded, q, now, add)
	if err == nil {
		err = i.noResults(bounded, &q, selection.Bots, &list.Read, add)
	}
	switch {
	case errors.Is(err, errListRead):
		list.Partial = errListRead.Error()
	case err != nil && ctx.Err() == nil && bounded.Err() != nil:
		list.Partial = errListTime.Error()
	case err != nil:
		return list, err
	}
	if list.Partial != "" && !selection.NewestFirst {
		list.Partial += "; an index " + calls.TimeIndex + " on the calls makes it quick"
	}
	return list, nil
}

// bound gives a query the time that it leaves open. What is found without a time has
// no end either: clocks that go ahead hide nothing.
func (q *Query) bound(now time.Time) {
	if q.onlyDue() || len(q.Sessions) > 0 || q.ReplayID != "" {
		return
	}
	if q.Until.IsZero() {
		q.Until = now.UTC().Truncate(time.Millisecond)
	}
	if q.Since.IsZero() {
		q.Since = q.Until.Add(-DefaultSpan)
	}
}

// counter bounds how many documents are read.
type counter struct {
	Selector
	read *int
}

// Select implements Selector.
func (c *counter) Select(ctx context.Context, q calls.Stored, fn func(calls.Call) error) error {
	return c.Selector.Select(ctx, q, func(call calls.Call) error {
		if *c.read == mostRead {
			return errListRead
		}
		*c.read++
		return fn(call)
	})
}

// selection reads what calls are told by, and resolves the bots of the query.
func (i *Inspector) selection(ctx context.Context, q *Query) (*Selection, error) {
	all, err := bots.ReadAll(ctx, i.o.Bots, i.o.Compile)
	if err != nil {
		return nil, err
	}
	store := calls.NewStore(i.o.Calls)
	s := &Selection{Store: store, Bots: bots.NewSet(all), Skips: i.skipLog()}
	if q.Bots, err = BotIDs(s.Bots, q.Bots); err != nil {
		return nil, err
	}
	q.Hosts = lower(q.Hosts)
	if s.Positions, err = i.positions(ctx); err != nil {
		return nil, err
	}
	if s.Holds, err = i.holds(ctx); err != nil {
		return nil, err
	}
	if s.NewestFirst, err = store.HasTimeIndex(ctx); err != nil {
		s.NewestFirst = false // the right to list indexes may be missing
	}
	return s, nil
}

// Selection reads what the calls of a query are told by, for who looks at all of
// them. The bots of the query are ids afterwards.
func (i *Inspector) Selection(ctx context.Context, q *Query) (*Selection, error) {
	return i.selection(ctx, q)
}

// BotIDs are the ids of bots that are named by id or by name. The error joins a
// *bots.FindError for each that is not known.
func BotIDs(set *bots.Set, texts []string) ([]string, error) {
	var ids []string
	var bad []error
	for _, text := range texts {
		b, err := set.Find(text)
		if err != nil {
			bad = append(bad, err)
			continue
		}
		ids = append(ids, b.ID)
	}
	return ids, errors.Join(bad...)
}

func lower(texts []string) []string {
	var all []string
	for _, t := range texts {
		all = append(all, strings.ToLower(strings.TrimSpace(t)))
	}
	return all
}

func (i *Inspector) positions(ctx context.Context) ([]resume.Record, error) {
	store, err := resume.NewStore(i.o.Resume, i.o.Name)
	if err != nil {
		return nil, err
	}
	return store.Records(ctx)
}

// Alive reports whether a watcher of the name is alive, or was until a moment ago, by
// the server's clock.
func (i *Inspector) Alive(ctx context.Context) (bool, error) {
	records, err := i.positions(ctx)
	if err != nil {
		return false, err
	}
	now, _, err := stream.ServerTime(ctx, i.o.Resume.Database().Client())
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(records, func(r resume.Record) bool { return r.Lives(now) }), nil
}

func (i *Inspector) holds(ctx context.Context) (*hold.Set, error) {
	if i.o.Holds == nil {
		return nil, nil
	}
	return i.o.Holds(ctx)
}

// newestRows keeps the newest calls of many.
type newestRows struct {
	most int
	rows []Row
	full bool      // there were more
	than time.Time // the oldest that was kept then
}

func (n *newestRows) add(f *Found) {
	if n.full && !f.Call.CompletedAt.After(n.than) {
		return
	}
	n.rows = append(n.rows, f.row())
	if len(n.rows) > 2*n.most {
		n.rows = slices.Clip(n.sorted())
		n.full, n.than = true, n.rows[len(n.rows)-1].CompletedAt
	}
}

// sorted cuts to the newest and returns them, the newest first.
func (n *newestRows) sorted() []Row {
	slices.SortStableFunc(n.rows, func(a, b Row) int { return b.CompletedAt.Compare(a.CompletedAt) })
	n.rows = n.rows[:min(len(n.rows), n.most)]
	if n.rows == nil {
		return []Row{}
	}
	return n.rows
}
