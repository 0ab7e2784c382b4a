package dispatch

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/push"
)

// projecting hands over the fields that are asked for, and counts what asks for roles.
type projecting struct {
	*road
	asked []int // how many calls, for each read of roles
	gone  string
}

func (l *projecting) Load(_ context.Context, q calls.Read, fn func(calls.Call) bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	roles := slices.Contains(q.Fields, calls.RolesField)
	if roles && slices.Contains(q.Fields, "transcript") {
		return fmt.Errorf("%w: Path collision at %s", calls.ErrUnreadable, calls.RolesField)
	}
	if roles {
		l.asked = append(l.asked, len(q.IDs))
		for _, id := range q.IDs {
			if id.StringValue() == l.gone {
				delete(l.docs, l.gone)
			}
		}
	}
	for _, id := range q.IDs {
		doc := maps.Clone(l.docs[id.StringValue()])
		if doc == nil {
			continue
		}
		maps.DeleteFunc(doc, func(name string, _ any) bool {
			return !slices.ContainsFunc(q.Fields, func(path string) bool { return path == name || strings.HasPrefix(path, name+".") })
		})
		if !fn(calls.Decode(marshal(l.t, doc))) {
			return nil
		}
	}
	return nil
}

// Where a mapper sends the whole transcript, its roles are read with it: MongoDB refuses
// a projection of both.
func TestRolesAreReadWithAWholeTranscript(t *testing.T) {
	bubble(t, func(t *testing.T) {
		bot := botOf("bot", "https://crm.example.com/hook")
		bot["post_call_push"].(bson.M)["key_mapper"] = bson.D{{Key: "d", Value: "{{analysis.DISPOSITION}}"}, {Key: "t", Value: "{{result.transcript}}"}}
		l := new(projecting)
		r := newRoadOf(t, func(o *Options) {
			l.road = o.Loader.(*road)
			o.Loader = l
		}, bot)
		defer r.stop()
		r.store("spoke", bson.M{"transcript": bson.A{bson.M{"role": "Customer", "content": "hello"}}})
		r.store("none", nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		if deliveries, _ := r.sends(); deliveries != 2 {
			t.Errorf("%d deliveries", deliveries)
		}
		if n := testutil.ToFloat64(r.d.metrics.loadErrors); n != 0 || len(l.asked) != 0 {
			t.Errorf("%v reads failed, roles were read of %v calls", n, l.asked)
		}
	})
}

// The roles of a transcript are read for the calls alone whose disposition
// depends on them, and then for all of these at once.
func TestRolesAreReadForTheCallsThatNeedThem(t *testing.T) {
	bubble(t, func(t *testing.T) {
		bot := botOf("bot", "https://crm.example.com/hook")
		bot["post_call_push"].(bson.M)["key_mapper"] = bson.D{{Key: "d", Value: "{{analysis.DISPOSITION}}"}}
		plain := botOf("plain", "https://crm.example.com/plain")
		l := new(projecting)
		r := newRoadOf(t, func(o *Options) {
			l.road = o.Loader.(*road)
			o.Loader = l
		}, bot, plain)
		defer r.stop()
		bodies := make(map[string]string)
		r.answer = func(req *push.Request, _ int) push.Result {
			l.mu.Lock()
			defer l.mu.Unlock()
			bodies[req.DeliveryID] = string(req.Body)
			return answered(200)
		}
		spoke := bson.M{"transcript": bson.A{bson.M{"role": "Customer", "content": "hello"}}}
		silent := bson.M{"transcript": bson.A{bson.M{"role": "bot", "content": "hello"}}}
		l.gone = "gone"
		want := map[string]string{"spoke": `{"d":""}`, "silent": `{"d":"RNR"}`, "error": `{"d":"Failed"}`, "analysed": `{"d":"Sold"}`}
		for id, fields := range map[string]bson.M{
			"spoke": spoke, "silent": silent, "gone": silent,
			"error":    {"disconnected_by": "error"},
			"analysed": {"post_call_analysis": bson.M{"DISPOSITION": "Sold"}},
			"other":    {"bot_id": "plain"},
		} {
			r.store(id, fields)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for id, body := range want {
			c := r.call(id)
			if got := bodies[c.DeliveryID()]; got != body {
				t.Errorf("%s: sent %s, want %s", id, got, body)
			}
		}
		if deliveries, _ := r.sends(); deliveries != 5 {
			t.Errorf("%d deliveries", deliveries)
		}
		needed := 0
		for _, n := range l.asked {
			needed += n
		}
		if needed != 3 {
			t.Errorf("roles were read of %s calls, want 3", fmt.Sprint(l.asked))
		}
	})
}
