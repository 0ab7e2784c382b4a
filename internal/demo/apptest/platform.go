package apptest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/demo/world"
	"github.com/cxbridge/watcher/pkg/backoff"
)

// Database is the name of the database that a Platform writes to on a localmongo.
const Database = "cxbridge"

// Platform is the platform of a test, which fails with it.
type Platform struct {
	*world.Platform
	Client *mongo.Client

	t testing.TB
}

// NewPlatform connects to Database on a server until the end of the test.
func NewPlatform(t testing.TB, uri string) *Platform {
	t.Helper()
	return newPlatform(t, uri, Database)
}

func newPlatform(t testing.TB, uri, database string) *Platform {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(uri).SetAppName("platform"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	p := &Platform{Platform: world.NewPlatform(client.Database(database)), Client: client, t: t}
	if err := p.CreateIndexes(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// Bot is a bot that posts to a URL. The fields are added to its post_call_push,
// or take the place of those that it has.
func Bot(id any, url string, fields ...bson.E) bson.D {
	push := bson.D{
		{Key: "url", Value: url},
		{Key: "method", Value: "POST"},
		{Key: "token", Value: "Bearer of-the-bot"},
		{Key: "key_mapper", Value: bson.D{
			{Key: "call_id", Value: "{{result.call_id}}"},
			{Key: "name", Value: "{{call.name}}"},
			{Key: "disposition", Value: "{{analysis.DISPOSITION}}"},
			{Key: "started", Value: "{{result.call_start_time}}"},
			{Key: "clock", Value: "{{system.current_datetime}}"},
		}},
	}
	for _, f := range fields {
		push = set(push, f)
	}
	return bson.D{{Key: "_id", Value: id}, {Key: "name", Value: fmt.Sprint("bot ", id)},
		{Key: "timezone", Value: "Asia/Kolkata"}, {Key: "post_call_push", Value: push}}
}

func set(d bson.D, f bson.E) bson.D {
	for i := range d {
		if d[i].Key == f.Key {
			d[i].Value = f.Value
			return d
		}
	}
	return append(d, f)
}

// PutBot stores a bot, in the place of the one with its id.
func (p *Platform) PutBot(bot bson.D) {
	p.t.Helper()
	if err := p.Platform.PutBot(p.t.Context(), bot); err != nil {
		p.t.Fatal(err)
	}
}

// CallStart is how long before the end of its call a Begin has it started.
const CallStart = 90 * time.Second

// Begin inserts the skeleton of a call, as it stands while the call goes on.
func (p *Platform) Begin(session string, bot any, fields ...bson.E) error {
	start := time.Now().Add(-CallStart).UTC()
	doc := bson.D{
		{Key: "session_id", Value: session},
		{Key: "bot_id", Value: bot},
		{Key: "stream_id", Value: "stream-" + session},
		{Key: "call_type", Value: "outbound"},
		{Key: "created_at", Value: start},
		{Key: "call_start_time", Value: start},
		{Key: "connected_event", Value: bson.D{{Key: "name", Value: "Asha " + session}}},
		{Key: "events", Value: bson.A{bson.D{{Key: "type", Value: "call_started"}, {Key: "timestamp", Value: 0.0}}}},
		{Key: "pipeline_config", Value: bson.D{{Key: "llm", Value: "some model"}}},
	}
	for _, f := range fields {
		doc = set(doc, f)
	}
	return p.Platform.Begin(p.t.Context(), doc)
}

// Cdr writes what the dialler adds to a call.
func (p *Platform) Cdr(session string) error {
	return p.Platform.Cdr(p.t.Context(), "stream-"+session, bson.D{
		{Key: "cdr", Value: bson.D{{Key: "billsec", Value: 87}}},
		{Key: "cdr_talktime", Value: 87}, {Key: "cdr_call_status", Value: "ANSWERED"},
	})
}

// StoreResults stores the results of a call, by session_id and with upsert. It
// returns the completed_at that it wrote.
func (p *Platform) StoreResults(session string, fields ...bson.E) (time.Time, error) {
	at := time.Now().UTC().Truncate(time.Millisecond)
	results := bson.D{
		{Key: "status", Value: "completed"},
		{Key: "disconnected_by", Value: "customer"},
		{Key: "call_duration_seconds", Value: 87},
		{Key: "post_call_analysis", Value: bson.D{{Key: "DISPOSITION", Value: "Interested"}}},
		{Key: "completed_at", Value: at},
	}
	for _, f := range fields {
		results = set(results, f)
	}
	return at, p.Platform.StoreResults(p.t.Context(), session, results)
}

// Call begins a call and stores its results.
func (p *Platform) Call(session string, bot any, fields ...bson.E) time.Time {
	p.t.Helper()
	if err := p.Begin(session, bot); err != nil {
		p.t.Fatal(err)
	}
	at, err := p.StoreResults(session, fields...)
	if err != nil {
		p.t.Fatal(err)
	}
	return at
}

// Doc reads a call by its session; nil when there is none.
func (p *Platform) Doc(session string) bson.Raw {
	p.t.Helper()
	raw, err := p.Calls.FindOne(p.t.Context(), bson.D{{Key: "session_id", Value: session}}).Raw()
	if err == mongo.ErrNoDocuments { //nolint:errorlint // returned as it is
		return nil
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return raw
}

// Patience is how long a test waits for what has to happen. It usually takes
// milliseconds; on a machine that does ten things at once it may take thirty times that,
// and only what never happens takes this long.
const Patience = 90 * time.Second

// pollPause is how long Poll waits between two questions.
const pollPause = 5 * time.Millisecond

// Poll asks until ok says that it is so, or ctx ends; false then. A database has
// no signal to wait for that is not the thing under test.
func Poll(ctx context.Context, ok func() bool) bool {
	for !ok() {
		if backoff.Sleep(ctx, pollPause) != nil {
			return false
		}
	}
	return true
}
