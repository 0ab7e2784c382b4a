package dispatch

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/queue"
	"github.com/cxbridge/watcher/pkg/push"
)

// 202 with Retry-After is how asynchronous APIs say when to poll for the result.
func TestASuccessThatNamesATimeHoldsNobodyUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t)
		defer r.stop()
		r.answer = func(*push.Request, int) push.Result {
			res := answered(202)
			res.RetryAfter, res.Duration = time.Minute, 50*time.Millisecond
			return res
		}
		const n = 200
		for i := range n {
			r.store(fmt.Sprint("c", i), nil)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := r.count(); got[calls.StatusOK] != n {
			t.Errorf("after a minute %v", got)
		}
	})
}

// A lease is lost while calls are being sent: that says nothing of their
// destination, which another partition of the process goes on with at once.
func TestWhatIsCutOffIsNoFailureOfItsDestination(t *testing.T) {
	for name, class := range map[string]push.Class{"canceled": push.ClassCanceled, "nobody knows what arrived": push.ClassUnknown} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRoad(t)
				hang := make(chan struct{})
				r.answer = func(*push.Request, int) push.Result { return answered(200) }
				for i := range 50 { // so that 8 are sent at once
					r.store(fmt.Sprint("warm", i), nil)
				}
				synctest.Wait()
				r.mu.Lock()
				r.answer = func(*push.Request, int) push.Result {
					<-hang
					return push.Result{Class: class, Err: errNoAnswer}
				}
				r.mu.Unlock()
				for i := range 8 {
					r.store(fmt.Sprint("cut", i), nil)
				}
				synctest.Wait()
				first := r.intake
				r.intake = r.d.Open(context.Background(), Share{}, nil)
				first.Stop()
				first.Abort()
				close(hang)
				<-first.Idle()
				r.mu.Lock()
				r.answer = func(*push.Request, int) push.Result { return answered(200) }
				r.mu.Unlock()
				r.store("next", nil)
				synctest.Wait()
				if next := r.call("next"); next.Pushed.Status != calls.StatusOK {
					t.Errorf("the next call is %+v", next.Pushed)
				}
				for i := range 8 {
					if cut := r.call(fmt.Sprint("cut", i)); cut.Pushed.Present {
						t.Errorf("%s has the outcome %+v", cut.SessionID, cut.Pushed)
					}
				}
				if l := onlyLane(t, r); l.State != queue.Closed || l.Problem.Times != 0 {
					t.Errorf("%+v", l)
				}
				for i := range 8 {
					if id := fmt.Sprint("cut", i); r.settledOf(id) != 0 {
						t.Errorf("%s is settled, and nobody knows of it", id)
					}
				}
				r.stop()
			})
		})
	}
}

// largeCalls hands over calls of 15 MB, all of which share their bytes, and notes
// how much was handed over and not settled at the most.
type largeCalls struct {
	*road
	raw    bson.Raw
	handed int // calls
	most   int // bytes
}

func (l *largeCalls) Load(_ context.Context, q calls.Read, fn func(calls.Call) bool) error {
	<-time.After(50 * time.Millisecond) // so that more wait meanwhile
	for _, id := range q.IDs {
		c := calls.Decode(l.raw)
		c.ID = id
		if !fn(c) {
			return nil
		}
		l.mu.Lock()
		settled := 0
		for _, n := range l.settled {
			settled += n
		}
		l.handed++
		l.most = max(l.most, (l.handed-settled)*c.Size())
		l.mu.Unlock()
	}
	return nil
}

// However large the calls of one find are, memory is taken before they are read,
// and all of them are pushed in the end.
func TestTheBytesOfCallsAreBoundedBeforeTheyAreRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		large := &largeCalls{raw: marshal(t, bson.M{
			"_id": "x", "bot_id": "bot", "completed_at": time.Now(), "transcript": strings.Repeat("x", 15<<20),
		})}
		r := newRoadOf(t, func(o *Options) { large.road = o.Loader.(*road); o.Loader = large })
		block := make(chan struct{})
		r.answer = func(*push.Request, int) push.Result { <-block; return answered(200) }
		const n = 300
		var stored sync.WaitGroup
		for i := range n {
			stored.Go(func() { r.store(fmt.Sprint("c", i), nil) })
		}
		time.Sleep(900 * time.Millisecond) // what is deferred is not loaded again yet
		r.mu.Lock()
		most := large.most
		r.mu.Unlock()
		if most > DefaultMemory {
			t.Errorf("%d MB of calls were read and not let go of, of %d", most>>20, DefaultMemory>>20)
		}
		close(block)
		stored.Wait()
		time.Sleep(time.Hour)
		synctest.Wait()
		if d, _ := r.sends(); d != n {
			t.Errorf("%d of %d were pushed", d, n)
		}
		r.stop()
	})
}

