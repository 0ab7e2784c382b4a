package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cxbridge/watcher/internal/bots"
)

// Each mistake is named by lint and by preview alike, in lines that fit a terminal, and
// what a mapper makes of the call is shown all the same.
func TestMistakesAreNamedAlike(t *testing.T) {
	const mapper = `, "key_mapper": {"a": "{{crm.lead_id}}"}`
	push := func(text string) string { return `"post_call_push": {"url": "https://x.example", ` + text + `}` }
	with := func(text string) string { return push(text + mapper) }
	field := func(template string) string { return push(`"key_mapper": {"a": ` + template + `}`) }
	address := func(url string) string { return `"post_call_push": {"url": "` + url + `"` + mapper + `}` }
	mistakes := []struct {
		bot        string // beside _id and timezone
		key, words string // what is named, and a part of what is said of it
	}{
		{field(`"{% if crm.lead_id %}x{% endif %}"`), "a", "no conditions"},
		{field(`"{{#if crm.lead_id}}x{{/if}}"`), "a", "no conditions"},
		{field(`"{crm.lead_id}"`), "a", "try {{crm.lead_id}}"},
		{field(`"${crm.lead_id}"`), "a", "try {{crm.lead_id}}"},
		{field(`"[[crm.lead_id]]"`), "a", "try {{crm.lead_id}}"},
		{field(`"<%= crm.lead_id %>"`), "a", "try {{crm.lead_id}}"},
		{field(`"{{crm.lead_id | upper}}"`), "a", "try {{crm.lead_id}}"},
		{field(`"crm.lead_id"`), "a", "try {{crm.lead_id}}"},
		{field(`"DISPOSITION"`), "a", "try {{analysis.DISPOSITION}}"},
		{field(`"{{ crm.lead_id"`), "a", `without "}}"`},
		{field(`"{{}}"`), "a", "empty"},
		{field(`"{{DISPOSITION}}"`), "a", "try {{analysis.DISPOSITION}}"},
		{field(`"{{analysis.DISPOSTION}}"`), "a", "try {{analysis.DISPOSITION}}"},
		{field(`"{{Result.duration}}"`), "a", "try {{result.call_duration_seconds}}"},
		{field(`"{{result.duration}}"`), "a", "try {{result.call_duration_seconds}}"},
		{field(`"{{system.date}}"`), "a", "try {{system.current_date}}"},
		{field(`"{\"n\": \"{{crm.lead_id}}\"}"`), "a", "try an object"},
		{field(`"{\"n\": {{crm.lead_id}},}"`), "a", "begins like JSON"},
		{push(`"key_mapper": {" lead ": "{{crm.lead_id}}"}`), "lead", "blanks around it"},
		{push(`"key_mapper": {"": "{{crm.lead_id}}"}`), "key_mapper", "empty"},
		{push(`"key_mapper": ["{{crm.lead_id}}"]`), "key_mapper", "is a list"},
		{push(`"keyMapper": {}`), "keyMapper", "try key_mapper"},
		{`"postCallPush": {"url": "https://x.example"}`, "postCallPush", "try post_call_push"},
		{`"auto_dispositions": {"RNR": {}}, ` + push(`"key_mapper": {"a": "1"}`), "auto_dispositions.RNR", "try rnr"},
		{with(`"headers": {"Content-Type": "text/plain"}`), "headers.Content-Type", "try application/json"},
		{with(`"headers": {"content-type": "application/x-www-form-urlencoded"}`), "content-type", "is JSON"},
		{with(`"headers": {"X-Lead": "{{crm.lead_id}}"}`), "headers.X-Lead", "not rendered"},
		{with(`"headers": "Authorization: x"`), "headers", "is text"},
		{with(`"token": {"a": 1}`), "token", "is an object"},
		{with(`"enabled": "perhaps"`), "enabled", "not true or false"},
		{with(`"method": 5`), "method", "try POST"},
		{with(`"timeout_seconds": "soon"`), "timeout_seconds", "not a number"},
		{with(`"max_attempts": true`), "max_attempts", "not a number"},
		{with(`"signing_secret": 5`), "signing_secret", "not text"},
		{with(`"success": "ok"`), "success", "is text, not an object"},
		{with(`"success": {"path": 5, "equals": 1}`), "success", "is a number, not text"},
		{with(`"auth": []`), "auth", "not an object"},
		{with(`"preset": "sales force"`), "preset", "try salesforce"},
		{with(`"time_format": "YYYY-MM-DD HH:mm:ss"`), "time_format", "try %Y-%m-%d %H:%M:%S"},
		{address("http://10.1.2.3/x"), "url", "--allow-network 10.1.2.3/32"},
		{address("http://localhost:8080/x"), "url", "--allow-network"},
		{address("http://169.254.169.254/x"), "url", "--allow-network"},
		{address("http://crm:8080/x"), "url", "is no public name"},
		{address("https://crm.internal/x"), "url", "--allow-network"},
		{address("x.example/leads"), "url", "no scheme"},
		{address("https://x.example/{{crm.lead_id}}"), "url", "not rendered"},
	}
	says := func(warnings []bots.Warning, key, words string) bool {
		return slices.ContainsFunc(warnings, func(w bots.Warning) bool {
			return w.Level != bots.LevelInfo && strings.Contains(w.Key, key) && strings.Contains(w.Message+"; try "+w.Suggestion, words)
		})
	}
	var all strings.Builder
	call := file(t, "call.json", `{"_id": "c", "completed_at": {"$date": "2026-06-05T10:17:05Z"}, "crm_data": {"lead_id": 7}}`)
	for i, tt := range mistakes {
		doc := fmt.Sprintf(`{"_id": "bot-%d", "timezone": "UTC", %s}`, i, tt.bot)
		all.WriteString(doc + "\n")
		stdout, stderr, _ := invoke(t, doc, "preview", "--bot", "-", "--call", call)
		var got struct {
			Request, Payload any
			Warnings         []bots.Warning
		}
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || stderr != "" {
			t.Fatalf("%s: %v, %s%s", tt.bot, err, stdout, stderr)
		}
		if !says(got.Warnings, tt.key, tt.words) {
			t.Errorf("preview of %s does not say %q of %s: %+v", tt.bot, tt.words, tt.key, got.Warnings)
		}
		if noMapper := tt.words == "is a list" || tt.key == "postCallPush"; !noMapper && got.Request == nil && got.Payload == nil {
			t.Errorf("no payload of %s is shown: %s", tt.bot, stdout)
		}
	}
	stdout, _, _ := invoke(t, all.String(), "lint", "--bot", "-", "--output", "json")
	var linted []lintResult
	if err := json.Unmarshal([]byte(stdout), &linted); err != nil || len(linted) != len(mistakes) {
		t.Fatalf("%v, %d bots", err, len(linted))
	}
	for i, tt := range mistakes {
		if !says(linted[i].Warnings, tt.key, tt.words) {
			t.Errorf("lint of %s does not say %q of %s: %+v", tt.bot, tt.words, tt.key, linted[i].Warnings)
		}
	}
	stdout, _, _ = invoke(t, all.String(), "lint", "--bot", "-")
	for line := range strings.Lines(stdout) {
		if n := len([]rune(line)) - 1; n > screenWidth {
			t.Errorf("lint prints a line of %d characters: %s", n, line)
		}
	}
}
