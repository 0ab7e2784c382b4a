package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/cxbridge/watcher/internal/botfiles"
	"github.com/cxbridge/watcher/internal/demo/world"
	textline "github.com/cxbridge/watcher/internal/plain"
	"github.com/cxbridge/watcher/pkg/backoff"
)

// The bounds of documents that are brought along.
const (
	maxOwnFile  = 64 << 20 // bytes of one file
	maxOwnDocs  = 10_000
	maxOwnCalls = 1000 // that are kept in the database with --keep
)

// Own plays bots and calls that somebody brought, with one CRM that takes everything. It
// never reaches the real ones: the address of each bot is the CRM's, with the path that
// it had, and what signs in elsewhere or looks for words in an answer is left out.
type Own struct {
	o        Options
	bots     []bson.D
	calls    []bson.D
	platform *world.Platform
	crm      *crm
	print    *printer
}

// NewOwn reads bots (a file or a directory of such) and calls, as MongoDB Extended JSON,
// one after the other or in arrays. Of the Options, Calls and Seed are not looked at.
func NewOwn(o Options, bots, calls string) (*Own, error) {
	o.Calls = 1
	if err := o.Validate(); err != nil {
		return nil, err
	}
	d := &Own{o: o, platform: world.NewPlatform(o.DB), print: &printer{out: o.Out, color: o.Color}}
	var err error
	if d.bots, err = readOwn(bots, botfiles.Bot); err != nil {
		return nil, fmt.Errorf("--bots: %w", err)
	}
	if d.calls, err = readOwn(calls, botfiles.Call); err != nil {
		return nil, fmt.Errorf("--calls: %w", err)
	}
	d.crm = &crm{handler: world.NewCRM(d.receive)}
	return d, nil
}

// readOwn reads the documents of one kind of a file, or of all files of a directory that end with .json.
func readOwn(path string, kind botfiles.Kind) (all []bson.D, err error) {
	files := []string{path}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		if files, err = filepath.Glob(filepath.Join(path, "*.json")); err != nil {
			return nil, err
		}
	}
	for _, file := range files {
		docs, err := readOwnFile(file, kind)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(file), err)
		}
		if all = append(all, docs...); len(all) > maxOwnDocs {
			return nil, fmt.Errorf("%s holds more than %d documents", path, maxOwnDocs)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no document", path)
	}
	return all, nil
}

func readOwnFile(path string, kind botfiles.Kind) (all []bson.D, err error) {
	f, err := os.Open(path) //nolint:gosec // the user names it
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(f, maxOwnFile+1))
	if err != nil || len(data) > maxOwnFile {
		return nil, errors.Join(err, fmt.Errorf("is larger than %d bytes, or cannot be read", maxOwnFile))
	}
	dec := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
	for {
		var value json.RawMessage
		if err := dec.Decode(&value); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("is not JSON: %w", err)
		}
		var docs struct{ All []bson.D }
		if value[0] != '[' {
			value = slices.Concat([]byte{'['}, value, []byte{']'})
		}
		if err := bson.UnmarshalExtJSON(slices.Concat([]byte(`{"all":`), value, []byte{'}'}), false, &docs); err != nil {
			return nil, fmt.Errorf("is not MongoDB Extended JSON: %w", err)
		}
		for _, doc := range docs.All {
			raw, err := bson.Marshal(doc)
			if err != nil {
				return nil, fmt.Errorf("as BSON: %w", err)
			}
			if err := botfiles.CheckKind(raw, kind); err != nil {
				return nil, err
			}
		}
		all = append(all, docs.All...)
	}
}

// Prepare opens the CRM's listener and writes the bots.
func (d *Own) Prepare(ctx context.Context) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", d.o.CRMAddr)
	if err != nil {
		return fmt.Errorf("listen for the demo's CRM: %w", err)
	}
	d.crm.listener = ln
	if err := d.platform.CreateIndexes(ctx); err != nil {
		return err
	}
	for _, b := range d.bots {
		b = harmless(b, "http://"+ln.Addr().String())
		if err := d.platform.PutBot(ctx, b); err != nil {
			return fmt.Errorf("write a bot: %w", err)
		}
	}
	return nil
}

// Close gives up the CRM's listener. Only needed when Run is never called.
func (d *Own) Close() error {
	if d.crm.listener == nil {
		return nil
	}
	return d.crm.listener.Close()
}

// elsewhere are the fields of post_call_push that need the real CRM.
var elsewhere = []string{"auth", "success", "retry_when", "preset", "signing_secret"}

// harmless is a bot that pushes to the demo's CRM. Its id comes first.
func harmless(bot bson.D, crm string) bson.D {
	out := bson.D{}
	for _, e := range bot {
		if push, ok := e.Value.(bson.D); ok && e.Key == "post_call_push" {
			kept := bson.D{}
			for _, f := range push {
				switch {
				case slices.Contains(elsewhere, f.Key):
				case f.Key == "url":
					kept = append(kept, bson.E{Key: "url", Value: atCRM(f.Value, crm)})
				default:
					kept = append(kept, bson.E{Key: f.Key, Value: withoutReferences(f.Value)})
				}
			}
			e.Value = kept
		}
		if e.Key == "_id" {
			out = slices.Insert(out, 0, e)
		} else {
			out = append(out, e)
		}
	}
	return out
}

