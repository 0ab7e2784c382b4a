package admin

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/cxbridge/watcher/internal/plain"
)

// The most rows of each table: a page stays small however much there is.
const (
	maxLanes    = 50
	maxFaulty   = 50
	maxOutcomes = 50
	maxBotNames = 3
	maxAdvice   = 12
	// maxText is how many characters of a text of others are shown.
	maxText = 300
)

// From here on the page says that something needs attention.
const (
	muchLag        = time.Minute
	littleHeadroom = 4 // one part of the oplog in: a position in its oldest quarter
)

// prepared is a Source's page as it may be shown.
func prepared(p Page, health Health) Page {
	p.Now = time.Now().UTC()
	p.Health = health
	p.bound()
	p.mask()
	p.Attention = p.advice()
	return p
}

// bound orders the rows and cuts the tables.
func (p *Page) bound() {
	slices.SortFunc(p.Lanes, func(a, b Lane) int {
		return cmp.Or(
			cmp.Compare(b.severity(), a.severity()),
			cmp.Compare(b.Waiting+b.Deferrals, a.Waiting+a.Deferrals),
			cmp.Compare(a.Destination, b.Destination),
		)
	})
	slices.SortFunc(p.Faulty, func(a, b FaultyBot) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	p.Lanes, p.LanesLeft = first(p.Lanes, maxLanes)
	p.Faulty, p.FaultyLeft = first(p.Faulty, maxFaulty)
	p.Outcomes, _ = first(p.Outcomes, maxOutcomes)
	for i := range p.Lanes {
		l := &p.Lanes[i]
		slices.Sort(l.Bots)
		l.Bots, l.BotsLeft = first(l.Bots, maxBotNames)
	}
}

func first[T any](all []T, most int) ([]T, int) {
	if len(all) <= most {
		return all, 0
	}
	return all[:most], len(all) - most
}

// severity orders lanes: what takes no call is worse than what refuses some.
func (l *Lane) severity() int {
	rank := map[string]int{"open": 4, "half_open": 3, "told_to_wait": 2}[l.State]
	if rank == 0 && l.Problem.Times > 0 {
		rank = 1
	}
	return rank
}

// mask takes out of the page what could lead to a customer, and what could be a
// credential by its looks. What the watcher knows to be secret is gone already.
func (p *Page) mask() {
	for name, why := range p.Health.Checks {
		p.Health.Checks[name] = shown(why)
	}
	for i := range p.Partitions {
		p.Partitions[i].Error = shown(p.Partitions[i].Error)
	}
	for i := range p.Lanes {
		l := &p.Lanes[i]
		l.Destination = place(l.Destination)
		l.Problem.Text = shown(l.Problem.Text)
		for j, name := range l.Bots {
			l.Bots[j] = shown(name)
		}
	}
	for i := range p.Outcomes {
		o := &p.Outcomes[i]
		o.Destination = place(o.Destination)
		o.CallID, o.Bot, o.Why = plain.MaskID(cut(o.CallID)), plain.MaskID(cut(o.Bot)), shown(o.Why)
	}
	p.maskCluster()
	for i := range p.Faulty {
		b := &p.Faulty[i]
		b.ID, b.Name, b.Why = plain.MaskID(cut(b.ID)), shown(b.Name), shown(b.Why)
	}
}

// maskCluster masks a copy: the summary is shared.
func (p *Page) maskCluster() {
	if p.Cluster == nil {
		return
	}
	c := *p.Cluster
	c.Waiting.Bots, c.Holds = slices.Clone(c.Waiting.Bots), slices.Clone(c.Holds)
	for i := range c.Waiting.Bots {
		b := &c.Waiting.Bots[i]
		b.ID, b.Name = plain.MaskID(cut(b.ID)), shown(b.Name)
	}
	for i := range c.Holds {
		h := &c.Holds[i]
		h.Bot, h.Why, h.By = plain.MaskID(cut(h.Bot)), shown(h.Why), shown(h.By)
	}
	c.Attention = slices.Clone(c.Attention)
	for i, text := range c.Attention {
		c.Attention[i] = shown(text)
	}
	p.Cluster = &c
}

func shown(text string) string { return cut(plain.Mask(text)) }

func cut(text string) string { return plain.Cut(text, maxText) }

// place is host and path of a URL. Of a path segment that looks like a
// credential, as those of incoming webhooks are, only the beginning stays.
func place(url string) string {
	if _, rest, ok := strings.Cut(url, "://"); ok {
		url = rest
	}
	url, _, _ = strings.Cut(url, "?")
	host, path, ok := strings.Cut(url, "/")
	if !ok {
		return cut(host)
	}
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if looksSecret(s) {
			segments[i] = s[:4] + "…"
		}
	}
	return cut(host + "/" + strings.Join(segments, "/"))
}

