package render_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/pkg/render"
)

func TestPropertyOutputIsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := vars{"call.x": template(t, "x"), "crm.y": template(t, "y")}
		m := render.Compile(namespaces, []render.Field{
			{template(t, "key"), render.Template(template(t, "template"))},
			{"o", render.Object(render.Field{template(t, "inner"), render.Array(render.Template(template(t, "item")))})},
			{"l", render.Literal([]byte(template(t, "literal")))},
		})
		for _, keep := range []bool{false, true} {
			body := rendered(m, []byte("["), v, render.Options{KeepUnresolved: keep})
			if body = body[1:]; !json.Valid(body) || !utf8.Valid(body) {
				t.Fatalf("not JSON: %q", body)
			}
		}
		for _, b := range renderedQuery(m, nil, v, render.Options{}) {
			if b <= ' ' || b >= 0x7f || b == '"' || b == '#' {
				t.Fatalf("byte %q in a query", b)
			}
		}
	})
}

func TestPropertyTextWithoutBracesIsUnchanged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[^{}\[\]]*`).Draw(t, "text")
		var got map[string]string
		if err := json.Unmarshal(rendered(one(text), nil, nil, render.Options{}), &got); err != nil {
			t.Fatal(err)
		}
		if got["n"] != text {
			t.Fatalf("got %q, want %q", got["n"], text)
		}
	})
}

func TestPropertyValuesAreNotRenderedAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := vars{"call.x": "x" + template(t, "value"), "crm.y": "boom"}
		want, err := json.Marshal(strings.ToValidUTF8("-"+v["call.x"]+"-", ""))
		if err != nil {
			t.Fatal(err)
		}
		var got, wanted string
		body := rendered(one("-{{call.x}}-"), nil, v, render.Options{})
		if err := json.Unmarshal(body[len(`{"n":`):len(body)-1], &got); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(want, &wanted); err != nil {
			t.Fatal(err)
		}
		if strings.ReplaceAll(got, "\ufffd", "") != wanted {
			t.Fatalf("got %q, want %q", got, wanted)
		}
	})
}
