package dispatch

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/push"
)

// traffic is a load on many destinations, some of which have faults.
type traffic struct {
	destinations  int
	rate          int // calls a second to each
	lasts         time.Duration
	concurrency   int
	perLane       int
	answers       map[int]func() push.Result // of those that are not well
	faultsFrom    time.Duration              // before it all are well
	ignore        int                        // so many of the first have no part in the figures
	measuredAfter time.Duration
	silentIgnored bool // those in ignore get no calls at all
}

// figures are what the others noticed.
type figures struct {
	p99    time.Duration // from stored to sent with success
	worst  time.Duration
	pushed int // within the time of the load
	most   int // under way at once, all together
	faulty int // attempts on those in ignore
	held   int // calls in memory at the end
	reads  int // look-ups of due calls
}

func crmURL(n int) string { return fmt.Sprintf("https://crm%d.example.com/hook", n) }

// usual is a CRM that answers within 20 to 60 ms.
func usual(id string) push.Result {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	res := answered(200)
	res.Duration = 20*time.Millisecond + time.Duration(h.Sum32()%40_000)*time.Microsecond
	return res
}

func hangs() push.Result {
	return push.Result{Class: push.ClassUnknown, Duration: 10 * time.Second, Err: context.DeadlineExceeded}
}

func refuses() push.Result {
	return push.Result{Class: push.ClassUnreached, Duration: time.Millisecond, Err: errNoAnswer}
}

func crawls() push.Result {
	res := answered(200)
	res.Duration = 9 * time.Second
	return res
}

// run plays the load on a fake clock.
func (l traffic) run(t *testing.T) figures {
	t.Helper()
	var docs []bson.M
	for i := range l.destinations {
		docs = append(docs, botOf(fmt.Sprint(i), crmURL(i)))
	}
	r := newRoadOf(t, func(o *Options) {
		o.Schedule = push.DefaultSchedule()
		o.Concurrency, o.DestinationConcurrency = l.concurrency, l.perLane
	}, docs...)
	defer r.stop()
	begun := time.Now()
	number := make(map[string]int)
	for i := range l.destinations {
		number[crmURL(i)] = i
	}
	var f figures
	underWay := 0
	r.answer = func(req *push.Request, _ int) push.Result {
		n := number[req.URL]
		r.mu.Lock()
		if n < l.ignore {
			f.faulty++
		}
		underWay = 0
		for _, busy := range r.underWay {
			underWay += busy
		}
		f.most = max(f.most, underWay)
		r.mu.Unlock()
		if answer := l.answers[n]; answer != nil && time.Since(begun) >= l.faultsFrom {
			return answer()
		}
		return usual(req.DeliveryID)
	}
	sent := 0
	every := time.Second / time.Duration(l.rate*l.destinations)
	for time.Since(begun) < l.lasts {
		if n := sent % l.destinations; n >= l.ignore || !l.silentIgnored {
			r.store(fmt.Sprintf("%d-%06d", n, sent), bson.M{"bot_id": fmt.Sprint(n)})
		}
		sent++
		time.Sleep(every)
	}
	synctest.Wait()
	f.pushed = len(r.pushed(l.ignore, begun))
	time.Sleep(20 * time.Second)
	synctest.Wait()
	took := r.pushed(l.ignore, begun.Add(l.measuredAfter))
	slices.Sort(took)
	f.p99, f.worst = took[len(took)*99/100], took[len(took)-1]
	f.held, f.reads = r.intake.Held(), r.dueReads
	return f
}

// pushed is how long each call took that was stored after a time and pushed,
// those of the first few bots left out.
func (r *road) pushed(ignore int, after time.Time) []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	var took []time.Duration
	for _, o := range r.outcomes {
		bot := 0
		if _, err := fmt.Sscanf(o.ID.StringValue(), "%d-", &bot); err != nil {
			r.t.Error(err)
		}
		if bot >= ignore && o.Status == calls.StatusOK && !o.CompletedAt.Before(after) {
			took = append(took, o.At.Sub(o.CompletedAt))
		}
	}
	return took
}

