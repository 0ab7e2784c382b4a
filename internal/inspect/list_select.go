package inspect

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/internal/plain"
	"github.com/cxbridge/watcher/pkg/resume"
)

// Selector finds stored results; *calls.Store is the real one.
type Selector interface {
	Select(ctx context.Context, q calls.Stored, fn func(calls.Call) error) error
}

// SkipLog returns the reasons that the skip log gives for results, by delivery id.
type SkipLog func(ctx context.Context, deliveries []string) (map[string]string, error)

// Selection finds the calls of a Query and tells what each is. Lists, groups and
// replays all stand on it, so that they mean the same calls.
type Selection struct {
	Store Selector
	Bots  *bots.Set
	// Positions are the records of the saved positions, read before the calls are:
	// a result without an outcome that lies after them is not missing, a watcher
	// comes to it.
	Positions []resume.Record
	Holds     *hold.Set // nil holds nothing
	Skips     SkipLog   // nil is none
	// NewestFirst says that an index gives that order.
	NewestFirst bool
}

// Found is one call of a Selection.
type Found struct {
	Call  *calls.Call
	Bot   *bots.Bot // nil: it has no document
	State State
	// Outcome says that the outcome of the present result stands on the call.
	Outcome bool
	// OnItsWay says that no watcher has come past the result yet: its state is due,
	// and nothing about that stands on the call.
	OnItsWay bool
	Why      string       // error or reason, one line of at most mostWhy characters
	Answer   calls.Logged // what stands on it; only as much as a list reads
}

// foundBatch is how many calls are looked up in the skip log at once.
const foundBatch = 500

