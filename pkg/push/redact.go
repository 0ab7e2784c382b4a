package push

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cxbridge/watcher/pkg/secret"
)

// redact takes out what the request's own redactor knows, or what looks like a
// credential in the request, and what was added to this attempt.
func (t *attempt) redact(text string) string { return t.redactBy(Redactor.Redact, text) }

// redactCut is redact for the beginning of a text that was cut off.
func (t *attempt) redactCut(text string) string { return t.redactBy(Redactor.RedactCut, text) }

func (t *attempt) redactBy(redact func(Redactor, string) string, text string) string {
	if text == "" {
		return text
	}
	if t.Redact != nil {
		text = redact(t.Redact, text)
	}
	return redact(t.known(), text)
}

// known is the redactor of this attempt. Of a request with its own redactor it knows
// what is found by its place alone, which is nothing in nearly all: then it is nil.
func (t *attempt) known() *secret.Redactor {
	if t.redactor != nil {
		return t.redactor
	}
	if found := t.guess(slices.Clip(t.secrets)); len(found) > 0 {
		t.redactor, _ = secret.Collect(found)
	}
	return t.redactor
}

// guess adds the credentials of a request by the names of headers and query
// parameters, and by the look of its path.
func (t *attempt) guess(found []secret.Named) []secret.Named {
	add := func(n secret.Named) {
		if t.Redact == nil || !secret.ByValue(n.Value.Reveal()) {
			found = append(found, n)
		}
	}
	if t.Redact == nil || t.url.User != nil || t.url.RawQuery != "" { // a path has no names
		for _, n := range secret.FromURL(t.url, false) {
			add(n)
		}
	}
	for name, values := range t.Header {
		if secret.IsPlainHeader(name) {
			continue
		}
		for _, v := range values {
			var room [3]secret.Text
			for _, s := range secret.AppendHeader(room[:0], v) {
				add(secret.Named{Name: name, Value: s})
			}
		}
	}
	return found
}

// snippet returns the first MaxSnippet characters of an answer's body as text that
// any store takes: valid UTF-8, no NUL, no secret. Secrets go first, over all that
// was read, so that none is cut and then not known.
func (t *attempt) snippet(a *answer) string {
	text := string(a.body)
	if a.cut == whole {
		text = t.redact(text)
	} else {
		text = t.redactCut(text)
	}
	text = text[:min(len(text), MaxSnippet*utf8.UTFMax)]
	text = strings.ReplaceAll(strings.ToValidUTF8(text, string(utf8.RuneError)), "\x00", string(utf8.RuneError))
	if len(text) <= MaxSnippet {
		return text
	}
	n := 0
	for i := range text {
		if n++; n > MaxSnippet {
			return text[:i]
		}
	}
	return text
}
