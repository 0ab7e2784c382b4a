package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/hold"
	"github.com/cxbridge/watcher/internal/inspect"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
	"github.com/cxbridge/watcher/internal/mapping"
	"github.com/cxbridge/watcher/internal/replay"
	"github.com/cxbridge/watcher/pkg/secret"
)

const testToken = "correct-horse-battery-staple"

// world is a small platform in memory: calls of three bots, one of which fails.
type world struct {
	mu      sync.Mutex
	rows    []inspect.Row
	holds   []hold.Hold
	replays []replay.Record
	set     *bots.Set
	report  func(*inspect.Report) // changes what is said of a call
	err     error                 // of every question
	wait    chan struct{}         // questions wait for its end, when not nil
	mended  bool                  // what is pushed goes well
	asked   []inspect.Query
	notice  string // List.Partial
	filled  int    // how often fill rates were read
	nobody  bool   // no watcher is alive
}

const salesBot = "665f1c2e9876543210123456"

func compiled(t testing.TB, docs ...string) *bots.Set {
	t.Helper()
	var all []*bots.Bot
	for _, text := range docs {
		var raw bson.Raw
		if err := bson.UnmarshalExtJSON([]byte(text), false, &raw); err != nil {
			t.Fatal(err)
		}
		all = append(all, bots.Compile(raw, bots.Options{}))
	}
	return bots.NewSet(all)
}

func newWorld(t testing.TB) *world {
	w := &world{set: compiled(t,
		`{"_id":{"$oid":"`+salesBot+`"},"name":"Collections Hindi","timezone":"Asia/Kolkata","post_call_push":{"url":"https://crm.example.com/leeds","token":"tok-secret-1","key_mapper":{"lead":"{{crm.id}}","disposition":"{{DISPOSITION}}","note":"{{analysis.CALLING_REMARK}}"}}}`,
		`{"_id":"renewals","name":"Renewals","timezone":"UTC","post_call_push":{"url":"https://crm.example.com/leads","key_mapper":{"lead":"{{crm.id}}"}}}`,
		`{"_id":"survey","name":"Old survey","timezone":"UTC","post_call_push":{"url":"ftp://nowhere","key_mapper":{}}}`,
		`{"_id":"silent","name":"Inbound desk","timezone":"UTC"}`)}
	begin := time.Now().Add(-3 * time.Hour).Truncate(time.Second)
	for i := range 12 {
		w.rows = append(w.rows, inspect.Row{
			SessionID: fmt.Sprintf("sess-%04d", i), ID: fmt.Sprintf("6660000000000000000000%02x", i), BotID: salesBot, BotName: "Collections Hindi",
			Host: "crm.example.com", State: inspect.StateRejected, CompletedAt: begin.Add(time.Duration(i) * time.Minute),
			HTTPStatus: 404, Attempts: 1, Why: "HTTP 404 Not Found",
		})
	}
	for i := range 30 {
		w.rows = append(w.rows, inspect.Row{
			SessionID: fmt.Sprintf("good-%04d", i), ID: fmt.Sprintf("6670000000000000000000%02x", i), BotID: "renewals", BotName: "Renewals",
			Host: "crm.example.com", State: inspect.StateOK, CompletedAt: begin.Add(time.Duration(i) * time.Minute), HTTPStatus: 200, Attempts: 1,
		})
	}
	w.rows = append(w.rows, inspect.Row{
		SessionID: "due-1", ID: "due-1", BotID: salesBot, BotName: "Collections Hindi", Host: "crm.example.com", State: inspect.StateDue,
		CompletedAt: begin, HTTPStatus: 503, Attempts: 2, NextAttemptAt: time.Now().Add(10 * time.Minute), Why: "HTTP 503 Service Unavailable",
	})
	return w
}

