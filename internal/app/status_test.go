package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/internal/admin"
	"github.com/cxbridge/watcher/internal/demo/apptest"
)

// ask asks a watcher as an operator does.
func (w *running) ask(path string) (int, string) {
	w.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + w.Addr() + path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func (w *running) health() (int, admin.Health) {
	w.t.Helper()
	code, body := w.ask("/readyz")
	var h admin.Health
	if err := json.Unmarshal([]byte(body), &h); err != nil {
		w.t.Fatalf("%v: %s", err, body)
	}
	return code, h
}

// isHealthy waits for a state.
func (r *road) isHealthy(w *running, code int, status string) admin.Health {
	r.t.Helper()
	var h admin.Health
	r.eventually(status, func() error {
		got, now := w.health()
		if h = now; got != code || h.Status != status {
			return fmt.Errorf("%d %+v", got, h)
		}
		return nil
	})
	return h
}

// Health and the page answer while MongoDB is away from the start, say why, and
// are fine once it is there.
func TestHealthWhileMongoDBIsAwayAtStart(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	r.server.RefuseConnections(true)
	r.server.DropConnections()
	w := r.launch()
	code, h := w.health()
	if code != http.StatusServiceUnavailable || h.Status != admin.StateNotReady || h.Standby != "" {
		t.Errorf("%d %+v", code, h)
	}
	for _, check := range []string{"bots", "settings", "leases", "cursor"} {
		if why := h.Checks[check]; why == "" || why == "ok" {
			t.Errorf("%s: %q", check, why)
		}
	}
	if code, body := w.ask("/livez"); code != http.StatusOK || !strings.Contains(body, "ok") {
		t.Errorf("alive: %d %s", code, body)
	}
	if code, body := w.ask("/"); code != http.StatusOK || !strings.Contains(body, "Not ready: bots: the bots are not loaded yet") {
		t.Errorf("the page: %d %s", code, body)
	}
	r.server.RefuseConnections(false)
	h = r.isHealthy(w, http.StatusOK, admin.StateReady)
	for check, why := range h.Checks {
		if why != "ok" {
			t.Errorf("ready, but %s: %s", check, why)
		}
	}
}

// A replica that holds nothing is ready, and says who works.
func TestAStandbySaysWhoWorks(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	first := r.start()
	r.isHealthy(first, http.StatusOK, admin.StateReady)
	r.deps.Owner = "replica-2"
	second := r.launch()
	h := r.isHealthy(second, http.StatusOK, admin.StateStandby)
	owner := first.group.Status().Owner
	if h.Standby != owner+" reads 0-of-1" {
		t.Errorf("%+v", h)
	}
	page := second.Status()
	r.eventually("the standby shows how the cluster does", func() error {
		page = second.Status()
		if c := page.Cluster; c == nil || c.Alive() != 2 || page.Partitions[0].Lag == nil || page.Partitions[0].Headroom == nil {
			return fmt.Errorf("%+v, %+v", c, page.Partitions)
		}
		return nil
	})
	if page.Replicas != 2 || len(page.Partitions) != 1 || page.Partitions[0].Ours || page.Partitions[0].Owner != owner {
		t.Errorf("%d replicas, %+v", page.Replicas, page.Partitions)
	}
}

// A first start at now says what it passes over, unless it was asked to look back;
// what nobody would push does not count.
func TestAFirstStartSaysWhatItPassesOver(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	index := mongo.IndexModel{Keys: bson.D{{Key: "completed_at", Value: 1}}}
	if _, err := r.Calls.Indexes().CreateOne(t.Context(), index); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		r.Call(fmt.Sprint("before-", i), "bot")
	}
	r.Call("nobody", "no-such-bot")
	r.Call("long-ago", "bot", bson.E{Key: "completed_at", Value: time.Now().Add(-2 * time.Hour)})
	w := r.start()
	const msg = "results stored before the first start have no outcome and are not pushed; a first start with --start 1h pushes them, and so does the command"
	r.eventually("the page says it", func() error {
		_, body := w.ask("/")
		if !strings.Contains(body, "3 results of the hour before had no outcome") || !strings.Contains(body, "watcher replay --status missing --since 1h") {
			return errors.New(body)
		}
		return nil
	})
	if lines := w.logs.find(msg); len(lines) != 1 || lines[0]["results"] != 3.0 {
		t.Errorf("%v", lines)
	}
	r.Call("after", "bot")
	r.final("after", "ok")
	r.eventually("a position is saved", func() error {
		if w.Status().Partitions[0].Position.IsZero() {
			return errors.New("none")
		}
		return nil
	})
	w.halt()
	again := r.start()
	if lines := again.logs.find(msg); len(lines) != 0 {
		t.Errorf("not the first start: %v", lines)
	}
}

