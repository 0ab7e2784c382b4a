package dispatch

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/queue"
	"github.com/cxbridge/watcher/pkg/push"
)

var (
	errNoAnswer = errors.New("no answer")
	failed      = push.Result{Class: push.ClassUnreached, Err: errNoAnswer}
)

// What package queue does at a breaker, as far as the road shows it.
const (
	breakAfter    = 5
	breakFirst    = 10 * time.Second
	breakMost     = 5 * time.Minute
	blockedSpread = 30 * time.Second
	paceFirst     = 4
)

// What an attempt says of a destination, and not of its call.
func TestWhatAnAttemptSaysOfItsDestination(t *testing.T) {
	for _, tc := range []struct {
		class  push.Class
		status int
		cutOff bool
		want   queue.Health
		hold   bool
	}{
		{push.ClassOK, 200, false, queue.Healthy, false},
		{push.ClassOK, 202, false, queue.Healthy, false}, // with Retry-After, as asynchronous APIs answer
		{push.ClassRefused, 200, false, queue.Healthy, false},
		{push.ClassRejected, 404, false, queue.Healthy, false},
		{push.ClassRejected, 500, false, queue.Healthy, false}, // a validation error by retry_when
		{push.ClassBusy, 429, false, queue.Busy, true},
		{push.ClassBusy, 403, false, queue.Busy, true}, // a limit by retry_when
		{push.ClassBusy, 408, false, queue.Down, true},
		{push.ClassBusy, 500, false, queue.Down, true},
		{push.ClassBusy, 503, false, queue.Down, true},
		{push.ClassUnreached, 0, false, queue.Down, false},
		{push.ClassUnknown, 0, false, queue.Down, false},
		{push.ClassUnknown, 0, true, queue.Interrupted, false},
		{push.ClassCanceled, 0, true, queue.Interrupted, false},
	} {
		got := reportOf(&push.Result{Class: tc.class, HTTPStatus: tc.status, RetryAfter: time.Minute}, tc.cutOff)
		if got.Health != tc.want || (got.RetryAfter > 0) != tc.hold {
			t.Errorf("%s with %d: %+v, want health %d", tc.class, tc.status, got, tc.want)
		}
		got = reportOf(&push.Result{Class: tc.class, HTTPStatus: tc.status, RetryAfter: time.Minute, Wasteful: true}, tc.cutOff)
		if !tc.cutOff && (got.Health != queue.Down || (got.RetryAfter > 0) != tc.hold || ProblemText(queue.Problem{What: got.Problem}) != wasteful) {
			t.Errorf("%s with %d in a wasteful answer: %+v", tc.class, tc.status, got)
		}
	}
}

// A CRM that fails for ten minutes gets what waited bit by bit when it is back.
func TestWhatWaitedForADestinationComesBackBitByBit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 800
		r := newRoadOf(t, func(o *Options) { o.Schedule = push.DefaultSchedule() })
		defer r.stop()
		begun := time.Now()
		const outage = 10 * time.Minute
		perSecond := make(map[int]int) // sends, by the second after the outage
		during := 0
		r.answer = func(*push.Request, int) push.Result {
			after := time.Since(begun) - outage
			r.mu.Lock()
			defer r.mu.Unlock()
			if after < 0 {
				during++
				return answered(500)
			}
			perSecond[int(after.Seconds())]++
			res := answered(200)
			res.Duration = 20 * time.Millisecond
			return res
		}
		for i := range n {
			r.store(fmt.Sprintf("c%04d", i), nil)
			time.Sleep(200 * time.Millisecond)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if got := r.count(); got[calls.StatusOK] != n {
			t.Errorf("statuses %v", got)
		}
		deliveries, total := r.sends()
		if deliveries != n || total != n+during {
			t.Errorf("%d deliveries, %d sends of which %d failed: some were sent twice", deliveries, total, during)
		}
		if during > 60 {
			t.Errorf("%d requests during the outage", during)
		}
		first, before, most := -1, 0, 0
		for s := range int(breakMost.Seconds()) * 2 {
			count := perSecond[s]
			if first < 0 && count > 0 {
				first = s
			}
			if first >= 0 && s < first+15 {
				// Doubling in 4 s is 1.2 in one; a second may catch one of the next.
				if limit := max(2*before, int(2*paceFirst)); count > limit {
					t.Errorf("%d sends in second %d after %d in the one before", count, s-first, before)
				}
				before = max(count, before)
			}
			most = max(most, count)
		}
		if first < 0 || perSecond[first] > int(paceFirst)+2 {
			t.Errorf("%d sends in the first second", perSecond[first])
		}
		t.Logf("%d requests in the outage; first one %d s after it; %d, %d, %d, ... a second, most %d", during, first, perSecond[first], perSecond[first+1], perSecond[first+2], most)
	})
}

