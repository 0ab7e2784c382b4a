package soak

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/internal/localmongo"
)

// While every CRM hangs, calls wait on their documents and not in memory; once the CRMs
// answer, all are pushed.
func TestCallsOfHangingCRMsWaitInMongoDB(t *testing.T) {
	const (
		bots = 20
		most = 200 // MB
	)
	count, timeout := 1000, 1
	_, soaking := quiet(t)
	if soaking {
		count, timeout = 10_000, 10
	}
	for name, mapped := range map[string]string{"short fields": "{{analysis.DISPOSITION}}", "whole transcripts": "{{result.transcript}}"} {
		t.Run(name, func(t *testing.T) {
			if name == "short fields" && !soaking {
				t.Skip("only with WATCHER_SOAK_QUIET")
			}
			server := apptest.NewServer(t, localmongo.Options{HistoryBytes: 1 << 30})
			p := server.Platform()
			answer := make(chan struct{})
			crm := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // only then the end of the connection is noticed
				select {
				case <-answer:
				case <-r.Context().Done():
				}
			}))
			t.Cleanup(crm.Close)
			for i := range bots {
				p.PutBot(apptest.Bot(
					fmt.Sprint("bot-", i), fmt.Sprint(crm.URL, "/", i), bson.E{Key: "timeout_seconds", Value: timeout},
					bson.E{Key: "key_mapper", Value: bson.D{{Key: "call_id", Value: "{{result.call_id}}"}, {Key: "text", Value: mapped}}},
				))
			}
			w := startWatcher(t, server, "--retry-schedule=1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s")
			storeLarge(t, p, count, bots)
			peak, begun := 0.0, time.Now()
			reach := func(what string, filter bson.D) {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), 2*apptest.Patience)
				defer cancel()
				var left int64
				if !apptest.Poll(ctx, func() bool {
					peak = max(peak, w.sample().memory/1e6)
					var err error
					left, err = p.Calls.CountDocuments(ctx, filter)
					return err == nil && left == 0
				}) {
					t.Fatalf("%d calls: not %s", left, what)
				}
				t.Logf("%d calls: %s after %v, %.0f MB at most", count, what, time.Since(begun).Round(time.Second), peak)
			}
			reach("deferred or tried", bson.D{{Key: "post_call_push_result.status", Value: nil}})
			if peak > most {
				t.Errorf("%.0f MB were resident, want at most %v", peak, most)
			}
			close(answer)
			if soaking { // the lanes find out step by step
				reach("pushed", bson.D{{Key: "post_call_push_result.status", Value: bson.D{{Key: "$ne", Value: "ok"}}}})
			}
		})
	}
}

// storeLarge stores results of 40 KB, most of which is the transcript.
func storeLarge(t *testing.T, p *apptest.Platform, n, bots int) {
	t.Helper()
	words := strings.Repeat("words ", 1000)
	var transcript bson.A
	for range 40 {
		transcript = append(transcript, bson.D{{Key: "role", Value: "user"}, {Key: "content", Value: words[:950]}})
	}
	const batch = 200
	for from := 0; from < n; from += batch {
		docs := make([]any, 0, batch)
		for i := from; i < min(from+batch, n); i++ {
			id := fmt.Sprintf("call-%06d", i)
			docs = append(docs, bson.D{
				{Key: "_id", Value: id}, {Key: "session_id", Value: id}, {Key: "bot_id", Value: fmt.Sprint("bot-", i%bots)},
				{Key: "status", Value: "completed"}, {Key: "completed_at", Value: time.Now().UTC()},
				{Key: "post_call_analysis", Value: bson.D{{Key: "DISPOSITION", Value: "Sold"}}}, {Key: "transcript", Value: transcript},
			})
		}
		_, err := p.Calls.InsertMany(t.Context(), docs)
		must(t, err)
	}
}
