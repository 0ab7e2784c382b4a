package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/cxbridge/watcher/internal/cli"
	"github.com/cxbridge/watcher/internal/demo/apptest"
	"github.com/cxbridge/watcher/pkg/push"
)

const toLocal = "--allow-network=127.0.0.0/8"

func TestCheckOfADeployment(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "bot")
	out := d.run("check", toLocal)
	has(t, out, "ok +connect", "ok +topology +replica set rs0", `ok +version +\d`, "ok +clock +less than a second", "ok +watch calls", "ok +watch bots",
		"ok +write watcher_resume", "ok +write watcher_skips", "warn +oplog window", `warn +index completed_at .*\{completed_at: 1\}`, "warn +index for retries",
		"ok +bots +1 bot, 1 with a push, 0 that cannot", "(ok|warn) +memory", "(ok|warn) +files", "warn +public base URL", "ok +recording link +none")
	for _, name := range []string{"watcher_resume", "watcher_skips"} {
		if n, err := d.DB.Collection(name).CountDocuments(t.Context(), bson.D{}); err != nil || n != 0 {
			t.Errorf("it leaves %d documents behind in %s, %v", n, name, err)
		}
	}
	if _, _, code := d.try("check", "--fail-on", "warn"); code != cli.ExitFailed {
		t.Errorf("a warning with --fail-on warn: exit %d", code)
	}
	d.PutBot(apptest.Bot("broken", "ftp://x"))
	has(t, d.run("check", toLocal, "--outage", "0s", "--skip-log", "0"), "ok +oplog window", "ok +write watcher_skips +the skip log is switched off",
		"warn +bots .*1 that cannot push: 'watcher lint'")
	stdout, _, code := invoke(t, "", "check", "--mongo-uri", "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200&replicaSet=rs0")
	if code != cli.ExitFailed || !strings.HasPrefix(stdout, "fail  connect") {
		t.Errorf("no server: exit %d, %s", code, stdout)
	}
}

func TestCheckCreatesIndexes(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "bot")
	if stdout, stderr, code := d.try("check", "--create-indexes"); code != cli.ExitUsage || !strings.Contains(stderr, "--yes: ") || !strings.Contains(stdout, "watcher_due") {
		t.Errorf("without an answer: exit %d, %s%s", code, stdout, stderr)
	}
	has(t, d.run("check"), "warn +index completed_at", "warn +index for retries")
	for range 2 { // the second has nothing to do
		has(t, d.run("check", "--create-indexes", "--yes"), "ok +index completed_at", "ok +index for retries")
	}
}

// A CRM that takes connections, one that does not, and one that is not public.
func TestCheckConnectsToCRMs(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "bot", "same")
	d.PutBot(apptest.Bot("away", "http://127.0.0.1:1/?token=abcdef0815"))
	out := d.run("check", toLocal, "--crms")
	has(t, out, "ok +CRMs +1 host can be reached", "warn +CRMs +http://127.0.0.1:1: connect: connection refused")
	if strings.Contains(out, "abcdef0815") || len(d.crm.Requests()) > 0 {
		t.Errorf("%d requests were sent, and it prints\n%s", len(d.crm.Requests()), out)
	}
	if _, err := d.DB.Collection("bots").DeleteMany(t.Context(), bson.D{{Key: "_id", Value: bson.D{{Key: "$ne", Value: "away"}}}}); err != nil {
		t.Fatal(err)
	}
	out, _, code := d.try("check", toLocal, "--crms")
	if has(t, out, "fail +CRMs +none of 1 host can be reached"); code != cli.ExitFailed {
		t.Errorf("exit %d", code)
	}
}

func TestCheckOpensARecording(t *testing.T) {
	t.Parallel()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/api/v1/public/recordings/token-0815":
		case r.URL.Path == "/":
			w.WriteHeader(http.StatusNotFound)
		default:
			w.WriteHeader(http.StatusGone)
		}
	}))
	defer api.Close()
	d := newDesk(t, "bot")
	recorded := func(session, token string) {
		d.Call(session, "bot", bson.E{Key: "recording_key", Value: "a.wav"}, bson.E{Key: "recording_access_token", Value: token})
	}
	recorded("s-1", "token-0815")
	d.Call("s-2", "bot")
	out := d.run("check", toLocal, "--public-base-url", api.URL)
	has(t, out, "ok +public base URL +answers 404", `ok +recording link +http://127.0.0.1:\d+/api/v1/public/recordings/\*\*\* answers`, "200")
	recorded("s-3", "token-4711")
	out += d.run("check", toLocal, "--public-base-url", api.URL)
	has(t, out, `warn +recording link`, "answers 410")
	closed := d.run("check", "--public-base-url", api.URL)
	has(t, closed, "warn +public base URL .*not public", "warn +recording link")
	if strings.Contains(out+closed, "token-") {
		t.Errorf("it shows the token:\n%s%s", out, closed)
	}
}