// begin waits for w.wait and locks.
func (w *world) begin(ctx context.Context) error {
	if w.wait != nil {
		select {
		case <-w.wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	w.mu.Lock()
	return w.err
}

func (w *world) matches(q *inspect.Query) []inspect.Row {
	var found []inspect.Row
	held := hold.NewSet(w.holds)
	for _, r := range w.rows {
		if r.State == inspect.StateDue {
			if b := w.set.Named(r.BotID); b != nil && held.For(b, time.Now()) != nil {
				r.State = inspect.StateHeld
			}
		}
		in := func(all []string, values ...string) bool {
			return len(all) == 0 || slices.ContainsFunc(values, func(v string) bool { return slices.Contains(all, v) })
		}
		if (len(q.States) == 0 || slices.Contains(q.States, r.State)) && in(q.Bots, r.BotID, r.BotName) && in(q.Hosts, r.Host) &&
			in(q.Sessions, r.SessionID) && strings.Contains(r.Why, q.Reason) && (q.Group == "" || keyOf(&r) == q.Group) &&
			(q.Since.IsZero() || !r.CompletedAt.Before(q.Since)) && (q.Until.IsZero() || !r.CompletedAt.After(q.Until)) {
			found = append(found, r)
		}
	}
	return found
}

// keyOf is the error of a group.
func keyOf(r *inspect.Row) string { return strings.TrimSuffix(string(r.State)+": "+r.Why, ": ") }

type answers struct{ w *world }

func (a answers) List(ctx context.Context, q inspect.Query) (inspect.List, error) {
	defer a.w.mu.Unlock()
	if err := a.w.begin(ctx); err != nil {
		return inspect.List{}, err
	}
	a.w.asked = append(a.w.asked, q)
	rows := a.w.matches(&q)
	return inspect.List{Rows: rows[:min(len(rows), q.Limit)], Total: len(rows), Read: len(a.w.rows), Partial: a.w.notice}, nil
}

func (a answers) Groups(ctx context.Context, q inspect.Query, by inspect.GroupBy) ([]inspect.Group, inspect.List, error) {
	defer a.w.mu.Unlock()
	if err := a.w.begin(ctx); err != nil {
		return nil, inspect.List{}, err
	}
	a.w.asked = append(a.w.asked, q)
	rows := a.w.matches(&q)
	byKey := make(map[string]*inspect.Group)
	for _, r := range rows {
		key := map[inspect.GroupBy]string{inspect.ByError: keyOf(&r), inspect.ByBot: r.BotID, inspect.ByHost: r.Host}[by]
		g := byKey[key]
		if g == nil {
			g = &inspect.Group{Key: key, States: make(map[inspect.State]int), Oldest: r.CompletedAt, Example: r}
			if by == inspect.ByBot {
				g.Name = r.BotName
			}
			byKey[key] = g
		}
		g.Count++
		g.States[r.State]++
		g.Newest = r.CompletedAt
	}
	groups := make([]inspect.Group, 0, len(byKey))
	for _, g := range byKey {
		groups = append(groups, *g)
	}
	slices.SortFunc(groups, func(a, b inspect.Group) int { return b.Count - a.Count })
	return groups, inspect.List{Total: len(rows), Partial: a.w.notice}, nil
}

func (a answers) Call(ctx context.Context, text string, q Question) ([]inspect.Report, error) {
	defer a.w.mu.Unlock()
	if err := a.w.begin(ctx); err != nil {
		return nil, err
	}
	var found []inspect.Report
	for i := range a.w.rows {
		if r := &a.w.rows[i]; r.ID == text || r.SessionID == text {
			found = append(found, a.w.reportOf(r, q))
		}
	}
	return found, nil
}

func (w *world) reportOf(r *inspect.Row, q Question) inspect.Report {
	yes, no := true, false
	at := r.CompletedAt.Add(2 * time.Second)
	rep := inspect.Report{
		Now: time.Now(), SessionID: r.SessionID, ID: r.ID, DeliveryID: "9430195ab81035b93a51e338a5722a1e",
		StartedAt: r.CompletedAt.Add(-4 * time.Minute), CompletedAt: r.CompletedAt,
		Bot:   inspect.Bot{ID: r.BotID, Name: r.BotName, Known: true, URL: "https://crm.example.com/leeds", Host: r.Host},
		State: r.State, Summary: "The CRM refused it for good: " + r.Why + ".",
		Decision: inspect.Decision{Action: "skip", Reason: "settled", Text: "The present result has a final outcome."},
		Outcome: &inspect.Outcome{
			Status: calls.StatusRejected, HTTPStatus: r.HTTPStatus, Error: r.Why, Attempts: 2, PushedAt: at, Final: true, OfThisResult: true,
			NextAttemptAt: r.NextAttemptAt,
		},
		Attempts: []inspect.Attempt{
			{At: at, Status: calls.StatusFailed, DurationMS: 10_000, Method: "POST", URL: "https://crm.example.com/leeds", Error: "no answer within 10s", Number: 1},
			{At: at.Add(30 * time.Second), Status: calls.StatusRejected, HTTPStatus: 404, DurationMS: 84, Method: "POST", URL: "https://crm.example.com/leeds",
				Error: r.Why, ResponseBody: `{"error":"no such resource","path":"/leeds"}`, Number: 2},
		},
		Checklist: []inspect.Check{
			{Name: "analysis", OK: &yes, Text: "DISPOSITION is Interested"},
			{Name: "recording", Text: "not looked at", Link: true},
			{Name: "taken by the CRM", OK: &no, Text: "HTTP 404 Not Found"},
		},
	}
	if q.Link {
		rep.Checklist[1] = inspect.Check{Name: "recording", OK: &yes, Text: "https://store.example.com/a.wav answers 206"}
	}
	if q.Payload {
		now, then := "Interested", "Very interested"
		rep.Payload = &inspect.Payload{
			Method: "POST", URL: "https://crm.example.com/leeds", Headers: map[string]string{"Authorization": "***", "Content-Type": "application/json"},
			Body: "{\n  \"lead\": \"L-1\",\n  \"mobile\": \"9876543210\"\n}",
		}
		if q.Other != nil {
			rep.Payload.Diff = []inspect.Difference{{Key: "disposition", Now: &now, Other: &then}, {Key: "extra", Other: &then}}
		}
	}
	if w.report != nil {
		w.report(&rep)
	}
	return rep
}

func (a answers) Fills(ctx context.Context, b *bots.Bot, _ int) (inspect.BotFills, error) {
	defer a.w.mu.Unlock()
	if err := a.w.begin(ctx); err != nil || !b.Usable() {
		return inspect.BotFills{}, err
	}
	a.w.filled++
	return inspect.BotFills{Calls: 20, Keys: []mapping.Fill{
		{Key: "lead", Calls: 20, Filled: 18, Empty: 2, Unresolved: 2, Shortest: 3, Longest: 12, Examples: []string{"L-1", "L-2000000"}},
		{Key: "disposition", Calls: 20, Empty: 20, Unresolved: 20},
		{Key: "note", Calls: 20, Filled: 20, JSON: 4, Shortest: 40, Longest: 180, Examples: []string{"Wants to be called at home, on ***10, and not before nine"}},
	}, Warnings: []bots.Warning{{Level: bots.LevelWarning, Key: "disposition", Code: bots.CodeNeverFilled, Message: "a name of it exists in none of 20 calls"}}}, nil
}

func (a answers) Try(ctx context.Context, b *bots.Bot, document bson.Raw, call string) (*inspect.Trial, error) {
	defer a.w.mu.Unlock()
	if err := a.w.begin(ctx); err != nil {
		return nil, err
	}
	if call == "nobody" {
		return nil, &inspect.NotFoundError{Text: call}
	}
	stored, now := "Interested", document.String()
	return &inspect.Trial{
		SessionID: "sess-0011", ID: "666", BotID: b.ID, CompletedAt: time.Now().Add(-time.Hour), Reason: "the push of the bot is switched off",
		Payload:  &inspect.Payload{Method: "POST", URL: "https://crm.example.com/leeds", Body: now, Diff: []inspect.Difference{{Key: "disposition", Now: &stored, Other: &now}}},
		Warnings: []bots.Warning{{Level: bots.LevelInfo, Message: "a small thing"}, {Level: bots.LevelWarning, Key: "outcome", Token: "{{analysis.DISPOSITON}}", Message: "there is no such name", Suggestion: "analysis.DISPOSITION"}},
	}, nil
}

type holds struct{ w *world }

func (h holds) List(ctx context.Context) ([]hold.Hold, error) {
	defer h.w.mu.Unlock()
	err := h.w.begin(ctx)
	return slices.Clone(h.w.holds), err
}

func (h holds) Add(ctx context.Context, x hold.Hold) (hold.Hold, error) {
	defer h.w.mu.Unlock()
	if err := h.w.begin(ctx); err != nil {
		return x, err
	}
	x.ID = fmt.Sprintf("hold-%d", len(h.w.holds)+1)
	h.w.holds = append(h.w.holds, x)
	return x, nil
}

func (h holds) Release(ctx context.Context, id, who string) (hold.Hold, error) {
	defer h.w.mu.Unlock()
	if err := h.w.begin(ctx); err != nil {
		return hold.Hold{}, err
	}
	for i := range h.w.holds {
		if x := &h.w.holds[i]; x.ID == id {
			x.Ended, x.EndBy = time.Now(), who
			return *x, nil
		}
	}
	return hold.Hold{}, errors.New("no such hold")
}

type replays struct{ w *world }

func (r replays) find(o *Order) []inspect.Row {
	if o.Call != "" {
		for _, row := range r.w.rows {
			if row.ID == o.Call {
				return []inspect.Row{row}
			}
		}
		return nil
	}
	return r.w.matches(&o.Query)
}

func (r replays) Plan(ctx context.Context, o Order) (Plan, error) {
	defer r.w.mu.Unlock()
	err := r.w.begin(ctx)
	return Plan{Calls: len(r.find(&o)), Skipped: 1, Takes: 2 * time.Second, Nobody: r.w.nobody}, err
}

func (r replays) Start(ctx context.Context, o Order, who string) (string, int, error) {
	defer r.w.mu.Unlock()
	if err := r.w.begin(ctx); err != nil {
		return "", 0, err
	}
	found := r.find(&o)
	for i := range r.w.rows {
		row := &r.w.rows[i]
		if r.w.mended && slices.ContainsFunc(found, func(f inspect.Row) bool { return f.ID == row.ID }) {
			row.State, row.HTTPStatus, row.Why, row.Attempts = inspect.StateOK, 200, "", row.Attempts+1
		}
	}
	rec := replay.Record{
		ID: fmt.Sprintf("20261127-1000%02d-abcdef", len(r.w.replays)), State: replay.StateMarked,
		Found: len(found), Marked: len(found), By: who, StartedAt: time.Now(),
	}
	r.w.replays = append([]replay.Record{rec}, r.w.replays...)
	return rec.ID, len(found), nil
}

func (r replays) Cancel(ctx context.Context, id, _ string) (int, error) {
	defer r.w.mu.Unlock()
	if err := r.w.begin(ctx); err != nil {
		return 0, err
	}
	for i := range r.w.replays {
		if r.w.replays[i].ID == id {
			r.w.replays[i].State = replay.StateInterrupted
			return 3, nil
		}
	}
	return 0, errors.New("no such replay")
}

func (r replays) List(ctx context.Context) ([]replay.Record, error) {
	defer r.w.mu.Unlock()
	err := r.w.begin(ctx)
	return slices.Clone(r.w.replays), err
}

func collection(t testing.TB) *mongo.Collection {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(localmongotest.Start(t, localmongo.Options{}).URI()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	return client.Database("db").Collection("watcher_resume")
}

// console returns the pages of a world, with the journal of a server of its own.
func (w *world) console(t testing.TB, logger *slog.Logger) *Console {
	t.Helper()
	c, err := New(Options{
		Name: "default", Token: func() (secret.Text, error) { return testToken, nil },
		Answers: answers{w}, Holds: holds{w}, Replays: replays{w}, Journal: NewJournal(collection(t), "default"),
		Bots: func() *bots.Set { return w.set }, Redact: func(s string) string { return strings.ReplaceAll(s, "tok-secret-1", "[redacted]") },
		Logger: logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// asker is a browser, more or less.
type asker struct {
	t      testing.TB
	c      http.Handler
	cookie *http.Cookie
	header http.Header // sent beside the usual ones
	remote string
}

// do sends one request and returns the answer with its body.
func (a *asker) do(method, target, body string) (*http.Response, string) {
	a.t.Helper()
	r := httptest.NewRequestWithContext(a.t.Context(), method, target, strings.NewReader(body))
	r.Header.Set("Accept", "text/html")
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "http://example.com") // the host of the request
	}
	for name, values := range a.header {
		r.Header[name] = values
	}
	if a.cookie != nil {
		r.AddCookie(a.cookie)
	}
	if a.remote != "" {
		r.RemoteAddr = a.remote
	}
	w := httptest.NewRecorder()
	a.c.ServeHTTP(w, r)
	return w.Result(), w.Body.String()
}
