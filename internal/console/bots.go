package console

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/internal/inspect"
)

const (
	maxBots     = 200
	maxWarnings = 200
	healthSpan  = 24 * time.Hour // the results that the health of a bot speaks of
)

// botRow is a bot as the list shows it.
type botRow struct {
	*bots.Bot
	Host   string
	Health string
	Tone   string
	States map[inspect.State]int // its calls of the last day
	Faults int                   // warnings that make a push impossible, or likely are mistakes
	Hold   *hold.Hold

	rank int // worse ones are lower
}

// Path is the page of the bot.
func (b *botRow) Path() string { return botPath(b.ID) }

func botPath(id string) string { return "/bots/" + url.PathEscape(id) }

// newBotRow says how a bot is.
func newBotRow(b *bots.Bot, set *hold.Set, states map[inspect.State]int, now time.Time) botRow {
	row := botRow{Bot: b, States: states, Hold: set.For(b, now)}
	if b.Push != nil {
		row.Host = b.Push.Host()
	}
	for _, w := range b.Warnings {
		if w.Level != bots.LevelInfo {
			row.Faults++
		}
	}
	row.rank, row.Health, row.Tone = healthOf(b, row.Hold, states)
	return row
}

// healthOf is the health of a bot in a word, the worst first.
func healthOf(b *bots.Bot, h *hold.Hold, states map[inspect.State]int) (rank int, health, tone string) {
	bad := badOf(states)
	switch {
	case b.Push == nil:
		return 9, "does not push", "calm"
	case h != nil:
		return 2, "held", "warn"
	case !b.Push.Enabled:
		return 8, "disabled", "calm"
	case !b.Usable():
		return 0, "cannot push", "bad"
	case !b.Push.HasURL:
		return 7, "has no URL", "calm"
	case bad > 0 && states[inspect.StateOK] == 0:
		return 1, "all fail", "bad"
	case bad > 0:
		return 3, "some fail", "warn"
	case states[inspect.StateOK] > 0:
		return 5, "fine", "good"
	default:
		return 6, "no calls", "calm"
	}
}

// badOf is how many calls went wrong.
func badOf(states map[inspect.State]int) int {
	n := 0
	for _, s := range wentWrong() {
		n += states[s]
	}
	return n
}

// botsPage is what the page of the bots shows.
type botsPage struct {
	Search string
	Rows   []botRow
	Left   int
	Total  int
	Note   string // why the counts are not whole
}

