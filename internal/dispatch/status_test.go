package dispatch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/queue"
	"github.com/cxbridge/watcher/pkg/push"
)

// onlyLane is the status of the one destination of a road.
func onlyLane(t *testing.T, r *road) queue.Status {
	t.Helper()
	all := r.d.Queue().Lanes()
	if len(all) != 1 {
		t.Fatalf("%d destinations: %+v", len(all), all)
	}
	return all[0]
}

// A destination that fails says since when, why, and what waits because of it.
func TestLanesTellOfAProblemUntilItIsOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t, botOf("bot", "https://u:p@crm.example.com/hook?key=1"))
		defer r.stop()
		begun := time.Now()
		res := answered(503)
		res.Body = `{"message":"closed for the night"}`
		r.answer = func(*push.Request, int) push.Result { return res }
		for i := range 40 {
			r.store(fmt.Sprint("c", i), nil)
		}
		synctest.Wait()
		l := onlyLane(t, r)
		if l.Label != "https://crm.example.com/hook" || l.State != queue.Open || !l.Until.After(begun) || l.Limit != 8 || l.Active != 0 {
			t.Errorf("%+v", l)
		}
		p := l.Problem
		if ProblemText(p) != "CRM answered answered 503" || !p.Since.Equal(begun) || p.Times < breakAfter || l.Deferrals != 40-p.Times {
			t.Errorf("%d deferred, %+v", l.Deferrals, p)
		}

		r.mu.Lock()
		r.answer = func(*push.Request, int) push.Result { return answered(200) }
		r.mu.Unlock()
		<-time.After(10 * time.Minute)
		synctest.Wait()
		l = onlyLane(t, r)
		if p := l.Problem; l.State != queue.Closed || l.Deferrals != 0 || p.Times != 0 || !p.Since.IsZero() || p.Last.IsZero() {
			t.Errorf("after the end: %+v", l)
		}
	})
}

func TestRecentKeepsTheLastOutcomes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		bot := botOf("bot", "https://crm.example.com/hook")
		bot["name"] = "Sales"
		r := newRoad(t, bot)
		defer r.stop()
		if got := r.d.Recent(); len(got) != 0 {
			t.Errorf("before the first: %+v", got)
		}
		r.answer = func(req *push.Request, _ int) push.Result {
			if bytes.Contains(req.Body, []byte("c69")) {
				res := answered(422)
				res.Body = `{"message":"no such city"}`
				return res
			}
			return answered(200)
		}
		for i := range 70 {
			r.store(fmt.Sprint("c", i), nil)
			synctest.Wait()
		}
		got := r.d.Recent()
		if len(got) != keptOutcomes || got[49].CallID != "c20" {
			t.Fatalf("%d outcomes, the oldest %+v", len(got), got[len(got)-1])
		}
		want := Outcome{
			At: time.Now(), Bot: "Sales", CallID: "c69", Destination: "https://crm.example.com/hook",
			Status: "rejected", HTTPStatus: 422, Attempts: 1, Why: "CRM answered answered 422",
		}
		if got[0] != want {
			t.Errorf("%+v\nwant %+v", got[0], want)
		}
	})
}

func TestTotals(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t)
		defer r.stop()
		r.store("a", nil)
		r.store("b", bson.M{"call_type": "agent"})
		r.submit("gone")
		synctest.Wait()
		got := r.d.Totals()
		if got.Ended["ok"] != 1 || got.Ended["ignored"] != 2 || got.Pending != 0 || got.Slots != 64 ||
			!maps.Equal(got.Skipped, map[string]uint64{"agent_call": 1, "call_deleted": 1}) {
			t.Errorf("%+v", got)
		}
	})
}

// Every delivery has one line with the same keys, whatever became of it.
func TestTheWideLine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t,
			botOf("good", "https://a.example.com/x?key=secret"), botOf("bad", "https://b.example.com"),
			bson.M{"_id": "none", "post_call_push": bson.M{"url": ""}},
			bson.M{"_id": "broken", "post_call_push": bson.M{"url": "ftp://x", "key_mapper": bson.D{}}},
			botOf("later", "https://c.example.com"))
		defer r.stop()
		var out bytes.Buffer
		r.d.logger = slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
		r.answer = func(req *push.Request, _ int) push.Result {
			switch {
			case strings.Contains(req.URL, "b.example"):
				res := answered(404)
				res.Body = "no such\nfield, call +49 171 2345678\x1b[31m" + strings.Repeat("x", 300)
				return res
			case strings.Contains(req.URL, "c.example"):
				return answered(503)
			}
			return answered(200)
		}
		for _, bot := range []string{"good", "bad", "none", "broken", "later"} {
			r.store("call-"+bot, bson.M{"bot_id": bot})
			synctest.Wait()
		}
		always := []string{"attempts", "bot_id", "call_id", "delivery_id", "destination", "elapsed_ms", "http_status", "level", "msg", "outcome", "since_stored_ms", "time"}
		want := []struct {
			outcome, level, destination string
			more                        []string
		}{
			{"ok", "INFO", "a.example.com/x", nil},
			{"rejected", "WARN", "b.example.com", []string{"answer", "error"}},
			{"skipped", "INFO", "", []string{"error"}},
			{"failed", "WARN", "", []string{"error"}},
			{"rejected", "WARN", "c.example.com", []string{"error", "next_attempt_at"}},
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != len(want) {
			t.Fatalf("%s", out.String())
		}
		for i, w := range want {
			var line map[string]any
			if err := json.Unmarshal([]byte(lines[i]), &line); err != nil {
				t.Fatal(err)
			}
			keys := slices.Sorted(maps.Keys(line))
			if all := slices.Sorted(slices.Values(slices.Concat(always, w.more))); !slices.Equal(keys, all) {
				t.Errorf("%s: keys %v, want %v", w.outcome, keys, all)
			}
			if text, ok := line["answer"].(string); ok && (len([]rune(text)) != maxAnswer || !strings.HasPrefix(text, "no such field, call ***78 [31mxxx")) {
				t.Errorf("answer %q", text)
			}
			if _, ok := line["elapsed_ms"].(float64); !ok {
				t.Errorf("elapsed_ms is %v", line["elapsed_ms"])
			}
			if line["msg"] != "delivery" || line["outcome"] != w.outcome || line["level"] != w.level || line["destination"] != w.destination {
				t.Errorf("%s, want %+v", lines[i], w)
			}
		}
	})
}
