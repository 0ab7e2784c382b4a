package bots

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/internal/calls"
	"github.com/cxbridge/watcher/pkg/push"
)

// To look for near names is bounded, however many tokens there are; each is told.
func TestSuggestionsAreBounded(t *testing.T) {
	mapper := m{}
	for i := range 2 * maxWarnings {
		mapper[fmt.Sprint("k", i)] = "{{result.duration}}"
	}
	found := withPush(t, m{"key_mapper": mapper}).Lint(nil, nil)
	suggested := 0
	for _, w := range found {
		if w.Suggestion != "" {
			suggested++
		}
	}
	if len(found) != 2*maxWarnings || suggested != maxWarnings {
		t.Errorf("%d findings, %d with a suggestion", len(found), suggested)
	}
}

func repeatKeys(n int, value string) bson.D {
	d := make(bson.D, n)
	for i := range d {
		d[i] = bson.E{Key: fmt.Sprint("k", i), Value: value}
	}
	return d
}

func nested(depth int, key string) any {
	v := any("x")
	for range depth {
		v = bson.D{{Key: key, Value: v}}
	}
	return v
}

// Each limit is taken in full, and beyond it the bot cannot push.
func TestLimits(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	rules := func(n int) (all bson.A) {
		for range n {
			all = append(all, m{"status": 403, "path": "a.b", "equals": 1})
		}
		return all
	}
	for _, tt := range []struct {
		name         string
		within, over m
	}{
		{"url", m{"url": "https://crm.example.com/" + long(maxURL-24)}, m{"url": "https://crm.example.com/" + long(maxURL-23)}},
		{"header name", m{"headers": m{long(maxHeaderName): "v"}}, m{"headers": m{long(maxHeaderName + 1): "v"}}},
		{"header value", m{"headers": m{"X-A": long(maxHeaderValue)}}, m{"headers": m{"X-A": long(maxHeaderValue + 1)}}},
		{"headers", m{"headers": repeatKeys(maxHeaders, "v")}, m{"headers": repeatKeys(maxHeaders+1, "v")}},
		{"token", m{"token": long(maxHeaderValue)}, m{"token": long(maxHeaderValue + 1)}},
		{"signing secret", m{"signing_secret": long(maxHeaderValue)}, m{"signing_secret": long(maxHeaderValue + 1)}},
		{"auth", m{"auth": m{"type": "query", "params": m{"k": long(maxAuth - 100)}}}, m{"auth": m{"type": "query", "params": m{"k": long(maxAuth)}}}},
		{"keys", m{"key_mapper": repeatKeys(maxKeys, "v")}, m{"key_mapper": repeatKeys(maxKeys+1, "v")}},
		{"nested keys", m{"key_mapper": m{"a": repeatKeys(maxKeys-2, "v"), "b": m{}}}, m{"key_mapper": m{"a": repeatKeys(maxKeys-2, "v"), "b": m{"c": "v"}}}},
		{"list items", m{"key_mapper": m{"a": make(bson.A, maxKeys-1)}}, m{"key_mapper": m{"a": make(bson.A, maxKeys)}}},
		{"key path", m{"key_mapper": m{long(maxKeyPath): "v"}}, m{"key_mapper": m{long(maxKeyPath - 2): m{"ab": "v"}}}},
		{"depth", m{"key_mapper": nested(maxDepth, "a")}, m{"key_mapper": nested(maxDepth+2, "a")}},
		{"tokens", m{"key_mapper": m{"a": strings.Repeat("{{a}}", maxTokens)}}, m{"key_mapper": m{"a": strings.Repeat("{{a}}", maxTokens), "b": "{{a}}"}}},
		{"template", m{"key_mapper": m{"a": long(maxTemplate)}}, m{"key_mapper": m{"a": long(maxTemplate + 1)}}},
		{"time format", m{"time_format": "%" + strings.Repeat("Y", maxTimeFormat-1)}, m{"time_format": "%" + strings.Repeat("Y", maxTimeFormat)}},
		{"rules", m{"retry_when": rules(maxRules)}, m{"retry_when": rules(maxRules + 1)}},
		{"rule path", m{"success": m{"path": long(maxRulePath), "exists": true}}, m{"success": m{"path": long(maxRulePath + 1), "exists": true}}},
		{"retry path", m{"retry_when": m{"path": long(maxRulePath), "exists": true}}, m{"retry_when": m{"path": long(maxRulePath + 1), "exists": true}}},
		{"secrets", m{"key_mapper": secretKeys(maxSecrets)}, m{"key_mapper": secretKeys(maxSecrets + 1)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if b := withPush(t, tt.within); !b.Usable() || b.Push == nil {
				t.Errorf("within the limit: %.200v", b.FaultText())
			}
			b := withPush(t, tt.over)
			if b.Usable() || !b.Push.HasURL || !strings.Contains(b.FaultText(), "than ") && tt.name != "depth" {
				t.Errorf("beyond the limit: usable %v, %.200v", b.Usable(), b.Warnings)
			}
			if len(b.Push.Secrets) > maxSecrets {
				t.Errorf("%d secrets are kept", len(b.Push.Secrets))
			}
		})
	}
}

func secretKeys(n int) bson.D {
	d := make(bson.D, n)
	for i := range d {
		d[i] = bson.E{Key: fmt.Sprint("token", i), Value: fmt.Sprint("secret-value-", i)}
	}
	return d
}

