package bots

import (
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func TestTemplatesOfOtherTools(t *testing.T) {
	for text, suggestion := range map[string]string{
		"{% if call.x %}": "", "a{%- for x in y -%}": "", "${call.x}": "{{call.x}}", "Hi ${ NAME }!": "{{NAME}}", "{call.x}": "{{call.x}}", "{NAME}": "{{NAME}}",
		"analysis.DISPOSITION": "{{analysis.DISPOSITION}}", " result.call_id ": "{{result.call_id}}", "{{#if call.x}}": "", "{{/if}}": "", "{{else}}": "",
		"{{call.x | upper}}": "{{call.x}}", "{{!note}}": "", "[[call.x]]": "{{call.x}}", "<%= crm.lead_id %>": "{{crm.lead_id}}", "a %result.call_id% b": "{{result.call_id}}",
		"#{qc.remarks}": "{{qc.remarks}}", "$crm.a.b": "{{crm.a.b}}", "@{call.x}": "{{call.x}}", "<<system.timezone>>": "{{system.timezone}}", "CRM.lead_id": "{{crm.lead_id}}",
		"DISPOSITION": "{{analysis.DISPOSITION}}", "recording_url": "{{result.recording_url}}", " current_date ": "{{system.current_date}}",
	} {
		w := find(withPush(t, m{"key_mapper": m{"k": text}}), "k")
		if w.Code != CodeOtherSyntax || w.Level != LevelWarning || w.Suggestion != suggestion {
			t.Errorf("%s: %+v", text, w)
		}
	}
	for _, text := range []string{
		"{{call.x}}", "{{{call.x}}}", "{ {{call.x}} }", `{"a":1}`, "{}", "{ }", "{1}", "100%", "{%", "$5", "plain.text", "call me.", "call.", "100% call.x", "me@crm.acme.example", "#call", "[[x]]", "status", "remarks", "NEW", "lead_source", "https://call.example", "a {{call.b}} c",
	} {
		if w := find(withPush(t, m{"key_mapper": m{"k": text}}), "k"); w.Code == CodeOtherSyntax {
			t.Errorf("%s: %+v", text, w)
		}
	}
	if w := find(withPush(t, m{"key_mapper": m{"o": m{" name ": "1"}}}), "o. name "); w.Code != CodeOtherSyntax || w.Suggestion != "name" {
		t.Errorf("a key with blanks: %+v", w)
	}
	if w := find(withPush(t, m{"key_mapper": bson.D{{Key: "", Value: "1"}}}), "post_call_push.key_mapper"); w.Code != CodeOtherSyntax {
		t.Errorf("an empty key: %+v", w)
	}
}
