package console

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/inspect"
)

const (
	maxRows   = 100
	maxField  = 200 // characters of a field of a form
	maxGroups = 100
)

// filter is which calls are asked for, as a form says it. It stands in addresses.
type filter struct {
	States       []inspect.State
	Bot          string // id or name
	Host         string
	Session      string
	Reason       string
	In           string // the error of a group, as the groups by error name it
	Since, Until string // a time, or how long ago
	By           inspect.GroupBy
}

// The default shows what is wrong at present.
const defaultSince = "24h"

func defaultFilter() filter {
	return filter{States: wentWrong(), Since: defaultSince, By: inspect.ByError}
}

func wentWrong() []inspect.State {
	return []inspect.State{inspect.StateFailed, inspect.StateRejected, inspect.StateMissing}
}

// filterOf reads a filter; what it does not know is an error.
func filterOf(v url.Values) (filter, error) {
	field := func(name string) string { return strings.TrimSpace(line(v.Get(name), maxField)) }
	f := filter{
		Bot: field("bot"), Host: strings.ToLower(field("host")), Session: field("session"), Reason: field("reason"),
		In: line(v.Get("group"), maxField), Since: field("since"), Until: field("until"), By: inspect.GroupBy(field("by")),
	}
	for _, text := range v["status"] {
		s := inspect.State(text)
		if !slices.Contains(allStates(), s) {
			return f, badRequest("%s is no status.", line(text, 40))
		}
		if !slices.Contains(f.States, s) {
			f.States = append(f.States, s)
		}
	}
	if f.By != "" && !slices.Contains(groupings(), f.By) {
		return f, badRequest("Calls can be grouped by error, bot or host.")
	}
	return f, nil
}

func groupings() []inspect.GroupBy {
	return []inspect.GroupBy{inspect.ByError, inspect.ByBot, inspect.ByHost}
}

// query is what the filter asks for at this moment.
func (f *filter) query(now time.Time) (inspect.Query, error) {
	q := inspect.Query{States: f.States, Reason: f.Reason, Group: f.In, Limit: maxRows}
	for _, x := range []struct {
		value string
		into  *[]string
	}{{f.Bot, &q.Bots}, {f.Host, &q.Hosts}, {f.Session, &q.Sessions}} {
		if x.value != "" {
			*x.into = []string{x.value}
		}
	}
	for _, x := range []struct {
		name, text string
		into       *time.Time
	}{{"From", f.Since, &q.Since}, {"Until", f.Until, &q.Until}} {
		start, err := config.ParseStart(x.text)
		if err != nil {
			return q, badRequest("%s: %v", x.name, err)
		}
		*x.into = start.From(now)
	}
	return q, nil
}

