package mapping

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/internal/bots"
)

const suiteText = `# what the sales bot sends

bot: bot.json
tests:
  - name: a visit # booked
    call: {_id: a, "n": {$numberLong: "7"}}
    payload: {lead: "L1", n: 1.50, list: [1, {b: null}], yes: "yes"}
  - call: b.json
    bot: {_id: b}
    settings: s.json
    keys: {owner.name: Ravi, on: true}
    decision: skip
    reason: bad_config
    warnings: [bad_timezone]
`

func TestParseSuite(t *testing.T) {
	s, err := ParseSuite([]byte(suiteText), false)
	if err != nil {
		t.Fatal(err)
	}
	first, second := s.Cases[0], s.Cases[1]
	if first.Name != "a visit" || first.Bot.File != "bot.json" || string(first.Call.Text) != `{"_id":"a","n":{"$numberLong":"7"}}` ||
		string(first.Payload) != `{"lead":"L1","n":1.50,"list":[1,{"b":null}],"yes":"yes"}` {
		t.Errorf("%+v", first)
	}
	if second.Name != "test 2" || string(second.Bot.Text) != `{"_id":"b"}` || second.Bot.File != "" || second.Settings.File != "s.json" ||
		second.Decision != "skip" || second.Reason != "bad_config" || len(second.Keys) != 2 || string(second.Keys[1].Value) != "true" || second.Warnings[0] != "bad_timezone" {
		t.Errorf("%+v", second)
	}
}

func TestParseSuiteNamesFaults(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       "no tests",
		"tests: []":                              "no tests",
		"[1]":                                    "line 1: want an object",
		"tests: [1]":                             "line 1: want an object",
		"{":                                      "is not YAML",
		"a: 1\n---\nb: 2":                        "more than one document",
		"tests:\n- nam: x":                       `line 2: there is no "nam" here; did you mean "name"?`,
		"test: []":                               `did you mean "tests"?`,
		"tests:\n- payload: {n: 0x10}":           "not written as in JSON",
		"tests:\n- payload: {n: 007}":            "not written as in JSON",
		"tests:\n- payload: {n: .inf}":           "not written as in JSON",
		"tests:\n- warnings: x":                  "want a list of codes",
		"tests:\n- warned: x":                    "want a list of texts",
		"tests:\n- request: {verb: GET}":         `there is no "verb" here`,
		"tests:\n- request: {headers: {A: [1]}}": "or null for a header that is not sent",
		"tests:\n- name: [x]":                    "want a text",
		"tests:\n- call: &a {b: *a}":             "deeper than",
		"tests:\n- payload: {<<: {a: 1}}":        "want a text as a key",
		"tests: [" + strings.Repeat("{},", maxCases) + "{}]": "more than 1000 tests",
	} {
		if _, err := ParseSuite([]byte(text), false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
	// An alias may stand for much.
	bomb := "tests:\n- payload:\n    a: &a [" + strings.Repeat("x,", 200) + "x]\n"
	for name := 'b'; name < 'i'; name++ {
		bomb += "    " + string(name) + ": &" + string(name) + " [" + strings.Repeat("*"+string(name-1)+",", 50) + "]\n"
	}
	if _, err := ParseSuite([]byte(bomb), false); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("%v", err)
	}
}

func TestCheck(t *testing.T) {
	warning := bots.Warning{Level: bots.LevelWarning, Key: "k", Token: "{{x}}", Code: bots.CodeUnknownName, Message: "nothing", Suggestion: "{{y}}"}
	got := &Got{Decision: "push", Payload: json.RawMessage(`{"a":{"b":[1,"x"]},"n":1.50,"t":"1.50"}`)}
	for _, tt := range []struct {
		name, expects string
		got           Got
		want          string
	}{
		{"all", `payload: {t: "1.50", n: 1.50, a: {b: [1, x]}}`, *got, ""},
		{"keys", `keys: {a.b.1: x, n: 1.50}`, *got, ""},
		{"a number that is written in another way", `keys: {n: 1.5}`, *got, "n: got 1.50, want 1.5"},
		{"a number for a text", `keys: {t: 1.50}`, *got, `t: got "1.50", want 1.50`},
		{"more and less", `payload: {a: {b: [1, x]}, z: 1, n: 1.50}`, *got, `z: is not there, want 1|t: got "1.50", and it is not expected`},
		{"a skip", `{}`, Got{Decision: "skip", Reason: "no_url"}, "decision: got skip (no_url), want push"},
		{"that is expected", `reason: no_url`, Got{Decision: "skip", Reason: "no_url"}, ""},
		{"another reason", `reason: disabled`, Got{Decision: "skip", Reason: "no_url"}, `reason: got "no_url", want "disabled"`},
		{"a warning", `{}`, Got{Decision: "push", Warnings: []bots.Warning{warning}}, "k {{x}}: nothing (unknown_name); try {{y}}"},
		{"that is allowed", `warnings: [unknown_name]`, Got{Decision: "push", Warnings: []bots.Warning{warning}}, ""},
	} {
		s, err := ParseSuite([]byte("tests: [{"+strings.Trim(tt.expects, "{}")+"}]"), false)
		if strings.HasPrefix(tt.expects, "payload") || strings.HasPrefix(tt.expects, "keys") {
			s, err = ParseSuite([]byte("tests:\n- "+tt.expects), false)
		}
		if err != nil {
			t.Fatal(tt.name, err)
		}
		if faults := strings.Join(s.Cases[0].Check(&tt.got), "|"); faults != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, faults, tt.want)
		}
	}
}

