package push

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func mustRule(t testing.TB, text string) *Rule {
	t.Helper()
	r, err := ParseRule([]byte(text))
	if err != nil {
		t.Fatalf("ParseRule(%s): %v", text, err)
	}
	return r
}

// matches reports whether a complete body meets the rule.
func matches(r *Rule, body []byte) bool { return r.eval(&answer{body: body}) == holds }

func TestRuleMatch(t *testing.T) {
	for _, tc := range []struct {
		rule, body string
		want       bool
	}{
		{`{"path":"Status","equals":"Success"}`, `{"Status":"Success"}`, true},
		{`{"path":"Status","equals":"Success"}`, `{"Status":"Error"}`, false},
		{`{"path":"Status","equals":"Success"}`, `{"status":"Success"}`, false},
		{`{"path":"Status","equals":"Success"}`, "\ufeff{\"Status\":\"Success\"}", true},
		{`{"path":"a.b","equals":1}`, `{"x":{"b":1},"a":{"c":0,"b":1}}`, true},
		{`{"path":"a.b","equals":1}`, `{"a":{"b":1.0}}`, true},
		{`{"path":"a.b","equals":9007199254740993}`, `{"a":{"b":9007199254740992}}`, false},
		{`{"path":"a.b","equals":9007199254740993}`, `{"a":{"b":9007199254740993}}`, true},
		{`{"path":"a.b","equals":1}`, `{"a.b":1}`, true},
		{`{"path":"a.b","equals":1}`, `{"a":{"x":2},"a.b":1}`, true},
		{`{"path":"a.b.c","equals":1}`, `{"a.b":{"c":1}}`, true},
		{`{"path":"0.errorCode","equals":"X"}`, `[{"errorCode":"X"}]`, true},
		{`{"path":"1.errorCode","equals":"X"}`, `[{"errorCode":"X"}]`, false},
		{`{"path":"data.1.code","equals":"B"}`, `{"data":[{"code":"A"},{"code":"B"}]}`, true},
		{`{"path":"a","equals":null}`, `{"a":null}`, true},
		{`{"path":"a","equals":null}`, `{}`, false},
		{`{"path":"a","equals":{"x":1,"y":[2]}}`, `{"a":{"y":[2.0],"x":1}}`, true},
		{`{"path":"a","equals":"\u00e9"}`, `{"a":"é"}`, true},
		{`{"path":"a","not_equals":false}`, `{"a":true}`, true},
		{`{"path":"a","not_equals":false}`, `{"a":false}`, false},
		{`{"path":"a","not_equals":false}`, `{}`, true},
		{`{"path":"a","not_equals":false}`, ``, true},
		{`{"path":"a","not_equals":false}`, `<html>`, false},
		{`{"path":"a","exists":true}`, `{"a":null}`, true},
		{`{"path":"a","exists":true}`, `{"b":1}`, false},
		{`{"path":"a","exists":false}`, `{"b":1}`, true},
		{`{"path":"a","exists":false}`, ` `, true},
		{`{"path":"a","exists":false}`, `not json`, false},
		{`{"path":"a","exists":false}`, `{"b":1} x`, false},
		{`{"path":"a.b","exists":true}`, `{"a":"b"}`, false},
	} {
		if got := matches(mustRule(t, tc.rule), []byte(tc.body)); got != tc.want {
			t.Errorf("%s on %s = %v, want %v", tc.rule, tc.body, got, tc.want)
		}
	}
	var none *Rule
	if !matches(none, []byte("anything")) {
		t.Error("a nil rule must accept every answer")
	}
}

func TestRuleOnPartOfABody(t *testing.T) {
	rule := mustRule(t, `{"path":"status","equals":"ok"}`)
	for _, tc := range []struct {
		body string
		cut  cut
		want verdict
	}{
		{`{"status":"ok","list":[1,2`, tooLong, holds},
		{`{"status":"bad","list":[1,2`, tooLate, fails},
		{`{"list":[1,2`, tooLate, open},
		{`{"list":[1,2`, tooLong, fails},
		{``, tooLate, open},
		{`{"status":"o`, tooLate, open},
	} {
		if got := rule.eval(&answer{body: []byte(tc.body), cut: tc.cut}); got != tc.want {
			t.Errorf("judge(%s, %d) = %d, want %d", tc.body, tc.cut, got, tc.want)
		}
	}
}

func TestParseRuleRefuses(t *testing.T) {
	for _, text := range []string{
		``, `{}`, `[]`, `"Status"`, `{"path":"a"}`, `{"equals":1}`, `{"path":"","equals":1}`,
		`{"path":"a","equals":1,"exists":true}`, `{"path":"a","equal":1}`, `{"path":1,"equals":1}`,
		`{"path":"a","exists":"yes"}`, `{"path":"a","equals":1} {}`,
	} {
		if r, err := ParseRule([]byte(text)); err == nil {
			t.Errorf("ParseRule(%s) = %v, want an error", text, r)
		}
	}
}

