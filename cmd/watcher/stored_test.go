package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
)

// stored starts a server with documents in it and returns its address.
func stored(t *testing.T, docs map[string][]any) string {
	t.Helper()
	uri := localmongotest.Start(t, localmongo.Options{}).URI()
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	for coll, all := range docs {
		if _, err := client.Database("cxbridge").Collection(coll).InsertMany(t.Context(), all); err != nil {
			t.Fatal(err)
		}
	}
	return uri
}

func TestPreviewFromTheDatabase(t *testing.T) {
	bot := bson.NewObjectID()
	at := time.Date(2026, 6, 5, 10, 17, 5, 0, time.UTC)
	uri := stored(t, map[string][]any{
		"calls": {
			bson.M{"_id": "old", "session_id": "s-1", "bot_id": bot.Hex(), "completed_at": at},
			bson.M{"_id": "new", "session_id": "s-1", "bot_id": bot.Hex(), "completed_at": at.Add(time.Hour), "recording_url": "http://x/recordings/1.wav"},
			bson.M{"_id": "orphan", "session_id": "s-2", "bot_id": "nobody", "completed_at": at},
			bson.M{"_id": "botless", "session_id": "s-3", "completed_at": at},
		},
		"bots":            {bson.M{"_id": bot, "timezone": "UTC", "post_call_push": bson.M{"url": "https://crm.example.com", "key_mapper": bson.M{"r": "{{result.recording_url}}"}}}},
		"system_settings": {bson.M{"_id": "system", "minio": bson.M{"endpoint": "store:9000", "access_key": "ak", "secret_key": "sk", "bucket": "recordings"}}},
	})
	read := func(flags ...string) previewed {
		t.Helper()
		stdout, stderr, code := invoke(t, "", append([]string{"preview", "--mongo-uri", uri, "--database", "cxbridge"}, flags...)...)
		var p previewed
		if err := json.Unmarshal([]byte(stdout), &p); code != 0 || err != nil {
			t.Fatalf("exit %d, %s%s", code, stdout, stderr)
		}
		return p
	}
	p := read("--session-id", "s-1")
	if p.Decision != "push" || !strings.Contains(p.Request.BodyText, "http://store:9000/recordings/1.wav?X-Amz") {
		t.Errorf("the newest result, the bot by its other form of id, the stored settings: %+v", p)
	}
	own := file(t, "bot.json", previewBot(`"url": "https://own.example", "key_mapper": {"a": "own"}`))
	if p := read("--session-id", "s-1", "--bot", own); p.Request == nil || p.Request.BodyText != `{"a":"own"}` {
		t.Errorf("a file takes the place of the stored bot: %+v", p)
	}
	for _, session := range []string{"s-2", "s-3"} {
		if p := read("--session-id", session); p.Reason != "no_config" {
			t.Errorf("%s, a call of no bot: %+v", session, p)
		}
	}
	_, stderr, code := invoke(t, "", "preview", "--mongo-uri", uri, "--session-id", "nope")
	if code != cli.ExitUsage || !strings.Contains(stderr, "--session-id") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("an unknown call: exit %d, %s", code, stderr)
	}
}

func TestLintOfTheDatabase(t *testing.T) {
	uri := stored(t, map[string][]any{"bots": {
		bson.M{"_id": "b", "timezone": "UTC", "post_call_push": bson.M{"url": "https://x.example", "method": "PUT", "key_mapper": bson.M{"a": "1"}}},
		bson.M{"_id": "a", "timezone": "UTC"},
	}})
	stdout, stderr, code := invoke(t, "", "lint", "--mongo-uri", uri)
	if code != cli.ExitFailed || !strings.Contains(stdout, "b (cannot push)") || !strings.Contains(stdout, "2 bots, 1 that cannot push, 1 finding") {
		t.Errorf("exit %d, %s%s", code, stdout, stderr)
	}
}
