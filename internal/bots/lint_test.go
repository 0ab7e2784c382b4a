package bots

import (
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
)

// lintOne checks a mapper of one template; nil without a finding.
func lintOne(t *testing.T, template string, vars *calls.Variables, seeds ...string) *Warning {
	t.Helper()
	all := withPush(t, m{"key_mapper": m{"k": template}}).Lint(vars, seeds)
	switch len(all) {
	case 0:
		return nil
	case 1:
		if all[0].Key != "k" || all[0].Token != template || all[0].Message == "" {
			t.Errorf("%s: %+v", template, all[0])
		}
		return &all[0]
	}
	t.Fatalf("%s: %v", template, all)
	return nil
}

func TestLint(t *testing.T) {
	call := calls.Decode(raw(t, m{
		"_id": "c", "completed_at": time.Now(),
		"connected_event":    m{"CUSTOMERNAME": "R", "addr": m{"city": "Pune"}, "a.b": 1, "empty": nil},
		"crm_data":           m{"segment": "gold"},
		"sip_context":        m{"X-Campaign": "1"},
		"post_call_analysis": m{"own_key": "x"},
		"qc_analysis":        m{"tone": 3},
	}))
	vars := call.Variables(calls.Env{})
	const w, i, none = LevelWarning, LevelInfo, Level("")
	for _, tt := range []struct {
		token      string
		alone      Level // without a call
		withCall   Level
		code       Code
		suggestion string // with the call
	}{
		// what exists for every call
		{"{{system.current_date}}", none, none, "", ""},
		{"{{current_date}}", none, none, "", ""},
		{"{{result.call_id}}", none, none, "", ""},
		{"{{analysis.DISPOSITION}}", none, none, "", ""},
		{"{{qc.remarks}}", none, none, "", ""},
		// what this call has
		{"{{call.CUSTOMERNAME}}", none, none, "", ""},
		{"{{crm.CUSTOMERNAME}}", none, none, "", ""}, // filled by call
		{"{{CUSTOMERNAME}}", none, none, "", ""},
		{"{{call.empty}}", none, none, "", ""},
		{"{{call.addr.city}}", none, none, "", ""},
		{"{{call.a.b}}", none, none, "", ""},
		{"{{call.sip_header_x_campaign}}", none, none, "", ""},
		{"{{call.sip_headers_json}}", none, none, "", ""},
		{"{{analysis.own_key}}", i, none, CodeUnknownName, ""},
		{"{{qc.tone}}", i, none, CodeUnknownName, ""},
		{"{{addr.city}}", i, none, CodeUnknownNamespace, ""},
		// slips
		{"{{analysis.DISPOSTION}}", w, w, CodeUnknownName, "{{analysis.DISPOSITION}}"},
		{"{{analysis.disposition}}", w, w, CodeUnknownName, "{{analysis.DISPOSITION}}"},
		{"{{analysis.own_kye}}", i, w, CodeUnknownName, "{{analysis.own_key}}"},
		{"{{qc.remark}}", w, w, CodeUnknownName, "{{qc.remarks}}"},
		{"{{result.recording}}", w, w, CodeUnknownName, "{{result.recording_url}}"},
		{"{{result.callid}}", w, w, CodeUnknownName, "{{result.call_id}}"},
		{"{{system.current_dat}}", w, w, CodeUnknownName, "{{system.current_date}}"},
		{"{{call.CUSTOMERNAM}}", none, w, CodeUnknownName, "{{call.CUSTOMERNAME}}"},
		{"{{call.adr.city}}", none, w, CodeUnknownName, "{{call.addr.city}}"},
		{"{{crm.segmnet}}", none, w, CodeUnknownName, "{{crm.segment}}"},
		{"{{CUSTOMERNAM}}", none, w, CodeUnknownName, "{{CUSTOMERNAME}}"},
		{"{{SUB_DISPOSTION}}", w, w, CodeUnknownName, "{{analysis.SUB_DISPOSITION}}"},
		{"{{anlysis.DISPOSITION}}", w, w, CodeUnknownNamespace, "{{analysis.DISPOSITION}}"},
		{"{{Result.call_id}}", w, w, CodeUnknownNamespace, "{{result.call_id}}"},
		// the wrong place
		{"{{DISPOSITION}}", w, w, CodeFlatName, "{{analysis.DISPOSITION}}"},
		{"{{recording_url}}", w, w, CodeFlatName, "{{result.recording_url}}"},
		{"{{empathy_score}}", w, w, CodeFlatName, "{{qc.empathy_score}}"},
		{"{{own_key}}", none, w, CodeFlatName, "{{analysis.own_key}}"},
		{"{{crm.DISPOSITION}}", i, i, CodeUnknownName, "{{analysis.DISPOSITION}}"},
		{"{{analysis.overall_score}}", i, i, CodeUnknownName, "{{qc.overall_score}}"},
		{"{{foo.DISPOSITION}}", i, w, CodeUnknownNamespace, "{{analysis.DISPOSITION}}"},
		// nothing near
		{"{{result.nothing_like_it}}", w, w, CodeUnknownName, ""},
		{"{{system.zzz}}", w, w, CodeUnknownName, ""},
		{"{{analysis.zzz}}", i, i, CodeUnknownName, ""},
		{"{{call.zzz}}", none, i, CodeUnknownName, ""},
		{"{{zzz}}", none, i, CodeUnknownName, ""},
		{"{{zzz.yyy}}", i, w, CodeUnknownNamespace, ""},
		{"{{.}}", i, w, CodeUnknownNamespace, ""},
		{"{{call.addr.cty}}", none, i, CodeUnknownName, ""},
	} {
		t.Run(tt.token, func(t *testing.T) {
			for _, got := range []struct {
				name string
				w    *Warning
				want Level
			}{{"alone", lintOne(t, tt.token, nil), tt.alone}, {"with a call", lintOne(t, tt.token, vars), tt.withCall}} {
				var level Level
				if got.w != nil {
					level = got.w.Level
				}
				if level != got.want || got.w != nil && got.w.Code != tt.code {
					t.Errorf("%s: got %+v, want level %q and code %q", got.name, got.w, got.want, tt.code)
				}
				if got.name == "with a call" && got.w != nil && got.w.Suggestion != tt.suggestion {
					t.Errorf("suggestion %q, want %q", got.w.Suggestion, tt.suggestion)
				}
			}
		})
	}
}

