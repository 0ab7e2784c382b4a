package render_test

import (
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/pkg/render"
)

var namespaces = render.Namespaces{
	Names:    []string{"system", "crm", "call", "result", "analysis", "qc"},
	Fallback: []string{"system", "crm", "call"},
}

// vars are variables by full name. A name that ends with a "!" stands for one
// whose text is given as JSON already.
type vars map[string]string

func (v vars) AppendText(dst []byte, name render.Name) ([]byte, render.Found) {
	if text, ok := v[name.String()]; ok {
		return append(dst, text...), render.Text
	}
	if text, ok := v[name.String()+"!"]; ok {
		return append(dst, text...), render.JSON
	}
	return dst, render.Absent
}

func one(template string) *render.Mapper {
	return render.Compile(namespaces, []render.Field{{Key: "n", Value: render.Template(template)}})
}

func TestTokens(t *testing.T) {
	v := vars{
		"call.X": "x", "call.a b": "blank", "call.ключ": "unicode", "crm.b": "b",
		"call.foo.bar": "path", "call.bar": "rest", "crm..x": "dot first", "call.x.": "dot last", "crm.x": "plain",
		"call.tail ": "t", "call.nbsp\u00a0": "n", "call.\ufeffbom": "b",
	}
	for _, c := range []struct{ template, want string }{
		{"", ""},
		{"plain", "plain"},
		{"{{call.X}}", "x"},
		{"{{ call.X }}", "x"},
		{"{{\t\n call.X \u00a0}}", "x"},
		{"{{{call.X}}}", "{x}"},
		{"{{{{call.X}}}}", "{{x}}"},
		{"{{call.X}}{{call.X}}", "xx"},
		{"a{{call.X}}b{{crm.b}}c", "axbbc"},
		{"{{a{{b}}", "{{ab"},
		{"{{a}b}}", "{{a}b}}"},
		{"{{call.X}", "{{call.X}"},
		{"{{call.X", "{{call.X"},
		{"call.X}}", "call.X}}"},
		{"{{", "{{"},
		{"{", "{"},
		{"{ {call.X}}", "{ {call.X}}"},
		{"{{}}", ""},
		{"{{ }}", ""},
		{"{{.}}", ""},
		{"{{.x}}", "dot first"},
		{"{{x.}}", "dot last"},
		{"{{call.}}", ""},
		{"{{a b}}", "blank"},
		{"{{ключ}}", "unicode"},
		{"{{foo.bar}}", "path"},
		{"{{other.bar}}", "rest"},
		{"{{Call.X}}", "x"}, // no namespace, so the rest is tried
		{"{{call.x}}", "plain"},
		{"[{{call.X}}", "[x"},
		{"{{call.tail }}{{tail }}{{ call.tail  }}", "ttt"}, // the stored key ends with a blank
		{"{{call.tail}}{{ call.tail }}", ""},
		{"{{call.X }}{{X  }}", "xx"},
		{"{{call.nbsp\u00a0}}", "n"},
		{"{{call.\ufeffbom}}{{\ufeffbom}}", "bb"},
	} {
		got := rendered(one(c.template), nil, v, render.Options{})
		want, err := json.Marshal(map[string]string{"n": c.want})
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%q: got %s, want %s", c.template, got, want)
		}
	}
}

