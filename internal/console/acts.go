package console

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/cxbridge/watcher/internal/config"
	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/plain"
	"github.com/cxbridge/watcher/internal/replay"
)

// deed is what can be done here. The set is closed.
type deed string

const (
	doPush    deed = "push"
	doHold    deed = "hold"
	doRelease deed = "release"
	doCancel  deed = "cancel"
)

const (
	maxWhy     = 300 // characters
	maxSubject = 150 // characters
	// maxPush is the most calls that are pushed again from here; more is for a command
	// that can be watched and stopped.
	maxPush = 10_000
	// recordTime is for the record of an act when the request's own time is over.
	recordTime = 5 * time.Second
)

// act is an act as a form asks for it.
type act struct {
	Do     deed
	Filter filter // push: these calls
	Call   string // push: this one, by _id
	Bot    string // hold: its id
	Host   string // hold
	ID     string // release: of the hold; cancel: of the replay
	Why    string // hold
	For    string // hold: a duration; "" until it is released
	Back   string // where it was asked for
	Once   string // id of its record, so that a form that is sent twice acts once

	until time.Time
}

func actOf(v url.Values) (act, error) {
	field := func(name string) string { return strings.TrimSpace(line(v.Get(name), maxField)) }
	a := act{Do: deed(v.Get("do")), Back: local(v.Get("back")), Once: newActID(time.Now())}
	if once := v.Get("once"); isFresh(once, time.Now()) {
		a.Once = once
	}
	switch a.Do {
	case doPush:
		var err error
		a.Call = field("call")
		if a.Filter, err = filterOf(v); err != nil {
			return a, err
		}
		if a.Call == "" && len(a.Filter.States) == 0 {
			return a, badRequest("Say by status which calls to push again: those that went well would arrive twice.")
		}
	case doHold:
		a.Bot, a.Host, a.For = field("bot"), strings.ToLower(field("host")), field("for")
		a.Why = strings.TrimSpace(line(v.Get("why"), maxWhy))
		if (a.Bot == "") == (a.Host == "") {
			return a, badRequest("A hold is of a bot or of a host.")
		}
		if a.Why == "" {
			return a, badRequest("Say why: whoever comes after you will want to know.")
		}
		return a, a.setUntil()
	case doRelease, doCancel:
		if a.ID = field("id"); a.ID == "" {
			return a, badRequest("The id is missing.")
		}
	default:
		return a, badRequest("There is no such act.")
	}
	return a, nil
}

func (a *act) setUntil() error {
	if a.For == "" {
		return nil
	}
	d, err := config.ParseDuration(a.For)
	if err != nil || d < time.Minute || d > 30*24*time.Hour {
		return badRequest("A hold lasts from 1m to 30d, or until it is released.")
	}
	a.until = time.Now().UTC().Add(d)
	return nil
}

// fix makes the times of a push absolute, so that what is confirmed is what is done.
func (a *act) fix(now time.Time) error {
	if a.Do != doPush || a.Call != "" {
		return nil
	}
	q, err := a.Filter.query(now)
	if err != nil {
		return err
	}
	if q.Until.IsZero() || q.Until.After(now) {
		q.Until = now
	}
	a.Filter.Until = q.Until.UTC().Format(time.RFC3339Nano)
	if !q.Since.IsZero() {
		a.Filter.Since = q.Since.UTC().Format(time.RFC3339Nano)
	}
	a.Filter.By = ""
	return nil
}

