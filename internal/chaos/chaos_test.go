package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
	"github.com/cxbridge/watcher/pkg/backoff"
	"github.com/cxbridge/watcher/pkg/resume"
)

const (
	replicas   = 3
	partitions = 4
	botCount   = 20
	perSecond  = 100

	defaultSeconds = 20 // WATCHER_CHAOS_SECONDS sets another time
	settleTimeout  = 120 * time.Second

	// A replica that was paused for longer than its lease finds out with its next
	// beat; a call that another one had in its lane by then was read before the
	// outcome was logged.
	noticeTime = 3 * time.Second
	laneTime   = 8 * time.Second
)

// chaos is everything that a fault can hit.
type chaos struct {
	t        *testing.T
	rng      *rand.Rand
	server   *localmongo.Server
	platform *apptest.Platform
	store    *resume.Store
	crm      *receiver
	replicas []*replica

	mu          sync.Mutex
	begun       time.Time
	faults      map[string]int
	disruptions []disruption // those after which calls may be sent twice
	stored      []string     // sessions
}

func TestNoCallIsLostWhateverHappens(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	seed := number("WATCHER_CHAOS_SEED", rand.Uint64()) //nolint:gosec // printed, to be repeated
	seconds := number("WATCHER_CHAOS_SECONDS", defaultSeconds)
	t.Logf("WATCHER_CHAOS_SEED=%d WATCHER_CHAOS_SECONDS=%d", seed, seconds)

	w := newChaos(t, seed)
	ctx, cancel := context.WithTimeoutCause(t.Context(), time.Duration(seconds)*time.Second, errNotSettled) //nolint:gosec // seconds
	defer cancel()
	var arriving sync.WaitGroup
	arriving.Go(func() { w.arrive(ctx) })
	w.hit(ctx)
	arriving.Wait()
	w.heal()
	w.settle()
	for _, r := range w.replicas {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	}
	w.compare()
}

func number(name string, otherwise uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
		return n
	}
	return otherwise
}

