package calls_test

import (
	"encoding/json"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/render"
)

// document makes a raw document of Extended JSON, key order kept.
func document(tb testing.TB, text string) bson.Raw {
	tb.Helper()
	var d bson.D
	if err := bson.UnmarshalExtJSON([]byte(text), false, &d); err != nil {
		tb.Fatalf("%s: %v", text, err)
	}
	raw, err := bson.Marshal(d)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func zone(tb testing.TB, name string) *time.Location {
	tb.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		tb.Fatal(err)
	}
	return loc
}

// payload renders one template and returns what stands in the body, as JSON.
func payload(tb testing.TB, raw bson.Raw, env calls.Env, template string) string {
	tb.Helper()
	call := calls.Decode(raw)
	mapper := render.Compile(calls.Namespaces, []render.Field{{Key: "n", Value: render.Template(template)}})
	body := rendered(mapper, call.Variables(env))
	if !json.Valid(body) {
		tb.Fatalf("%s: not JSON: %s", template, body)
	}
	return string(body[len(`{"n":`) : len(body)-1])
}

// rendering is a document, and what templates give for it.
type rendering struct {
	name string
	doc  string
	want map[string]string // template to JSON
}

func checkRenderings(t *testing.T, env calls.Env, cases []rendering) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			raw := document(t, c.doc)
			for template, want := range c.want {
				if got := payload(t, raw, env, template); got != want {
					t.Errorf("%s: got %s, want %s", template, got, want)
				}
			}
		})
	}
}

// rendered is the payload as a JSON object.
func rendered(m *render.Mapper, vars render.Variables) []byte {
	body, _ := m.AppendJSON(nil, vars, render.Options{}) // without a limit it never fails
	return body
}
