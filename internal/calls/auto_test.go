package calls_test

import (
	"reflect"
	"testing"

	"github.com/cxbridge/watcher/internal/calls"
)

func TestAutoDispositions(t *testing.T) {
	const (
		spoke  = `"transcript":[{"role":"assistant"},{"role":"user"}]`
		silent = `"transcript":[{"role":"assistant"},7,{"content":"x"}]`
		rnr    = `"RNR|RNR|Customer picked up but did not respond."`
	)
	bot := calls.DecodeAutoDispositions(document(t, `{"a":{
		"rnr":{"DISPOSITION":"No Response","SUB_DISPOSITION":"SILENT","CALLING_REMARKS":""},
		"voicemail":{"CALLING_REMARKS":7},"error":"x","other":{"DISPOSITION":"no"}}}`).Lookup("a"))
	for _, c := range []struct {
		name, doc, want string
		bot             calls.AutoDispositions
	}{
		{name: "error", doc: `{"disconnected_by":"error",` + spoke + `}`, want: `"Failed|fallback|Call ended due to a system error."`},
		{name: "voicemail", doc: `{"disconnected_by":"voicemail",` + spoke + `}`, want: `"IVR|MAIN_MESSAGE|Voicemail or automated system detected."`},
		{name: "RNR", doc: `{"disconnected_by":"RNR",` + spoke + `}`, want: rnr},
		{name: "timeout, silent", doc: `{"disconnected_by":"timeout",` + silent + `}`, want: `"Not Connected|DSCN_PARTIAL|Call exceeded maximum duration."`},
		{name: "timeout, spoke", doc: `{"disconnected_by":"timeout",` + spoke + `}`, want: `"||"`},
		{name: "customer, silent", doc: `{"disconnected_by":"customer",` + silent + `}`, want: rnr},
		{name: "customer, spoke", doc: `{"disconnected_by":"customer",` + spoke + `}`, want: `"||"`},
		{name: "no transcript", doc: `{"disconnected_by":"customer"}`, want: rnr},
		{name: "transcript is no array", doc: `{"transcript":"user: hello"}`, want: rnr},
		{name: "role caller", doc: `{"transcript":[{"role":"Caller"}]}`, want: `"||"`},
		{name: "role customer", doc: `{"transcript":[{"role":"customer"}]}`, want: `"||"`},
		{name: "role human", doc: `{"transcript":[{"role":"human"}]}`, want: `"||"`},
		{name: "role system", doc: `{"transcript":[{"role":"system"}]}`, want: rnr},
		{name: "analysed", doc: `{"disconnected_by":"error","post_call_analysis":{"DISPOSITION":"PTP"}}`, want: `"PTP||"`},
		{name: "only where empty", doc: `{"disconnected_by":"error","post_call_analysis":{"DISPOSITION":"","SUB_DISPOSITION":"mine","CALLING_REMARKS":null}}`, want: `"Failed|mine|Call ended due to a system error."`},
		{name: "disposition is null", doc: `{"disconnected_by":"error","post_call_analysis":{"DISPOSITION":null}}`, want: `"Failed|fallback|Call ended due to a system error."`},
		{name: "analysis is no object", doc: `{"disconnected_by":"error","post_call_analysis":[1]}`, want: `"Failed|fallback|Call ended due to a system error."`},
		{name: "no fall back to other namespaces", doc: `{"transcript":[{"role":"user"}],"connected_event":{"DISPOSITION":"csv"}}`, want: `"||"`},
		{name: "the bot's own", bot: bot, doc: `{"disconnected_by":"RNR"}`, want: `"No Response|SILENT|Customer picked up but did not respond."`},
		{name: "the bot's own is not a text", bot: bot, doc: `{"disconnected_by":"voicemail"}`, want: `"IVR|MAIN_MESSAGE|7"`},
		{name: "the bot's own is no object", bot: bot, doc: `{"disconnected_by":"error"}`, want: `"Failed|fallback|Call ended due to a system error."`},
		{name: "rnr does not serve no_customer_message", bot: bot, doc: `{"disconnected_by":"bot"}`, want: rnr},
	} {
		t.Run(c.name, func(t *testing.T) {
			const template = "{{analysis.DISPOSITION}}|{{analysis.SUB_DISPOSITION}}|{{analysis.CALLING_REMARKS}}"
			if got := payload(t, document(t, c.doc), calls.Env{Auto: c.bot}, template); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestDecodeAutoDispositionsOfEveryCase(t *testing.T) {
	got := calls.DecodeAutoDispositions(document(t, `{"a":{
		"error":{"DISPOSITION":"e"},"voicemail":{"DISPOSITION":"v"},"rnr":{"DISPOSITION":"r"},
		"timeout":{"DISPOSITION":"t"},"no_customer_message":{"DISPOSITION":"n","SUB_DISPOSITION":"s","CALLING_REMARKS":"c"}}}`).Lookup("a"))
	want := calls.AutoDispositions{
		"error": {"DISPOSITION": "e"}, "voicemail": {"DISPOSITION": "v"}, "rnr": {"DISPOSITION": "r"}, "timeout": {"DISPOSITION": "t"},
		"no_customer_message": {"DISPOSITION": "n", "SUB_DISPOSITION": "s", "CALLING_REMARKS": "c"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := calls.DecodeAutoDispositions(document(t, `{"a":[1]}`).Lookup("a")); len(got) != 0 {
		t.Errorf("of an array: got %+v", got)
	}
}