func TestCheckAsJSON(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "bot")
	var out checkOutput
	if err := json.Unmarshal([]byte(d.run("check", "--output", "json", "--create-indexes", "--yes")), &out); err != nil {
		t.Fatal(err)
	}
	if out.Verdict != verdictWarn || len(out.Checks) < 15 {
		t.Errorf("%+v", out)
	}
	for _, f := range out.Checks {
		if f.Verdict == "" || f.Check == "" || f.Text == "" {
			t.Errorf("%+v", f)
		}
	}
}

func TestCheckOfClocks(t *testing.T) {
	for by, want := range map[time.Duration]string{
		-20 * time.Millisecond: "ok less than a second", 2 * time.Second: "ok 2s", -time.Minute: "warn 1m from", 6 * time.Minute: "fail 6m from",
	} {
		var d deployment
		d.clockDiffers(by)
		if f := d.findings[0]; !strings.HasPrefix(string(f.Verdict)+" "+f.Text, want) || (f.Do == "") != (f.Verdict == verdictOK) {
			t.Errorf("%s: %+v", by, f)
		}
	}
}

func TestCheckOfManyHosts(t *testing.T) {
	var d deployment
	all := make([]host, 60)
	for i := range all {
		all[i] = host{name: fmt.Sprintf("https://crm-%02d.example.com\x1b[2J", i), err: &push.NoAnswerError{Text: "DNS: no such host"}}
	}
	all[0].err, all[1].err = nil, push.ErrProxy
	d.hosts(all, 7)
	if n := len(d.findings); n != 22 || d.worst() != verdictWarn {
		t.Errorf("%d findings, %s", n, d.worst())
	}
	var out strings.Builder
	if err := printFindings(&out, d.findings); err != nil {
		t.Fatal(err)
	}
	has(t, out.String(), "ok +CRMs +1 host can be reached; 7 more hosts not looked at; 1 host behind the\n +proxy not looked at\n", "and 38 more hosts that cannot be reached")
	if strings.Contains(out.String(), "\x1b") {
		t.Error("a host controls the terminal")
	}
}

func TestFindingsFitOnATerminal(t *testing.T) {
	var d deployment
	d.add(verdictWarn, "write "+strings.Repeat("collection", 12), "do "+strings.Repeat("something ", 30), "%s", strings.Repeat("wörd ", 300))
	var out strings.Builder
	if err := printFindings(&out, d.findings); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(line); n > screenWidth+1 {
			t.Errorf("%d characters: %s", n, line)
		}
	}
}

// What docs/operations.md shows of a check is what is printed, but for what is of a machine.
func TestTheDocumentedCheck(t *testing.T) {
	t.Parallel()
	uri := documented(t)
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Disconnect(t.Context()) }()
	if _, err := client.Database("cxbridge").Collection("calls").UpdateMany(t.Context(), bson.D{}, bson.D{{Key: "$set", Value: bson.D{
		{Key: "recording_key", Value: "0417.wav"}, {Key: "recording_access_token", Value: "token-0815"},
	}}}); err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer api.Close()
	stdout, stderr, code := invoke(t, "", "check", "--mongo-uri", uri, "--database", "cxbridge", "--public-base-url", api.URL, toLocal)
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d, %s", code, stderr)
	}
	doc, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, shown, _ := strings.Cut(string(doc), "    $ watcher check --public-base-url https://api.example.com\n")
	shown, _, _ = strings.Cut(shown, "\n\n")
	ofMachine := regexp.MustCompile(`(?m)^ *\w+ +(memory|version|files) .*\n(?: {8,}.*\n)*|\d+[hmsd]`)
	plain := func(text string) string { return ofMachine.ReplaceAllString(text, "#") }
	want := strings.TrimSuffix(indented(strings.ReplaceAll(stdout, api.URL, "https://api.example.com")), "\n")
	if plain(shown+"\n") != plain(want+"\n") {
		t.Errorf("docs/operations.md shows\n%s\nand it prints\n%s", shown, want)
	}
}
