// Package console serves what operators look at and do in a browser: calls and
// what became of each, groups of calls that fail alike, bots with their holds, and
// what was done here by whom.
//
// It owns who may see that, the form of the pages, and the record of each act. It
// does not own what is true of a call or a bot, nor how an act is carried out:
// those who are asked stand behind small interfaces.
package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/admin"
	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/replay"
	"github.com/cxbridge/watcher/pkg/secret"
)

// Answers say what became of calls.
type Answers interface {
	// Call returns the calls of a session id, an _id or a delivery id, the newest
	// first; none when there is no such call.
	Call(ctx context.Context, text string, q Question) ([]inspect.Report, error)
	List(ctx context.Context, q inspect.Query) (inspect.List, error)
	// Groups counts the calls of a query, the largest group first.
	Groups(ctx context.Context, q inspect.Query, by inspect.GroupBy) ([]inspect.Group, inspect.List, error)
	// Fills are what the keys of a bot came to in its newest calls, at most so many.
	Fills(ctx context.Context, b *bots.Bot, most int) (inspect.BotFills, error)
	// Try renders a call, "" for the bot's newest, with a document that is not stored.
	Try(ctx context.Context, b *bots.Bot, document bson.Raw, call string) (*inspect.Trial, error)
}

// Question is what is asked of a call beside what stands on it.
type Question struct {
	Payload bool     // what would be sent now
	Other   bson.Raw // another bot document to compare that with; nil for none
	Link    bool     // whether the recording link opens
}

// Holds are the holds on bots and hosts.
type Holds interface {
	List(ctx context.Context) ([]hold.Hold, error) // those that are over included
	Add(ctx context.Context, h hold.Hold) (hold.Hold, error)
	Release(ctx context.Context, id, who string) (hold.Hold, error)
}

// Order is which calls to push again: the one with this _id in text form, or those
// that a query finds.
type Order struct {
	Call  string
	Query inspect.Query
	Most  int // more calls than this are refused
}

// Plan is what pushing again would do.
type Plan struct {
	Calls    int           // to push
	Skipped  int           // that would not be pushed, whatever is asked
	OnTheWay int           // that a watcher comes to anyway
	Takes    time.Duration // to make all of them due
	Nobody   bool          // no watcher is alive to push them
}

// Replays push calls again.
type Replays interface {
	Plan(ctx context.Context, o Order) (Plan, error)
	Start(ctx context.Context, o Order, who string) (id string, calls int, err error)
	Cancel(ctx context.Context, id, who string) (calls int, err error)
	List(ctx context.Context) ([]replay.Record, error) // the newest first
}

// Options are what a Console is made of.
type Options struct {
	Name string // of the saved position
	// Token reads the token of the operators. It is asked again each second in
	// which somebody comes, so that a file may change.
	Token   func() (secret.Text, error)
	Answers Answers
	Holds   Holds
	Replays Replays
	Journal *Journal
	Bots    func() *bots.Set
	Seeds   []string // further analysis keys, for the warnings about a mapper
	Redact  func(string) string
	Logger  *slog.Logger
}

// Console serves the pages. It is an http.Handler and safe for concurrent use.
type Console struct {
	o        Options
	keys     keyring
	failures failures
	fills    fillCache
	slots    chan struct{}
	pages    *pages
	mux      *http.ServeMux
	origins  *http.CrossOriginProtection
}

// The bounds of a request.
const (
	maxRequests = 4 // at a time, of those that ask MongoDB
	maxTime     = 10 * time.Second
	maxForm     = 64 << 10
	maxDocument = 1 << 20 // of a bot
)

