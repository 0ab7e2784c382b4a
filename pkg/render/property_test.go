package render_test

import (
	"encoding/json"
	"slices"
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

// Mappers that have parts in common are what they are without.
func TestPropertyAlikeMappersAreThemselves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := vars{"call.x": template(t, "x"), "crm.y": template(t, "y")}
		keys, texts := rapid.SampledFrom([]string{"a", "b", "a.b"}), rapid.SampledFrom([]string{"{{x}}", "{{call.x}} {{y}}", "{{crm.x}}", "t"})
		alike := render.NewAlike(namespaces)
		for range rapid.IntRange(1, 4).Draw(t, "mappers") {
			var fields []render.Field
			for range rapid.IntRange(0, 4).Draw(t, "fields") {
				value := render.Template(texts.Draw(t, "text"))
				if rapid.Bool().Draw(t, "nested") {
					value = render.Object(render.Field{Key: keys.Draw(t, "inner"), Value: value})
				}
				fields = append(fields, render.Field{Key: keys.Draw(t, "key"), Value: value})
			}
			alone, shared := render.Compile(namespaces, fields), alike.Compile(fields)
			if want, got := rendered(alone, nil, v, render.Options{}), rendered(shared, nil, v, render.Options{}); string(got) != string(want) {
				t.Fatalf("rendered %s, want %s", got, want)
			}
			if want, got := tokens(alone), tokens(shared); !slices.Equal(got, want) {
				t.Fatalf("tokens %v, want %v", got, want)
			}
		}
	})
}

// tokens are the keys and texts of all tokens.
func tokens(m *render.Mapper) (all []string) {
	for t := range m.Tokens() {
		all = append(all, t.Key+" "+t.Text)
	}
	return all
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
