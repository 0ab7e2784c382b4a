package demo

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/bots"
	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/dispatch"
	"github.com/cxbridge/watcher/internal/recording"
	"github.com/cxbridge/watcher/pkg/push"
)

// compiled is a bot of the demo as the watcher reads it.
func compiled(t *testing.T, b *bot) *bots.Bot {
	t.Helper()
	guard, err := push.NewGuard([]push.Network{{Prefix: netip.MustParsePrefix(Network)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return bots.Compile(rawDoc(t, b.document("http://127.0.0.1:4000")), bots.Options{Guard: guard})
}

func rawDoc(t *testing.T, doc bson.D) bson.Raw {
	t.Helper()
	raw, err := bson.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestBotsAreSoundButForTheOneMisspeltName(t *testing.T) {
	var found []string
	for _, b := range allBots() {
		watched := compiled(t, b)
		for _, w := range slices.Concat(watched.Warnings, watched.Lint(nil, nil)) {
			switch {
			case w.Code == bots.CodePlainHTTP: // the CRM is on this machine
			case w.Level == bots.LevelInfo:
			default:
				found = append(found, b.name+": "+w.Key+": "+w.Message+" "+w.Suggestion)
			}
		}
	}
	if len(found) != 1 || !strings.Contains(found[0], "Orchid Reminders") || !strings.Contains(found[0], "CALLING_REMARKS") {
		t.Errorf("found %q, want the misspelt CALLING_REMARK of Orchid Reminders alone", found)
	}
}

// Every call is decided on, rendered and given to the CRM by the parts that the
// watcher is made of, without a database and without a network.
func TestRenderedCallsAreWhatTheCRMsExpect(t *testing.T) {
	synctest.Test(t, sendToTheCRMs) // one of the CRMs is slow
}

func sendToTheCRMs(t *testing.T) {
	all := allBots()
	watched := make(map[string]*bots.Bot)
	for _, b := range all {
		watched[botID(b.id)] = compiled(t, b)
	}
	links, err := recording.New(recording.Options{PublicBaseURL: PublicBaseURL}.Over(rawDoc(t, settings())))
	if err != nil {
		t.Fatal(err)
	}
	c := newCRM(all)
	for _, p := range planned(1, 6*len(kinds)) {
		doc := append(append(append(bson.D{}, p.skeleton...), p.cdr...), ended(p)...)
		call := calls.Decode(rawDoc(t, doc))
		b := watched[call.BotID]
		if b == nil {
			t.Fatalf("%s is of bot %q, which does not exist", p.session, call.BotID)
		}
		reason := dispatch.SkipReason(&call, b)
		if want := skipReasons[p.want.why]; reason != want {
			t.Errorf("%s (%s): reason %q, want %q", p.session, p.want.why, reason, want)
		}
		if reason != dispatch.NoReason {
			continue
		}
		r, err := dispatch.Prepare(&call, b, dispatch.PrepareEnv{RecordingURL: links.Link(&call)})
		if err != nil {
			t.Fatal(err)
		}
		e := right(p)
		e.got = nil
		for range p.want.attempts {
			e.got = give(c, r.Method, r.URL, r.Header, r.Body)
		}
		if fault := e.fault(); fault != "" {
			t.Errorf("%s of %s %s\n%s\n%s", p.session, p.bot.name, fault, r.URL, r.Body)
		}
		if bytes.Contains(r.Body, []byte("{{")) && !bytes.Contains(r.Body, []byte("{{Thank}} you")) {
			t.Errorf("%s: a template reached the CRM: %s", p.session, r.Body)
		}
	}
	if _, strays := c.counts(); strays != 0 {
		t.Errorf("%d stray requests", strays)
	}
}

// skipReasons are the watcher's words for the demo's.
var skipReasons = map[string]dispatch.Reason{
	"":                dispatch.NoReason,
	"bot has no push": dispatch.ReasonNoConfig,
	"skip_post_push":  dispatch.ReasonSkipFlag,
	"agent call":      dispatch.ReasonAgentCall,
	"no url":          dispatch.ReasonNoURL,
}

// give sends a rendered request to the CRM and returns what it knows of the delivery.
func give(c *crm, method, target string, header http.Header, body []byte) *delivery {
	r := httptest.NewRequest(method, target, bytes.NewReader(body))
	r.Header = header.Clone()
	w := httptest.NewRecorder()
	c.handler.ServeHTTP(w, r)
	return c.delivery(header.Get("Idempotency-Key"))
}