func TestABotThatIsTooLargeIsNotCompiled(t *testing.T) {
	large := strings.Repeat("x", maxDocument)
	p := m{"url": "https://crm.example.com", "key_mapper": m{"a": "1"}, "note": large}
	b := Compile(raw(t, m{"_id": "b", "name": "N", "post_call_push": p}), Options{})
	if b.Usable() || b.ID != "b" || b.Name != "N" || len(b.Warnings) != 1 || b.Warnings[0].Code != CodeTooLarge || !b.Push.HasURL {
		t.Errorf("%.300v", b.Warnings)
	}
	// What is not read here may be of any size, and a bot that never pushes has no fault.
	if b := Compile(raw(t, m{"_id": "b", "prompt": large, "post_call_push": m{"url": "https://crm.example.com", "key_mapper": m{"a": "1"}}}), Options{}); !b.Usable() {
		t.Errorf("a long prompt: %.300v", b.Warnings)
	}
	if b := Compile(raw(t, m{"_id": "b", "auto_dispositions": m{"error": m{"DISPOSITION": large}}}), Options{}); b.Push != nil || len(b.Warnings) != 0 {
		t.Errorf("a bot that never pushes: %.300v", b.Warnings)
	}
}

// What is said of a bot is bounded, whatever stands in its document.
func TestWhatIsSaidIsBounded(t *testing.T) {
	mapper := repeatKeys(1500, "{{unclosed")
	mapper = append(mapper, bson.E{Key: strings.Repeat("é", 2000), Value: strings.Repeat("{{x", 2000)})
	b := withPush(t, m{"key_mapper": mapper, "method": strings.Repeat("P\xff", 1000), "preset": strings.Repeat("x", 5000),
		"headers": m{strings.Repeat("h", 5000): "v", strings.Repeat("y ", 100): "v"}})
	if len(b.Warnings) > maxWarnings || b.Usable() {
		t.Errorf("%d warnings, usable %v", len(b.Warnings), b.Usable())
	}
	for _, w := range b.Warnings {
		for _, part := range []string{w.Key, w.Token, w.Message, w.Suggestion} {
			if utf8.RuneCountInString(part) > maxPart+1 || !utf8.ValidString(part) {
				t.Fatalf("%q", part)
			}
		}
	}
	if text := b.FaultText(); utf8.RuneCountInString(text) > maxFaultText+1 || !utf8.ValidString(text) {
		t.Errorf("%q", text)
	}
	// A fault is kept even if there were warnings enough before.
	if b := withPush(t, m{"key_mapper": append(repeatKeys(1500, "{{unclosed"), bson.E{Key: "deep", Value: nested(maxDepth+2, "a")})}); b.Usable() {
		t.Error("the fault behind many warnings is lost")
	}
}

// The guide names the limits as they are.
func TestTheGuideNamesTheLimits(t *testing.T) {
	guide, err := os.ReadFile("../../docs/delivery.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(guide)), " ")
	for _, want := range []string{
		fmt.Sprintf("%d MiB for the fields", maxDocument>>20), fmt.Sprintf("%d,%03d keys and %d,000 tokens", maxKeys/1000, maxKeys%1000, maxTokens/1000),
		fmt.Sprintf("%d KiB for one template, %d KiB for the address", maxTemplate>>10, maxURL>>10), fmt.Sprintf("%d bytes for a header's name and for a time format", maxHeaderName),
		fmt.Sprintf("%d headers, %d rules with paths of %d bytes, %d values", maxHeaders, maxRules, maxRulePath, maxSecrets), fmt.Sprintf("more than %d MiB", MaxPayload>>20),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("docs/delivery.md lacks %q", want)
		}
	}
	if maxURL != maxHeaderValue || maxHeaderName != maxTimeFormat {
		t.Error("the guide names these as one")
	}
}

// The table of docs/security.md has the limits as they are.
func TestTheTableOfTheLimits(t *testing.T) {
	table, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	kib := func(n int) string { return fmt.Sprintf("%d KiB", n>>10) }
	grouped := func(n int) string { return fmt.Sprintf("%d,%03d", n/1000, n%1000) }
	for _, row := range [][2]string{
		{"Fields of a bot that are read, together", fmt.Sprintf("%d MiB", maxDocument>>20)},
		{"Keys of a mapper, nested ones included", grouped(maxKeys)},
		{"One key with those around it", kib(maxKeyPath)},
		{"Levels of a mapper", fmt.Sprint(maxDepth)},
		{"Tokens of a mapper", grouped(maxTokens)},
		{"One template", kib(maxTemplate)},
		{"Address", kib(maxURL)},
		{"Headers", fmt.Sprint(maxHeaders)},
		{"Name of a header", fmt.Sprintf("%d bytes", maxHeaderName)},
		{"Value of a header, token, signing secret", kib(maxHeaderValue)},
		{"`auth`", kib(maxAuth)},
		{"Time format", fmt.Sprintf("%d bytes", maxTimeFormat)},
		{"Text of a time", grouped(calls.MaxTimeText) + " bytes"},
		{"Rules of `success` and `retry_when`", fmt.Sprint(maxRules)},
		{"Path of a rule", fmt.Sprintf("%d bytes", maxRulePath)},
		{"Values that look like credentials", fmt.Sprint(maxSecrets)},
		{"Payload, as a body or as a query", fmt.Sprintf("%d MiB", MaxPayload>>20)},
		{"Exchange", fmt.Sprintf("%g s", push.DefaultTimeout.Seconds())},
	} {
		if want := fmt.Sprintf("\n| %s | %s |", row[0], row[1]); !strings.Contains(string(table), want) {
			t.Errorf("docs/security.md lacks %q", want)
		}
	}
}
