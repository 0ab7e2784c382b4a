package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/admin"
	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/pkg/resume"
	"github.com/cxbridge/watcher/pkg/secret"
)

func partitionOf(i, of int) resume.Partition { return resume.Partition{Index: i, Of: of} }

// line is a way to a server that can be made to carry nothing, in either
// direction, without breaking: what was sent arrives when it is mended. It is how
// a paused machine looks from outside.
type line struct {
	ln     net.Listener
	server string

	mu    sync.Mutex
	pass  chan struct{} // closed while bytes pass
	conns []net.Conn
	work  sync.WaitGroup
}

func newLine(t testing.TB, server string) *line {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	l := &line{ln: ln, server: server, pass: make(chan struct{})}
	close(l.pass)
	l.work.Go(l.accept)
	t.Cleanup(func() {
		_ = ln.Close()
		l.mend()
		l.mu.Lock()
		for _, c := range l.conns {
			_ = c.Close()
		}
		l.mu.Unlock()
		l.work.Wait()
	})
	return l
}

func (l *line) accept() {
	for {
		near, err := l.ln.Accept()
		if err != nil {
			return
		}
		far, err := (&net.Dialer{}).Dial("tcp", l.server)
		if err != nil {
			_ = near.Close()
			continue
		}
		l.mu.Lock()
		l.conns = append(l.conns, near, far)
		l.mu.Unlock()
		l.work.Go(func() { l.carry(far, near) })
		l.work.Go(func() { l.carry(near, far) })
	}
}

func (l *line) carry(to, from net.Conn) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		l.mu.Lock()
		pass := l.pass
		l.mu.Unlock()
		<-pass
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pass = make(chan struct{})
}

func (l *line) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.pass:
	default:
		close(l.pass)
	}
}

// uri is the server's, by this line.
func (l *line) uri() secret.Text {
	return secret.Text("mongodb://" + l.ln.Addr().String() + "/?directConnection=true")
}

// replica launches one more watcher of the same name.
func (r *road) replica(owner string) *running {
	r.t.Helper()
	other := *r
	other.deps.Owner = owner
	return other.launch()
}