// Values are the fields of the form that asks for the act.
func (a *act) Values() url.Values {
	v := url.Values{}
	if a.Do == doPush && a.Call == "" {
		v = a.Filter.values()
	}
	for name, value := range map[string]string{
		"do": string(a.Do), "call": a.Call, "id": a.ID, "why": a.Why, "for": a.For, "back": a.Back, "once": a.Once,
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if a.Do == doHold {
		v.Set("bot", a.Bot)
		v.Set("host", a.Host)
	}
	return v
}

// confirmPage says what an act would do.
type confirmPage struct {
	*act
	Text   string   // in one sentence, with numbers
	Notes  []string // what else there is to know
	Button string
	Can    bool // false: there is nothing to do
}

func (c *Console) confirm(ctx context.Context, r *request) (view, error) {
	a, err := actOf(r.URL.Query())
	if err == nil {
		err = a.fix(time.Now())
	}
	if err != nil {
		return view{}, err
	}
	p := confirmPage{act: &a, Can: true}
	switch a.Do {
	case doPush:
		err = c.planPush(ctx, &p)
	case doHold:
		err = c.planHold(ctx, &p)
	case doRelease:
		err = c.planRelease(ctx, &p)
	case doCancel:
		err = c.planCancel(ctx, &p)
	}
	return view{page: "confirm", Title: map[deed]string{
		doPush: "Push again", doHold: "Hold", doRelease: "Release", doCancel: "Cancel a replay",
	}[a.Do], Data: &p}, err
}

func (a *act) order() (Order, error) {
	if a.Call != "" {
		return Order{Call: a.Call, Most: 1}, nil
	}
	q, err := a.Filter.query(time.Now())
	q.Limit = 0
	return Order{Query: q, Most: maxPush}, err
}

func (c *Console) planPush(ctx context.Context, p *confirmPage) error {
	o, err := p.order()
	if err != nil {
		return err
	}
	plan, err := c.o.Replays.Plan(ctx, o)
	if err != nil {
		return err
	}
	p.Button = "Push " + count(plan.Calls, "call") + " again"
	p.Text = count(plan.Calls, "call") + " will be pushed again, with the delivery ids that they had."
	switch {
	case plan.Calls == 0:
		p.Can, p.Text = false, "No call would be pushed again."
	case plan.Calls > maxPush:
		p.Can = false
		p.Text = fmt.Sprintf("%s are more than the %s that can be pushed from here: choose a shorter time, or use watcher replay.",
			count(plan.Calls, "call"), plain.Number(maxPush))
	case plan.Takes >= time.Second:
		p.Notes = append(p.Notes, "They become due over "+plain.Duration(plan.Takes)+".")
	}
	if plan.Skipped > 0 {
		p.Notes = append(p.Notes, count(plan.Skipped, "call")+" would not be pushed whatever is asked, and stay as they are.")
	}
	if plan.Nobody && p.Can {
		p.Notes = append(p.Notes, "No watcher with the name "+c.o.Name+" is alive: nothing is pushed before one runs.")
	}
	if plan.OnTheWay > 0 {
		p.Notes = append(p.Notes, "A watcher comes to "+count(plan.OnTheWay, "further call")+" anyway.")
	}
	return nil
}

// due is how many calls of these bots or hosts wait for an attempt.
func (c *Console) due(ctx context.Context, bot, host string) (int, error) {
	q := inspect.Query{States: []inspect.State{inspect.StateDue, inspect.StateHeld}, Limit: 1}
	if bot != "" {
		q.Bots = []string{bot}
	}
	if host != "" {
		q.Hosts = []string{host}
	}
	list, err := c.o.Answers.List(ctx, q)
	return list.Total, err
}

func (c *Console) planHold(ctx context.Context, p *confirmPage) error {
	subject := p.subject()
	if p.Bot != "" {
		if b := c.o.Bots().Named(p.Bot); b == nil {
			p.Notes = append(p.Notes, "No bot with this id is known now. The hold counts when there is one.")
		} else {
			p.Bot = b.ID
			subject = "the bot " + cmp.Or(b.Name, b.ID)
		}
	} else {
		n := 0
		for _, b := range c.o.Bots().All() {
			if (&hold.Hold{Host: p.Host}).Covers(b) {
				n++
			}
		}
		p.Notes = append(p.Notes, count(n, "bot")+" push to this host now.")
	}
	n, err := c.due(ctx, p.Bot, p.Host)
	if err != nil {
		return err
	}
	end := "until it is released"
	if !p.until.IsZero() {
		end = "for " + plain.Duration(time.Until(p.until).Round(time.Minute))
	}
	p.Text = fmt.Sprintf("Hold %s %s: %s that %s due, and those to come, stay on their documents and are not sent.",
		line(subject, maxSubject), end, count(n, "call"), map[bool]string{true: "is", false: "are"}[n == 1])
	p.Notes = append(p.Notes, "Nothing is lost: held calls count no attempt and do not age. An attempt that is under way runs to its end.")
	p.Button = "Hold"
	return nil
}

func (c *Console) planRelease(ctx context.Context, p *confirmPage) error {
	h, err := c.findHold(ctx, p.ID)
	if err != nil {
		return err
	}
	if !h.Active(time.Now()) {
		p.Can, p.Text = false, "This hold is over already."
		return nil
	}
	n, err := c.due(ctx, h.Bot, h.Host)
	if err != nil {
		return err
	}
	p.Text = fmt.Sprintf("Release %s: %s will go out, slowly at first.", line(c.subjectOf(h), maxSubject), count(n, "call"))
	p.Notes = append(p.Notes, fmt.Sprintf("Held since %s by %s: %s", h.From.UTC().Format("2006-01-02 15:04 UTC"), line(h.By, maxName), line(h.Why, maxWhy)))
	p.Button = "Release"
	return nil
}

func (c *Console) findHold(ctx context.Context, id string) (*hold.Hold, error) {
	all, err := c.o.Holds.List(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].ID == id {
			return &all[i], nil
		}
	}
	return nil, notFound("There is no hold %q.", id)
}

