package calls_test

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

func mapperOf(templates ...string) *render.Mapper {
	fields := make([]render.Field, len(templates))
	for i, text := range templates {
		fields[i] = render.Field{Key: fmt.Sprint(i), Value: render.Template(text)}
	}
	return render.Compile(calls.Namespaces, fields)
}

var decisionFields = []string{
	"_id", "bot_id", "call_start_time", "call_type", "completed_at", "created_at", "post_call_push_result",
	"session_id", "skip_post_push", "start_time", "started_at",
}

func TestFields(t *testing.T) {
	for _, c := range []struct {
		templates []string
		want      string // beside the decision fields
	}{
		{nil, ""},
		{[]string{"no token", "{{ }}"}, ""},
		{[]string{"{{system.current_date}}"}, "connected_event.current_date crm_data.current_date"},
		{[]string{"{{X}}"}, "connected_event.X crm_data.X"},
		{[]string{"{{crm.X}} {{call.Y}}"}, "connected_event.X connected_event.Y crm_data.X crm_data.Y"},
		{[]string{"{{crm.a.b}}", "{{crm.X}}"}, "connected_event crm_data"},
		{[]string{"{{crm.$x}}"}, "connected_event crm_data"},
		{[]string{"{{qc.\xff}}"}, "connected_event crm_data qc_analysis"},
		{[]string{"{{qc." + strings.Repeat("x", 257) + "}}"}, "connected_event crm_data qc_analysis"},
		{[]string{"{{qc.a}}"}, "connected_event.a crm_data.a qc_analysis.a"},
		{[]string{"{{call.sip_header_x}}"}, "connected_event.sip_header_x crm_data.sip_header_x sip_context"},
		{[]string{"{{analysis.X}}"}, "connected_event.X crm_data.X post_call_analysis.X"},
		{[]string{"{{analysis.SUB_DISPOSITION}}"}, "connected_event.SUB_DISPOSITION crm_data.SUB_DISPOSITION disconnected_by post_call_analysis.DISPOSITION post_call_analysis.SUB_DISPOSITION"},
		{[]string{"{{analysis.DISPOSITION}}", "{{result.transcript}}"}, "connected_event.DISPOSITION connected_event.transcript crm_data.DISPOSITION crm_data.transcript disconnected_by post_call_analysis.DISPOSITION transcript"},
		{[]string{"{{result.transcript.0.role}}"}, "connected_event crm_data transcript"},
		{[]string{"{{result.recording_url}}"}, "connected_event.recording_url crm_data.recording_url recording_access_token recording_key recording_url"},
		{[]string{"{{result.call_id}}"}, "connected_event.call_id crm_data.call_id"},
		{[]string{"{{result.nope}}"}, "connected_event.nope crm_data.nope"},
	} {
		got := slices.DeleteFunc(calls.Fields(mapperOf(c.templates...)), func(f string) bool { return slices.Contains(decisionFields, f) })
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q: got %v, want %s", c.templates, got, c.want)
		}
	}
	if got := calls.Fields(); !slices.Equal(got, decisionFields) {
		t.Errorf("without a mapper: got %v", got)
	}
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("{{qc.x%d}}", i))
	}
	if got := calls.Fields(mapperOf(many...)); !slices.Contains(got, "qc_analysis") || len(got) > 20 {
		t.Errorf("of many: got %d fields", len(got))
	}
	if got := calls.Fields(mapperOf("{{crm.a}}"), mapperOf("{{crm.b}}")); !slices.Contains(got, "crm_data.a") || !slices.Contains(got, "crm_data.b") {
		t.Errorf("of two mappers: got %v", got)
	}
}

func TestNeedsRecording(t *testing.T) {
	for template, want := range map[string]bool{
		"{{result.recording_url}}": true, "x {{ result.recording_url }}": true, "{{recording_url}}": false, "{{call.recording_url}}": false, "": false,
	} {
		if got := calls.NeedsRecording(mapperOf(template)); got != want {
			t.Errorf("%s: got %v", template, got)
		}
	}
}