func TestParseRetryRules(t *testing.T) {
	rules, err := ParseRetryRules([]byte(`[
		{"status":[500,"4xx"],"path":"Status","equals":"Error","then":"final"},
		{"status":"503"},
		{"path":"retry","equals":true,"then":"retry"}]`))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		rule, status int
		body         string
		want         bool
	}{
		{0, 500, `{"Status":"Error"}`, true},
		{0, 422, `{"Status":"Error"}`, true},
		{0, 501, `{"Status":"Error"}`, false},
		{0, 500, `{"Status":"Other"}`, false},
		{0, 500, `<html>`, false},
		{1, 503, ``, true},
		{1, 500, ``, false},
		{2, 200, `{"retry":true}`, true},
	} {
		if got := rules[tc.rule].eval(&answer{status: tc.status, body: []byte(tc.body)}) == holds; got != tc.want {
			t.Errorf("rule %d on %d %s = %v, want %v", tc.rule, tc.status, tc.body, got, tc.want)
		}
	}
	if !rules[0].Final || rules[1].Final || rules[2].Final {
		t.Error("then was not read")
	}
	if one, err := ParseRetryRules([]byte(` {"status":429}`)); err != nil || len(one) != 1 {
		t.Errorf("a single rule: %v, %v", one, err)
	}
	for _, text := range []string{
		``, `1`, `{}`, `{"then":"final"}`, `{"status":99}`, `{"status":"6xx"}`, `{"status":"xxx"}`, `{"status":true}`,
		`{"status":500,"then":"never"}`, `{"status":500,"path":"a"}`, `[{"status":500},{}]`, `{"status":500,"else":1}`,
	} {
		if rules, err := ParseRetryRules([]byte(text)); err == nil {
			t.Errorf("ParseRetryRules(%s) = %v, want an error", text, rules)
		}
	}
}

// What the rule finds is what a plain decode of the whole answer finds.
func TestFindAgreesWithDecode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body, err := json.Marshal(anyJSON(3).Draw(t, "body"))
		if err != nil {
			t.Fatal(err)
		}
		path := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "0", "1"}), 1, 3).Draw(t, "path")
		raw, found, err := find(json.NewDecoder(bytes.NewReader(body)), strings.Join(path, "."))
		if err != nil {
			t.Fatalf("find in %s: %v", body, err)
		}
		var whole any
		if err := json.Unmarshal(body, &whole); err != nil {
			t.Fatal(err)
		}
		want, wantFound := step(whole, path)
		if found != wantFound {
			t.Fatalf("%v in %s: found %v, want %v", path, body, found, wantFound)
		}
		if text, _ := json.Marshal(want); found && !equalJSON(raw, text) {
			t.Fatalf("%v in %s = %s, want %s", path, body, raw, text)
		}
	})
}

// step goes down a decoded value the slow way.
func step(v any, path []string) (any, bool) {
	if len(path) == 0 {
		return v, true
	}
	switch v := v.(type) {
	case map[string]any:
		if next, ok := v[path[0]]; ok {
			return step(next, path[1:])
		}
	case []any:
		for i, next := range v {
			if path[0] == string(rune('0'+i)) {
				return step(next, path[1:])
			}
		}
	}
	return nil, false
}

func anyJSON(depth int) *rapid.Generator[any] {
	leaf := rapid.OneOf(
		rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.Int32().AsAny(), rapid.StringMatching(`[a-z"\\é]{0,4}`).AsAny())
	if depth == 0 {
		return leaf
	}
	return rapid.OneOf(
		leaf,
		rapid.SliceOfN(anyJSON(depth-1), 0, 3).AsAny(),
		rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "0"}), anyJSON(depth-1), 0, 3).AsAny())
}

func FuzzRule(f *testing.F) {
	f.Add([]byte(`{"path":"a.0","equals":1}`), []byte(`{"a":[1]}`))
	f.Add([]byte(`{"path":"x","exists":false}`), []byte(`[[[[`))
	f.Fuzz(func(t *testing.T, rule, body []byte) {
		_, _ = ParseRetryRules(rule)
		_, _ = ParseAuth(rule)
		r, err := ParseRule(rule)
		if err != nil {
			return
		}
		for _, c := range []cut{whole, tooLong, tooLate} {
			r.eval(&answer{body: body, cut: c})
		}
		text := bytes.TrimSpace(body) // more blanks than JSON knows
		if !json.Valid(text) && len(text) > 0 && matches(r, body) &&
			!bytes.HasPrefix(body, []byte("\ufeff")) {
			t.Fatalf("%s accepts %q, which is not JSON", rule, body)
		}
	})
}

// A rule of any size is described in a few words, and as many as there are take
// no longer than the attempt may.
func TestRulesAreBounded(t *testing.T) {
	huge := strings.Repeat("x", 1<<20)
	for _, text := range []string{
		`{"path":"` + huge + `","equals":"` + huge + `"}`, `{"path":"` + huge + `","not_equals":"` + huge + `"}`,
		`{"path":"` + huge + `","exists":true}`, `{"path":"` + huge + `","exists":false}`,
	} {
		if n := len(mustRule(t, text).String()); n > 300 {
			t.Errorf("a rule is described in %d bytes", n)
		}
	}
	for _, text := range []string{
		`{"path":"` + huge + `"}`, `{"status":"` + huge + `"}`, `{"status":1,"then":"` + huge + `"}`, `{"` + huge + `":1}`,
	} {
		if _, err := ParseRetryRules([]byte(text)); err == nil || len(err.Error()) > 400 {
			t.Errorf("an error of %d bytes", len(fmt.Sprint(err)))
		}
	}
	rules := make([]RetryRule, 200_000)
	for i := range rules {
		rules[i] = RetryRule{Body: &Rule{Path: "never.there", Exists: new(true)}}
	}
	body := `{"a":[` + strings.Repeat(`{"b":1},`, 8000) + `1]}`
	srv := newRawServer(t, answering(fmt.Sprintf("HTTP/1.1 503 X\r\nContent-Length: %d\r\n\r\n%s", len(body), body)))
	req := postRequest(srv.URL)
	req.RetryWhen, req.Timeout = rules, 2*short
	res := newTestClient(t, Options{}).Send(t.Context(), req)
	if res.Class != ClassBusy || res.HTTPStatus != 503 || res.Duration > time.Second {
		t.Errorf("%s (%v) after %s", res.Class, res.Err, res.Duration)
	}
}
