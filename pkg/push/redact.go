package push

import (
	"net/url"
	"strings"

	"github.com/cxbridge/watcher/pkg/secret"
)

// redact takes out what the request's own redactor knows, or what looks like a
// credential in the request, and what was added to this attempt.
func (t *attempt) redact(text string) string {
	if text == "" {
		return text
	}
	if t.Redact != nil {
		text = t.Redact.Redact(text)
		if len(t.secrets) == 0 {
			return text
		}
	}
	if t.redactor == nil {
		values := t.secrets
		if t.Redact == nil {
			values = append(values[:len(values):len(values)], t.guess()...)
		}
		t.redactor = secret.NewRedactor(values...)
	}
	return t.redactor.Redact(text)
}

// guess finds the credentials of a request by the names of headers and query
// parameters.
func (t *attempt) guess() []secret.Text {
	var found []secret.Text
	for name, values := range t.Header {
		if harmless[strings.ToLower(name)] {
			continue
		}
		for _, v := range values {
			found = append(found, secret.FromHeader(v)...)
		}
	}
	return append(found, urlSecrets(t.url)...)
}

// harmless are header fields whose values are no secret; all others may be, as
// receivers choose the names of their keys freely.
var harmless = map[string]bool{
	"accept": true, "accept-language": true, "cache-control": true, "content-type": true, "date": true,
	"idempotency-key": true, "user-agent": true, "webhook-id": true, "webhook-timestamp": true,
}

// urlSecrets returns a URL's password and the values of those query parameters
// whose names look like a credential's.
func urlSecrets(u *url.URL) []secret.Text {
	var found []secret.Text
	if password, ok := u.User.Password(); ok {
		found = append(found, secret.Text(password))
	}
	if u.RawQuery == "" {
		return found
	}
	for name, values := range u.Query() {
		if !looksSecret(name) {
			continue
		}
		for _, v := range values {
			found = append(found, secret.Text(v))
		}
	}
	return found
}

func looksSecret(name string) bool {
	name = strings.ToLower(name)
	for _, part := range [...]string{"key", "secret", "token", "passw", "pwd", "auth", "signature", "credential"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return name == "sig" || name == "pass"
}