// TestPropertyFieldsAreEnough renders from the whole document and from what a
// projection leaves of it: the payload is the same.
func TestPropertyFieldsAreEnough(t *testing.T) {
	names := rapid.SampledFrom([]string{
		"X", "crm.X", "call.X", "analysis.X", "qc.X", "crm.a.b", "call.a", "crm.a", "analysis.DISPOSITION", "analysis.CALLING_REMARKS", "qc.remarks",
		"result.transcript", "result.transcript.0.role", "result.call_answer_time", "result.call_end_time", "result.disposition",
		"result.call_id", "result.was_transferred", "result.status", "call.sip_header_x_a", "call.sip_headers_json", "a.b", "foo.X", "crm.l.0.X",
	})
	texts := rapid.SampledFrom([]string{"", "x", "error", "websocket", "timeout", "2026-06-05T10:15:00Z"})
	object := func(t *rapid.T, label string) any {
		d := bson.D{}
		for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"X", "a", "a.b", "DISPOSITION", "CALLING_REMARKS", "l", "X-A", "role", "remarks"}), 0, 5, rapid.ID).Draw(t, label) {
			var v any = texts.Draw(t, key)
			switch rapid.IntRange(0, 3).Draw(t, "shape") {
			case 0:
				v = bson.D{{Key: "b", Value: v}, {Key: "X", Value: 1}}
			case 1:
				v = bson.A{bson.D{{Key: "X", Value: v}, {Key: "role", Value: "user"}}, v}
			}
			d = append(d, bson.E{Key: key, Value: v})
		}
		switch rapid.IntRange(0, 9).Draw(t, label+" shape") {
		case 0:
			return "text"
		case 1:
			return bson.A{d}
		}
		return d
	}
	rapid.Check(t, func(t *rapid.T) {
		doc := bson.D{
			{Key: "session_id", Value: "s1"}, {Key: "big", Value: "unread"},
			{Key: "crm_data", Value: object(t, "crm")}, {Key: "connected_event", Value: object(t, "call")},
			{Key: "post_call_analysis", Value: object(t, "analysis")}, {Key: "qc_analysis", Value: object(t, "qc")},
			{Key: "sip_context", Value: object(t, "sip")}, {Key: "transcript", Value: bson.A{object(t, "entry"), object(t, "entry")}},
			{Key: "disconnected_by", Value: texts.Draw(t, "by")}, {Key: "transport", Value: texts.Draw(t, "transport")},
			{Key: "answered_at", Value: texts.Draw(t, "answered")}, {Key: "created_at", Value: "2026-06-05T10:14:00Z"},
			{Key: "was_transferred", Value: true}, {Key: "status", Value: object(t, "status")},
		}
		for _, missing := range rapid.SliceOfDistinct(rapid.SampledFrom(doc), func(e bson.E) string { return e.Key }).Draw(t, "missing") {
			doc = slices.DeleteFunc(doc, func(e bson.E) bool { return e.Key == missing.Key })
		}
		raw, err := bson.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		var templates []string
		for _, name := range rapid.SliceOfN(names, 1, 5).Draw(t, "names") {
			templates = append(templates, "{{"+name+"}}")
		}
		mapper := mapperOf(templates...)
		fields := calls.Fields(mapper)
		whole, part := calls.Decode(raw), calls.Decode(project(t, doc, fields))
		if calls.NeedsAuto(mapper) && part.NeedsRoles() {
			if !calls.ReadRoles(fields) {
				fields = append(fields, calls.RolesField)
			}
			part = calls.Decode(project(t, doc, fields))
		}
		want := string(rendered(mapper, whole.Variables(calls.Env{})))
		if got := string(rendered(mapper, part.Variables(calls.Env{}))); got != want {
			t.Fatalf("%v: from the projection %s, from the whole %s", templates, got, want)
		}
		if strings.Contains(string(part.Raw), "unread") {
			t.Fatal("a field that nobody maps was read")
		}
	})
}

// project does what an inclusion projection of a server does, which refuses a path
// inside another.
func project(t *rapid.T, doc bson.D, fields []string) bson.Raw {
	for _, f := range fields {
		if slices.ContainsFunc(fields, func(outer string) bool { return strings.HasPrefix(f, outer+".") }) {
			t.Fatalf("path collision at %s in %v", f, fields)
		}
	}
	out := bson.D{}
	for _, e := range doc {
		var subs []string
		for _, f := range fields {
			if f == e.Key {
				subs = []string{""}
				break
			}
			if sub, ok := strings.CutPrefix(f, e.Key+"."); ok {
				subs = append(subs, sub)
			}
		}
		if v, ok := projectValue(e.Value, subs); ok {
			out = append(out, bson.E{Key: e.Key, Value: v})
		}
	}
	raw, err := bson.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// projectValue keeps single-level paths; scalars on the way are left out, and
// arrays keep their objects.
func projectValue(v any, subs []string) (any, bool) {
	if len(subs) == 0 || subs[0] == "" {
		return v, len(subs) > 0
	}
	switch v := v.(type) {
	case bson.D:
		return slices.DeleteFunc(slices.Clone(v), func(e bson.E) bool { return !slices.Contains(subs, e.Key) }), true
	case bson.A:
		kept := bson.A{}
		for _, item := range v {
			if item, ok := projectValue(item, subs); ok {
				kept = append(kept, item)
			}
		}
		return kept, true
	}
	return nil, false
}