func TestLintSeeds(t *testing.T) {
	if w := lintOne(t, "{{analysis.lead_score}}", nil, "lead_score"); w != nil {
		t.Errorf("a seed of the deployment: %+v", w)
	}
	if w := lintOne(t, "{{analysis.lead_scoer}}", nil, "lead_score"); w == nil || w.Suggestion != "{{analysis.lead_score}}" {
		t.Errorf("near a seed: %+v", w)
	}
}

func TestLintSaysEachTokenOfAKeyOnce(t *testing.T) {
	b := withPush(t, m{"key_mapper": bson.D{{Key: "a", Value: "{{DISPOSITION}} {{DISPOSITION}}"}, {Key: "b", Value: bson.A{"{{DISPOSITION}}"}}}})
	var got []string
	for _, w := range b.Lint(nil, nil) {
		got = append(got, w.Key)
	}
	if strings.Join(got, " ") != "a b.0" {
		t.Errorf("%v", got)
	}
	if got := Compile(raw(t, m{"_id": "b"}), Options{}).Lint(nil, nil); got != nil {
		t.Errorf("no push: %v", got)
	}
}

func TestLintIsTheSameEveryTime(t *testing.T) {
	b := withPush(t, m{"key_mapper": m{"a": "{{qc.o_score}} {{result.transfer_x}} {{current_}} {{transfer}}"}})
	first := b.Lint(nil, nil)
	for range 20 {
		again := b.Lint(nil, nil)
		for i := range first {
			if first[i] != again[i] {
				t.Fatalf("%v, then %v", first[i], again[i])
			}
		}
	}
}

// A key with a blank or a byte order mark, as a CSV export brings them, is reached
// by the suggestion, which is not what was typed.
func TestLintOfInvisibleCharacters(t *testing.T) {
	call := calls.Decode(raw(t, m{"_id": "c", "connected_event": m{"\ufeffCUSTOMERID": "C-42", "due_amount ": "500", " city": "Pune", "plain": 1}}))
	for _, template := range []string{"{{CUSTOMERID}}", "{{call.CUSTOMERID}}", "{{due_amount}}", "{{call.due_amount}}", "{{ due_amount }}", "{{city}}", "{{call.city}}"} {
		vars := call.Variables(calls.Env{})
		w := lintOne(t, template, vars)
		if w == nil || w.Level != LevelWarning || w.Suggestion == template || !strings.Contains(w.Message, "invisible") {
			t.Errorf("%s: %+v", template, w)
			continue
		}
		if again := lintOne(t, w.Suggestion, vars); again != nil {
			t.Errorf("%s: the suggestion %q resolves to nothing: %v", template, w.Suggestion, again)
		}
	}
}
