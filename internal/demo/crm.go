package demo

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/cxbridge/watcher/internal/demo/world"
)

// behaviour is how one CRM answers: attempt counts from 1 within a delivery, field
// gives what was sent under a key, as text.
type behaviour func(attempt int, field func(key string) string) world.Answer

// delivery is what the CRM received under one Idempotency-Key.
type delivery struct {
	callID    string // as the payload names the call
	recording string // as the payload links to it
	sip       any    // the payload's field of SIP headers, decoded
	bytes     int    // of the payload
	answers   []int  // the status of each attempt
	changed   bool   // a later attempt was not byte for byte the first

	digest [sha256.Size]byte
}

// crm plays all the CRMs, each below a path of its own.
// It remembers about 400 bytes for each delivery, and the payload of none but
// the one that example picks.
type crm struct {
	listener net.Listener
	handler  *world.CRM
	bots     map[string]*bot // by path

	mu         sync.Mutex
	deliveries map[string]*delivery     // by Idempotency-Key
	examples   map[string]world.Request // by call id; only of bots that are shown
	strays     int                      // requests for no bot, or without a key
}

func newCRM(bots []*bot) *crm {
	c := &crm{
		bots:       make(map[string]*bot),
		deliveries: make(map[string]*delivery),
		examples:   make(map[string]world.Request),
	}
	c.handler = world.NewCRM(c.receive)
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
		Handler:           c.handler,
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

// receive remembers a push and answers as the bot's CRM does.
func (c *crm) receive(r world.Request) world.Answer {
	b := c.bots[r.Path]
	c.mu.Lock()
	defer c.mu.Unlock()
	if b == nil || r.Method != b.method || r.Delivery == "" {
		c.strays++
		return world.Answer{Status: http.StatusNotFound}
	}
	payload := r.Body
	if r.Method == http.MethodGet {
		payload = []byte(r.Query)
	}
	field := reader(&r)
	digest := sha256.Sum256(payload)
	d := c.deliveries[r.Delivery]
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
		c.deliveries[r.Delivery] = d
	}
	d.changed = d.changed || d.digest != digest
	if b.shown && len(c.examples) < maxExamples {
		c.examples[d.callID] = r
	}
	a := b.answers(r.Number, func(k string) string { return text(field(k)) })
	a.Header = map[string]string{"Content-Type": "application/json"}
	d.answers = append(d.answers, a.Status)
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
func (c *crm) example(callID string) (world.Request, bool) {
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
func reader(r *world.Request) func(key string) any {
	if r.Method == http.MethodGet {
		query, err := url.ParseQuery(r.Query)
		if err != nil {
			query = nil
		}
		return func(key string) any { return query.Get(key) }
	}
	var object map[string]any
	if err := json.Unmarshal(r.Body, &object); err != nil {
		return func(string) any { return nil }
	}
	return func(key string) any { return object[key] }
}

// text is a field as text; objects and what is missing are "".
func text(v any) string {
	s, _ := v.(string)
	return s
}
