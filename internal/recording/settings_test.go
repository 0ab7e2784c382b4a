package recording

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/localmongo"
	"github.com/cxbridge/watcher/internal/localmongo/localmongotest"
	"github.com/cxbridge/watcher/pkg/secret"
)

func TestSettingsFollowTheDocument(t *testing.T) {
	client, err := mongo.Connect(options.Client().ApplyURI(localmongotest.Start(t, localmongo.Options{}).URI()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(t.Context()) })
	coll := client.Database("db").Collection("system_settings")
	var log bytes.Buffer
	secrets := secret.NewRedactor()
	s := NewSettings(SettingsOptions{
		Collection: coll, Own: Options{Storage: Storage{Bucket: "own"}}, Secrets: secrets,
		Logger: slog.New(slog.NewTextHandler(&log, nil)), Registerer: prometheus.NewRegistry(),
	})
	if s.Ready() == nil {
		t.Error("ready before it was read")
	}
	call := callWith(t, bson.E{Key: "recording_url", Value: "http://old:9000/own/a/b.wav"})
	for _, tt := range []struct {
		endpoint, key string
		want          string // of the link
		faults        float64
		logged        int
	}{
		{"", "", "http://old:9000/own/a/b.wav", 0, 0}, // no document
		{"one:9000", "first-key", "http://one:9000/own/a/b.wav?X-Amz-", 0, 0},
		{"ftp://two", "second-key", "http://old:9000/own/a/b.wav", 1, 1},
		{"ftp://two", "second-key", "http://old:9000/own/a/b.wav", 1, 1},
		{"three:9000", "third-key", "http://three:9000/own/a/b.wav?X-Amz-", 0, 1},
	} {
		if tt.endpoint != "" {
			doc := bson.D{{Key: "_id", Value: "system"}, {Key: "minio", Value: bson.D{
				{Key: "endpoint", Value: tt.endpoint}, {Key: "access_key", Value: "an-access-key"}, {Key: "secret_key", Value: tt.key}, {Key: "bucket", Value: "theirs"},
			}}}
			if _, err := coll.ReplaceOne(t.Context(), bson.D{{Key: "_id", Value: "system"}}, doc, options.Replace().SetUpsert(true)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Refresh(t.Context()); err != nil || s.Ready() != nil {
			t.Fatalf("%v, ready: %v", err, s.Ready())
		}
		if got := s.Link(call); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: got %s, want %s", tt.endpoint, got, tt.want)
		}
		if n := testutil.ToFloat64(s.faulty); n != tt.faults || strings.Count(log.String(), "cannot be made") != tt.logged {
			t.Errorf("%s: the gauge is %v, the log says\n%s", tt.endpoint, n, log.String())
		}
		for _, key := range []string{"first-key", "second-key", "third-key"} {
			if hidden := secrets.Redact(key) != key; hidden != (key == tt.key) {
				t.Errorf("%s: %s is hidden: %v", tt.endpoint, key, hidden)
			}
		}
	}
}

func callWith(t *testing.T, fields ...bson.E) *calls.Call {
	t.Helper()
	raw, err := bson.Marshal(append(bson.D{{Key: "_id", Value: "c"}}, fields...))
	if err != nil {
		t.Fatal(err)
	}
	call := calls.Decode(raw)
	return &call
}