// An event says which result it is about. A read that does not see that yet, or
// not even the call, is made again until it does.
func TestAReadThatIsOlderThanItsEventIsMadeAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t)
		defer r.stop()
		completed := time.Now()
		submit := func(id string) {
			err := r.intake.Submit(t.Context(), Event{ID: rawID(t, id), CompletedAt: completed, At: bson.Timestamp{T: 1}}, func() {
				r.mu.Lock()
				r.settled[id]++
				r.mu.Unlock()
			})
			if err != nil {
				t.Error(err)
			}
		}
		r.write("no result yet", bson.M{"completed_at": nil})
		r.write("the one before", bson.M{"completed_at": completed.Add(-time.Hour)})
		ids := []string{"not there yet", "no result yet", "the one before"}
		for _, id := range append(ids, "deleted") {
			submit(id)
		}
		time.Sleep(time.Second)
		for _, id := range append(ids, "deleted") {
			if r.settledOf(id) != 0 {
				t.Errorf("%s is settled without the result", id)
			}
		}
		for _, id := range ids { // what the primary has
			r.write(id, bson.M{"completed_at": completed})
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n, _ := r.sends(); n != len(ids) {
			t.Errorf("%d of %d results were pushed", n, len(ids))
		}
		if r.settledOf("deleted") != 1 {
			t.Error("a call that is gone for good is never settled")
		}
	})
}

func (r *road) settledOf(id string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.settled[id]
}

func (r *road) sentOf(deliveryID string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent[deliveryID]
}

func (r *road) call(id string) calls.Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return calls.Decode(marshal(r.t, r.docs[id]))
}

// dueNow is how many calls stand as due on their documents.
func (r *road) dueNow() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.due)
}

// stuckRecorder takes outcomes and writes none.
type stuckRecorder struct {
	mu      sync.Mutex
	waiting []func(bool)
}

func (s *stuckRecorder) Record(_ calls.Outcome, done func(bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, done)
}

func (s *stuckRecorder) letGo() {
	s.mu.Lock()
	waiting := s.waiting
	s.waiting = nil
	s.mu.Unlock()
	for _, done := range waiting {
		done(true)
	}
}

// While as much is pending as may be, nothing due can be taken, and nobody asks
// for it all the time.
func TestNothingSpinsWhileNothingCanBeTaken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		stuck := &stuckRecorder{}
		r := newRoadOf(t, func(o *Options) { o.Recorder = stuck })
		for i := range 2000 {
			id := fmt.Sprint("due", i)
			r.write(id, nil)
			r.mu.Lock()
			r.due[id] = time.Now().Add(-time.Minute)
			r.mu.Unlock()
		}
		ctx, cancel := context.WithCancel(context.Background())
		var stream sync.WaitGroup
		stream.Go(func() { // as much as goes
			for i := 0; ; i++ {
				id := fmt.Sprint("live", i)
				r.write(id, nil)
				if r.intake.Submit(ctx, Event{ID: rawID(t, id)}, func() {}) != nil {
					return
				}
			}
		})
		time.Sleep(time.Minute) // all is full
		r.mu.Lock()
		before := r.dueReads
		r.mu.Unlock()
		time.Sleep(10 * time.Second)
		r.mu.Lock()
		if n := r.dueReads - before; n > 30 {
			t.Errorf("%d looks for due calls in 10 s while none can be taken", n)
		}
		r.mu.Unlock()
		cancel()
		stream.Wait()
		r.intake.Stop()
		stuck.letGo()
		r.stop()
	})
}

