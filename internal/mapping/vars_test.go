package mapping

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/render"
)

// rendered is what a template comes to.
func rendered(template string, vars *calls.Variables) string {
	m := render.Compile(calls.Namespaces, []render.Field{{Key: "k", Value: render.Template(template)}})
	body, err := m.AppendJSON(nil, vars, render.Options{})
	if err != nil {
		return err.Error()
	}
	return string(body)
}

func decode(t interface{ Fatal(args ...any) }, doc any) *calls.Variables {
	raw, err := bson.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	call := calls.Decode(raw)
	return call.Variables(calls.Env{})
}

// What is listed works: each token, written as it is listed, gives the value, and
// so does its short form; a form that is said to be another's gives that.
func TestPropertyListedTokensWork(t *testing.T) {
	key := rapid.SampledFrom([]string{"a", "b", "a.b", "x y", "timezone", "{odd}", "DISPOSITION", "crm", "ключ", " lead "})
	object := rapid.MapOf(key, rapid.SampledFrom([]any{"", "text", 5, true, nil, bson.M{"a": "deep"}, bson.A{"one"}}))
	rapid.Check(t, func(t *rapid.T) {
		var all Collector
		var each []*calls.Variables
		for i := range rapid.IntRange(1, 3).Draw(t, "calls") {
			vars := decode(t, bson.M{
				"_id": i, "crm_data": object.Draw(t, "crm"), "connected_event": object.Draw(t, "call"),
				"sip_context": object.Draw(t, "sip"), "post_call_analysis": object.Draw(t, "analysis"), "qc_analysis": object.Draw(t, "qc"),
			})
			each = append(each, vars)
			all.Add(vars)
		}
		for _, v := range all.Variables() {
			namespace, field, _ := strings.Cut(v.Name, ".")
			filled := 0
			for _, vars := range each {
				text, found := vars.AppendText(nil, render.Name{Namespace: namespace, Field: field})
				if len(text) > 0 {
					filled++
				}
				if found == render.Absent {
					continue
				}
				if len(text) > 0 && !slices.Contains(v.Examples, string(text)) {
					t.Fatalf("%s: %q is no example of %v", v.Name, text, v.Examples)
				}
				full := rendered(v.Token, vars)
				if v.Short != "" && rendered(v.Short, vars) != full {
					t.Fatalf("%s gives %s, and %s %s", v.Token, full, v.Short, rendered(v.Short, vars))
				}
			}
			if filled != v.Filled || v.Calls != len(each) {
				t.Fatalf("%s: filled %d of %d, counted %d of %d", v.Name, v.Filled, v.Calls, filled, len(each))
			}
		}
	})
}

func TestNamesAreBounded(t *testing.T) {
	many := bson.M{"long": strings.Repeat("é", 1000)}
	const most = 100
	for i := range most + 50 {
		many[fmt.Sprint("k", i)] = i
	}
	all := Collector{most: most}
	all.Add(decode(t, bson.M{"_id": 1, "crm_data": many}))
	if n := len(all.Variables()); n != most || all.Left == 0 {
		t.Errorf("%d names, %d left", n, all.Left)
	}
	for _, v := range all.Variables() {
		for _, example := range v.Examples {
			if len(example) > maxExample+len("…") {
				t.Errorf("an example of %d bytes", len(example))
			}
		}
	}
}
