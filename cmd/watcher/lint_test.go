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

const (
	lintGood   = `{"_id": "good", "timezone": "UTC", "post_call_push": {"url": "https://x.example", "key_mapper": {"d": "{{analysis.DISPOSITION}}", "free": "{{analysis.own}}"}}}`
	lintTypo   = `{"_id": {"$oid": "65f0c0ffee00000000000002"}, "name": "Typo\nBot", "timezone": "UTC", "post_call_push": {"url": "https://x.example", "key_mapper": {"d": "{{analysis.DISPOSTION}}"}}}`
	lintBroken = `{"_id": "broken", "timezone": "UTC", "post_call_push": {"url": "crm.example", "method": "PUT", "key_mapper": {"a": "1"}}}`
	lintNoPush = `{"_id": "none", "timezone": "UTC"}`
)

func TestLintTable(t *testing.T) {
	for _, tt := range []struct {
		name  string
		stdin string
		flags []string
		code  int
		want  string
	}{
		{"nothing to say", lintGood, nil, 0, "1 bot, 0 that cannot push, 0 findings, 1 more with --level info\n"},
		{"a typo", lintTypo, nil, 0, `65f0c0ffee00000000000002 Typo Bot
  warning  d  {{analysis.DISPOSTION}}
           looks like a misspelt name; if it does not exist, "" is sent; try
           {{analysis.DISPOSITION}}

1 bot, 0 that cannot push, 1 finding
`},
		{"a bot that cannot push", lintBroken, nil, cli.ExitFailed, `broken (cannot push)
  error    post_call_push.url
           has no scheme; try https://…
  error    post_call_push.method
           "PUT" is neither POST nor GET; try POST

1 bot, 1 that cannot push, 2 findings
`},
		{"a typo that fails", lintTypo, []string{"--level", "error", "--fail-on", "warning"}, cli.ExitFailed, "1 bot, 0 that cannot push, 0 findings, 1 more with --level info\n"},
		{"errors alone", lintTypo, []string{"--level", "error"}, 0, "1 bot, 0 that cannot push, 0 findings, 1 more with --level info\n"},
		{"a bot without push", lintNoPush, []string{"--level", "info"}, 0, "1 bot, 0 that cannot push, 0 findings\n"},
		{"a seed", lintGood, []string{"--level", "info", "--analysis-key", "own"}, 0, "1 bot, 0 that cannot push, 0 findings\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stdout, stderr, code := invoke(t, tt.stdin, append([]string{"lint", "--bot", "-"}, tt.flags...)...)
			if code != tt.code || stderr != "" {
				t.Errorf("exit %d, %s", code, stderr)
			}
			if stdout != tt.want {
				t.Errorf("got\n%s\nwant\n%s", stdout, tt.want)
			}
		})
	}
}

// Lint and preview warn of what a watcher with the same flags would not dial.
func TestLintAndPreviewKnowTheNetworks(t *testing.T) {
	const push = `"url": "https://10.1.2.3:8443/x", "key_mapper": {"a": "1"}`
	for _, tt := range []struct {
		flags []string
		want  string // "" is no warning
	}{
		{nil, "--allow-network 10.1.2.3/32"},
		{[]string{"--allow-network=10.1.0.0/16:443,8000-8999"}, ""},
		{[]string{"--allow-network=10.1.0.0/16:443,8000"}, "--allow-network"},
		{[]string{"--allow-network=10.0.0.0/8", "--deny-network=10.1.0.0/16"}, "--deny-network"},
	} {
		stdout, stderr, code := invoke(t, previewBot(push), append([]string{"lint", "--bot", "-"}, tt.flags...)...)
		if code != 0 || stderr != "" || !strings.Contains(stdout, tt.want) || strings.Contains(stdout, "is not dialled") != (tt.want != "") {
			t.Errorf("lint %v: exit %d, %s\n%s", tt.flags, code, stderr, stdout)
		}
		var warnings strings.Builder
		for _, w := range preview(t, previewCall, previewBot(push), tt.flags...).Warnings {
			warnings.WriteString(w["code"] + " " + w["message"] + "\n")
		}
		if got := warnings.String(); !strings.Contains(got, tt.want) || strings.Contains(got, "private_address") != (tt.want != "") {
			t.Errorf("preview %v: %s", tt.flags, got)
		}
	}
}