// A replica that is cut off in the middle of a push: another has its partition
// within 15 s, and when the first is back, with all that it had sent on the way,
// it saves nothing and pushes nothing.
func TestPausedReplicaIsReplacedAndComesBack(t *testing.T) {
	t.Parallel()
	r := newRoad(t)
	r.perCall("first", "held", "later", "after")
	release := make(chan struct{})
	r.crm.Answers(func(q apptest.Request) apptest.Answer {
		if err := r.NotLogged(q); err != nil {
			t.Error(err)
		}
		if q.Path == "/held" && q.Number == 1 {
			return apptest.Answer{Until: release}
		}
		return apptest.Answer{}
	})
	defer close(release)
	direct := r.cfg.MongoURI
	way := newLine(t, r.server.Addr())
	r.cfg.MongoURI = way.uri()
	a := r.start()
	r.isHealthy(a, http.StatusOK, admin.StateReady)
	r.cfg.MongoURI = direct
	b := r.replica("replica-2")
	if h := r.isHealthy(b, http.StatusOK, admin.StateStandby); h.Standby != "replica-1 reads 0-of-1" {
		t.Errorf("%+v", h)
	}
	r.eventually("the holder knows of the standby", func() error {
		if n := a.group.Status().Members; n != 2 {
			return fmt.Errorf("%d members", n)
		}
		return nil
	})
	r.Call("first", "first")
	r.final("first", "ok")
	r.Call("held", "held")
	r.eventually("a push is under way", func() error {
		if len(r.crm.At("/held")) != 1 {
			return errors.New("none")
		}
		return nil
	})
	way.cut()
	cut := time.Now()
	r.Call("later", "later")
	r.eventually("the standby takes over", func() error {
		if len(b.logs.find("holding a partition")) == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	if took := time.Since(cut); took > 15*time.Second {
		t.Errorf("it took %s", took)
	}
	if len(a.logs.find("let go of a partition")) == 0 && a.metric("watcher_dispatch_sending_calls") != 0 {
		t.Error("the old holder still sends")
	}
	r.final("held", "ok")
	r.final("later", "ok")
	r.pushes(b, map[string]int{"first": 1, "held": 2, "later": 1})
	before, _, err := r.positions().Record(t.Context(), partitionOf(0, 1))
	must(t, err)

	way.mend()
	r.isHealthy(a, http.StatusOK, admin.StateStandby)
	r.Call("after", "after")
	r.final("after", "ok")
	a.halt()
	b.halt()
	r.pushes(b, map[string]int{"first": 1, "held": 2, "later": 1, "after": 1})
	after, _, err := r.positions().Record(t.Context(), partitionOf(0, 1))
	must(t, err)
	if after.Term != before.Term || resume.CompareTokens(after.Position.Token, before.Position.Token) < 0 {
		t.Errorf("the position went from %v of term %d to %v of term %d", before.Position, before.Term, after.Position, after.Term)
	}
}

// held is how many partitions a replica holds and reads.
func (w *running) held() int {
	n := 0
	for _, p := range w.group.Status().Partitions {
		if p.Ours {
			n++
		}
	}
	return n
}

// Three replicas come and go while calls are stored, some of them again and again:
// shares are even, no more moves than there must be, no call is lost, none is
// pushed twice, and the results of one call arrive in the order they were stored.
func TestReplicasComeAndGoUnderLoad(t *testing.T) {
	t.Parallel()
	const partitions = 4
	r := newRoad(t, "bot", "again")
	r.neverTwice()
	r.cfg.Partitions = partitions
	a := r.replica("a")
	r.isHealthy(a, http.StatusOK, admin.StateReady)

	load, stop := context.WithCancelCause(t.Context())
	defer stop(nil)
	var work sync.WaitGroup
	var fed int
	last := make(map[string]int)
	work.Go(func() {
		var err error
		if fed, err = r.Feed(load, 5*time.Millisecond, "bot"); err != nil {
			t.Error(err)
		}
	})
	work.Go(func() { last = r.storeAgain(load, "again", 8) })

	shares := func(want map[*running][]int) {
		t.Helper()
		r.eventually("the shares are even", func() error {
			sum := 0
			for w, fine := range want {
				n := w.held()
				sum += n
				if n < fine[0] || n > fine[1] {
					return fmt.Errorf("one holds %d, want %v", n, fine)
				}
			}
			if sum != partitions {
				return fmt.Errorf("%d partitions are held", sum)
			}
			return nil
		})
	}
	b := r.replica("b")
	shares(map[*running][]int{a: {2, 2}, b: {2, 2}})
	c := r.replica("c")
	shares(map[*running][]int{a: {1, 2}, b: {1, 2}, c: {1, 1}})
	left := time.Now()
	gone := int64(b.held())
	b.halt()
	shares(map[*running][]int{a: {2, 2}, c: {2, 2}})
	if took := time.Since(left); took > 8*time.Second { // a clean stop is not waited out; a lease is 11 s
		t.Errorf("it took %s after a clean stop", took)
	}
	terms := int64(0)
	for i := range partitions {
		record, _, err := r.positions().Record(t.Context(), partitionOf(i, partitions))
		must(t, err)
		terms += record.Term
	}
	if want := partitions + 2 + 1 + gone; terms != want {
		t.Errorf("%d holdings, want %d", terms, want)
	}
	stop(nil)
	work.Wait()
	r.inOrder("again", last)
	r.eventually("everything is pushed", func() error {
		if n := len(r.crm.At("/bot")); n != fed {
			return fmt.Errorf("%d of %d", n, fed)
		}
		return nil
	})
	a.halt() // what they send still is checked too
	c.halt()
	r.inOrder("again", last)
	if n := len(r.crm.At("/bot")); n != fed {
		t.Errorf("%d requests for %d results", n, fed)
	}
}

// storeAgain stores new results of some calls in turn, each with its number, and
// returns the last number of each.
func (r *road) storeAgain(stop context.Context, bot string, sessions int) map[string]int {
	last := make(map[string]int)
	for n := 0; ; n++ {
		select {
		case <-time.After(4 * time.Millisecond):
		case <-stop.Done():
			return last
		}
		session := fmt.Sprint(bot, "-", n%sessions)
		if _, err := r.StoreResults(session, bson.E{Key: "bot_id", Value: bot},
			bson.E{Key: "post_call_analysis", Value: bson.D{{Key: "DISPOSITION", Value: fmt.Sprint(n)}}}); err != nil {
			r.t.Error(err)
			return last
		}
		last[session] = n
	}
}

// inOrder waits until the last results of the calls are pushed, and checks that
// no result came after a later one of the same call.
func (r *road) inOrder(bot string, last map[string]int) {
	r.t.Helper()
	var seen map[string]int
	r.eventually("the last results are pushed", func() error {
		seen = make(map[string]int)
		for _, q := range r.crm.At("/" + bot) {
			var body struct {
				Call string `bson:"call_id"`
				N    string `bson:"disposition"`
			}
			if err := bson.UnmarshalExtJSON(q.Body, false, &body); err != nil {
				return err
			}
			var n int
			if _, err := fmt.Sscan(body.N, &n); err != nil {
				return err
			}
			if before, known := seen[body.Call]; known && n <= before {
				r.t.Fatalf("result %d of %s was pushed after %d", n, body.Call, before)
			}
			seen[body.Call] = n
		}
		if !maps.Equal(seen, last) {
			return fmt.Errorf("pushed %v, stored %v", seen, last)
		}
		return nil
	})
}

// logUnpushed shows the calls that have no final outcome.
func (r *road) logUnpushed() {
	ctx := context.WithoutCancel(r.t.Context())
	cursor, err := r.Calls.Find(ctx, bson.D{{Key: "$or", Value: bson.A{
		bson.D{{Key: "post_call_push_result.status", Value: bson.D{{Key: "$ne", Value: "ok"}}}},
		bson.D{{Key: "post_call_push_result.next_attempt_at", Value: bson.D{{Key: "$exists", Value: true}}}},
	}}})
	if err != nil {
		r.t.Log(err)
		return
	}
	for cursor.Next(ctx) {
		r.t.Logf("without a final outcome: %s", cursor.Current)
	}
}

// Other numbers of partitions from start to start lose nothing and push nothing
// twice, with calls stored in between, before and after.
func TestChangedPartitionsLoseNothing(t *testing.T) {
	t.Parallel()
	r := newRoad(t, "bot")
	r.neverTwice()
	t.Cleanup(func() {
		if t.Failed() {
			r.logUnpushed()
		}
	})
	n := 0
	store := func() {
		for range 40 {
			r.Call(fmt.Sprint("s", n), "bot")
			n++
		}
	}
	for _, partitions := range []int{1, 4, 3, 1} {
		r.cfg.Partitions = partitions
		w := r.replica(fmt.Sprint("replica-", partitions))
		r.isHealthy(w, http.StatusOK, admin.StateReady)
		store()
		r.once(n)
		// A stop in the middle: what is pending goes on in the other layout.
		store()
		w.halt()
		store()
		for _, line := range w.logs.find("the gap is swept") {
			t.Errorf("swept: %v", line)
		}
	}
	r.cfg.Partitions = 2
	w := r.replica("last")
	r.once(n)
	r.isHealthy(w, http.StatusOK, admin.StateReady)
	cursor, err := r.DB.Collection(r.cfg.ResumeCollection).Find(t.Context(), bson.D{})
	must(t, err)
	var ids []string
	for cursor.Next(t.Context()) {
		if id := cursor.Current.Lookup("_id").StringValue(); !strings.Contains(id, "member") && !strings.HasSuffix(id, "/settings") {
			ids = append(ids, id)
		}
	}
	must(t, cursor.Err())
	if len(ids) != 2 {
		t.Errorf("positions %v for 2 partitions", ids)
	}
}

// A rolling update that changes the number of partitions, as a Deployment does it: the
// new replica is ready before the old one is stopped, as its standby, and every call
// is pushed meanwhile.
func TestRollingChangeOfPartitions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ from, to int }{{4, 2}, {1, 3}} {
		t.Run(fmt.Sprint("from ", c.from, " to ", c.to), func(t *testing.T) {
			t.Parallel()
			r := newRoad(t, "bot")
			r.neverTwice()
			n := 0
			store := func() {
				for range 40 {
					r.Call(fmt.Sprint("s", n), "bot")
					n++
				}
			}
			r.cfg.Partitions = c.from
			old := r.replica("old")
			r.isHealthy(old, http.StatusOK, admin.StateReady)
			r.cfg.Partitions = c.to
			next := r.replica("next")
			h := r.isHealthy(next, http.StatusOK, admin.StateStandby)
			for i := range c.from {
				if who := "old reads " + partitionOf(i, c.from).String(); !strings.Contains(h.Standby, who) {
					t.Errorf("%q does not say that %s", h.Standby, who)
				}
			}
			store()
			r.once(n)
			r.isHealthy(old, http.StatusOK, admin.StateReady)
			if old.held() != c.from || next.held() != 0 {
				t.Errorf("the old one reads %d, the new one %d", old.held(), next.held())
			}
			store()
			old.halt()
			store()
			r.isHealthy(next, http.StatusOK, admin.StateReady)
			r.once(n)
		})
	}
}