// values is the filter as it stands in an address.
func (f *filter) values() url.Values {
	v := url.Values{}
	for _, s := range f.States {
		v.Add("status", string(s))
	}
	for name, value := range map[string]string{
		"bot": f.Bot, "host": f.Host, "session": f.Session, "reason": f.Reason, "group": f.In,
		"since": f.Since, "until": f.Until, "by": string(f.By),
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	return v
}

// Has reports whether a state is asked for.
func (f *filter) Has(s inspect.State) bool { return slices.Contains(f.States, s) }

// Group is where the calls of a group are listed, "" for a group that stands for what
// has no name.
func (f *filter) Group(g inspect.Group) string {
	if strings.HasPrefix(g.Key, "(") && f.By != inspect.ByError {
		return ""
	}
	in := *f
	in.By = ""
	switch f.By {
	case inspect.ByBot:
		in.Bot = g.Key
	case inspect.ByHost:
		in.Host = g.Key
	default:
		state, _, _ := strings.Cut(g.Key, ": ")
		if !slices.Contains(allStates(), inspect.State(state)) {
			return ""
		}
		in.States, in.In = []inspect.State{inspect.State(state)}, g.Key
	}
	return "/calls?" + in.values().Encode()
}

// Push is where the calls of the filter are pushed again.
func (f *filter) Push() string {
	v := f.values()
	v.Del("by")
	v.Set("do", string(doPush))
	v.Set("back", "/calls?"+f.values().Encode())
	return "/acts/new?" + v.Encode()
}

// callsPage is what the page of calls shows.
type callsPage struct {
	Filter     filter
	States     []inspect.State
	Groupings  []inspect.GroupBy
	List       inspect.List
	Groups     []inspect.Group
	GroupsLeft int
}

func (c *Console) calls(ctx context.Context, r *request) (view, error) {
	asked := r.URL.Query()
	if id := strings.TrimSpace(asked.Get("call")); id != "" {
		return view{redirect: callPath(line(id, maxField))}, nil
	}
	p := callsPage{Filter: defaultFilter(), States: allStates(), Groupings: groupings()}
	asked.Del("did")
	if len(asked) > 0 {
		var err error
		if p.Filter, err = filterOf(asked); err != nil {
			return view{}, err
		}
	}
	q, err := p.Filter.query(time.Now())
	if err != nil {
		return view{}, err
	}
	if p.Filter.By == "" {
		p.List, err = c.o.Answers.List(ctx, q)
	} else {
		p.Groups, p.List, err = c.o.Answers.Groups(ctx, q, p.Filter.By)
		p.GroupsLeft = max(0, len(p.Groups)-maxGroups)
		p.Groups = p.Groups[:min(len(p.Groups), maxGroups)]
	}
	p.List.Rows = p.List.Rows[:min(len(p.List.Rows), maxRows)]
	return view{page: "calls", Title: "Calls", Data: &p}, err
}

func callPath(id string) string { return "/calls/" + url.PathEscape(id) }

// callPage is what the page of one call shows.
type callPage struct {
	*inspect.Report
	Path     string // of this page
	Others   []inspect.Report
	Compared bool
	Document string // the bot document that it was compared with
	Looked   bool   // at the recording link
}

// CanLook reports whether there is a recording link to look at.
func (p *callPage) CanLook() bool {
	return !p.Looked && slices.ContainsFunc(p.Checklist, func(c inspect.Check) bool { return c.Link })
}

// PushPath is where this call is pushed again.
func (p *callPage) PushPath() string {
	return "/acts/new?" + url.Values{"do": {string(doPush)}, "call": {p.ID}, "back": {callPath(p.ID)}}.Encode()
}

// ReleasePath is where the hold is released that keeps this call back.
func (p *callPage) ReleasePath() string {
	return "/acts/new?" + url.Values{"do": {string(doRelease)}, "id": {p.Hold.ID}, "back": {callPath(p.ID)}}.Encode()
}

func (c *Console) call(ctx context.Context, r *request) (view, error) {
	return c.report(ctx, r, Question{Payload: r.URL.Query().Get("payload") != ""}, "")
}

// link opens the recording link of a call. It is no GET, so that no page of others
// makes the watcher ask for anything.
func (c *Console) link(ctx context.Context, r *request) (view, error) {
	return c.report(ctx, r, Question{Link: true}, "")
}

// compare shows how the payload of a call would differ with another bot document.
// It changes nothing.
func (c *Console) compare(ctx context.Context, r *request) (view, error) {
	text := r.PostFormValue("document")
	if len(text) > maxDocument {
		return view{}, refusal{http.StatusRequestEntityTooLarge, "The bot document is larger than 1 MiB."}
	}
	var other bson.Raw
	if err := bson.UnmarshalExtJSON([]byte(text), false, &other); err != nil {
		return view{}, badRequest("The bot document is no Extended JSON: %s", line(err.Error(), maxField))
	}
	return c.report(ctx, r, Question{Payload: true, Other: other}, text)
}

func (c *Console) report(ctx context.Context, r *request, q Question, text string) (view, error) {
	id := r.PathValue("id")
	found, err := c.o.Answers.Call(ctx, id, q)
	if err != nil {
		return view{}, err
	}
	if len(found) == 0 {
		return view{}, notFound("No call has the session id, the _id or the delivery id %q.", line(id, maxField))
	}
	p := callPage{
		Report: &found[0], Path: callPath(id), Others: found[1:min(len(found), 1+maxRows)],
		Compared: q.Other != nil, Document: text, Looked: q.Link,
	}
	return view{page: "call", Title: "Call " + line(cmp.Or(p.SessionID, p.ID), 60), Data: &p}, nil
}