// looksSecret reports whether a path segment is long and mixes letters and
// digits.
func looksSecret(s string) bool {
	return len(s) >= 16 && s[3] < 0x80 && strings.ContainsFunc(s, unicode.IsDigit) && strings.ContainsFunc(s, unicode.IsLetter)
}

// advice is what to look at, in sentences.
func (p *Page) advice() []string {
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	for _, name := range slices.Sorted(maps.Keys(p.Health.Checks)) {
		if why := p.Health.Checks[name]; why != "ok" {
			add("Not ready: %s: %s", name, why)
		}
	}
	for i := range p.Partitions {
		part := &p.Partitions[i]
		if part.Owner == "" && p.Replicas > 0 {
			add("Nobody reads partition %s.", part.Name)
		}
		if part.Lag != nil && time.Duration(*part.Lag) > muchLag {
			add("Partition %s is read %s late.", part.Name, part.Lag)
		}
		if part.Headroom != nil && part.Oplog != nil && *part.Headroom < *part.Oplog/littleHeadroom {
			add("The saved position of partition %s is %s from the end of an oplog of %s; once behind it, results are looked up by time.",
				part.Name, part.Headroom, part.Oplog)
		}
	}
	for i := range p.Lanes {
		if l := &p.Lanes[i]; l.severity() > 0 {
			add("%s: %s", l.Destination, l.sentence(p.Now))
		}
	}
	if p.Cluster != nil {
		all = append(all, p.Cluster.Deployment...)
	}
	all = append(all, p.Notices...)
	if n := len(p.Faulty) + p.FaultyLeft; n > 0 {
		add("%s cannot push because of %s configuration.", plain.Count(n, "bot"), map[bool]string{true: "its", false: "their"}[n == 1])
	}
	if all, left := first(all, maxAdvice); left > 0 {
		return append(all, fmt.Sprintf("And %d more below.", left))
	}
	return all
}

// sentence says in plain words what is wrong with a lane.
func (l *Lane) sentence(now time.Time) string {
	var parts []string
	if l.Problem.Text != "" {
		parts = append(parts, strings.TrimSuffix(l.Problem.Text, "."))
	}
	if l.Problem.Times > 0 {
		parts = append(parts, "since "+clock(now, l.Problem.Since))
	}
	switch l.State {
	case "open":
		parts = append(parts, "next attempt at "+clock(now, l.Until))
	case "told_to_wait":
		parts = append(parts, "it asked to wait until "+clock(now, l.Until))
	case "half_open":
		if l.Active > 0 {
			parts = append(parts, "one attempt is under way")
		} else {
			parts = append(parts, "the next call is attempted")
		}
	}
	if l.Waiting > 0 {
		parts = append(parts, plain.Count(l.Waiting, "call")+" waiting")
	}
	if l.Deferrals > 0 {
		parts = append(parts, plain.Count(l.Deferrals, "deferral"))
	}
	return strings.Join(parts, ", ") + "."
}

// clock is the time of day in UTC, with the date when that is another.
func clock(now, t time.Time) string {
	t = t.UTC()
	if y, m, d := t.Date(); now.UTC().Truncate(24*time.Hour) != time.Date(y, m, d, 0, 0, 0, 0, time.UTC) {
		return t.Format("2 Jan 15:04")
	}
	return t.Format("15:04:05")
}