// What a closed lane does not take stands on its document, due at a time of its
// own, as not tried.
func TestCallsThatAreHeldUpAreSpreadAndNotCountedAsTried(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t)
		defer r.stop()
		r.answer = func(*push.Request, int) push.Result { return failed }
		for i := range breakAfter {
			r.store(fmt.Sprintf("first-%d", i), nil)
			synctest.Wait()
		}
		r.mu.Lock()
		r.outcomes = nil
		r.mu.Unlock()
		const n = 300
		for i := range n {
			r.store(fmt.Sprintf("c%03d", i), nil)
		}
		synctest.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		second := make(map[int]int)
		for _, o := range r.outcomes {
			wait := time.Until(o.NextAttemptAt)
			if o.Transition != calls.ToDeferred || o.Attempts != 0 || o.Status != calls.StatusFailed || wait < breakFirst || wait > breakFirst*5/4+blockedSpread {
				t.Errorf("outcome %+v", o)
			}
			second[int(wait.Seconds())]++
		}
		for s, count := range second {
			if count > n/10 { // 10 a second on average
				t.Errorf("%d calls are due in second %d", count, s)
			}
		}
		if len(r.outcomes) != n || len(r.settled) != n+breakAfter || r.intake.Held() != 0 {
			t.Errorf("%d outcomes, %d settled, %d held", len(r.outcomes), len(r.settled), r.intake.Held())
		}
	})
}

// Calls that fail together are not tried again together.
func TestTriesAfterACommonFailureAreSpread(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 400
		var docs []bson.M
		for i := range n { // each its own destination, so that no lane spreads them
			docs = append(docs, botOf(fmt.Sprint(i), crmURL(i)))
		}
		r := newRoad(t, docs...)
		defer r.stop()
		begun := time.Now()
		second := make(map[int]int)
		r.answer = func(_ *push.Request, try int) push.Result {
			if try == 1 {
				return answered(503)
			}
			r.mu.Lock()
			second[int(time.Since(begun).Seconds())]++
			r.mu.Unlock()
			return answered(200)
		}
		for i := range n {
			r.store(fmt.Sprintf("%d-0", i), bson.M{"bot_id": fmt.Sprint(i)})
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := r.count(); got[calls.StatusOK] != n {
			t.Fatalf("statuses %v", got)
		}
		// 30 s with full jitter is 15 to 45 s: 13 a second on average.
		for s, count := range second {
			if count > 40 || s < 15 || s > 46 {
				t.Errorf("%d second tries in second %d", count, s)
			}
		}
	})
}

// The CRM takes the call and answers too late: it may see it twice, but then as
// one and the same.
func TestATryAfterALostAnswerSendsTheSameBytes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t)
		defer r.stop()
		type sent struct{ id, body, key string }
		var all []sent
		r.answer = func(req *push.Request, try int) push.Result {
			r.mu.Lock()
			all = append(all, sent{req.DeliveryID, string(req.Body), req.Header.Get("Idempotency-Key")})
			r.mu.Unlock()
			if try == 1 {
				return push.Result{Class: push.ClassUnknown, Err: errNoAnswer, Duration: 10 * time.Second}
			}
			return answered(200)
		}
		r.store("a", nil)
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if o := r.last(); o.Status != calls.StatusFailed || o.Final() || o.Attempts != 1 {
			t.Errorf("first outcome %+v", o)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if len(all) != 2 || all[0] != all[1] || all[0].id == "" || all[0].id != all[0].key || !strings.Contains(all[0].body, `"a"`) {
			t.Errorf("sent %+v", all)
		}
		if o := r.last(); o.Status != calls.StatusOK || o.Attempts != 2 {
			t.Errorf("last outcome %+v", o)
		}
	})
}

// A clock that was wrong leaves times on documents that no schedule gives.
func TestTimesOfAClockThatJumped(t *testing.T) {
	for name, tc := range map[string]struct {
		next time.Time
		want bool
	}{
		"long past":  {time.Unix(0, 0), true},
		"far future": {time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC), false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRoad(t)
				defer r.stop()
				stored := time.Now().Add(24 * time.Hour) // by a clock that is ahead
				r.write("a", bson.M{"completed_at": stored, "post_call_push_result": bson.M{
					"status": "failed", "attempts": 1, "completed_at": stored, "next_attempt_at": tc.next, "first_attempt_at": stored,
				}})
				r.mu.Lock()
				r.due["a"] = tc.next
				r.mu.Unlock()
				time.Sleep(time.Hour)
				synctest.Wait()
				if _, n := r.sends(); (n == 1) != tc.want || n > 1 {
					t.Errorf("%d sends", n)
				}
			})
		})
	}
}

