package chaos

import (
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
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

	mu    sync.Mutex
	moods map[string]mood
	got   map[string]*delivery
}

// delivery is what was received of one delivery id.
type delivery struct {
	requests int
	taken    []time.Time // answered 2xx or 422: the receiver has it
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
	r := &receiver{calls: calls, moods: make(map[string]mood), got: make(map[string]*delivery)}
	r.Server = httptest.NewServer(r)
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

// ServeHTTP implements http.Handler.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	now := time.Now()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the sender was killed in the middle
	}
	id := req.Header.Get("Idempotency-Key")
	since, over := r.over(req, id, now)
	hash := sha256.Sum256(body)

	r.mu.Lock()
	m := r.moods[req.URL.Path]
	d := r.got[id]
	if d == nil {
		d = &delivery{}
		r.got[id] = d
	}
	d.requests++
	if d.body != hash {
		d.body = hash
		d.bodies++
	}
	if m == wellMood || m == slowMood || m == refuseMood {
		d.taken = append(d.taken, now)
	}
	if over {
		by := strings.TrimPrefix(req.UserAgent(), "watcher/")
		d.late = append(d.late, late{by: by, logged: since, at: now})
	}
	r.mu.Unlock()

	switch m {
	case errorMood:
		w.WriteHeader(http.StatusServiceUnavailable)
	case slowMood:
		timer := time.NewTimer(300 * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-req.Context().Done():
		}
	case resetMood:
		panic(http.ErrAbortHandler)
	case refuseMood:
		w.WriteHeader(http.StatusUnprocessableEntity)
	case wellMood, moods:
	}
}

// over asks the call whether the push of this delivery has its final outcome.
func (r *receiver) over(req *http.Request, id string, now time.Time) (time.Duration, bool) {
	raw, err := r.calls.FindOne(req.Context(),
		bson.D{{Key: "post_call_push_result.delivery_id", Value: id}},
		options.FindOne().SetProjection(bson.D{{Key: "post_call_push_result", Value: 1}})).Raw()
	if err != nil {
		return 0, false // errors.Is(err, mongo.ErrNoDocuments), or the database is away
	}
	result, ok := raw.Lookup("post_call_push_result").DocumentOK()
	if !ok || result.Lookup("next_attempt_at").Type != 0 {
		return 0, false
	}
	at, ok := result.Lookup("pushed_at").TimeOK()
	return now.Sub(at), ok
}

var errNotSettled = errors.New("calls are still not settled")