func TestUpdateKeepsWhatWasWritten(t *testing.T) {
	s, err := ParseSuite([]byte(suiteText), false)
	if err != nil {
		t.Fatal(err)
	}
	s.Cases[0].Update(&Got{Decision: "push", Payload: json.RawMessage(`{"lead":"no","n":2,"d":"2026-06-05"}`)})
	text, err := s.Text()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# what the sales bot sends", "# booked", "lead: ", "n: 2", `d: "2026-06-05"`, "owner.name: Ravi"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("lacks %s:\n%s", want, text)
		}
	}
}

// Whatever is, an updated case holds for it, in both forms of a file.
func TestPropertyAnUpdatedCaseHolds(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"yes", "007", "1e3", "null", "~", "a: b", "- x", "2026-06-05", "#", "<<", "\u0085", "😀", "*a"}))
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		leaves := []*rapid.Generator[any]{text.AsAny(), rapid.Int().AsAny(), rapid.Float64Range(-1e9, 1e9).AsAny(), rapid.Bool().AsAny(), rapid.Just[any](nil)}
		if depth > 0 {
			leaves = append(leaves, rapid.SliceOfN(value(depth-1), 0, 3).AsAny(), rapid.MapOfN(text, value(depth-1), 0, 3).AsAny())
		}
		return rapid.OneOf(leaves...)
	}
	rapid.Check(t, func(t *rapid.T) {
		inJSON := rapid.Bool().Draw(t, "in JSON")
		payload, err := json.Marshal(rapid.MapOfN(text, value(2), 0, 4).Draw(t, "payload"))
		if err != nil {
			t.Fatal(err)
		}
		got := &Got{Decision: "push", Payload: payload, DeliveryID: "id", Request: &GotRequest{
			Method: "POST", URL: "https://x.example", Text: string(payload), Headers: rapid.MapOfN(rapid.SampledFrom([]string{"A", "B"}), text, 0, 2).Draw(t, "headers"),
		}}
		if rapid.Bool().Draw(t, "skip") {
			got = &Got{Decision: "skip", Reason: "no_url", Warnings: []bots.Warning{{Level: bots.LevelWarning, Code: bots.CodeBadTimezone}}}
		}
		s, err := ParseSuite([]byte(`{"tests": [{"name": "x", "payload": {"old": 1}, "text": "old", "delivery_id": "old", "warned": ["old"], "request": {"url": "old", "headers": {"A": "old", "B": null}}}]}`), inJSON)
		if err != nil {
			t.Fatal(err)
		}
		s.Cases[0].Update(got)
		written, err := s.Text()
		if err != nil {
			t.Fatal(err)
		}
		if inJSON && !json.Valid(written) {
			t.Fatalf("no JSON: %s", written)
		}
		again, err := ParseSuite(written, inJSON)
		if err != nil {
			t.Fatalf("%v in %s", err, written)
		}
		if faults := again.Cases[0].Check(got); len(faults) > 0 {
			t.Fatalf("%v in %s", faults, written)
		}
		if got.Payload != nil && !reflect.DeepEqual(valueOf(again.Cases[0].Payload), valueOf(payload)) {
			t.Fatalf("%s is not %s", again.Cases[0].Payload, payload)
		}
	})
}

func FuzzParseSuite(f *testing.F) {
	for _, s := range []string{suiteText, `{"tests":[{"payload":{"a":1}}]}`, "tests: [&a {payload: *a}]", "tests:\n- !!binary x", "tests: [{keys: {a: .nan}}]", "? [a]\n: b", "tests: [{bot: ~}]"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, text string, inJSON bool) {
		s, err := ParseSuite([]byte(text), inJSON)
		if err != nil {
			return
		}
		for _, c := range s.Cases {
			for _, doc := range []json.RawMessage{c.Payload, c.Call.Text, c.Bot.Text, c.Settings.Text} {
				if doc != nil && !json.Valid(doc) {
					t.Fatalf("%q gives %s", text, doc)
				}
			}
			c.Check(&Got{Decision: "push", Payload: json.RawMessage(`{"a":1}`)})
			c.Update(&Got{Decision: "push", Payload: json.RawMessage(`{"a":1}`)})
		}
		_, _ = s.Text()
	})
}