// subjectOf names what a hold is on.
func (c *Console) subjectOf(h *hold.Hold) string {
	if h.Bot == "" {
		return "the host " + h.Host
	}
	if b := c.o.Bots().Named(h.Bot); b != nil && b.Name != "" {
		return "the bot " + b.Name
	}
	return "the bot " + h.Bot
}

func (c *Console) planCancel(ctx context.Context, p *confirmPage) error {
	all, err := c.o.Replays.List(ctx)
	if err != nil {
		return err
	}
	for i := range all {
		if r := &all[i]; r.ID == p.ID {
			p.Text = fmt.Sprintf("Cancel the replay %s: of %s that were made due, those without an attempt will not be pushed.", r.ID, count(r.Marked, "call"))
			p.Button = "Cancel the replay"
			return nil
		}
	}
	return notFound("There is no replay %q.", p.ID)
}

// subject names what an act is about, for the journal.
func (a *act) subject() string {
	switch a.Do {
	case doHold:
		if a.Bot != "" {
			return "the bot " + a.Bot
		}
		return "the host " + a.Host
	case doRelease:
		return "the hold " + a.ID
	case doCancel:
		return "the replay " + a.ID
	default:
		if a.Call != "" {
			return "the call " + a.Call
		}
		return a.Filter.text()
	}
}

// text says in words which calls a filter is about.
func (f *filter) text() string {
	var words []string
	for _, s := range f.States {
		words = append(words, string(s))
	}
	text := "calls: " + strings.Join(words, ", ")
	for _, x := range [][2]string{{"bot", f.Bot}, {"host", f.Host}, {"session", f.Session}, {"reason", f.Reason}, {"error", f.In}} {
		if x[1] != "" {
			text += ", " + x[0] + " " + x[1]
		}
	}
	return text
}

// act does what a form asks for. It is recorded before, so that nothing is done
// that nobody can see, and after.
func (c *Console) act(ctx context.Context, r *request) (view, error) {
	if err := r.ParseForm(); err != nil {
		return view{}, badRequest("The form cannot be read.")
	}
	a, err := actOf(r.PostForm)
	if err != nil {
		return view{}, err
	}
	record := Act{
		ID: a.Once, At: time.Now().UTC(), Do: string(a.Do), Subject: line(c.o.Redact(a.subject()), maxSubject), Why: c.o.Redact(a.Why),
		By: r.who(), Address: hostOf(r.RemoteAddr), Back: a.Back,
	}
	switch err := c.o.Journal.Begin(ctx, record); {
	case errors.Is(err, errDone):
		return view{redirect: withDid(a.Back, record.ID)}, nil
	case err != nil:
		return view{}, err
	}
	result, calls, err := c.carryOut(ctx, &a, r.who())
	failed := err != nil
	if failed {
		result = line(c.o.Redact(plain.Error(err)), maxWhy)
	}
	c.o.Logger.Info("an operator acted", "act", a.Do, "subject", record.Subject, "why", record.Why, "by", record.By,
		"address", r.RemoteAddr, "calls", calls, "result", result, "failed", failed, "act_id", record.ID)
	after, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), recordTime, errSlow)
	defer cancel()
	if endErr := c.o.Journal.End(after, record.ID, result, calls, failed); endErr != nil {
		c.o.Logger.Warn("the end of an act is not in the journal", "act_id", record.ID, "error", endErr)
	}
	if failed {
		return view{}, err
	}
	return view{redirect: withDid(a.Back, record.ID)}, nil
}