func TestLintJSON(t *testing.T) {
	stdin := "[" + lintGood + "," + lintTypo + "]\n" + lintBroken + "\n" + lintNoPush
	stdout, stderr, code := invoke(t, stdin, "lint", "--bot", "-", "--output", "json", "--level", "info")
	if code != cli.ExitFailed {
		t.Fatalf("exit %d, %s", code, stderr)
	}
	var got []struct {
		BotID    string              `json:"bot_id"`
		Pushes   bool                `json:"pushes"`
		Usable   bool                `json:"usable"`
		Warnings []map[string]string `json:"warnings"`
	}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	want := []struct {
		id             string
		pushes, usable bool
		warnings       int
	}{{"good", true, true, 1}, {"65f0c0ffee00000000000002", true, true, 1}, {"broken", true, false, 2}, {"none", false, true, 0}}
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i, w := range want {
		if g := got[i]; g.BotID != w.id || g.Pushes != w.pushes || g.Usable != w.usable || len(g.Warnings) != w.warnings {
			t.Errorf("got %+v, want %+v", g, w)
		}
	}
}

func TestLintOfBadInput(t *testing.T) {
	good := file(t, "good.json", lintGood)
	for name, tt := range map[string]struct {
		args []string
		want []string
	}{
		"no file":   {[]string{"--bot", good, "--bot", "/does/not/exist"}, []string{"--bot: open /does/not/exist"}},
		"not JSON":  {[]string{"--bot", file(t, "x", "{")}, []string{"--bot"}},
		"flags":     {[]string{"--bot", good, "--level", "all", "--output", "xml", "--time-format", "%Q"}, []string{"--level", "--output", "--time-format"}},
		"no source": {nil, []string{"--mongo-uri"}},
	} {
		stdout, stderr, code := invoke(t, "", append([]string{"lint"}, tt.args...)...)
		if code != cli.ExitUsage || stdout != "" || strings.Count(stderr, "\n") != len(tt.want) {
			t.Errorf("%s: exit %d, %q, %q", name, code, stdout, stderr)
		}
		for _, w := range tt.want {
			if !strings.Contains(stderr, w) {
				t.Errorf("%s: %q lacks %q", name, stderr, w)
			}
		}
	}
}

func TestLintForCodeHosts(t *testing.T) {
	bot := file(t, "bot.json", lintTypo)
	stdout, stderr, code := invoke(t, "", "lint", "--bot", bot, "--output", "sarif")
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d, %s", code, stderr)
	}
	var got sarif
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatal(err)
	}
	if got.Version != "2.1.0" || len(got.Runs) != 1 || len(got.Runs[0].Results) != 1 || len(got.Runs[0].Tool.Driver.Rules) != 1 {
		t.Fatalf("%s", stdout)
	}
	r := got.Runs[0].Results[0]
	if r.RuleID != "unknown_name" || r.Level != "warning" || !strings.Contains(r.Message.Text, "{{analysis.DISPOSITION}}") ||
		r.Locations[0].Physical.Artifact.URI != bot || r.Locations[0].Logical[0].Name != "65f0c0ffee00000000000002/d" {
		t.Errorf("%s", stdout)
	}
}

