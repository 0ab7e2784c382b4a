package inspect

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"github.com/cxbridge/watcher/internal/plain"
)

const (
	// mostGroups is how many groups are told apart; the rest is one more.
	mostGroups = 200
	// OtherGroups is the key of that one.
	OtherGroups = "(others)"
	// NoGroup is the key of calls that have no bot, or no host.
	NoGroup = "(none)"
	// mostKey is how many characters a key has at most.
	mostKey = 160
)

// Groups counts the calls of a query by what they have in common, the largest
// group first. The List is that of the query without its rows, with the same bounds
// and the same errors.
func (i *Inspector) Groups(ctx context.Context, q Query, by GroupBy) ([]Group, List, error) {
	key, ok := groupKeys[by]
	if !ok {
		return nil, List{}, fmt.Errorf("%q is not error, bot or host", by)
	}
	groups := make(map[string]*Group)
	list, err := i.each(ctx, q, func(f *Found) {
		k, name := key(f)
		g := groups[k]
		if g == nil && len(groups) >= mostGroups {
			k, name = OtherGroups, ""
			g = groups[k]
		}
		if g == nil {
			g = &Group{Key: k, Name: name, States: make(map[State]int)}
			groups[k] = g
		}
		g.add(f)
	})
	all := make([]Group, 0, len(groups))
	for _, g := range groups {
		all = append(all, *g)
	}
	slices.SortFunc(all, func(a, b Group) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Key, b.Key)) })
	return all, list, err
}

func (g *Group) add(f *Found) {
	at := f.Call.CompletedAt
	if g.Count == 0 || at.Before(g.Oldest) {
		g.Oldest = at
	}
	if g.Count == 0 || at.After(g.Newest) {
		g.Newest, g.Example = at, f.row()
	}
	g.Count++
	g.States[f.State]++
}

var groupKeys = map[GroupBy]func(*Found) (key, name string){
	ByError: func(f *Found) (string, string) { return errorKey(f), "" },
	ByHost:  func(f *Found) (string, string) { return cmp.Or(f.Host(), NoGroup), "" },
	ByBot: func(f *Found) (string, string) {
		r := f.row()
		return cmp.Or(r.BotID, NoGroup), r.BotName
	},
}

// errorKey is the state and what was said, without what differs from call to call.
func errorKey(f *Found) string {
	switch {
	case f.Why == "" && f.Answer.HTTPStatus != 0 && f.Outcome && f.State != StateOK:
		return string(f.State) + ": HTTP " + strconv.Itoa(f.Answer.HTTPStatus)
	case f.Why == "" || f.State == StateOK:
		return string(f.State)
	}
	return string(f.State) + ": " + alike(f.Why)
}

// What alike takes out of a text: what stands in quotation marks, ids, and numbers.
// An HTTP status in its usual form stays.
var (
	httpStatus = regexp.MustCompile(`^HTTP [1-5]\d\d\b`)
	differs    = regexp.MustCompile(`"[^"]*"|'[^']*'|` + "`[^`]*`" + `|“[^”]*”` + // quoted
		`|\b[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\b` + // UUIDs
		`|\b[0-9A-Fa-f]*\d[0-9A-Fa-f]{7,}\b|\b[0-9A-Fa-f]{7,}\d[0-9A-Fa-f]*\b` + // hex ids
		`|[+-]?\p{Nd}+(?:[.,:]\p{Nd}+)*`)
)

// alike is a text without what differs from call to call, so that many that mean
// the same are one. It is at most mostKey characters.
func alike(text string) string {
	status := httpStatus.FindString(text)
	rest := differs.ReplaceAllStringFunc(text[len(status):], func(part string) string {
		switch part[0] {
		case '"', '\'', '`':
			return part[:1] + "…" + part[:1]
		}
		if len(part) > 3 && part[:3] == "“" {
			return "“…”"
		}
		return "#"
	})
	return plain.Line(status+rest, mostKey)
}