func TestADeliveryIsGivenUpAtItsAge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoadOf(t, func(o *Options) {
			o.Schedule = push.Schedule{Delays: []time.Duration{20 * time.Minute}, MaxAttempts: 50, MaxAge: 2 * time.Hour}
		})
		defer r.stop()
		r.answer = func(*push.Request, int) push.Result { return answered(503) }
		// Stored long before the first try, as after a gap or for a replay.
		r.store("a", bson.M{"completed_at": time.Now().Add(-90 * time.Hour)})
		begun := time.Now()
		time.Sleep(12 * time.Hour)
		synctest.Wait()
		o := r.last()
		if !o.Final() || o.Status != calls.StatusRejected || !strings.Contains(o.Error, "given up") {
			t.Errorf("outcome %+v", o)
		}
		if took := o.At.Sub(begun); took > 2*time.Hour || took < time.Hour || o.Attempts < 3 {
			t.Errorf("given up after %v and %d tries", took, o.Attempts)
		}
	})
}

// Most calls of a destination that never comes back are never tried, as its
// lane takes only a probe now and then.
func TestCallsOfADestinationThatStaysDownAreGivenUpAtTheirAge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 80
		r := newRoadOf(t, func(o *Options) {
			o.Schedule = push.Schedule{Delays: []time.Duration{10 * time.Minute}, MaxAttempts: 500, MaxAge: 6 * time.Hour}
		})
		defer r.stop()
		r.answer = func(*push.Request, int) push.Result { return failed }
		for i := range n {
			r.store(fmt.Sprintf("c%03d", i), nil)
			time.Sleep(time.Second)
		}
		time.Sleep(5 * time.Hour)
		synctest.Wait()
		if ended := r.final(); ended > 0 {
			t.Errorf("%d calls given up early", ended)
		}
		time.Sleep(9 * time.Hour)
		synctest.Wait()
		if ended := r.final(); ended != n {
			t.Errorf("%d of %d calls have ended", ended, n)
		}
		// Which of the two comes last depends on whose turn the last probe is.
		if o := r.last(); !strings.Contains(o.Error, "given up") && !strings.Contains(o.Error, ReasonTooOld.Text()) {
			t.Errorf("outcome %+v", o)
		}
	})
}

// final is how many calls have their final outcome.
func (r *road) final() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, doc := range r.docs {
		if p := calls.Decode(marshal(r.t, doc)).Pushed; p.Status != "" && p.NextAttemptAt.IsZero() {
			n++
		}
	}
	return n
}

// Failures of every kind leave nothing behind: not a goroutine, not a
// descriptor, not memory.
func TestFailuresLeaveNothingBehind(t *testing.T) {
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch n.Add(1) % 4 {
		case 0:
			panic(http.ErrAbortHandler) // the connection dies
		case 1:
			w.WriteHeader(http.StatusNotFound)
		case 2:
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(http.StatusFound)
		default:
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
	}))
	defer server.Close()
	client, err := push.NewClient(push.Options{Allow: []push.Network{{Prefix: netip.MustParsePrefix("127.0.0.0/8")}}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	r := newRoadOf(t, func(o *Options) { o.Sender = client }, botOf("bot", server.URL))
	defer r.stop()
	cycles := func(from, to int) {
		for i := from; i < to; i++ {
			r.store(fmt.Sprintf("c%05d", i), nil)
			for r.d.Totals().Pending > 32 {
				runtime.Gosched()
			}
		}
		for r.d.Totals().Pending > 0 {
			runtime.Gosched()
		}
	}
	cycles(0, 200) // connections, lanes and buffers are there
	goroutines, files, heap := usage(t)
	sent := n.Load()
	cycles(200, 1200)
	if n.Load()-sent < 1000 {
		t.Fatalf("%d requests", n.Load()-sent)
	}
	r.mu.Lock() // what the test itself keeps
	clear(r.docs)
	clear(r.sent)
	r.outcomes = nil
	r.mu.Unlock()
	g, f, h := usage(t)
	t.Logf("goroutines %d to %d, descriptors %d to %d, heap %d to %d kB", goroutines, g, files, f, heap>>10, h>>10)
	if g > goroutines+16 || f > files+16 || h > heap+4<<20 {
		t.Errorf("goroutines %d to %d, descriptors %d to %d, heap %d to %d kB", goroutines, g, files, f, heap>>10, h>>10)
	}
}

func usage(t *testing.T) (goroutines, files int, heap uint64) {
	t.Helper()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Logf("descriptors are not counted here: %v", err)
	}
	return runtime.NumGoroutine(), len(entries), m.HeapAlloc
}