// Over real calls, lint says how often each key is filled, and what never is.
func TestLintWithCalls(t *testing.T) {
	at := time.Now()
	docs := map[string][]any{"bots": {
		bson.M{"_id": "sales", "name": "Sales", "timezone": "UTC", "post_call_push": bson.M{"url": "https://crm.example.com", "key_mapper": bson.D{
			{Key: "phone", Value: "{{call.phone}}"}, {Key: "lead", Value: bson.D{{Key: "id", Value: "{{crm.lead_id}}"}}}, {Key: "typo", Value: "{{crm.leadid}}"},
			{Key: "items", Value: "{{crm.items}}"}, {Key: "gone", Value: "{{crm.gone}}"}, {Key: "fixed", Value: "x"}, {Key: "d", Value: "{{analysis.DISPOSITION}}"},
		}}},
		bson.M{"_id": "other", "timezone": "UTC"},
	}}
	for i := range 20 {
		crm := bson.M{"lead_id": fmt.Sprint("L", i), "items": bson.A{1, 2}}
		if i >= 10 { // the older ones
			crm["gone"] = "was here"
		}
		docs["calls"] = append(docs["calls"], bson.M{"_id": i, "session_id": fmt.Sprint(i), "bot_id": "sales", "completed_at": at.Add(-time.Duration(i) * time.Minute),
			"connected_event": bson.M{"phone": "+919812345678"}, "crm_data": crm, "transcript": bson.A{bson.M{"role": "user"}}})
	}
	uri := stored(t, docs)
	args := []string{"lint", "--bot", "sales", "--calls", "18", "--mongo-uri", uri, "--database", "cxbridge"}
	stdout, stderr, code := invoke(t, "", append(args, "--output", "json")...)
	var got []lintResult
	if err := json.Unmarshal([]byte(stdout), &got); code != 0 || err != nil || len(got) != 1 || got[0].Calls != 18 {
		t.Fatalf("exit %d, %v, %s%s", code, err, stdout, stderr)
	}
	var keys []string
	for _, k := range got[0].Keys {
		keys = append(keys, fmt.Sprintf("%s %d %d %d %d %d-%d %v", k.Key, k.Filled, k.Empty, k.Unresolved, k.JSON, k.Shortest, k.Longest, k.FilledUntil.IsZero()))
		for _, example := range k.Examples {
			if strings.Contains(example, "98123456") {
				t.Errorf("%s shows a number: %s", k.Key, example)
			}
		}
	}
	if want := "phone 18 0 0 0 13-13 true|lead.id 18 0 0 0 2-3 true|typo 0 18 18 0 0-0 true|items 18 0 0 18 5-5 true|gone 8 10 10 0 8-8 false|d 0 18 0 0 0-0 true"; strings.Join(keys, "|") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(keys, "|"), want)
	}
	stdout, _, code = invoke(t, "", append(args, "--fail-on", "warning")...)
	if code != cli.ExitFailed {
		t.Errorf("exit %d", code)
	}
	for _, part := range []string{"a name of it exists in none of 18 calls; try {{crm.lead_id}}", "was filled until the result of", "in the newest 18 calls:"} {
		if !strings.Contains(stdout, part) {
			t.Errorf("%q is not in\n%s", part, stdout)
		}
	}
	for line := range strings.Lines(stdout) {
		if n := len([]rune(line)); n > lintWidth+1 {
			t.Errorf("a line of %d characters: %s", n, line)
		}
	}
	if _, stderr, code := invoke(t, "", "lint", "--bot", "nobody", "--calls", "5", "--mongo-uri", uri, "--database", "cxbridge"); code != cli.ExitUsage || !strings.Contains(stderr, "nor such a file") {
		t.Errorf("exit %d, %s", code, stderr)
	}
}

// With a preset, lint names values of real calls that the CRM would refuse, in each output.
func TestLintOfWhatACRMRefuses(t *testing.T) {
	at := time.Now()
	docs := map[string][]any{"bots": {bson.M{"_id": "sales", "timezone": "UTC", "post_call_push": bson.M{
		"url": "https://crm.example.com", "preset": "salesforce", "time_format": "datetime",
		"key_mapper": bson.D{{Key: "LastName", Value: "{{crm.name}}"}, {Key: "At__c", Value: "{{result.call_end_time}}"}, {Key: "Text__c", Value: "ended {{result.call_end_time}}"}},
	}}}}
	for i := range 4 {
		name := strings.Repeat("x", 79+i) // two of them fit
		docs["calls"] = append(docs["calls"], bson.M{"_id": i, "bot_id": "sales", "completed_at": at.Add(-time.Duration(i) * time.Minute), "crm_data": bson.M{"name": name}})
	}
	args := []string{"lint", "--bot", "sales", "--calls", "9", "--mongo-uri", stored(t, docs), "--database", "cxbridge", "--fail-on", "warning"}
	for output, want := range map[string][]string{
		"table": {"LastName in 2 of 4 calls it is longer than the 80 characters that salesforce takes", "At__c in 4 of 4 calls it is no date", "try time_format iso8601", "2 findings"},
		"json":  {`"code": "crm_refuses"`, `"refused": [ { "why": "is longer than the 80 characters`, `"calls": 2`, `"suggestion": "time_format iso8601"`},
		"sarif": {`"ruleId": "crm_refuses"`, `"fullyQualifiedName": "sales/LastName"`, `"level": "warning"`},
	} {
		stdout, stderr, code := invoke(t, "", append(args, "--output", output)...)
		text := strings.Join(strings.Fields(stdout), " ")
		for _, part := range want {
			if code != cli.ExitFailed || !strings.Contains(text, part) {
				t.Errorf("%s: exit %d, %s lacks %q:\n%s", output, code, stderr, part, stdout)
			}
		}
	}
}
