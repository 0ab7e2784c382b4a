package stream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/cxbridge/watcher/pkg/resume"
)

// script is a server with one collection, in memory and in the test's time. It
// keeps to what the transcripts of a real server show, and fails when told to.
type script struct {
	mu      sync.Mutex
	log     []entry
	kept    uint32 // history before this second is gone
	lax     bool   // and a token from before it is taken without a word
	news    chan struct{}
	opens   []Opening
	open    int // cursors
	asked   int // polls
	cursors int64

	failOpen func(o Opening) error
	failPoll func(c *scripted) error
	moveID   bool // the next poll answers from a new cursor, as after the driver's resume
}

type entry struct {
	at        bson.Timestamp
	operation string
	key       int
	big       bool // too large to be returned
	bigBare   bool // only without the pipeline
	hidden    bool
	padding   int // bytes of the event beside its envelope
}

func newScript() *script { return &script{news: make(chan struct{})} }

func code(n int32) error {
	return mongo.CommandError{Code: n, Message: "scripted", Name: fmt.Sprint("Code", n)}
}

// now is the server's time, and the second of every write.
func (s *script) now() bson.Timestamp { return bson.Timestamp{T: uint32(time.Now().Unix()), I: 1} }

func (s *script) write(e entry) bson.Timestamp {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.at = s.now()
	for _, old := range s.log {
		if old.at.T == e.at.T {
			e.at.I = old.at.I + 1
		}
	}
	s.log = append(s.log, e)
	close(s.news)
	s.news = make(chan struct{})
	return e.at
}

func (s *script) insert(key int) { s.write(entry{operation: "insert", key: key}) }

func (s *script) drop() {
	s.write(entry{operation: "drop"})
	s.write(entry{operation: "invalidate"})
}

// forget trims the history to what is written from now on.
func (s *script) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = s.now().T + 1
	s.log = nil
}

func tokenAt(at bson.Timestamp, kind string) bson.Raw {
	data := fmt.Sprintf("82%08X%08X%s", at.T, at.I, kind)
	raw, err := bson.Marshal(bson.D{{Key: "_data", Value: data}})
	if err != nil {
		panic(err)
	}
	return raw
}

// Kinds of tokens, ordered as the server orders them.
const (
	tokenIdle  = "2B0229296E04"
	tokenEvent = "2B022C0100296E5A1004"
)

func (e entry) token() bson.Raw { return tokenAt(e.at, tokenEvent) }

func (e entry) body() bson.Raw {
	doc := bson.D{
		{Key: "_id", Value: e.token()},
		{Key: "operationType", Value: e.operation},
		{Key: "clusterTime", Value: e.at},
	}
	if e.key != 0 {
		doc = append(doc, bson.E{Key: "documentKey", Value: bson.D{{Key: "_id", Value: e.key}}})
	}
	if e.padding > 0 {
		doc = append(doc, bson.E{Key: "padding", Value: make([]byte, e.padding)})
	}
	raw, err := bson.Marshal(doc)
	if err != nil {
		panic(err)
	}
	return raw
}

type scripted struct {
	s      *script
	o      Opening
	id     int64
	after  string // token text behind which to read
	first  bool
	closed bool
}

func (s *script) Open(ctx context.Context, o Opening) (Cursor, Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opens = append(s.opens, o)
	if s.failOpen != nil {
		if err := s.failOpen(o); err != nil {
			return nil, Batch{}, err
		}
	}
	s.cursors++
	s.open++
	c := &scripted{s: s, o: o, id: s.cursors, first: true}
	token := tokenAt(s.now(), tokenIdle)
	switch {
	case len(o.After) > 0:
		token = o.After
		c.after = resume.TokenText(o.After)
	case !o.At.IsZero():
		token = tokenAt(o.At, tokenIdle)
		c.after = resume.TokenText(token)
	default:
		c.after = resume.TokenText(token)
		if n := len(s.log); n > 0 && resume.TokenText(s.log[n-1].token()) > c.after {
			c.after = resume.TokenText(s.log[n-1].token())
		}
	}
	return c, Batch{Token: token, ServerTime: s.now(), CursorID: c.id}, ctx.Err()
}

func (c *scripted) Poll(ctx context.Context) (Batch, error) {
	deadline := time.After(c.o.MaxAwait)
	c.s.mu.Lock()
	c.s.asked++
	c.s.mu.Unlock()
	for {
		c.s.mu.Lock()
		if c.s.moveID {
			c.s.moveID = false
			c.id += 1000
		}
		news := c.s.news
		b, err := c.answer()
		c.s.mu.Unlock()
		if err != nil || len(b.Events) > 0 || b.CursorID == 0 {
			return b, err
		}
		select {
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		case <-deadline:
			b.Token = tokenAt(c.s.now(), tokenIdle)
			if resume.TokenText(b.Token) < c.after {
				b.Token = textToken(c.after)
			}
			return b, nil
		case <-news:
		}
	}
}