// With 50 destinations of which one never answers, one answers after 9 s and one
// refuses connections, the others hardly notice. The slots are so few that
// those three could hold all of them.
func TestThreeBadDestinationsCostTheOthersNothing(t *testing.T) {
	load := traffic{destinations: 50, rate: 5, lasts: 20 * time.Second, concurrency: 32, perLane: 16, ignore: 3}
	var alone, with figures
	bubble(t, func(t *testing.T) {
		l := load
		l.silentIgnored = true
		alone = l.run(t)
	})
	bubble(t, func(t *testing.T) {
		l := load
		l.answers = map[int]func() push.Result{0: hangs, 1: crawls, 2: refuses}
		with = l.run(t)
	})
	compare(t, alone, with)
	if with.faulty > 150 {
		t.Errorf("%d attempts on the three bad ones", with.faulty)
	}
}

func compare(t *testing.T, alone, with figures) {
	t.Helper()
	p99 := float64(with.p99) / float64(alone.p99)
	through := float64(with.pushed) / float64(alone.pushed)
	t.Logf("p99 %v with them, %v without: %.3f; pushed in time %d and %d: %.3f; worst %v and %v; attempts on the bad ones %d; most at once %d and %d; look-ups %d and %d; held %d",
		with.p99, alone.p99, p99, with.pushed, alone.pushed, through, with.worst, alone.worst, with.faulty, with.most, alone.most, with.reads, alone.reads, with.held)
	if p99 > 1.2 {
		t.Errorf("p99 is %.2f times as long", p99)
	}
	if through < 0.95 {
		t.Errorf("throughput is %.3f of what it was", through)
	}
}

// Most destinations die at the same moment, while they are trusted: together they
// may have more requests under way than there are slots, and the breakers need
// 10 s to open.
func TestManyDestinationsThatDieAtOnceLeaveTheOthersTheirSlots(t *testing.T) {
	load := traffic{
		destinations: 50, rate: 20, lasts: 9 * time.Second, concurrency: 112, perLane: 16,
		ignore: 30, faultsFrom: 3 * time.Second, measuredAfter: 3 * time.Second,
		answers: make(map[int]func() push.Result),
	}
	var alone, with figures
	bubble(t, func(t *testing.T) { alone = load.run(t) })
	for n := range 30 {
		load.answers[n] = hangs
	}
	bubble(t, func(t *testing.T) { with = load.run(t) })
	compare(t, alone, with)
}

// The same from the first moment on, when nothing is known of any destination.
func TestDestinationsThatAreDeadAtTheStartLeaveTheOthersTheirSlots(t *testing.T) {
	load := traffic{
		destinations: 50, rate: 10, lasts: 15 * time.Second, concurrency: 64, perLane: 16, ignore: 40,
		answers: make(map[int]func() push.Result),
	}
	var alone, with figures
	bubble(t, func(t *testing.T) {
		l := load
		l.silentIgnored = true
		alone = l.run(t)
	})
	for n := range 40 {
		load.answers[n] = hangs
	}
	bubble(t, func(t *testing.T) { with = load.run(t) })
	compare(t, alone, with)
}

// Two thousand destinations never answer, from the first moment on, when nothing
// is known of any: they hold neither the slots, nor the room of calls that wait,
// nor what may be pending.
func TestThousandsOfHangingDestinationsCostTheOthersNothing(t *testing.T) {
	load := traffic{
		destinations: 2050, rate: 2, lasts: 4 * time.Second, concurrency: 256, perLane: 16, ignore: 2000,
		answers: make(map[int]func() push.Result),
	}
	var alone, with figures
	bubble(t, func(t *testing.T) {
		l := load
		l.silentIgnored = true
		alone = l.run(t)
	})
	for n := range 2000 {
		load.answers[n] = hangs
	}
	bubble(t, func(t *testing.T) { with = load.run(t) })
	compare(t, alone, with)
}
