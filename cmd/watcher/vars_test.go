package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/internal/cli"
)

// docs/variables.md is made of the catalogue and of what the command prints. Run
// the tests of this package with -update after a change.
func TestTheCatalogueOfVariables(t *testing.T) {
	const path = "../../docs/variables.md"
	printed, stderr, code := invoke(t, "", "vars", "--call", "testdata/vars-call.json")
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d, %s", code, stderr)
	}
	for line := range strings.Lines(printed) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 100 {
			t.Errorf("a line of %d characters: %s", n, line)
		}
	}
	stored, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := between(t, string(stored), "catalogue", catalogue())
	want = between(t, want, "example", "\n```\n$ watcher vars --call call.json\n"+strings.ReplaceAll(printed, "testdata/vars-call.json", "call.json")+"```\n")
	if want == string(stored) {
		return
	}
	if !*updateGolden {
		t.Fatal("docs/variables.md is not what the code says; go test ./cmd/watcher -run Catalogue -update")
	}
	if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
}

func catalogue() string {
	var out strings.Builder
	namespace := ""
	for _, e := range calls.Catalogue() {
		if e.Name.Namespace != namespace {
			namespace = e.Name.Namespace
			out.WriteString("\n### " + namespace + "\n\n| Name | What it says | From |\n|---|---|---|\n")
		}
		out.WriteString("| `{{" + e.Name.String() + "}}` | " + e.Text + " | `" + strings.ReplaceAll(e.Source, ", ", "`, `") + "` |\n")
	}
	return strings.ReplaceAll(out.String(), "`the time of the result`", "the time of the result") + "\n"
}

func TestVarsOfABot(t *testing.T) {
	bot, at := bson.NewObjectID(), time.Now()
	call := func(id string, ago time.Duration, fields bson.M) bson.M {
		doc := bson.M{"_id": id, "session_id": id, "bot_id": bot.Hex(), "completed_at": at.Add(-ago)}
		for k, v := range fields {
			doc[k] = v
		}
		return doc
	}
	uri := stored(t, map[string][]any{
		"bots": {bson.M{"_id": bot, "name": "Sales", "timezone": "Asia/Kolkata"}, bson.M{"_id": "other", "name": "Other"}},
		"calls": {
			call("a", time.Minute, bson.M{"crm_data": bson.M{"lead": "L1", "x": 1}, "connected_event": bson.M{"x": 2}}),
			call("b", time.Hour, bson.M{"crm_data": bson.M{"lead": ""}}),
			call("c", 2*time.Hour, bson.M{"crm_data": bson.M{"lead": "L3", "old": true}}),
			call("unfinished", 0, bson.M{"completed_at": nil}),
			bson.M{"_id": "z", "session_id": "z", "bot_id": "other", "completed_at": at, "crm_data": bson.M{"foreign": 1}},
		},
	})
	read := func(code int, flags ...string) (r varsResult, stderr string) {
		t.Helper()
		stdout, stderr, got := invoke(t, "", append([]string{"vars", "--output", "json", "--mongo-uri", uri, "--database", "cxbridge"}, flags...)...)
		if got != code {
			t.Fatalf("exit %d, %s", got, stderr)
		}
		if code == 0 {
			if err := json.Unmarshal([]byte(stdout), &r); err != nil {
				t.Fatal(err)
			}
		}
		return r, stderr
	}
	r, _ := read(0, "--bot", "sales", "--calls", "2")
	if strings.Join(r.Calls, " ") != "a b" || r.Bot != bot.Hex() {
		t.Errorf("%+v", r)
	}
	byName := make(map[string]string)
	for _, v := range r.Variables {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		byName[v.Name] = string(text)
	}
	for name, want := range map[string]string{
		"crm.lead":        `{"name":"crm.lead","namespace":"crm","token":"{{crm.lead}}","short":"{{lead}}","source":"crm_data.lead","types":["text"],"calls":2,"exists":2,"filled":1,"examples":["L1"]}`,
		"call.x":          `{"name":"call.x","namespace":"call","token":"{{call.x}}","shadowed_by":"crm.x","source":"connected_event.x","types":["integer"],"calls":2,"exists":1,"filled":1,"examples":["2"]}`,
		"system.timezone": `{"name":"system.timezone","namespace":"system","token":"{{system.timezone}}","short":"{{timezone}}","source":"the time of the result","types":["made"],"calls":2,"exists":2,"filled":2,"examples":["Asia/Kolkata"]}`,
		"crm.old":         "", "crm.foreign": "",
	} {
		if byName[name] != want {
			t.Errorf("%s: %s", name, byName[name])
		}
	}
	if r, _ := read(0, "--session-id", "c"); len(r.Calls) != 1 {
		t.Errorf("%+v", r)
	}
	for _, tt := range []struct {
		flags []string
		says  string
	}{
		{[]string{"--bot", "nobody"}, `there is no bot "nobody"`},
		{[]string{"--session-id", "nowhere"}, `session_id "nowhere"`},
		{[]string{"--session-id", "a", "--bot", "b"}, "give one of"},
		{[]string{"--bot", "sales", "--calls", "0"}, "from 1 to 500"},
	} {
		if _, stderr := read(cli.ExitUsage, tt.flags...); !strings.Contains(stderr, tt.says) {
			t.Errorf("%v: %s", tt.flags, stderr)
		}
	}
}

// --find says of one name whether it exists, and which is near.
func TestVarsFindsAName(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		code       int
		alone      bool // without a call
	}{
		{"{{result.duration}}", "try {{result.call_duration_seconds}}", cli.ExitFailed, true},
		{"system.date", "try {{system.current_date}}", cli.ExitFailed, true},
		{"result.call_id", "{{result.call_id}}", 0, true},
		{"crm.lead", "only a call can say", cli.ExitFailed, true},
		{"crm.led_id", "try {{crm.lead_id}}", cli.ExitFailed, false},
		{"lead_id", "{{crm.lead_id}}", 0, false},
		{"crm.owner.name", "the newest of these calls has it", 0, false},
		{"weather", `so "" is sent`, cli.ExitFailed, false},
	} {
		args := []string{"vars", "--find", tt.name}
		if !tt.alone {
			args = append(args, "--call", "testdata/vars-call.json")
		}
		for _, output := range []string{"table", "json"} {
			stdout, stderr, code := invoke(t, "", append(args, "--output", output)...)
			if code != tt.code || stderr != "" || output == "table" && !strings.Contains(strings.Join(strings.Fields(stdout), " "), tt.want) || output == "json" && !json.Valid([]byte(stdout)) {
				t.Errorf("%s %s: exit %d, %s%s", tt.name, output, code, stdout, stderr)
			}
		}
	}
}