func textToken(text string) bson.Raw {
	raw, err := bson.Marshal(bson.D{{Key: "_data", Value: text}})
	if err != nil {
		panic(err)
	}
	return raw
}

// answer is one look at the log; the script is locked.
func (c *scripted) answer() (Batch, error) {
	s := c.s
	if s.failPoll != nil {
		if err := s.failPoll(c); err != nil {
			return Batch{}, err
		}
	}
	if c.first {
		c.first = false
		at, _ := resume.TokenTime(c.o.After)
		if len(c.o.After) == 0 {
			at = c.o.At
		}
		if !at.IsZero() && at.T < s.kept && (len(c.o.After) == 0 || !s.lax) {
			return Batch{}, code(286)
		}
	}
	b := Batch{CursorID: c.id, ServerTime: s.now()}
	for _, e := range s.log {
		text := resume.TokenText(e.token())
		if text <= c.after {
			continue
		}
		if e.big && !c.o.Bare || e.bigBare && c.o.Bare {
			return Batch{}, code(10334)
		}
		c.after = text
		b.Token = e.token()
		if !e.hidden {
			b.Events = append(b.Events, e.body())
		}
		if e.operation == "invalidate" {
			b.CursorID = 0
			break
		}
		if c.o.BatchSize > 0 && len(b.Events) == int(c.o.BatchSize) {
			break
		}
	}
	return b, nil
}

func (c *scripted) Close(ctx context.Context) error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if ctx.Err() != nil {
		return errors.New("closed with a context that has ended")
	}
	if !c.closed {
		c.closed = true
		c.s.open--
	}
	return nil
}

// counts returns how many cursors the follower opened to read from, and how many
// only to ask something.
func (s *script) counts() (opens, probes, open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.opens {
		if o.MaxAwait == time.Millisecond {
			probes++
		} else {
			opens++
		}
	}
	return opens, probes, s.open
}

// notes is a Sink that remembers, and checks what a Sink may rely on.
type notes struct {
	t *testing.T

	mu      sync.Mutex
	events  []Event
	idle    []resume.Position
	gaps    []Gap
	last    string // text of the newest position told
	fail    error
	block   chan struct{}
	changed chan struct{}
}

func newNotes(t *testing.T) *notes { return &notes{t: t, changed: make(chan struct{}, 1)} }

func (n *notes) Event(ctx context.Context, e Event) error {
	if n.block != nil {
		select {
		case <-n.block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, e)
	n.last = resume.TokenText(e.Position.Token)
	n.ping()
	return n.fail
}

func (n *notes) Idle(p resume.Position) {
	n.mu.Lock()
	defer n.mu.Unlock()
	text := resume.TokenText(p.Token)
	if text < n.last {
		n.t.Errorf("idle at %s after %s", text, n.last)
	}
	n.last = text
	n.idle = append(n.idle, p)
	n.ping()
}

func (n *notes) Gap(_ context.Context, g Gap) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gaps = append(n.gaps, g)
	n.last = resume.TokenText(g.Position.Token)
	n.ping()
	return n.fail
}

func (n *notes) ping() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// keys returns the documents' keys in the order of the events.
func (n *notes) keys() []int {
	n.mu.Lock()
	defer n.mu.Unlock()
	var keys []int
	for _, e := range n.events {
		if k, ok := e.Key.AsInt64OK(); ok {
			keys = append(keys, int(k))
		}
	}
	return keys
}

func (n *notes) operations() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var ops []string
	for _, e := range n.events {
		ops = append(ops, e.Operation)
	}
	return ops
}

func (n *notes) theGaps() []Gap {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.gaps)
}

// running is a Follower at work.
type running struct {
	*Follower
	stop context.CancelFunc
	done chan error
}

func follow(t *testing.T, s Source, sink Sink, change func(*Config)) *running {
	t.Helper()
	cfg := Config{Name: "test", Source: s}
	if change != nil {
		change(&cfg)
	}
	f, err := New(cfg, sink)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	r := &running{Follower: f, stop: stop, done: make(chan error, 1)}
	go func() { r.done <- f.Run(ctx) }()
	return r
}

func (r *running) end(t *testing.T) {
	t.Helper()
	r.stop()
	if err := <-r.done; err != nil {
		t.Errorf("the follower ended with %v", err)
	}
}

// wait lets time pass, and then lets all others come to rest.
func wait(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