func newChaos(t *testing.T, seed uint64) *chaos {
	t.Helper()
	server := localmongotest.Start(t, localmongo.Options{})
	platform := apptest.NewPlatform(t, server.URI())
	w := &chaos{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), server: server, platform: platform, //nolint:gosec // repeatable
		crm: newReceiver(t, platform.Calls), faults: make(map[string]int),
	}
	store, err := resume.NewStore(platform.DB.Collection("watcher_resume"), "chaos")
	if err != nil {
		t.Fatal(err)
	}
	w.store = store
	_, err = platform.Calls.Indexes().CreateOne(t.Context(), mongo.IndexModel{Keys: bson.D{{Key: "completed_at", Value: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range botCount {
		platform.PutBot(apptest.Bot(botName(i), w.crm.URL+path(i)))
	}
	dir := t.TempDir()
	if kept := os.Getenv("WATCHER_CHAOS_LOGS"); kept != "" {
		dir = kept
	}
	for i := range replicas {
		r := newReplica(t, dir, fmt.Sprintf("r%d", i), "run",
			"--mongo-uri="+server.URI(), "--database="+apptest.Database, "--name=chaos",
			"--partitions="+strconv.Itoa(partitions), "--start=1h",
			"--allow-network=127.0.0.0/8", "--listen=127.0.0.1:0", "--shutdown-grace=5s",
			"--retry-schedule=200ms,500ms,1s,1s,2s,2s,2s,3s,3s,3s,5s,5s,5s,5s,5s,5s,5s,5s,5s,5s",
			"--log-format=json")
		w.replicas = append(w.replicas, r)
		r.start()
	}
	w.begun = time.Now() // the replicas were built before
	return w
}

func botName(i int) string { return fmt.Sprintf("bot-%02d", i) }

func path(i int) string { return fmt.Sprintf("/crm/%02d", i) }

// arrive stores calls until ctx ends, each until the database has it.
func (w *chaos) arrive(ctx context.Context) {
	ticker := time.NewTicker(time.Second / perSecond)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		session := fmt.Sprintf("call-%06d", n)
		_ = w.platform.Begin(session, botName(n%botCount)) // the upsert below makes up for it
		for {
			_, err := w.platform.StoreResults(session, bson.E{Key: "bot_id", Value: botName(n % botCount)})
			if err == nil {
				break
			}
		}
		w.mu.Lock()
		w.stored = append(w.stored, session)
		w.mu.Unlock()
	}
}

// hit does one thing after the other, at random, until ctx ends.
func (w *chaos) hit(ctx context.Context) {
	for ctx.Err() == nil {
		f := w.pick()
		w.mu.Lock()
		w.faults[f.name]++
		w.mu.Unlock()
		f.do(ctx)
		w.rest(ctx, time.Duration(200+w.rng.IntN(1500))*time.Millisecond)
	}
}

// fault is one thing that happens.
type fault struct {
	name  string
	moves bool // leases may move
	do    func(ctx context.Context)
}

func (w *chaos) pick() fault {
	r := w.replicas[w.rng.IntN(len(w.replicas))]
	crm := path(w.rng.IntN(botCount))
	all := []fault{
		{"kill", true, func(ctx context.Context) {
			r.kill()
			w.rest(ctx, time.Duration(w.rng.IntN(3000))*time.Millisecond)
			r.start()
		}},
		{"stop", true, func(ctx context.Context) {
			if err := r.stop(); err != nil {
				w.t.Error(err)
			}
			w.rest(ctx, time.Duration(w.rng.IntN(1000))*time.Millisecond)
			r.start()
		}},
		{"pause", true, func(ctx context.Context) {
			r.pause()
			w.rest(ctx, time.Duration(500+w.rng.IntN(13000))*time.Millisecond)
			r.resume()
		}},
		{"drop connections", true, func(context.Context) { w.server.DropConnections() }},
		{"step down", true, func(ctx context.Context) {
			w.server.StepDown(0)
			w.rest(ctx, time.Duration(w.rng.IntN(2000))*time.Millisecond)
			w.server.StepUp()
		}},
		{"lose history", true, func(context.Context) { w.server.LoseHistory(bson.Timestamp{}) }},
		{"kill cursors", false, func(context.Context) { w.server.KillCursors("") }},
		{"reset", true, w.reset},
		{"CRM fails", false, func(context.Context) { w.crm.setMood(crm, mood(w.rng.IntN(int(moods)))) }},
		{"CRM fails", false, func(context.Context) { w.crm.setMood(crm, mood(w.rng.IntN(int(moods)))) }},
		{"CRM well", false, func(context.Context) { w.crm.setMood(crm, wellMood) }},
	}
	f := all[w.rng.IntN(len(all))]
	if !f.moves {
		return f
	}
	w.disruptions = append(w.disruptions, disruption{name: f.name, at: time.Now()})
	return f
}

// disruption is a fault that may cut off what was being sent.
type disruption struct {
	name  string
	at    time.Time
	twice int // calls that were sent once more after it
}

// attribute counts a call that was received once more for the last disruption before that.
func (w *chaos) attribute(at time.Time) {
	for i := len(w.disruptions) - 1; i >= 0; i-- {
		if w.disruptions[i].at.Before(at) {
			w.disruptions[i].twice++
			return
		}
	}
	w.t.Errorf("a call was received twice before anything had happened")
}

// reset moves a partition back by up to half a minute, as an operator does.
func (w *chaos) reset(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(ctx, 5*time.Second, errNotSettled)
	defer cancel()
	p := resume.Partition{Index: w.rng.IntN(partitions), Of: partitions}
	back := time.Duration(w.rng.IntN(30)) * time.Second
	// A server that is stepping down refuses it; then nothing was reset.
	_ = w.store.Reset(ctx, p, resume.At(time.Now().Add(-back)), resume.Reset{At: time.Now(), Repush: "missing", By: "chaos"})
}

func (w *chaos) rest(ctx context.Context, d time.Duration) { _ = backoff.Sleep(ctx, d) }

// heal ends all faults.
func (w *chaos) heal() {
	w.server.StepUp()
	w.crm.calm()
	for _, r := range w.replicas {
		r.resume()
		r.start()
	}
}

// settle waits until nothing is left to do.
func (w *chaos) settle() {
	ctx, cancel := context.WithTimeoutCause(w.t.Context(), settleTimeout, errNotSettled)
	defer cancel()
	open := bson.D{{Key: "$or", Value: bson.A{
		bson.D{{Key: "post_call_push_result", Value: bson.D{{Key: "$exists", Value: false}}}},
		bson.D{{Key: "post_call_push_result.next_attempt_at", Value: bson.D{{Key: "$exists", Value: true}}}},
	}}}
	for {
		n, err := w.platform.Calls.CountDocuments(ctx, open)
		if err == nil && n == 0 {
			return
		}
		if ctx.Err() != nil {
			w.t.Errorf("%d calls are not settled after %v", n, settleTimeout)
			return
		}
		w.rest(ctx, 300*time.Millisecond)
	}
}

// compare holds against each other what was stored, what was received and what was written.
func (w *chaos) compare() {
	w.t.Helper()
	statuses := make(map[string]int)
	ids := make(map[string]string)
	cursor, err := w.platform.Calls.Find(w.t.Context(), bson.D{}, options.Find().SetProjection(
		bson.D{{Key: "session_id", Value: 1}, {Key: "post_call_push_result", Value: 1}}))
	if err != nil {
		w.t.Fatal(err)
	}
	for cursor.Next(w.t.Context()) {
		result := cursor.Current.Lookup("post_call_push_result")
		doc, ok := result.DocumentOK()
		if !ok {
			statuses["lost"]++
			continue
		}
		statuses[doc.Lookup("status").StringValue()]++
		ids[cursor.Current.Lookup("session_id").StringValue()] = doc.Lookup("delivery_id").StringValue()
	}
	if err := cursor.Err(); err != nil {
		w.t.Fatal(err)
	}
	total := 0
	for _, n := range statuses {
		total += n
	}
	if statuses["lost"] > 0 || total != len(w.stored) {
		w.t.Errorf("stored %d calls, outcomes %v", len(w.stored), statuses)
	}

	repeated, late, bodies := 0, 0, 0
	w.crm.mu.Lock()
	defer w.crm.mu.Unlock()
	for session, id := range ids {
		d := w.crm.got[id]
		if d == nil {
			w.t.Errorf("%s has an outcome and was never received", session)
			continue
		}
		for _, at := range d.accepted[min(1, len(d.accepted)):] {
			repeated++
			w.attribute(at)
		}
		if d.bodies > 1 {
			bodies++
		}
		for _, l := range d.late {
			late++
			if !w.excused(l) {
				w.t.Errorf("%s was pushed by %s %v after its outcome was logged", session, l.by, l.logged)
			}
		}
	}
	if bodies > 0 {
		w.t.Errorf("%d deliveries were sent with different bytes", bodies)
	}
	for _, b := range w.disruptions {
		w.t.Logf("%6.1f s  %-12s  %d sent twice", b.at.Sub(w.begun).Seconds(), b.name, b.twice)
	}
	w.t.Logf("%d calls: %v; received twice %d, of these after the outcome was logged %d; faults %v",
		len(w.stored), statuses, repeated, late, w.faults)
	if hard := w.faults["kill"] + w.faults["pause"] + w.faults["reset"]; repeated > 16*botCount*(hard+1) {
		w.t.Errorf("%d duplicates are more than what was under way at %d faults", repeated, hard)
	}
	if w.t.Failed() {
		for _, r := range w.replicas {
			w.t.Logf("log of %s: %s", r.name, filepath.Base(r.log.Name()))
		}
	}
}

// excused says whether a push after the logged outcome is one that no watcher
// can avoid: its sender was paused and had not noticed yet, or it had read the
// call before the outcome of a replica that had lost the lease was logged.
func (w *chaos) excused(l late) bool {
	if l.logged <= laneTime {
		return true
	}
	for _, r := range w.replicas {
		if r.name == l.by && l.at.Sub(r.resumed) < noticeTime && l.at.After(r.resumed) {
			return true
		}
	}
	return false
}