// The page tells of real calls, destinations and bots, and of no secret.
func TestStatusOfAWorkingReplica(t *testing.T) {
	r := newRoad(t, "good")
	r.PutBot(apptest.Bot("bad", r.url("bad")+"?api_key=k3y-of-the-bot"))
	r.PutBot(apptest.Bot("broken", "ftp://files.example"))
	r.PutBot(apptest.Bot("off", "ftp://files.example", bson.E{Key: "enabled", Value: false}))
	r.crm.Answers(func(q apptest.Request) apptest.Answer {
		if q.Path == "/bad" {
			return apptest.Answer{Status: 422, Body: `{"message":"9876543210 is taken, k3y-of-the-bot, of-the-bot"}`}
		}
		return apptest.Answer{}
	})
	w := r.start()
	r.Call("call-good", "good")
	r.final("call-good", "ok")
	for i := range 3 {
		session := fmt.Sprint("call-bad-", i)
		r.Call(session, "bad")
		r.final(session, "rejected")
	}
	r.settled(w, 4)
	r.isHealthy(w, http.StatusOK, admin.StateReady)

	var page admin.Page
	r.eventually("the position is saved and the oplog known", func() error {
		page = w.Status()
		if part := page.Partitions[0]; part.Position.IsZero() || part.Headroom == nil || !part.Reading || part.Lag == nil {
			return fmt.Errorf("%+v", part)
		}
		return nil
	})
	if page.Ended["ok"] != 1 || page.Ended["rejected"] != 3 || page.Pending != 0 || page.Bots != 4 || page.Version != "test" {
		t.Errorf("%+v", page)
	}
	if len(page.Faulty) != 1 || page.Faulty[0].ID != "broken" {
		t.Errorf("bots that cannot push: %+v", page.Faulty)
	}
	i := slices.IndexFunc(page.Lanes, func(l admin.Lane) bool { return strings.HasSuffix(l.Destination, "/bad") })
	if len(page.Lanes) != 2 || i < 0 {
		t.Fatalf("destinations: %+v", page.Lanes)
	}
	bad := page.Lanes[i]
	if bad.Problem.Times != 3 || bad.Problem.Since.IsZero() || !slices.Equal(bad.Bots, []string{"bot bad"}) {
		t.Errorf("%+v", bad)
	}
	if len(page.Outcomes) != 4 || page.Outcomes[0].CallID != "call-bad-2" || page.Outcomes[3].Status != "ok" {
		t.Errorf("outcomes: %+v", page.Outcomes)
	}
	for _, path := range []string{"/", "/status.json"} {
		code, body := w.ask(path)
		if code != http.StatusOK || !strings.Contains(body, "CRM answered HTTP 422 Unprocessable Entity") {
			t.Errorf("%s: %d %s", path, code, body)
		}
		for _, secret := range []string{"9876543210", "is taken", "k3y-of-the-bot", "of-the-bot", "api_key"} {
			if strings.Contains(body, secret) {
				t.Errorf("%s says %q", path, secret)
			}
		}
	}
}

// A stream that is closed makes the cursor the reason, within one look.
func TestACursorThatIsClosedIsNotReady(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	w := r.start()
	r.isHealthy(w, http.StatusOK, admin.StateReady)
	r.server.RefuseConnections(true)
	r.server.DropConnections()
	h := r.isHealthy(w, http.StatusServiceUnavailable, admin.StateNotReady)
	if why := h.Checks["cursor"]; !strings.HasPrefix(why, "partition 0-of-1: the stream is closed: ") || strings.Contains(why, "topology") {
		t.Errorf("cursor: %q", why)
	}
	if err := errors.Join(w.bots.Ready(), w.settings.Ready()); err != nil {
		t.Errorf("what was read before is still good: %v", err)
	}
	r.server.RefuseConnections(false)
	r.isHealthy(w, http.StatusOK, admin.StateReady)
}