func TestCandidates(t *testing.T) {
	for _, c := range []struct {
		token string
		exact bool
		want  string
	}{
		{"{{X}}", false, "system.X crm.X call.X"},
		{"{{call.X}}", true, "call.X system.X crm.X"},
		{"{{crm.X}}", true, "crm.X system.X call.X"},
		{"{{system.X}}", true, "system.X crm.X call.X"},
		{"{{analysis.X}}", true, "analysis.X system.X crm.X call.X"},
		{"{{qc.a.b}}", true, "qc.a.b system.a.b crm.a.b call.a.b"},
		{"{{foo.bar}}", false, "system.foo.bar crm.foo.bar call.foo.bar system.bar crm.bar call.bar"},
		{"{{crm}}", false, "system.crm crm.crm call.crm"},
		{"{{.x}}", false, "system..x crm..x call..x system.x crm.x call.x"},
		{"{{x.}}", false, "system.x. crm.x. call.x."},
		{"{{crm.}}", true, ""},
		{"{{}}", false, ""},
	} {
		var names []string
		for token := range one(c.token).Tokens() {
			if token.Exact != c.exact || token.Key != "n" || token.Text != c.token {
				t.Errorf("%s: got %+v", c.token, token)
			}
			for n := range token.Candidates {
				names = append(names, n.String())
			}
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%s: got %q, want %q", c.token, got, c.want)
		}
	}
}

func TestFirstThatExistsWins(t *testing.T) {
	v := vars{"system.a": "1", "crm.a": "2", "call.a": "3", "crm.b": "2", "call.b": "3", "call.c": "3", "analysis.d": "", "call.d": "3", "result.e": "5"}
	for template, want := range map[string]string{
		"{{a}}": "1", "{{b}}": "2", "{{c}}": "3", "{{call.a}}": "3", "{{crm.c}}": "3",
		"{{analysis.d}}": "", "{{analysis.c}}": "3", "{{e}}": "", "{{qc.e}}": "", "{{result.e}}": "5",
	} {
		if got := string(rendered(one(template), nil, v, render.Options{})); got != `{"n":"`+want+`"}` {
			t.Errorf("%s: got %s, want %q", template, got, want)
		}
	}
}