func (c *Console) bots(ctx context.Context, r *request) (view, error) {
	now := time.Now()
	groups, list, err := c.o.Answers.Groups(ctx, inspect.Query{Since: now.Add(-healthSpan), Limit: 1}, inspect.ByBot)
	if err != nil {
		return view{}, err
	}
	holds, err := c.o.Holds.List(ctx)
	if err != nil {
		return view{}, err
	}
	byBot := make(map[string]map[inspect.State]int, len(groups))
	for i := range groups {
		byBot[groups[i].Key] = groups[i].States
	}
	set := hold.NewSet(holds)
	all := c.o.Bots()
	p := botsPage{Search: strings.TrimSpace(line(r.URL.Query().Get("q"), maxField)), Total: all.Len(), Note: list.Partial}
	for _, b := range all.All() {
		row := newBotRow(b, set, byBot[b.ID], now)
		if p.matches(&row) {
			p.Rows = append(p.Rows, row)
		}
	}
	slices.SortFunc(p.Rows, func(a, b botRow) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	p.Left = max(0, len(p.Rows)-maxBots)
	p.Rows = p.Rows[:min(len(p.Rows), maxBots)]
	return view{page: "bots", Title: "Bots", Data: &p}, nil
}

func (p *botsPage) matches(b *botRow) bool {
	search := strings.ToLower(p.Search)
	return strings.Contains(strings.ToLower(b.Name), search) || strings.Contains(strings.ToLower(b.ID), search) ||
		strings.Contains(b.Host, search) || b.Health == search
}

// botPage is what the page of one bot shows.
type botPage struct {
	botRow
	Lint     []bots.Warning
	LintLeft int
	Holds    []hold.Hold // that cover it, those that are over included
	Groups   []inspect.Group
	Filter   filter // of its calls
	Calls    int
	Note     string
	Fills    fills
	Trial    trial
}

func (c *Console) bot(ctx context.Context, r *request) (view, error) {
	b, err := c.botOf(r)
	if err != nil {
		return view{}, err
	}
	return c.botView(ctx, b, trial{})
}

func (c *Console) botOf(r *request) (*bots.Bot, error) {
	b := c.o.Bots().Named(r.PathValue("id"))
	if b == nil {
		return nil, notFound("No bot has the id %q.", line(r.PathValue("id"), maxField))
	}
	return b, nil
}

func (c *Console) botView(ctx context.Context, b *bots.Bot, tried trial) (view, error) {
	now := time.Now()
	groups, list, err := c.o.Answers.Groups(ctx, inspect.Query{Bots: []string{b.ID}, Since: now.Add(-healthSpan), Limit: 1}, inspect.ByError)
	if err != nil {
		return view{}, err
	}
	holds, err := c.o.Holds.List(ctx)
	if err != nil {
		return view{}, err
	}
	states := make(map[inspect.State]int)
	for i := range groups {
		for s, n := range groups[i].States {
			states[s] += n
		}
	}
	read := c.fills.of(ctx, c, b)
	p := botPage{
		botRow: newBotRow(b, hold.NewSet(holds), states, now), Lint: slices.Concat(b.Warnings, b.Lint(nil, c.o.Seeds), read.Warnings),
		Fills: read, Trial: tried,
		Filter: filter{Bot: b.ID, Since: defaultSince, By: inspect.ByError}, Calls: list.Total, Note: list.Partial,
	}
	worstFirst(p.Lint)
	p.LintLeft = max(0, len(p.Lint)-maxWarnings)
	p.Lint = p.Lint[:min(len(p.Lint), maxWarnings)]
	// What went well is in the counts already.
	p.Groups = slices.DeleteFunc(groups, func(g inspect.Group) bool { return len(g.States) == 1 && g.States[inspect.StateOK] > 0 })
	p.Groups = p.Groups[:min(len(p.Groups), maxGroups)]
	for _, h := range holds {
		if h.Covers(b) {
			p.Holds = append(p.Holds, h)
		}
	}
	slices.SortFunc(p.Holds, func(a, b hold.Hold) int { return b.From.Compare(a.From) })
	p.Holds = p.Holds[:min(len(p.Holds), maxRows)]
	v := view{page: "bot", Title: "Bot " + line(cmp.Or(b.Name, b.ID), 60), Data: &p}
	if tried.Problem != "" {
		v.status = http.StatusBadRequest
	}
	return v, nil
}

func worstFirst(all []bots.Warning) {
	ranks := []bots.Level{bots.LevelError, bots.LevelWarning, bots.LevelInfo}
	slices.SortStableFunc(all, func(a, b bots.Warning) int { return slices.Index(ranks, a.Level) - slices.Index(ranks, b.Level) })
}

// PushPath is where those of its calls are pushed again that went wrong, "" without
// any.
func (p *botPage) PushPath() string {
	if badOf(p.States) == 0 {
		return ""
	}
	f := filter{Bot: p.ID, States: wentWrong(), Since: defaultSince}
	return f.Push()
}

// HoldsNow are the holds that keep calls back at this moment.
func (p *botPage) HoldsNow() []hold.Hold {
	now := time.Now()
	return slices.DeleteFunc(slices.Clone(p.Holds), func(h hold.Hold) bool { return !h.Active(now) })
}

// HeldCalls is how many of the calls wait for a release.
func (p *botPage) HeldCalls() int { return p.States[inspect.StateHeld] }

// ReleaseOf is where a hold is released.
func (p *botPage) ReleaseOf(id string) string {
	return "/acts/new?" + url.Values{"do": {string(doRelease)}, "id": {id}, "back": {p.Path()}}.Encode()
}