// New returns a Console.
func New(o Options) (*Console, error) {
	p, err := newPages(o.Name)
	if err != nil {
		return nil, err
	}
	c := &Console{
		o: o, keys: keyring{read: o.Token}, slots: make(chan struct{}, maxRequests), pages: p,
		mux: http.NewServeMux(), origins: http.NewCrossOriginProtection(),
	}
	c.mux.HandleFunc("GET /login", c.loginPage)
	c.mux.HandleFunc("POST /login", c.login)
	c.mux.HandleFunc("POST /logout", c.logout)
	for pattern, h := range map[string]handler{
		"GET /calls":               c.calls,
		"GET /calls/{id}":          c.call,
		"POST /calls/{id}/compare": c.compare,
		"POST /calls/{id}/link":    c.link,
		"GET /bots":                c.bots,
		"GET /bots/{id}":           c.bot,
		"POST /bots/{id}/try":      c.try,
		"GET /acts":                c.acts,
		"GET /acts/new":            c.confirm,
		"POST /acts":               c.act,
	} {
		c.mux.HandleFunc(pattern, c.guarded(h))
	}
	return c, nil
}

// Links are what the status page leads to.
func Links() []admin.Link {
	return []admin.Link{{Path: "/calls", Text: "Calls"}, {Path: "/bots", Text: "Bots"}, {Path: "/acts", Text: "Acts"}}
}

// ServeHTTP implements http.Handler. What comes from a page of another origin
// changes nothing here, whatever it carries.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := c.origins.Check(r); err != nil {
		http.Error(w, "this was sent by a page of another origin", http.StatusForbidden)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxDocument+maxForm)
	c.mux.ServeHTTP(w, r)
}

// request is one of somebody who is logged in.
type request struct {
	*http.Request
	session *session
}

// who is whom the acts of this request are recorded for.
func (r *request) who() string { return r.session.Name }

// handler answers a request with a page, or with where to go.
type handler func(ctx context.Context, r *request) (view, error)

// guarded lets those in who are logged in, a few at a time and not for long.
func (c *Console) guarded(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := c.session(w, r)
		if s == nil {
			return
		}
		req := &request{Request: r, session: s}
		select {
		case c.slots <- struct{}{}:
		default:
			c.show(w, req, view{page: "message", Title: "Busy", status: http.StatusServiceUnavailable, Data: message{
				Text: fmt.Sprintf("%d requests are being answered, and no more are at a time. Ask again in a few seconds.", maxRequests),
			}})
			return
		}
		ctx, cancel := context.WithTimeoutCause(r.Context(), maxTime, errSlow)
		v, err := func() (view, error) {
			defer func() { cancel(); <-c.slots }()
			if err := tooLarge(r); err != nil {
				return view{}, err
			}
			if r.Method == http.MethodPost && !s.owns(r.PostFormValue("form")) {
				return view{}, errForm
			}
			v, err := h(ctx, req)
			if err == nil {
				v.Did, err = c.did(ctx, r.URL.Query().Get("did"))
			}
			return v, err
		}()
		if err != nil {
			v = c.failed(ctx, err)
		}
		c.show(w, req, v)
	}
}

// tooLarge reads the form of a request, and returns the refusal of one that is longer
// than a form may be.
func tooLarge(r *http.Request) error {
	if large, ok := errors.AsType[*http.MaxBytesError](r.ParseForm()); ok {
		return refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("What was sent is larger than %d KiB.", large.Limit>>10)}
	}
	return nil
}

// did is the act that a page tells of, nil when there is none of this id.
func (c *Console) did(ctx context.Context, id string) (*Act, error) {
	a, ok, err := c.o.Journal.Find(ctx, id)
	if !ok {
		return nil, err
	}
	return &a, nil
}

var (
	errSlow = errors.New("the answer took longer than " + maxTime.String())
	errForm = refusal{http.StatusForbidden, "This form is not of your session, or your session is over. Open the page anew and send it again."}
)

// refusal is an error that is the asker's, with its HTTP status.
type refusal struct {
	status int
	text   string
}

func (r refusal) Error() string { return r.text }

// Refused is an error of those who carry acts out that is the operator's to know: the
// page shows its text, with 409.
func Refused(format string, args ...any) error {
	return refusal{http.StatusConflict, fmt.Sprintf(format, args...)}
}

func badRequest(format string, args ...any) error {
	return refusal{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return refusal{http.StatusNotFound, fmt.Sprintf(format, args...)}
}