// Each hands over the calls of a query, in the order in which they are read. It
// stops at the first error of fn and returns it.
func (s *Selection) Each(ctx context.Context, q Query, now time.Time, fn func(*Found) error) error {
	batch := make([]calls.Call, 0, foundBatch)
	flush := func() error {
		defer func() { batch = batch[:0] }()
		reasons, err := s.reasons(ctx, batch)
		if err != nil {
			return err
		}
		for i := range batch {
			f := s.found(&batch[i], reasons, now)
			if !q.matches(&f) {
				continue
			}
			if err := fn(&f); err != nil {
				return err
			}
		}
		return nil
	}
	err := s.Store.Select(ctx, s.stored(&q), func(c calls.Call) error {
		if batch = append(batch, c); len(batch) < foundBatch {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// stored is what the server can look for.
func (s *Selection) stored(q *Query) calls.Stored {
	stored := calls.Stored{
		From: q.Since, To: q.Until, Sessions: q.Sessions, ReplayID: q.ReplayID,
		Due: q.onlyDue() && q.Since.IsZero(), NewestFirst: s.NewestFirst, Answers: true,
	}
	stored.Bots = botForms(s.Bots, q.Bots)
	return stored
}

// botForms are the ids of bots in every form in which a call may hold them.
func botForms(set *bots.Set, texts []string) []bson.RawValue {
	var forms []bson.RawValue
	for _, text := range texts {
		if b, err := set.Find(text); err == nil {
			forms = append(forms, calls.IDForms(b.RawID)...)
		} else { // gone since it was asked for
			forms = append(forms, calls.IDFormsOfText(text)...)
		}
	}
	return forms
}

// onlyDue reports whether the query is about calls that stand as due: the index of
// those finds them, whatever their time.
func (q *Query) onlyDue() bool {
	return len(q.States) > 0 && !slices.ContainsFunc(q.States, func(s State) bool { return s != StateDue && s != StateHeld })
}

// reasons are those that the skip log gives for results that have no outcome.
func (s *Selection) reasons(ctx context.Context, batch []calls.Call) (map[string]string, error) {
	if s.Skips == nil {
		return nil, nil
	}
	var ids []string
	for i := range batch {
		if !hasOutcome(&batch[i]) {
			ids = append(ids, batch[i].DeliveryID())
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	return s.Skips(ctx, ids)
}

// hasOutcome reports whether a call says what became of its present result. What
// the platform pushed by itself counts, though it does not say of which result.
func hasOutcome(c *calls.Call) bool { return dispatch.Policy{Past: true}.Settled(c) }

// found tells what a call is.
func (s *Selection) found(c *calls.Call, reasons map[string]string, now time.Time) Found {
	f := Found{Call: c, Bot: s.Bots.Bot(c.Bot), Outcome: hasOutcome(c)}
	f.Answer, _ = c.Result()
	f.Why = f.Answer.Error
	switch {
	case c.Due(): // also of an earlier result: then the present one is sent instead
		f.State = StateDue
		if f.Bot != nil && s.Holds != nil {
			if h := s.Holds.For(f.Bot, now); h != nil {
				f.State, f.Why = StateHeld, "held: "+h.Why
			}
		}
	case f.Outcome:
		f.State = stateOf(c.Pushed.Status)
	default:
		f.Why = ""
		s.withoutOutcome(&f, reasons)
	}
	f.Why = plain.Line(f.Why, mostWhy)
	return f
}

// withoutOutcome tells what a result is of which nothing stands on its call.
func (s *Selection) withoutOutcome(f *Found, reasons map[string]string) {
	c := f.Call
	if logged, ok := reasons[c.DeliveryID()]; ok {
		f.State, f.Why = StateSkipped, logged
		return
	}
	switch reason := dispatch.SkipReason(c, f.Bot); {
	case reason != dispatch.NoReason:
		f.State, f.Why = StateSkipped, reason.String()
	case resume.Ahead(s.Positions, c.ID, c.CompletedAt):
		f.State, f.OnItsWay, f.Why = StateDue, true, "on its way: no watcher has come past it yet"
	default:
		f.State = StateMissing
	}
}

// stateOf is the state of a final status; what the platform wrote by itself may be
// any text, and is no success then.
func stateOf(status calls.Status) State {
	if slices.Contains(calls.Statuses, status) {
		return State(status)
	}
	return StateFailed
}

// matches reports whether a call is one of the query.
func (q *Query) matches(f *Found) bool {
	return (len(q.States) == 0 || slices.Contains(q.States, f.State)) &&
		(len(q.Hosts) == 0 || slices.ContainsFunc(f.hosts(), func(host string) bool { return slices.Contains(q.Hosts, host) })) &&
		(q.Group == "" || errorKey(f) == q.Group) &&
		(q.Reason == "" || f.mentions(q.Reason))
}

// mentions reports whether a reason is in what is known of a call, in any case, or is
// its HTTP status.
func (f *Found) mentions(reason string) bool {
	return strings.Contains(strings.ToLower(f.Why), strings.ToLower(reason)) ||
		f.Answer.HTTPStatus != 0 && strconv.Itoa(f.Answer.HTTPStatus) == reason
}

// Host is where the call was pushed, else where its bot pushes, "" without either:
// in lower case, with its port unless that is the usual one.
func (f *Found) Host() string {
	if hosts := f.hosts(); len(hosts) > 0 {
		return plain.Line(hosts[0], mostName)
	}
	return ""
}

// hosts are the names of that host, with the usual port and without.
func (f *Found) hosts() []string {
	hosts := bots.HostsOf(f.Answer.URL)
	if len(hosts) == 0 && f.Bot != nil && f.Bot.Push != nil {
		hosts = f.Bot.Push.Hosts
	}
	return hosts
}

// The longest texts of a row, in characters.
const (
	mostWhy  = 300
	mostName = 200
)

// row is a call as a list shows it.
func (f *Found) row() Row {
	c := f.Call
	r := Row{
		SessionID: plain.Line(c.SessionID, mostName), ID: plain.Line(calls.IDText(c.ID), mostName),
		BotID: plain.Line(c.BotID, mostName), Host: f.Host(), State: f.State, CompletedAt: c.CompletedAt,
		NextAttemptAt: c.Pushed.NextAttemptAt, Why: f.Why,
	}
	if f.Bot != nil {
		r.BotName = plain.Line(f.Bot.Name, mostName)
	}
	if f.Outcome {
		r.HTTPStatus, r.Attempts = f.Answer.HTTPStatus, c.Pushed.Attempts
	}
	return r
}