// atCRM is an address at the demo's CRM; an empty one stays empty.
func atCRM(v any, crm string) any {
	if ref, ok := v.(bson.D); ok { // a secret that an export left out
		v = "/"
		for _, e := range ref {
			if e.Key == "shown" {
				v = e.Value
			}
		}
	}
	text, ok := v.(string)
	if !ok || strings.TrimSpace(text) == "" {
		return v
	}
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil {
		return crm
	}
	return crm + u.EscapedPath()
}

// withoutReferences has a stand-in for each secret that an export left out.
func withoutReferences(v any) any {
	switch v := v.(type) {
	case bson.D:
		if len(v) > 0 && v[0].Key == "$secret" {
			return "a-secret-of-the-demo"
		}
		out := make(bson.D, len(v))
		for i, e := range v {
			out[i] = bson.E{Key: e.Key, Value: withoutReferences(e.Value)}
		}
		return out
	case bson.A:
		out := make(bson.A, len(v))
		for i := range v {
			out[i] = withoutReferences(v[i])
		}
		return out
	}
	return v
}

// pushed are the fields of a call that a push before has left.
var pushed = []string{"_id", "session_id", "completed_at", "post_call_push_result", "integration_log"}

// ended is the nth call that arrives: one that was brought, with ids of its own, ended now.
func (d *Own) ended(n int) (id bson.ObjectID, session string, doc bson.D) {
	brought := d.calls[n%len(d.calls)]
	id, session = bson.NewObjectID(), "call"
	doc = bson.D{{Key: "_id", Value: id}}
	for _, e := range brought {
		if e.Key == "session_id" {
			session, _ = e.Value.(string)
		}
		if !slices.Contains(pushed, e.Key) {
			doc = append(doc, e)
		}
	}
	session = fmt.Sprintf("%s-%d", session, n+1)
	return id, session, append(doc, bson.E{Key: "session_id", Value: session}, bson.E{Key: "completed_at", Value: time.Now().UTC()})
}

// receive takes everything.
func (d *Own) receive(r world.Request) world.Answer {
	body := string(r.Body)
	if r.Method != http.MethodPost {
		body = r.Query
	}
	d.print.note("%s  CRM   %s %s  %s", time.Now().Format(clock), r.Method, textline.Line(r.Path, 30), textline.Line(body, 45))
	return world.Answer{Status: 200, Body: `{"ok":true}`, Header: map[string]string{"Content-Type": "application/json"}}
}

// Run lets each call arrive, with Keep over and over until the context ends, and prints
// what the CRM gets and what becomes of each call. It reports whether each ended.
func (d *Own) Run(ctx context.Context, page string) (bool, error) {
	d.print.note("watcher demo: %s, %s", plural(len(d.bots), "bot"), plural(len(d.calls), "call"))
	d.print.note("status page: %s", page)
	g, ctx := errgroup.WithContext(ctx)
	serving, stop := context.WithCancelCause(ctx)
	g.Go(func() error { return d.crm.run(serving) })
	all := false
	g.Go(func() error {
		defer stop(errOver)
		var err error
		all, err = d.arrive(ctx)
		if ctx.Err() != nil && d.o.Keep {
			return nil // an interrupt is how it ends
		}
		return err
	})
	err := g.Wait()
	return all || d.o.Keep, err
}

// arrive lets one call after the other arrive, and reports whether each ended.
func (d *Own) arrive(ctx context.Context) (all bool, err error) {
	pace := rate.NewLimiter(rate.Limit(d.o.Rate), 1)
	var kept []bson.ObjectID
	all = true
	for n := 0; d.o.Keep || n < len(d.calls); n++ {
		if err := pace.Wait(ctx); err != nil {
			return false, err
		}
		id, session, doc := d.ended(n)
		if err := d.platform.Begin(ctx, doc); err != nil {
			return false, fmt.Errorf("write a call: %w", err)
		}
		ended, err := d.follow(ctx, id, session)
		if err != nil {
			return false, err
		}
		all = all && ended
		if kept = append(kept, id); len(kept) > maxOwnCalls {
			if _, err := d.platform.Calls.DeleteOne(ctx, bson.D{{Key: "_id", Value: kept[0]}}); err != nil {
				return false, fmt.Errorf("forget a call: %w", err)
			}
			kept = kept[1:]
		}
	}
	return all, nil
}

// ownWait is how long an outcome is waited for: longer than the attempts of the demo take.
const ownWait = 10 * time.Second

// follow waits for what becomes of a call, and prints it.
func (d *Own) follow(ctx context.Context, id bson.ObjectID, session string) (bool, error) {
	by := bson.D{{Key: "_id", Value: id}}
	line := func(format string, args ...any) {
		d.print.note("%s  call  %s: %s", time.Now().Format(clock), textline.Line(session, 40), textline.Line(fmt.Sprintf(format, args...), 40))
	}
	for until := time.Now().Add(ownWait); time.Now().Before(until); {
		var doc stored
		if err := d.platform.Calls.FindOne(ctx, by).Decode(&doc); err != nil {
			return false, fmt.Errorf("read a call: %w", err)
		}
		o, err := doc.outcome()
		if err != nil {
			return false, fmt.Errorf("call %s: the outcome %w", session, err)
		}
		if o != nil && o.final() {
			line("%s%s", o.Status, because(o))
			return true, nil
		}
		var skip struct{ Reason string }
		if d.o.DB.Collection("watcher_skips").FindOne(ctx, bson.D{{Key: "call_id", Value: id}}).Decode(&skip) == nil {
			line("not pushed: %s", skip.Reason)
			return true, nil
		}
		if err := backoff.Sleep(ctx, look); err != nil {
			return false, err
		}
	}
	line("no outcome within %s", ownWait)
	return false, nil
}
