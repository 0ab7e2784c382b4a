package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// maxBody is how much of a payload the CRM reads; the demo's own are below 8 KB.
const maxBody = 1 << 20

// answer is what a CRM says to one request.
type answer struct {
	status int
	body   string
	after  time.Duration // how long the CRM thinks
}

// behaviour is how one CRM answers: try counts from 1 within a delivery, field
// gives what was sent under a key, as text.
type behaviour func(try int, field func(key string) string) answer

// delivery is what the CRM received under one Idempotency-Key.
type delivery struct {
	callID    string // as the payload names the call
	recording string // as the payload links to it
	sip       any    // the payload's field of SIP headers, decoded
	bytes     int    // of the payload
	answers   []int  // the status of each try
	changed   bool   // a later try was not byte for byte the first

	digest [sha256.Size]byte
}

// request is one request in full, for showing it.
type request struct {
	method, target string
	header         http.Header
	body           []byte
}

// crm is an HTTP server that plays all the CRMs, each below a path of its own.
// It remembers about 400 bytes for each delivery, and the payload of none but
// the one that example picks.
type crm struct {
	listener net.Listener
	bots     map[string]*bot // by path

	mu         sync.Mutex
	deliveries map[string]*delivery // by Idempotency-Key
	examples   map[string]request   // by call id; only of bots that are shown
	strays     int                  // requests for no bot, or without a key
}

func newCRM(bots []*bot) *crm {
	c := &crm{
		bots:       make(map[string]*bot),
		deliveries: make(map[string]*delivery),
		examples:   make(map[string]request),
	}
	for _, b := range bots {
		if b.path != "" {
			c.bots[b.path] = b
		}
	}
	return c
}

// run serves until the context ends, then lets open requests finish for a second.
func (c *crm) run(ctx context.Context) error {
	server := &http.Server{
		Handler:           c,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      15 * time.Second,
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(c.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve the demo's CRM: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), time.Second,
		errors.New("the demo's CRM took more than a second to stop"))
	defer cancel()
	err := server.Shutdown(end)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	if ended := <-served; err == nil && !errors.Is(ended, http.ErrServerClosed) {
		err = ended
	}
	return err
}

// ServeHTTP takes one push, remembers it and answers as the bot's CRM does.
func (c *crm) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "unreadable body", http.StatusBadRequest)
		return
	}
	b, key := c.bots[r.URL.Path], r.Header.Get("Idempotency-Key")
	if b == nil || r.Method != b.method || key == "" {
		c.mu.Lock()
		c.strays++
		c.mu.Unlock()
		http.NotFound(w, r)
		return
	}
	a := c.take(b, key, r, body)
	if a.after > 0 {
		thinking := time.NewTimer(a.after)
		defer thinking.Stop()
		select {
		case <-thinking.C:
		case <-r.Context().Done():
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body) // the watcher hung up: it says so itself
}

// take remembers a request and decides on its answer.
func (c *crm) take(b *bot, key string, r *http.Request, body []byte) answer {
	payload := body
	if r.Method == http.MethodGet {
		payload = []byte(r.URL.RawQuery)
	}
	field := reader(r.Method, r.URL.Query(), body)
	digest := sha256.Sum256(payload)

	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.deliveries[key]
	if d == nil {
		d = &delivery{
			callID:    text(field(b.callKey)),
			recording: text(field(b.linkKey)),
			bytes:     len(payload),
			digest:    digest,
		}
		if b.sipKey != "" {
			d.sip = field(b.sipKey)
		}
		c.deliveries[key] = d
	}
	d.changed = d.changed || d.digest != digest
	if b.shown && len(c.examples) < maxExamples {
		c.examples[d.callID] = request{r.Method, r.URL.RequestURI(), r.Header.Clone(), bytes.Clone(body)}
	}
	a := b.answers(len(d.answers)+1, func(k string) string { return text(field(k)) })
	d.answers = append(d.answers, a.status)
	return a
}

// maxExamples bounds the requests that are kept in full. The one to show is
// among the first calls.
const maxExamples = 32

// delivery returns a copy of what came under a key; nil when nothing came.
func (c *crm) delivery(key string) *delivery {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.deliveries[key]
	if d == nil {
		return nil
	}
	shot := *d
	shot.answers = append([]int(nil), d.answers...)
	return &shot
}

// example returns the request that carried a call, if it was kept.
func (c *crm) example(callID string) (request, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.examples[callID]
	return r, ok
}

// counts returns how many deliveries came, and how many requests nobody expects.
func (c *crm) counts() (deliveries, strays int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.deliveries), c.strays
}

// reader gives the fields of a payload: query parameters of a GET, top-level
// members of a JSON object otherwise. An unreadable payload has no fields.
func reader(method string, query url.Values, body []byte) func(key string) any {
	if method == http.MethodGet {
		return func(key string) any { return query.Get(key) }
	}
	var object map[string]any
	if err := json.Unmarshal(body, &object); err != nil {
		return func(string) any { return nil }
	}
	return func(key string) any { return object[key] }
}

// text is a field as text; objects and what is missing are "".
func text(v any) string {
	s, _ := v.(string)
	return s
}