// hostOf is an address without its port.
func hostOf(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return remote
	}
	return host
}

// withDid is a page with the act to be told of on it.
func withDid(page, id string) string {
	u, err := url.Parse(page)
	if err != nil {
		return "/acts?did=" + id
	}
	v := u.Query()
	v.Set("did", id)
	u.RawQuery = v.Encode()
	return u.String()
}

// carryOut does an act and says what came of it, and how many calls it concerned.
func (c *Console) carryOut(ctx context.Context, a *act, who string) (string, int, error) {
	switch a.Do {
	case doPush:
		o, err := a.order()
		if err != nil {
			return "", 0, err
		}
		id, n, err := c.o.Replays.Start(ctx, o, who)
		return fmt.Sprintf("Pushing %s again as the replay %s", count(n, "call"), id), n, err
	case doHold:
		h := hold.Hold{Bot: a.Bot, Host: a.Host, Why: a.Why, By: who, From: time.Now().UTC(), Until: a.until}
		n, err := c.due(ctx, a.Bot, a.Host)
		if err != nil {
			return "", 0, err
		}
		_, err = c.o.Holds.Add(ctx, h)
		return fmt.Sprintf("Holding %s, with %s due", c.subjectOf(&h), count(n, "call")), n, err
	case doRelease:
		h, err := c.findHold(ctx, a.ID)
		if err != nil {
			return "", 0, err
		}
		n, err := c.due(ctx, h.Bot, h.Host)
		if err != nil {
			return "", 0, err
		}
		_, err = c.o.Holds.Release(ctx, a.ID, who)
		return fmt.Sprintf("Released %s: %s will go out", c.subjectOf(h), count(n, "call")), n, err
	case doCancel:
		n, err := c.o.Replays.Cancel(ctx, a.ID, who)
		return fmt.Sprintf("Cancelled the replay %s: %s will not be pushed", a.ID, count(n, "call")), n, err
	}
	return "", 0, errNoDeed
}

var errNoDeed = errors.New("there is no such act")

// actsPage shows the journal and the replays.
type actsPage struct {
	Acts    []Act
	Replays []replayRow
	Holds   []hold.Hold
	Names   map[string]string // of bots that are held
}

type replayRow struct {
	replay.Record
	Can bool // it may be cancelled
}

func (c *Console) acts(ctx context.Context, _ *request) (view, error) {
	var p actsPage
	var err error
	if p.Acts, err = c.o.Journal.List(ctx, maxRows); err != nil {
		return view{}, err
	}
	replays, err := c.o.Replays.List(ctx)
	if err != nil {
		return view{}, err
	}
	for i := range replays[:min(len(replays), maxRows)] {
		p.Replays = append(p.Replays, replayRow{replays[i], replays[i].State != replay.StateCancelled})
	}
	holds, err := c.o.Holds.List(ctx)
	if err != nil {
		return view{}, err
	}
	now := time.Now()
	p.Names = make(map[string]string)
	for _, h := range holds {
		if !h.Active(now) || len(p.Holds) == maxRows {
			continue
		}
		p.Holds = append(p.Holds, h)
		if b := c.o.Bots().Named(h.Bot); b != nil {
			p.Names[h.Bot] = b.Name
		}
	}
	return view{page: "acts", Title: "Acts", Data: &p}, nil
}
