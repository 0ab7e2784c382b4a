package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/cli"
)

func diffOf(t *testing.T, args ...string) previewDiff {
	t.Helper()
	stdout, stderr, code := invoke(t, "", append([]string{"preview", "--output", "json"}, args...)...)
	var d previewDiff
	if err := json.Unmarshal([]byte(stdout), &d); code != 0 || err != nil {
		t.Fatalf("exit %d, %v, %s%s", code, err, stdout, stderr)
	}
	return d
}

func TestPreviewDiffOfOneCall(t *testing.T) {
	now := file(t, "now.json", previewBot(`"url": "https://x.example", "token": "first-token", "key_mapper": {"name": "{{NAME}}", "gone": "1", "n": "{{call.n}}", "e": ""}`))
	other := file(t, "other.json", previewBot(`"url": "https://x.example/v2", "token": "second-token", "key_mapper": {"name": "{{NAM}}", "n": "{{call.n}}", "e": "x", "phone": "+91 98765 43210"}`))
	args := []string{"--call", file(t, "call.json", previewCall), "--bot", now, "--diff", other}
	d := diffOf(t, args...)
	var keys []string
	for _, k := range d.Keys {
		keys = append(keys, fmt.Sprint(k.Key, k.Changed, k.Added, k.Removed, k.Filled, k.Emptied))
	}
	if got := strings.Join(keys, ", "); got != "(url)1 0 0 0 0, name1 0 0 0 1, gone1 0 1 0 0, e1 0 0 1 0, phone1 1 0 0 0" {
		t.Error(got)
	}
	if !d.Credentials || d.Changed != 1 || d.Calls != 1 {
		t.Errorf("%+v", d)
	}
	stdout, _, code := invoke(t, "", append([]string{"preview"}, args...)...)
	if code != 0 {
		t.Fatal(code)
	}
	for _, want := range []string{"changed       1 of 1 payload", "credentials   are not the same", "name  in 1 call: empty now in 1", `  - "R & <b>"`, `  + ""`, "New with the other document:", "{{NAM}}"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("lacks %q:\n%s", want, stdout)
		}
	}
	for _, secret := range []string{"first-token", "second-token", "98765"} {
		if strings.Contains(stdout, secret) {
			t.Errorf("shows %s:\n%s", secret, stdout)
		}
	}
	if d := diffOf(t, "--call", args[1], "--bot", now, "--diff", now); d.Changed != 0 || len(d.Keys) != 0 || d.Credentials {
		t.Errorf("the same document: %+v", d)
	}
}

func TestPreviewDiffOverStoredCalls(t *testing.T) {
	at := time.Now().UTC()
	bot := bson.M{"_id": "b", "name": "Sales", "timezone": "UTC", "post_call_push": bson.M{"url": "https://x.example", "key_mapper": bson.D{{Key: "lead", Value: "{{crm.lead}}"}, {Key: "said", Value: "{{analysis.x}}"}}}}
	docs := map[string][]any{"bots": {bot}}
	for i := range 6 {
		docs["calls"] = append(docs["calls"], bson.M{
			"_id": i, "session_id": fmt.Sprint("s-", i), "bot_id": "b", "completed_at": at.Add(-time.Duration(i) * time.Hour), "skip_post_push": i == 0,
			"crm_data": bson.M{"lead": fmt.Sprint("L", i%2)},
		})
	}
	uri := stored(t, docs)
	other := func(id string) string {
		return file(t, "other.json", `{"_id": `+id+`, "timezone": "UTC", "post_call_push": {"url": "https://x.example", "key_mapper": {"lead": "{{crm.lead}}", "said": "{{call.owner}}", "who": "{{result.call_id}}"}}}`)
	}
	d := diffOf(t, "--mongo-uri", uri, "--diff", other(`"b"`), "--calls", "4")
	if d.Calls != 4 || d.Changed != 3 || len(d.Keys) != 1 || d.Keys[0].Key != "who" || d.Keys[0].Added != 3 || len(d.Keys[0].Examples) != 3 {
		t.Errorf("%+v", d)
	}
	if d.Read != "the newest 4 calls of the last 90 days" {
		t.Error(d.Read)
	}
	if d := diffOf(t, "--mongo-uri", uri, "--diff", other(`"new"`), "--calls", "2", "--bot", "sales"); d.Calls != 2 {
		t.Errorf("a bot by its name: %+v", d)
	}
	off := file(t, "off.json", `{"_id": "b", "post_call_push": {"url": "nowhere", "key_mapper": {}}}`)
	if d := diffOf(t, "--mongo-uri", uri, "--diff", off, "--calls", "6"); len(d.Decisions) != 1 || d.Decisions[0].Now != "push" || d.Decisions[0].Other != "bad_config" || d.Decisions[0].Calls != 5 || d.Changed != 5 {
		t.Errorf("%+v", d.Changes)
	}
	for _, args := range [][]string{{"--diff", other(`"nobody"`), "--calls", "2"}, {"--diff", off, "--calls", "501"}, {"--calls", "5"}, {"--diff", off, "--calls", "2", "--bot", "nobody"}, {"--diff", "/no/such", "--calls", "2"}} {
		if _, stderr, code := invoke(t, "", append([]string{"preview", "--mongo-uri", uri}, args...)...); code != cli.ExitUsage {
			t.Errorf("%v: exit %d, %s", args, code, stderr)
		}
	}
}
