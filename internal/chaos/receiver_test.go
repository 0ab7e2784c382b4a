package chaos

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/demo/world"
)

// mood is how the CRM of a bot answers.
type mood int

const (
	wellMood   mood = iota
	errorMood       // 503
	slowMood        // after 300 ms
	resetMood       // no answer, the connection is closed
	refuseMood      // 422: final
	moods
)

// receiver is all CRMs, one path for each. It remembers every request, and
// whether the call said already that its push was over when the request came.
type receiver struct {
	*httptest.Server
	calls *mongo.Collection
	ctx   context.Context // of the test

	mu    sync.Mutex
	moods map[string]mood
	got   map[string]*delivery
}

// delivery is what was received of one delivery id.
type delivery struct {
	accepted []time.Time // answered 2xx or 422: the receiver has it
	body     [32]byte
	bodies   int // different ones
	late     []late
}

// late is a request for a push that the call said was over.
type late struct {
	by     string        // the replica that sent it
	logged time.Duration // since the outcome was logged
	at     time.Time
}

func newReceiver(t *testing.T, calls *mongo.Collection) *receiver {
	t.Helper()
	r := &receiver{calls: calls, ctx: t.Context(), moods: make(map[string]mood), got: make(map[string]*delivery)}
	r.Server = httptest.NewServer(world.NewCRM(r.receive))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) setMood(path string, m mood) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moods[path] = m
}

func (r *receiver) calm() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.moods)
}

// answers is what a CRM says in each mood.
var answers = [moods]world.Answer{
	errorMood:  {Status: http.StatusServiceUnavailable},
	slowMood:   {After: 300 * time.Millisecond},
	resetMood:  {Hangup: true},
	refuseMood: {Status: http.StatusUnprocessableEntity},
}

func (r *receiver) receive(req world.Request) world.Answer {
	since, over := r.over(&req)
	hash := sha256.Sum256(req.Body)

	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.moods[req.Path]
	d := r.got[req.Delivery]
	if d == nil {
		d = &delivery{}
		r.got[req.Delivery] = d
	}
	if d.body != hash {
		d.body = hash
		d.bodies++
	}
	if m == wellMood || m == slowMood || m == refuseMood {
		d.accepted = append(d.accepted, req.At)
	}
	if over {
		by := strings.TrimPrefix(req.Header.Get("User-Agent"), "watcher/")
		d.late = append(d.late, late{by: by, logged: since, at: req.At})
	}
	return answers[m]
}

// over asks the call whether the push of this delivery has its final outcome.
func (r *receiver) over(req *world.Request) (time.Duration, bool) {
	raw, err := r.calls.FindOne(r.ctx,
		bson.D{{Key: "post_call_push_result.delivery_id", Value: req.Delivery}},
		options.FindOne().SetProjection(bson.D{{Key: "post_call_push_result", Value: 1}})).Raw()
	if err != nil {
		return 0, false // errors.Is(err, mongo.ErrNoDocuments), or the database is away
	}
	result, ok := raw.Lookup("post_call_push_result").DocumentOK()
	if !ok || result.Lookup("next_attempt_at").Type != 0 {
		return 0, false
	}
	at, ok := result.Lookup("pushed_at").TimeOK()
	return req.At.Sub(at), ok
}

var errNotSettled = errors.New("calls are still not settled")