func TestCoercion(t *testing.T) {
	deep := strings.Repeat("[", render.MaxDepth) + strings.Repeat("]", render.MaxDepth)
	for _, c := range []struct{ text, want string }{
		{`{}`, `{}`},
		{` [ ] `, `[]`},
		{"\u00a0{\"a\" : 1 ,\n\t\"b\":[ true,false , null ]}\r\n", `{"a":1,"b":[true,false,null]}`},
		{`{"z":12345678901234567890,"a":1.10,"e":-0E+07}`, `{"z":12345678901234567890,"a":1.10,"e":-0E+07}`},
		{`{"a":1,"a":2}`, `{"a":1,"a":2}`},
		{`["<&>","\u003c\/"]`, `["<&>","\u003c\/"]`},
		{`["\ud83d\ude00"]`, `["\ud83d\ude00"]`},
		{`["\ud83d","\ude00x","\ud83d\ud83d\ude00"]`, `["\ufffd","\ufffdx","\ufffd\ud83d\ude00"]`},
		{"[\"a\xffb\"]", "[\"a\ufffdb\"]"},
		{"[\"\u2028\"]", "[\"\u2028\"]"},
		{`{"":{"":""}}`, `{"":{"":""}}`},
		{deep, deep},
		// Not JSON, so text.
		{`{not json}`, `"{not json}"`},
		{`{"a":1} x`, `"{\"a\":1} x"`},
		{`{"a":1}{"a":1}`, `"{\"a\":1}{\"a\":1}"`},
		{`[1,]`, `"[1,]"`},
		{`[,1]`, `"[,1]"`},
		{`{"a":1,}`, `"{\"a\":1,}"`},
		{`{a:1}`, `"{a:1}"`},
		{`{"a" 1}`, `"{\"a\" 1}"`},
		{`{"a":}`, `"{\"a\":}"`},
		{`[01]`, `"[01]"`},
		{`[1.]`, `"[1.]"`},
		{`[.5]`, `"[.5]"`},
		{`[+1]`, `"[+1]"`},
		{`[1e]`, `"[1e]"`},
		{`[-]`, `"[-]"`},
		{`[NaN]`, `"[NaN]"`},
		{`[nul]`, `"[nul]"`},
		{`[1 2]`, `"[1 2]"`},
		{`['a']`, `"['a']"`},
		{"[\"a\nb\"]", `"[\"a\nb\"]"`},
		{`["\x"]`, `"[\"\\x\"]"`},
		{`["\u12g4"]`, `"[\"\\u12g4\"]"`},
		{`["a`, `"[\"a"`},
		{`["a\`, `"[\"a\\"`},
		{`[1}`, `"[1}"`},
		{`[`, `"["`},
		{"[" + deep + "]", `"[` + deep + `]"`},
		// JSON, but no object or array.
		{`42`, `"42"`},
		{` true `, `" true "`},
		{`"a"`, `"\"a\""`},
		{`null`, `"null"`},
		{``, `""`},
	} {
		want := `{"n":` + c.want + `}`
		if got := string(rendered(one("{{call.x}}"), nil, vars{"call.x": c.text}, render.Options{})); got != want {
			t.Errorf("value %q: got %s, want %s", c.text, got, want)
		}
		if got := string(rendered(one(c.text), nil, nil, render.Options{})); got != want {
			t.Errorf("text %q: got %s, want %s", c.text, got, want)
		}
	}
}

func TestCoercionOfBuiltText(t *testing.T) {
	v := vars{"result.d": "125", "call.q": `a"b`, "call.o!": `{"a":1}`}
	for template, want := range map[string]string{
		`{"d": {{result.d}}}`:     `{"d":125}`,
		`[{{result.d}},"{{x}}"]`:  `[125,""]`,
		`{"d": "{{call.q}}"}`:     `"{\"d\": \"a\"b\"}"`, // a quote in a value breaks it: text
		`{{call.o}}`:              `{"a":1}`,
		`o={{call.o}}`:            `"o={\"a\":1}"`,
		`[{{call.o}},{{call.o}}]`: `[{"a":1},{"a":1}]`,
		`{{call.o}} `:             `{"a":1}`,
		`{"d": {{unknown}}}`:      `"{\"d\": }"`,
	} {
		if got := string(rendered(one(template), nil, v, render.Options{})); got != `{"n":`+want+`}` {
			t.Errorf("%s: got %s, want %s", template, got, want)
		}
	}
}

func TestEscaping(t *testing.T) {
	v := vars{"call.x": "\x00\x01\b\f\n\r\t\x1f \"\\/<>&'\x7f\u2028\u2029é😀\xff\xed\xa0\x80\xc3"}
	want := `{"n":"` + `\u0000\u0001\b\f\n\r\t\u001f \"\\/<>&'` + "\x7f\u2028\u2029é😀\ufffd\ufffd\ufffd\ufffd\ufffd" + `"}`
	if got := string(rendered(one("{{call.x}}"), nil, v, render.Options{})); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	m := render.Compile(namespaces, []render.Field{{Key: "a.\"b\"\n\xff", Value: render.Template("1")}})
	if got, want := string(rendered(m, nil, nil, render.Options{})), "{\"a.\\\"b\\\"\\n\ufffd\":\"1\"}"; got != want {
		t.Errorf("key: got %s, want %s", got, want)
	}
}

func TestNodes(t *testing.T) {
	m := render.Compile(namespaces, []render.Field{
		{"n", render.Literal([]byte("7"))},
		{"big", render.Literal([]byte("12345678901234567890.10"))},
		{"b", render.Literal([]byte("true"))},
		{"z", render.Literal([]byte("null"))},
		{"bad", render.Literal([]byte("NaN"))},
		{"zero", render.Node{}},
		{"o", render.Object(
			render.Field{"id", render.Template("{{result.call_id}}")},
			render.Field{"l", render.Array(render.Template("{{call.o}}"), render.Literal([]byte("3")), render.Object())},
			render.Field{"id", render.Template("again-{{result.call_id}}")},
		)},
		{"a", render.Array()},
		{"n", render.Literal([]byte("8"))},
	})
	got := string(rendered(m, []byte("kept "), vars{"result.call_id": "s1", "call.o": `{"k": 1}`}, render.Options{}))
	want := `kept {"n":8,"big":12345678901234567890.10,"b":true,"z":null,"bad":"NaN","zero":"",` +
		`"o":{"id":"again-s1","l":[{"k":1},3,{}]},"a":[]}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var keys []string
	for token := range m.Tokens() {
		keys = append(keys, token.Key)
	}
	if want := []string{"o.id", "o.l.0"}; !slices.Equal(keys, want) {
		t.Errorf("token keys: got %v, want %v", keys, want)
	}
	if m.Len() != 8 {
		t.Errorf("got %d keys, want 8", m.Len())
	}
}

func TestEmptyMapper(t *testing.T) {
	m := render.Compile(namespaces, nil)
	if got := string(rendered(m, nil, nil, render.Options{})); got != "{}" {
		t.Errorf("JSON: got %s", got)
	}
	if got := string(renderedQuery(m, []byte("a=1"), nil, render.Options{})); got != "a=1" {
		t.Errorf("query: got %s", got)
	}
}

func TestQuery(t *testing.T) {
	m := render.Compile(namespaces, []render.Field{
		{"z key", render.Template("{{call.name}}")},
		{"a", render.Template(`{"a": 1}`)},
		{"o", render.Object(render.Field{"x", render.Template("{{call.name}}")})},
		{"n", render.Literal([]byte("1.50"))},
		{"null", render.Literal([]byte("null"))},
		{"l", render.Template("{{call.list}}")},
		{"j", render.Template("{{call.json}}")},
		{"not", render.Template("[{{call.name}}")},
		{"none", render.Template("{{nope}}")},
		{"bad", render.Template("{{call.bad}}")},
	})
	got := string(renderedQuery(m, nil, vars{"call.name": "R&D é+~", "call.list": "[ 1, 2 ]", "call.json!": `{"é":"\n"}`, "call.bad": "\x00\xff"}, render.Options{}))
	want := "z%20key=R%26D%20%C3%A9%2B~&a=%7B%22a%22%3A1%7D&o=%7B%22x%22%3A%22R%26D%20%C3%A9%2B~%22%7D" +
		"&n=1.50&null=&l=%5B1%2C2%5D&j=%7B%22%C3%A9%22%3A%22%5Cn%22%7D&not=%5BR%26D%20%C3%A9%2B~&none=&bad=%00%EF%BF%BD"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestMissed(t *testing.T) {
	m := render.Compile(namespaces, []render.Field{
		{"a", render.Template("{{call.gone}}-{{call.empty}}-{{call.there}}-{{ }}")},
		{"b", render.Array(render.Template("{{nope}}"))},
	})
	v := vars{"call.empty": "", "call.there": "x"}
	var got []string
	opts := render.Options{Missed: func(token *render.Token, miss render.Miss) {
		got = append(got, token.Key+" "+token.Text+" "+miss.String())
	}}
	if body := string(rendered(m, nil, v, opts)); body != `{"a":"--x-","b":[""]}` {
		t.Errorf("body: got %s", body)
	}
	want := []string{"a {{call.gone}} unknown", "a {{call.empty}} empty", "a {{ }} unknown", "b.0 {{nope}} unknown"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	got = nil
	opts.KeepUnresolved = true
	if body := string(rendered(m, nil, v, opts)); body != `{"a":"{{call.gone}}--x-{{ }}","b":["{{nope}}"]}` {
		t.Errorf("preview body: got %s", body)
	}
	if query := string(renderedQuery(m, nil, v, opts)); query != "a=%7B%7Bcall.gone%7D%7D--x-%7B%7B%20%7D%7D&b=%5B%22%7B%7Bnope%7D%7D%22%5D" {
		t.Errorf("preview query: got %s", query)
	}
	if len(got) != 2*len(want) {
		t.Errorf("got %d misses in two renderings, want %d", len(got), 2*len(want))
	}
}

func TestResolve(t *testing.T) {
	v := vars{"call.a": "", "crm.b": "x"}
	for template, want := range map[string]string{"{{crm.a}}": "call.a", "{{b}}": "crm.b", "{{c}}": "", "{{}}": ""} {
		for token := range one(template).Tokens() {
			name, ok := token.Resolve(v)
			if ok != (want != "") || ok && name.String() != want {
				t.Errorf("%s: got %s %v, want %q", template, name, ok, want)
			}
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"analysis.DISPOSITION", "analysis.SUB_DISPOSITION", "result.call_id", "result.status", "crm.x"}
	for _, c := range []struct{ name, want string }{
		{"analysis.DISPOSTION", "analysis.DISPOSITION"},
		{"analysis.disposition", "analysis.DISPOSITION"},
		{"analysis.DISPOISTION", "analysis.DISPOSITION"},
		{"result.callid", "result.call_id"},
		{"result.satus", "result.status"},
		{"result.call_id", "result.call_id"},
		{"result.completely_else", ""},
		{"x", ""},
		{"", ""},
		{"crm.y", "crm.x"},
	} {
		if got := render.Nearest(c.name, known); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestHugeValue(t *testing.T) {
	text := strings.Repeat(`a"`, 1<<20)
	got := rendered(one("{{call.x}}"), nil, vars{"call.x": text}, render.Options{})
	var back struct{ N string }
	if err := json.Unmarshal(got, &back); err != nil || back.N != text {
		t.Errorf("a value of %d bytes does not come back: %v", len(text), err)
	}
}

var pieces = rapid.SampledFrom([]string{
	"{", "}", "{{", "}}", "[", "]", "\"", "\\", ",", ":", " ", "1", "-1.5e3", "null", "true", "call.x", "crm.y", "\xff", "é", "\n",
	"{{call.x}}", "{{ crm.y }}", "{{nope}}", `{"a":1}`, `\ud800`,
})

func template(t *rapid.T, label string) string {
	return strings.Join(rapid.SliceOfN(pieces, 0, 12).Draw(t, label), "")
}

func FuzzTemplate(f *testing.F) {
	for _, seed := range []string{"{{call.x}}", "{{{call.x}}}", "{{a{{b}}", "{{", "a}}", `{"a": {{call.x}}}`, "{{.}}"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, template, value string) {
		// With nothing resolved and every token kept, the template comes back.
		kept := renderedQuery(one("x"+template), nil, vars{}, render.Options{KeepUnresolved: true})
		back, err := url.QueryUnescape(strings.TrimPrefix(string(kept), "n=x"))
		if err != nil || strings.ReplaceAll(back, "\ufffd", "") != strings.ReplaceAll(strings.ToValidUTF8(template, ""), "\ufffd", "") {
			t.Errorf("%q came back as %q: %v", template, back, err)
		}
		m := one(template)
		body := rendered(m, nil, vars{"call.x": value, "crm.a": value}, render.Options{})
		if !json.Valid(body) || !utf8.Valid(body) {
			t.Errorf("not JSON: %q", body)
		}
		for token := range m.Tokens() {
			if !strings.Contains(template, token.Text) || strings.ContainsAny(token.Name, "{}") {
				t.Errorf("token %q of %q", token.Text, template)
			}
		}
	})
}

// FuzzCoercion compares with encoding/json, which knows the same grammar but
// takes deeper nesting.
func FuzzCoercion(f *testing.F) {
	for _, seed := range []string{`{"a":1}`, `[1,]`, `{"a":"\ud800"}`, "[\"\xff\"]", `[1e5, -0.1]`, ` [ ] `} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		body := rendered(one("{{call.x}}"), nil, vars{"call.x": text}, render.Options{})
		if !json.Valid(body) || !utf8.Valid(body) {
			t.Fatalf("not JSON: %q", body)
		}
		trimmed := strings.TrimSpace(text)
		looks := strings.HasPrefix(trimmed, "{") || strings.HasPrefix(trimmed, "[")
		shallow := strings.Count(text, "[")+strings.Count(text, "{") <= render.MaxDepth
		if coerced := body[len(`{"n":`)] != '"'; shallow && coerced != (looks && json.Valid([]byte(trimmed))) {
			t.Errorf("%q: coerced is %v", text, coerced)
		}
	})
}