// A call whose document takes nothing any more cannot wait there for a busy
// destination: it waits in memory, and is sent once.
func TestACallThatCannotBeDeferredIsSentOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t)
		defer r.stop()
		r.refuses = func(o *calls.Outcome) bool { return o.ID.StringValue() == "full" }
		r.answer = func(*push.Request, int) push.Result {
			res := answered(429)
			res.RetryAfter = 4 * time.Minute
			return res
		}
		r.store("first", nil)
		synctest.Wait()
		r.mu.Lock()
		r.answer = func(*push.Request, int) push.Result { return answered(200) }
		r.mu.Unlock()
		r.store("full", nil)
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		full := r.call("full")
		id := full.DeliveryID()
		if r.settledOf("full") != 0 || r.sentOf(id) != 0 {
			t.Errorf("settled %d times and sent %d times while the destination wants nothing", r.settledOf("full"), r.sentOf(id))
		}
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if r.settledOf("full") != 1 || r.sentOf(id) != 1 {
			t.Errorf("settled %d times and sent %d times", r.settledOf("full"), r.sentOf(id))
		}
	})
}

// What stands as due on a call that takes no outcome would be due for ever: the
// call is sent once more at most.
func TestADueCallThatTakesNoOutcomeIsNotSentForEver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t)
		defer r.stop()
		r.refuses = func(o *calls.Outcome) bool { return o.Attempts > 1 }
		r.answer = func(*push.Request, int) push.Result { return answered(503) }
		r.store("a", nil)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if _, n := r.sends(); n != 2 {
			t.Errorf("sent %d times", n)
		}
	})
}

// All bots are gone while their collection is restored. What was due then stays
// due, what comes waits, and all is pushed afterwards.
func TestCallsWaitForABotThatIsGone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t)
		defer r.stop()
		bad := true
		r.answer = func(*push.Request, int) push.Result {
			r.mu.Lock()
			defer r.mu.Unlock()
			if bad {
				return answered(503)
			}
			return answered(200)
		}
		r.store("due", nil)
		synctest.Wait()
		r.mu.Lock()
		bad = false
		r.gone = map[string]bool{"bot": true}
		r.mu.Unlock()
		bot := r.bots
		r.setBots()
		time.Sleep(10 * time.Minute)
		r.store("live", nil)
		r.store("of a bot that never was", bson.M{"bot_id": "who"})
		synctest.Wait()
		if got := r.count(); got[calls.StatusOK] != 0 || r.settledOf("live") != 1 || r.dueNow() != 2 {
			t.Errorf("while the bot is gone: %v, due %v", got, r.dueNow())
		}
		r.mu.Lock()
		r.bots, r.gone = bot, nil
		r.mu.Unlock()
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if got := r.count(); got[calls.StatusOK] != 2 {
			t.Errorf("since the bot is back: %v", got)
		}
	})
}

// A bot that is changed after its set was looked at: the call is read again with
// the fields that the new mapper names, and goes to the new address.
func TestABotIsNeverOlderThanItsCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		fresh := &freshBots{}
		r := newRoadOf(t, func(o *Options) { fresh.road = o.Bots.(*road); o.Bots = fresh })
		defer r.stop()
		fresh.next = botOf("bot", "https://new.example.com/hook")
		r.store("a", nil)
		synctest.Wait()
		if o := r.last(); o.URL != "https://new.example.com/hook" || o.Status != calls.StatusOK {
			t.Errorf("outcome %+v", o)
		}
		if fresh.reads != 2 {
			t.Errorf("the call was read %d times", fresh.reads)
		}
	})
}

// freshBots are bots of which one changes at the first refresh.
type freshBots struct {
	*road
	next  bson.M
	reads int
}

func (f *freshBots) Refresh(context.Context, []bson.RawValue) error {
	f.reads++
	if f.next != nil {
		f.setBots(f.next)
		f.next = nil
	}
	return nil
}

// A lease that is over although its context is not, as after the host slept.
func TestNothingIsSentWithoutTheRightTo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRoad(t)
		first := r.intake
		var alive atomic.Bool
		alive.Store(true)
		r.intake = r.d.Open(context.Background(), Share{}, alive.Load)
		r.store("a", nil)
		synctest.Wait()
		alive.Store(false)
		r.store("b", nil)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if _, n := r.sends(); n != 1 || r.settledOf("b") != 0 {
			t.Errorf("%d sends without the right to", n)
		}
		alive.Store(true) // the lease was renewed after all
		time.Sleep(time.Second)
		synctest.Wait()
		if _, n := r.sends(); n != 2 || r.settledOf("b") != 1 {
			t.Errorf("%d sends", n)
		}
		first.Stop()
		r.stop()
	})
}
