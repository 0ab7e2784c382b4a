package calls_test

import (
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/render"
)

func TestTheCatalogueSaysWhatEachNameIs(t *testing.T) {
	n := 0
	for _, e := range calls.Catalogue() {
		if n++; e.Text == "" || e.Source == "" {
			t.Errorf("%+v", e)
		}
	}
	want := 0
	for _, fields := range calls.FixedNames() {
		want += len(fields)
	}
	if n != want {
		t.Errorf("%d names, want %d", n, want)
	}
}

func TestWhereAValueComesFrom(t *testing.T) {
	raw, err := bson.Marshal(bson.M{
		"crm_data": bson.M{"a": bson.M{"b": int64(4)}}, "connected_event": bson.M{"x": true, "sip_header_only": "e"}, "sip_context": bson.M{"X-Id": "7"},
		"disconnected_by": "error", "transcript": bson.A{bson.M{"role": "bot"}}, "qc_analysis": bson.M{"s": 1.5, "n": nil},
	})
	if err != nil {
		t.Fatal(err)
	}
	call := calls.Decode(raw)
	vars := call.Variables(calls.Env{})
	for name, want := range map[render.Name]calls.Origin{
		{Namespace: "crm", Field: "a.b"}:                {Source: "crm_data.a.b", Type: "integer"},
		{Namespace: "crm", Field: "no"}:                 {Source: "crm_data.no"},
		{Namespace: "call", Field: "x"}:                 {Source: "connected_event.x", Type: "true/false"},
		{Namespace: "call", Field: "sip_header_x_id"}:   {Source: "sip_context", Type: "text"},
		{Namespace: "call", Field: "sip_header_only"}:   {Source: "connected_event.sip_header_only", Type: "text"},
		{Namespace: "call", Field: "sip_headers_json"}:  {Source: "sip_context", Type: "object"},
		{Namespace: "analysis", Field: "DISPOSITION"}:   {Source: "auto disposition error", Type: "made"},
		{Namespace: "analysis", Field: "callback"}:      {Source: "post_call_analysis.callback"},
		{Namespace: "result", Field: "transcript"}:      {Source: "transcript", Type: "list"},
		{Namespace: "result", Field: "transcript.0"}:    {Source: "transcript.0", Type: "object"},
		{Namespace: "result", Field: "call_start_time"}: {Source: "call_start_time, start_time, started_at, created_at", Type: "made"},
		{Namespace: "qc", Field: "s"}:                   {Source: "qc_analysis.s", Type: "number"},
		{Namespace: "qc", Field: "n"}:                   {Source: "qc_analysis.n", Type: "null"},
		{Namespace: "system", Field: "timezone"}:        {Source: "the time of the result", Type: "made"},
	} {
		got := vars.Origin(name)
		if got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}