func TestTextThatIsNearlyJSONIsReported(t *testing.T) {
	v := vars{"call.quote": `he said "no"`, "call.cut": `{"a": 1`, "call.ok": `{"a": [1]}`, "call.json!": `[1]`, "call.note": "[sic] text"}
	for template, want := range map[string]bool{
		`{"r": "{{call.quote}}"}`: true, ` [{{call.quote}}]`: true, "{{call.cut}}": true, "{{call.note}}": true,
		"{{call.ok}}": false, "{{call.json}}": false, "{{call.quote}}": false, `{"r": "{{call.none}}"}`: false, "x {{call.cut}}": false,
	} {
		var told []string
		o := render.Options{NotJSON: func(t *render.Token) { told = append(told, t.Key) }}
		rendered(one(template), nil, v, o)
		renderedQuery(one(template), nil, v, o)
		if want && !slices.Equal(told, []string{"n", "n"}) || !want && told != nil {
			t.Errorf("%s: %q", template, told)
		}
	}
}

// A payload that is too large is given up without being made: neither the rest of
// the mapper nor what comes after a value is rendered.
func TestMaxBytes(t *testing.T) {
	asked := 0
	v := counting{vars{"call.x": strings.Repeat("x", 100)}, &asked}
	m := render.Compile(namespaces, []render.Field{
		{Key: "a", Value: render.Template("{{call.x}}{{call.x}}")},
		{Key: "b", Value: render.Array(render.Template("{{call.x}}"), render.Object(render.Field{Key: "c", Value: render.Template("{{call.x}}")}))},
	})
	size, query := len(rendered(m, nil, v, render.Options{})), len(renderedQuery(m, nil, v, render.Options{}))
	if _, err := m.AppendJSON([]byte("kept"), v, render.Options{MaxBytes: size}); err != nil {
		t.Errorf("a body of %d bytes: %v", size, err)
	}
	if _, err := m.AppendQuery([]byte("kept"), v, render.Options{MaxBytes: query}); err != nil {
		t.Errorf("a query of %d bytes: %v", query, err)
	}
	for most := 1; most < size; most++ {
		if got, err := m.AppendJSON([]byte("kept"), v, render.Options{MaxBytes: most}); !errors.Is(err, render.ErrTooLarge) || string(got) != "kept" {
			t.Fatalf("%d of %d bytes: %v, %s", most, size, err, got)
		}
	}
	for most := 1; most < query; most++ {
		if got, err := m.AppendQuery([]byte("kept"), v, render.Options{MaxBytes: most}); !errors.Is(err, render.ErrTooLarge) || string(got) != "kept" {
			t.Fatalf("%d of %d bytes: %v, %s", most, query, err, got)
		}
	}
	asked = 0
	if _, err := m.AppendJSON(nil, v, render.Options{MaxBytes: 50}); err == nil || asked != 1 {
		t.Errorf("%v, %d values were asked for", err, asked)
	}
}

// counting counts how often values are asked for.
type counting struct {
	vars
	asked *int
}

func (c counting) AppendText(dst []byte, name render.Name) ([]byte, render.Found) {
	*c.asked++
	return c.vars.AppendText(dst, name)
}

// rendered and renderedQuery are for renderings without a limit, which never fail.
func rendered(m *render.Mapper, dst []byte, v render.Variables, o render.Options) []byte {
	body, _ := m.AppendJSON(dst, v, o)
	return body
}

func renderedQuery(m *render.Mapper, dst []byte, v render.Variables, o render.Options) []byte {
	query, _ := m.AppendQuery(dst, v, o)
	return query
}
